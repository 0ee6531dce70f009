"""What a recipe is, and the part the three generic formulations share: image generation.

A recipe is a frozen dataclass. Its fields are the configuration, plain values that a TOML file can
hold; its defaults are the paper. Names in a field are looked up here, once, in a table of objects.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.filtered import Filtered, wiener_of
from ...diffusion.guidance import Guided, Steered
from ...diffusion.losses import Times, Weight
from ...diffusion.network import Given, Network
from ...diffusion.noise import Noise, Seeded
from ...diffusion.sample import First, GaussianFlow, Sampler, last, prior
from ...diffusion.schedule import Schedule
from ...errors import UserError
from ...nn import Classifier, DiT
from ...training.objective import Classifying, Denoising, Objective
from ..backbone import Backbone
from ..parts import (
    SAMPLER_SETTINGS,
    SAMPLERS,
    SAMPLING,
    TRAINING,
    GridName,
    SamplerName,
    check_sampling,
    check_start,
    check_stride,
    grid_after_leap,
    grid_named,
)
from ..ranges import SHARE, Rule, at_least, require
from ..recipe import Batch
from ..task import Task
from .task import GENERATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Generative"]


class Both:
    """Two objectives trained side by side: a denoiser and the classifier that will guide it."""

    def __init__(self, first: Denoising, second: Classifying) -> None:
        self.first, self.second = first, second
        self.players = {**first.players, **second.players}

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        parts: tuple[Denoising | Classifying, ...] = (self.first, self.second)
        for part in parts:
            part.players = {name: self.players[name] for name in part.players}
            yield from part.losses(batch)


@dataclass(frozen=True)
class Generative(Backbone, ABC):
    """Image generation by a diffusion: the fields that DDPM, NCSN and SDE share.

    A subclass says the schedule, the times of training and the defaults; it never asks which
    formulation it is in.
    """

    task: ClassVar[Task] = GENERATION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("sampler", "steps", "grid", "start", "stop", "leap", "eta", "churn", "guidance"),
    )
    """Fields that only prediction reads, so that they may be changed after training."""
    RULES: ClassVar[dict[str, Rule]] = {
        **SAMPLING,
        "classes": at_least(0),
        "label_drop": SHARE,
        "guidance": at_least(0),
        "leap": at_least(0),
        "eta": SHARE,
        "churn": at_least(0),
        "spectrum": at_least(0),
    }

    classes: int = 0
    """Classes to condition on; 0 = unconditional, or from the data if `conditional`."""
    conditional: bool = False
    """Train on labels too (class-conditional, with classifier-free guidance)."""
    label_drop: float = 0.1
    """Share of cases trained without their label, for classifier-free guidance."""
    guidance: float = 1.0
    """Guidance weight; 1 = the conditional model alone, more = closer to the class."""
    classifier: bool = False
    """Train a classifier of noisy images beside the network and guide by its gradient."""
    backbone: Literal["unet", "dit"] = "unet"
    """The network."""
    filtered: bool = False
    """Start from the Wiener filter of the images' power spectrum and learn what it leaves (see
    `filtered`), whatever `predicts` and `preconditioned` say."""
    spectrum: tuple[float, ...] = ()
    """That spectrum, as `spectrum.power` measures it; empty = from the data."""
    attention: tuple[int, ...] = (2,)
    """Levels that attend, 0 = finest."""
    dropout: float = 0.1
    """Dropout in residual blocks."""
    sampler: SamplerName = "ddpm"
    """The sampler."""
    steps: int = 1000
    """Sampling steps."""
    grid: GridName = "uniform"
    """How the steps are spaced."""
    start: float = 1.0
    """Time at which sampling starts."""
    stop: float = 0.0
    """Time at which sampling stops; above zero noise the result is denoised once more."""
    leap: float = 0.0
    """`filtered`: the first step goes, by the flow of Gaussian images of their spectrum, to the noise that
    is so many times their strongest frequency; 0 = it does not. Fewer steps are enough then."""
    eta: float = 0.0
    """`ddim`: share of the ancestral steps' noise, 0 = none."""
    churn: float = 0.0
    """`heun`: noise added before a step, as a share of its level (EDM's gamma, 0.41 at most)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sampling(self)
        wants = self.conditional or self.classifier
        said = f"{self.classes} needs --conditional or --classifier"
        require(wants or not self.classes, "classes", said)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    @abstractmethod
    def schedule(self) -> Schedule:
        """The noise schedule."""

    @abstractmethod
    def network(self) -> Network:
        """The denoiser around a new backbone."""

    @abstractmethod
    def times(self, schedule: Schedule) -> Times:
        """The law of t in training."""

    @abstractmethod
    def weight(self) -> Weight:
        """The loss weight."""

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: the data have no labels to condition on, more classes than `classes`, or a size
                the network cannot halve.
        """
        key = "image" if "image" in facts.channels else next(iter(facts.channels), None)
        if key is None:
            raise UserError("the data hold no image; name the column with --map image=COLUMN")
        wants = self.conditional or self.classifier
        if wants and not facts.classes:
            raise UserError("--conditional and --classifier need labels, and the data have none")
        said = f"{self.classes}: the data have {facts.classes} classes"
        require(not self.classes or self.classes >= facts.classes, "classes", said)
        filled = dataclasses.replace(
            self,
            channels=self.channels or facts.channels[key],
            size=self.size or tuple(facts.size[key]),
            classes=self.classes or (facts.classes if wants else 0),
            data_std=self.data_std or round(float(facts.std), 4) or 0.5,
            spectrum=self.spectrum or (facts.spectrum[key] if self.filtered else ()),
        )
        stride = filled.patch if filled.backbone == "dit" else filled.stride
        check_stride(filled.size, stride, "--multiples or --patch")
        return filled

    def walkable(self) -> Self:
        """This fitted recipe, its chain tried before a network is trained for it.

        Raises:
            UsageError: the grid of times cannot be made, or cannot start where it should.
        """
        self.make_grid(self.schedule())
        return self

    def body(self, twice: bool = False) -> nn.Module:
        """A new backbone for the fields at hand.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        classes = self.classes if self.conditional else 0
        condition = self.channels if self.filtered else 0
        if self.backbone == "unet":
            return self.unet(classes=classes, twice=twice, condition=condition)
        if not self.channels or not self.size:
            raise UserError("channels and size are not set; fit the recipe to data first")
        return DiT(
            len(self.size),
            self.channels,
            self.width,
            self.blocks,
            heads=math.gcd(self.width, max(1, self.width // 64)),
            patch=self.patch,
            condition=condition,
            classes=classes,
            twice=twice,
        )

    def filtered_network(self, twice: bool = False) -> Filtered:
        """The denoiser that starts from the Wiener filter."""
        return Filtered(self.body(twice), self.schedule(), self.spectrum, self.data_std)

    def filtered_weight(self) -> Weight:
        """The loss weight of the backbone's error as it is."""
        return wiener_of(self.spectrum, self.size).weight()

    def denoising(self, network: Network) -> Denoising:
        """The objective of the network alone."""
        return Denoising(network, self.times(network.schedule), self.weight(), self.label_drop)

    def objective(self) -> Objective:
        """The network's objective, and the classifier's if one is to guide."""
        network = self.network()
        denoising = self.denoising(network)
        if not self.classifier:
            return denoising
        classifier = Classifier(
            len(self.size), self.channels, self.classes, max(16, self.width // 2), patch=self.patch
        )
        return Both(denoising, Classifying(classifier, network, self.times(network.schedule)))

    def denoiser(self, objective: Any, label: Tensor | None = None) -> Denoiser:
        """E[x_0 given x_t], with the label and the guidance bound where there are any."""
        classifying = objective.second if isinstance(objective, Both) else None
        network: Network = (objective.first if classifying else objective).network
        denoiser: Denoiser = network
        if label is not None and self.conditional:
            none = torch.full_like(label, self.classes)
            given = Given(network, label=label)
            denoiser = Guided(given, Given(network, label=none), self.guidance)
        if label is not None and classifying is not None:

            def log_probability(x_t: Tensor, t: Tensor) -> Tensor:
                logits = classifying.logits(x_t, t)
                return logits.log_softmax(1).gather(1, label[:, None])[:, 0]

            denoiser = Steered(denoiser, log_probability, self.guidance)
        return denoiser

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        """The sampler the fields name."""
        settings = {name: getattr(self, name) for name in SAMPLER_SETTINGS.get(self.sampler, ())}
        sampler = SAMPLERS[self.sampler](denoiser, noise, **settings)
        if not self.leap:
            return sampler
        return First(GaussianFlow(denoiser, wiener_of(self.spectrum, self.size).power), sampler)

    def make_grid(self, schedule: Schedule) -> Tensor:
        """The grid of times the fields name.

        Raises:
            UsageError: the chain cannot start where it should, or has no such grid.
        """
        check_start(self, schedule)
        if not self.leap:
            return grid_named(self.grid, schedule, self.steps, self.start, self.stop)
        strongest = float(wiener_of(self.spectrum, self.size).power.max()) ** 0.5
        level = self.leap * strongest
        return grid_after_leap(self.grid, schedule, self.steps, self.start, self.stop, level)

    def trajectory(self, objective: Any, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain, the last one the result; batch as in `predict`."""
        seeds = batch["seed"]
        label = batch.get("label")
        device = next(objective.players["network"].parameters()).device
        if label is not None:
            self._check_labels(label)
            label = label.to(device)
        noise = Seeded(int(seed) for seed in seeds)
        denoiser = self.denoiser(objective, label).eval()
        times = self.make_grid(denoiser.schedule)
        like = torch.zeros(len(seeds), self.channels, *self.size, device=device)
        x = prior(denoiser.schedule, like, noise, float(times[0]))
        yield from self.make_sampler(denoiser, noise).trajectory(x, times)

    def _check_labels(self, label: Tensor) -> None:
        if not self.classes:
            raise UserError("this model was trained without labels; leave the label out")
        if bool((label < 0).any()) or bool((label >= self.classes).any()):
            raise UserError(f"labels run from 0 to {self.classes - 1}, not {label.tolist()}")

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """Images from seeds.

        Args:
            batch: "seed" int64 (B,) and optionally "label" int64 (B,).

        Returns:
            {"image": (B, C, *S) in [-1, 1]}.

        Raises:
            UserError: labels out of range, or given to an unconditional model.
        """
        result = last(self.trajectory(objective, batch))
        return {"image": result.clamp(-1, 1)}
