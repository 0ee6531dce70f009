"""Diff-SCM, "What is Healthy?" (Sanchez et al. 2022): counterfactuals by classifier-free guidance."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped, Guided
from ...diffusion.losses import discrete_times
from ...diffusion.network import Given
from ...nn.attended import AttendedLabel
from ...papers import Paper, by_id
from ...training.objective import Denoising, device_of
from ..ranges import SHARE, Rule, at_least, up_to
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, classes_in, wanted
from .counterfactual import Normalised, ladder, walk
from .task import labels_of

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffSCM"]


class Labelled(Denoising):
    """Denoising told the label, or where data have masks alone, whether there is a lesion."""

    healthy: int = 0

    def condition(self, batch: Batch) -> Batch:
        return super().condition({**batch, "label": labels_of(batch, self.healthy)})


@dataclass(frozen=True)
class DiffSCM(Anomaly):
    """Abduction by DDIM encoding with no label, prediction by decoding guided to the healthy one.

    Estimates are normalised dynamically on both walks. Batches are drawn from all training cases
    alike; the paper's loader balances its two classes.
    """

    paper: ClassVar[Paper] = by_id("diff-scm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Anomaly.AFTER_TRAINING, "guidance", "quantile")

    RULES: ClassVar[dict[str, Rule]] = {
        "classes": at_least(0),
        "label_drop": SHARE,
        "guidance": at_least(0),
        "quantile": up_to(1),
        "tokens": at_least(1),
    }

    classes: int = 0
    """Classes to condition on; 0 = from the data (two where only masks are given)."""
    label_drop: float = 0.35
    """Share of cases trained without their label."""
    guidance: float = 3.0
    """Weight of the healthy label: 0 is no label, 1 the label alone."""
    quantile: float = 0.99
    """Of the estimate's magnitude, scaled to 1 where it is larger; 1 only clips."""
    tokens: int = 256
    """Length of the label's embedding and number of tokens it makes for the attention."""
    width: int = 64
    multiples: tuple[int, ...] = (1, 2, 3, 4)
    attention: tuple[int, ...] = (1, 2, 3)
    dropout: float = 0.1
    depth: float = 0.75
    steps: int = 75

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        paper = {"batch": 64, "weight_decay": 0.01}
        options = super().training(preset)
        return {**options, **paper} if preset == "paper" else options

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        return dataclasses.replace(filled, classes=self.classes or classes_in(facts))

    def objective(self) -> Denoising:
        unet = self.unet(classes=self.classes, context=self.tokens)
        network = self.network_around(AttendedLabel(unet, self.tokens))
        times = discrete_times(self.schedule())
        objective = Labelled(network, times, self.weight(), self.label_drop)
        objective.healthy = self.healthy
        return objective

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        image = batch["image"]
        network = objective.network.to(device_of(objective)).eval()
        times = ladder(self.schedule(), self.depth, self.steps)
        target = wanted(self.healthy, image)
        blind = Given(network, label=torch.full_like(target, self.classes))
        latent = walk(self.kept(blind), image, times)
        led = Guided(Given(network, label=target), blind, self.guidance) if self.guidance else blind
        return walk(self.kept(led), latent, times.flip(0))

    def kept(self, denoiser: Denoiser) -> Denoiser:
        """Estimates normalised, then clipped to [-1, 1]."""
        return Clipped(Normalised(denoiser, self.quantile))

    def residual(self, image: Tensor, healthy: Tensor) -> Tensor:
        return (image - healthy).abs().mean(1, keepdim=True)

    @classmethod
    def small(cls) -> Self:
        # the paper's depth of 0.75 separates worse after so short a training (docs/anomaly.md)
        return cls(**SMALL_FIELDS, tokens=64, depth=0.5, steps=25)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY_FIELDS, "attention": (1,)}, tokens=16, steps=5)
