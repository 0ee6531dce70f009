"""Implicit segmentation ensembles (Wolleb et al. 2022): a diffusion of the label map, told the image."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...diffusion.averaging import Averaging
from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.label_maps import encode, likeliest, probabilities
from ...diffusion.losses import Times, Weight, discrete_times, log_normal
from ...diffusion.network import Network
from ...diffusion.sample import last
from ...diffusion.schedule import Discrete, Schedule
from ...diffusion.windows import cut_back
from ...papers import Paper, by_id
from ...training.objective import Hybrid, Prepared
from ..conditional import Conditional
from ..labels import LABELS, GuessedLabels, Labels, network_of_labels
from ..parts import (
    PredictsName,
    SamplerName,
    WeightName,
    check_timesteps,
    network_of,
    weight_named,
)
from ..presets import SMALL, TINY, TRAINING
from ..ranges import Rule, at_least, less_than, more_than
from ..recipe import Batch
from ..sizes import check_least, check_same_size
from ..task import Task
from .checks import check_form, check_labels, labels_to_learn
from .task import SEGMENTATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SegmentationEnsembles"]

TOLD = 330.0
"""sigma / (alpha scale) from which on estimates of logits count for what a chain expects: the whole of the presets'
chains. Of eight draws of nested discs the root mean square error was 0.032 so (0.063 where chains end), 0.051 with a
bound of 30; with logits wrong by 0.3, 0.036 (0.063), by 1, 0.059 (0.064)."""


class HybridLabels(Prepared, Hybrid):
    """`Prepared` with the bound that trains the learned variance."""


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
    attention: tuple[int, ...] = (4, 6)
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
            loop = {"steps": 60_000, "batch": 10, "learning_rate": 1e-4, "warmup": 0, "clip": 0.0}
            return {**loop, "betas": (0.9, 0.999), "ema": (0.0,)}
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
        return labels_to_learn(facts, self.made)

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
        check_form(self.predicts, self.learned_variance, self.guess)
        return dataclasses.replace(super().fitted(facts), data_std=self.data_std or self.scale)

    # --- the diffusion -------------------------------------------------------------------------

    def network(self) -> Network:
        schedule = self.schedule()
        if self.predicts == "labels":
            return network_of_labels(self, schedule)
        body = self.body(twice=self.learned_variance)
        return network_of(body, schedule, self.predicts, self.data_std, self.preconditioned)

    def times(self, schedule: Schedule) -> Times:
        assert isinstance(schedule, Discrete)
        if self.law == "log-normal":
            return log_normal(schedule, self.law_mean + math.log(self.scale), self.law_std)
        return discrete_times(schedule)

    def weight(self) -> Weight:
        return weight_named(self.loss, self.data_std)

    def kind(self) -> type[Prepared]:
        if self.predicts == "labels":
            return GuessedLabels if self.guess else Labels
        return HybridLabels if self.learned_variance else Prepared

    def denoiser(self, objective: Prepared, batch: Batch) -> Denoiser:
        """As `Conditional`, the estimate kept to `scale` times [-1, 1]."""
        if self.windows is None:
            size = batch["image"].shape[2:]
            check_least(size, self.strides, "--multiples or --patch in training")
        return Clipped(super().denoiser(objective, batch), -self.scale, self.scale)

    def predict(self, objective: Prepared, batch: Batch) -> Batch:
        """One draw a case, and the probabilities that its chain saw on the way.

        Args:
            batch: "seed" int64 (B,), "image" and the other keys told.

        Returns:
            "mask", the drawn labels int64 (B, 1, *S); "probability" (B, L, *S), where the chain ended;
            "expected", of the same form, whose mean over draws is the probability of each label: of logits
            the mean of all estimates of the chain (`Averaging`), else where it ended, as in the paper.
        """
        told = Averaging(self.denoiser(objective, batch).eval(), TOLD * self.scale)
        x_0, size = last(self.walk(told, batch)), batch["image"].shape[2:]
        # a network of noise errs sigma / alpha times as much in x_0: its estimates high up drown the rest
        expected = told.expected(x_0) if self.predicts == "labels" else x_0
        answer = self.answer(cut_back(x_0, size))
        return {**answer, "expected": self.answer(cut_back(expected, size))["probability"]}

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
