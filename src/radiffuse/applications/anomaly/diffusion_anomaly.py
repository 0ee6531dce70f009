"""Diffusion models for medical anomaly detection (Wolleb et al. 2022): a classifier leads to health."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from ...diffusion.guidance import LogProbability, log_class
from ...papers import Paper, by_id
from ...training.objective import Together
from ..ranges import Rule, at_least
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, classes_in, wanted
from .led import SMALL_READERS, TINY_READERS, Led, class_loss, counterpart, side_by_side

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffusionAnomaly"]


@dataclass(frozen=True)
class DiffusionAnomaly(Led):
    """DDIM encoding to half the chain, decoding led by a classifier to the healthy class.

    The same as `swiss-army` with guide=class and no other reader (a test holds the two equal); each
    has its paper's defaults. The paper's half of the chain is that of images on [0, 1]; on [-1, 1] the
    same noise lies at 0.618 (`led` derives both this and that the factor stays).
    The diffusion is unconditional, so that encoding assumes nothing of the image; both walks have
    the same times (the paper's code is one step apart and adds noise of 0.01). Steps are
    deterministic, so that no variance is learned.
    """

    paper: ClassVar[Paper] = by_id("diffusion-anomaly")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Anomaly.AFTER_TRAINING, "guidance")

    RULES: ClassVar[dict[str, Rule]] = {
        "guidance": at_least(0),
        "classifier_width": at_least(1),
    }

    guidance: float = 100.0
    """Factor of the gradient of the classifier's log-probability."""
    classifier_width: int = 32
    """Channels of the classifier's first level."""
    depth: float = 0.618
    steps: int = 618

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        return dataclasses.replace(filled, classes=self.classes or classes_in(facts))

    def objective(self) -> Together:
        network = self.network_around(self.unet())
        classifier = self.encoder(self.classes, self.classifier_width)
        readers = {"classifier": (classifier, class_loss(self.healthy))}
        return side_by_side(self, network, readers)

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        image = batch["image"]

        def healthy() -> LogProbability:
            return log_class(objective.readers["classifier"], wanted(self.healthy, image))

        return counterpart(self, objective, image, healthy, self.guidance)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL_FIELDS, **SMALL_READERS, guidance=10.0, depth=0.25, steps=25)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY_FIELDS, **TINY_READERS, classifier_width=16, depth=0.5, steps=5)
