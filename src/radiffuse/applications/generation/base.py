"""Image generation: the part that the three generic formulations share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.filtered import Filtered, wiener_of
from ...diffusion.losses import Times, Weight
from ...diffusion.network import Network
from ...diffusion.noise import Noise, Seeded
from ...diffusion.sample import Sampler, last, prior
from ...diffusion.schedule import Schedule
from ...errors import UserError
from ...training.objective import Denoising, Objective, device_of
from ..backbone import Backbone
from ..presets import TRAINING
from ..ranges import SHARE, Rule, at_least, require
from ..recipe import Batch, image_key
from ..sizes import check_stride
from ..task import Task
from ..walked import Walked
from .body import body_of
from .chain import grid_of, sampler_of
from .guided import beside_classifier, check_labels, told_label
from .task import GENERATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Generative"]


@dataclass(frozen=True)
class Generative(Backbone, Walked, ABC):
    """Image generation by a diffusion: the fields that DDPM, NCSN and SDE share.

    A subclass says the schedule, the times of training and the defaults; it never asks which
    formulation it is in.
    """

    task: ClassVar[Task] = GENERATION
    IS_PRIOR: ClassVar[bool] = True
    """Whether its network is one of images alone, which reconstructions may take (`train METHOD --prior RUN`)."""
    HAS_DENSITY: ClassVar[bool] = True
    """Whether its network is a denoiser at every time, from which bits per dimension follow."""
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("sampler", "steps", "grid", "start", "stop", "leap", "eta", "churn", "guidance"),
    )
    """Fields that only prediction reads, so that they may be changed after training."""
    RULES: ClassVar[dict[str, Rule]] = {
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
    leap: float = 0.0
    """`filtered`: the first step goes, by the flow of Gaussian images of their spectrum, to the noise that
    is so many times their strongest frequency; 0 = it does not. Fewer steps are enough then."""
    eta: float = 0.0
    """`ddim`, `dpm-solver`: share of the ancestral steps' noise, 0 = none."""
    churn: float = 0.0
    """`heun`: noise added before a step, as a share of its level (EDM's gamma, 0.41 at most)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = "needs the spectrum that --filtered measures"
        require(not self.leap or self.filtered, "leap", said)
        said = "is a step from one level to another; --sampler langevin stays at them"
        require(not self.leap or self.sampler != "langevin", "leap", said)
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
        key = image_key(facts)
        wants = self.conditional or self.classifier
        if wants and not facts.classes:
            raise UserError("--conditional and --classifier need labels, and the data have none")
        said = f"{self.classes}: the data have {facts.classes} classes"
        require(not self.classes or self.classes >= facts.classes, "classes", said)
        return self.filled(
            facts,
            facts.channels[key],
            facts.size[key],
            classes=self.classes or (facts.classes if wants else 0),
            spectrum=self.spectrum or (facts.spectrum[key] if self.filtered else ()),
        ).fitting()

    def fitting(self) -> Self:
        """This recipe, once its images are known to suit the network (a transformer's patches divide them).

        Raises:
            UserError: they do not.
        """
        if self.backbone == "dit":
            check_stride(self.size, self.stride, "--patch")
            return self
        return super().fitting()

    @property
    def stride(self) -> int:
        """What the sides of an image must divide by."""
        return self.patch if self.backbone == "dit" else super().stride

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
        return body_of(self, twice)

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
        denoising = self.denoising(self.network())
        if not self.classifier:
            return denoising
        return beside_classifier(self, denoising)

    def denoiser(self, objective: Any, label: Tensor | None = None) -> Denoiser:
        """E[x_0 given x_t], with the label and the guidance bound where there are any."""
        return told_label(self, objective, label)

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        """The sampler the fields name."""
        return sampler_of(self, denoiser, noise)

    def make_grid(self, schedule: Schedule) -> Tensor:
        """The grid of times the fields name.

        Raises:
            UsageError: the chain cannot start where it should, or has no such grid.
        """
        return grid_of(self, schedule)

    def trajectory(self, objective: Any, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain, the last one the result; batch as in `predict`."""
        seeds = batch["seed"]
        label = batch.get("label")
        device = device_of(objective)
        if label is not None:
            check_labels(self, label)
            label = label.to(device)
        noise = Seeded(int(seed) for seed in seeds)
        denoiser = self.denoiser(objective, label).eval()
        times = self.make_grid(denoiser.schedule)
        like = torch.zeros(len(seeds), self.channels, *self.size, device=device)
        x = prior(denoiser.schedule, like, noise, float(times[0]))
        yield from self.make_sampler(denoiser, noise).trajectory(x, times)

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
