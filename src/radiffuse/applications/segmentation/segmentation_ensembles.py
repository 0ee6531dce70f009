"""Implicit segmentation ensembles (Wolleb et al. 2022): a diffusion of the label map, told the image."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...diffusion.averaging import Averaging
from ...diffusion.categorical import Categorical, Guessed
from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.label_maps import encode, likeliest, probabilities
from ...diffusion.losses import Times, Weight, discrete_times, log_normal
from ...diffusion.network import Network
from ...diffusion.sample import last
from ...diffusion.schedule import Discrete, Schedule
from ...diffusion.windows import cut_back
from ...errors import UserError
from ...nn.generator import Direct
from ...papers import Paper, by_id
from ...training.objective import Hybrid, Prepared
from ..conditional import Conditional, check_same_size
from ..parts import (
    SMALL,
    TINY,
    TRAINING,
    PredictsName,
    SamplerName,
    WeightName,
    check_stride,
    check_timesteps,
    input_of,
    network_of,
    weight_named,
)
from ..ranges import Rule, at_least, less_than, more_than
from ..recipe import Batch
from ..task import Task
from .baselines import segmentation_loss
from .task import SEGMENTATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SegmentationEnsembles"]

MOST_LABELS = 64
"""More foreground labels than this are grey values or numbers with gaps, not classes."""


class HybridLabels(Prepared, Hybrid):
    """`Prepared` with the bound that trains the learned variance."""


class Labels(Prepared):
    """`Prepared` by the cross-entropy of labels."""

    def loss(self, out: Tensor, x_0: Tensor, z: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        assert isinstance(self.network, Categorical)
        return self.network.cross_entropy(out, x_0, x_t, t)


class GuessedLabels(Labels):
    """`Labels` around a guess, which learns beside it as a segmentation network does."""

    network: Guessed

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        batch = self.prepare(batch)
        x_0, image = batch["image"], batch["source"]
        guess = self.players["guess"](image).float()
        yield "network", self.matching(x_0, {"image": image, "guess": guess.detach()})
        yield "guess", segmentation_loss(guess, self.network.truth(x_0))


@dataclass(frozen=True)
class SegmentationEnsembles(Conditional):
    """Denoising of the label map with the clean image concatenated; draws differ by their noise.

    x_0 has one channel for each label but the background (one-hot): 1 where the label is, `absent`
    elsewhere. The authors' masks are 0 and 1, not -1 and 1. The ensemble is the mean of draws,
    halfway between the two values the border; its pixelwise variance is the uncertainty.
    """

    paper: ClassVar[Paper] = by_id("segmentation-ensembles")
    task: ClassVar[Task] = SEGMENTATION
    made: ClassVar[str] = "mask"
    GIVEN: ClassVar[tuple[str, ...]] = ("image",)

    RULES: ClassVar[dict[str, Rule]] = {
        "scale": more_than(0),
        "absent": less_than(1),
        "timesteps": at_least(2),
        "law_std": more_than(0),
        "guess": at_least(0),
    }

    width: int = 128
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    attention: tuple[int, ...] = (4,)
    sampler: SamplerName = "ddpm-learned"
    samples: int = 5
    """Draws a case in evaluation: the ensemble."""
    also: tuple[str, ...] = ()
    """Further image keys that the network is told, other contrasts of the same place."""
    absent: float = 0.0
    """Value of x_0 where a label is not; where it is, the value is 1."""
    scale: float = 1.0
    """Factor on x_0. Large structures show through much noise; a smaller x_0 is hidden by it sooner, so
    that more of the training is where the image must decide (Chen et al. 2023, section 3.2)."""
    betas: Literal["linear", "cosine"] = "linear"
    """The list of betas."""
    timesteps: int = 1000
    """Number of betas, T."""
    law: Literal["uniform", "log-normal"] = "uniform"
    """Law of t in training: uniform, or the logarithm of sigma / (alpha scale) normal."""
    law_mean: float = 5.0
    """Mean of log(sigma / (alpha scale))."""
    law_std: float = 2.0
    """Standard deviation of log(sigma / (alpha scale))."""
    predicts: PredictsName | Literal["labels"] = "noise"
    """What the network outputs; "labels" is the logits of all labels, learned by cross-entropy."""
    loss: WeightName = "simple"
    """The loss weight; labels have none."""
    learned_variance: bool = True
    """Learn the variance between its bounds with the hybrid loss (Nichol & Dhariwal 2021)."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    guess: int = 0
    """Width of a network that guesses the labels from the image alone, by Dice and cross-entropy; the
    denoiser adds what the noisy labels say. Only for `predicts` "labels"; 0 = none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps(self.betas, self.timesteps)

    @property
    def given(self) -> tuple[str, ...]:
        """Keys the network is told."""
        return (*self.GIVEN, *self.also)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        if preset == "paper":
            return {"batch": 10, "learning_rate": 1e-4, "warmup": 0, "betas": (0.9, 0.999)}
        return {**TRAINING[preset], **({"batch": 8, "warmup": 50} if preset == "small" else {})}

    def schedule(self) -> Discrete:
        """The noise schedule."""
        return (Discrete.linear if self.betas == "linear" else Discrete.cosine)(self.timesteps)

    # --- label maps as x_0 ---------------------------------------------------------------------

    def channels_of(self, facts: "Facts") -> int:
        """Labels but the background.

        Raises:
            UserError: there is no mask, it is empty in all training cases, or it is no label map.
        """
        if self.made not in facts.mask_classes:
            raise UserError("the data have no mask to learn from; --map mask=COLUMN")
        labels = facts.mask_classes[self.made] - 1
        if labels < 1:
            raise UserError("the masks of the training cases are all empty: no label to learn")
        if labels > MOST_LABELS:
            raise UserError(
                f"the mask has labels up to {labels}, and {MOST_LABELS} are the most: number the "
                "labels 0 (background), 1, 2 ... without gaps"
            )
        return labels

    def clean(self, batch: Batch) -> Tensor:
        """x_0 (B, L, *S).

        Raises:
            UserError: a label the model does not know, or masks not of the images' size.
        """
        mask = batch[self.made]
        check_same_size("image", batch["image"].shape[2:], self.made, mask.shape[2:])
        check_labels(mask, self.channels)
        return self.scale * encode(mask, self.channels, self.absent)

    def answer(self, x_0: Tensor) -> Batch:
        foreground = probabilities(x_0.float() / self.scale, self.absent)
        return {self.made: likeliest(foreground), "probability": foreground}

    def fitted(self, facts: "Facts") -> Self:
        """As `Conditional`; `data_std` is the root mean square of x_0 where labels are +1 and -1.

        Raises:
            UserError: a variance is to be learned beside labels.
        """
        if self.predicts == "labels" and self.learned_variance:
            raise UserError("--predicts labels has no variance to learn; add --no-learned-variance")
        if self.guess and self.predicts != "labels":
            raise UserError("--guess guesses labels; it goes with --predicts labels")
        return dataclasses.replace(super().fitted(facts), data_std=self.data_std or self.scale)

    # --- the diffusion -------------------------------------------------------------------------

    def network(self) -> Network:
        schedule = self.schedule()
        if self.predicts == "labels":
            return self.labels(schedule)
        body = self.body(twice=self.learned_variance)
        return network_of(body, schedule, self.predicts, self.data_std, self.preconditioned)

    def labels(self, schedule: Schedule) -> Categorical:
        """The network of logits."""
        labels, told = self.channels + 1, self.condition_channels
        seen = input_of(self.data_std, self.preconditioned)
        if not self.guess:
            body = self.unet(condition=told, out=labels)
            return Categorical(body, schedule, self.absent, self.scale, *seen)
        guess = Direct(self.beside(labels, self.guess, told), labels)
        body = self.unet(condition=told + labels, out=labels)
        return Guessed(body, guess, schedule, self.absent, self.scale, *seen)

    def times(self, schedule: Schedule) -> Times:
        assert isinstance(schedule, Discrete)
        if self.law == "log-normal":
            return log_normal(schedule, self.law_mean + math.log(self.scale), self.law_std)
        return discrete_times(schedule)

    def weight(self) -> Weight:
        return weight_named(self.loss, self.data_std)

    def kind(self) -> type[Prepared]:
        if self.guess:
            return GuessedLabels
        if self.predicts == "labels":
            return Labels
        return HybridLabels if self.learned_variance else Prepared

    def denoiser(self, objective: Prepared, batch: Batch) -> Denoiser:
        """As `Conditional`, the estimate kept to `scale` times [-1, 1]."""
        if self.windows is None:
            check_stride(
                batch["image"].shape[2:], self.stride, "--multiples or --patch in training"
            )
        return Clipped(super().denoiser(objective, batch), -self.scale, self.scale)

    def predict(self, objective: Prepared, batch: Batch) -> Batch:
        """One draw a case, and the probabilities that its chain saw on the way.

        Args:
            batch: "seed" int64 (B,), "image" and the other keys told.

        Returns:
            "mask", the drawn labels int64 (B, 1, *S); "probability" (B, L, *S), where the chain ended;
            "expected", of the same form: the mean of all estimates of the chain (`Averaging`), whose mean
            over draws is the probability of each label.
        """
        denoiser = Averaging(self.denoiser(objective, batch).eval())
        x_0, size = last(self.walk(denoiser, batch)), batch["image"].shape[2:]
        expected = self.answer(cut_back(denoiser.mean, size))["probability"]
        return {**self.answer(cut_back(x_0, size)), "expected": expected}

    @classmethod
    def small(cls) -> Self:
        return cls(
            **{**SMALL, "multiples": (1, 2, 4, 4), "attention": (3,)},
            **LABELS,
            scale=0.1,
            guess=32,
            sampler="dpm-solver",
            grid="karras",
            start=0.97,
            stop=0.006,
            steps=6,
            samples=8,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, **LABELS, sampler="ddim", start=0.998, steps=5, samples=3)


LABELS: dict[str, Any] = {
    "absent": -1.0,
    "betas": "cosine",
    "law": "log-normal",
    "predicts": "labels",
    "preconditioned": True,
    "learned_variance": False,
}
"""Classification of every voxel at every noise level, instead of the paper's regression of noise."""


def check_labels(mask: Tensor, most: int) -> None:
    """Refuse labels that a model of the labels 0 to `most` does not know.

    Raises:
        UserError: names one.
    """
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > most:
        label = low if low < 0 else high
        raise UserError(
            f"a mask holds label {label}, and the model knows 0 (background) to {most}: leave the "
            "label out, or train on cases that have it"
        )
