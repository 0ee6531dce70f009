"""Diffusion models for medical anomaly detection (Wolleb et al. 2022): a classifier leads to health."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from ...diffusion.guidance import LogProbability, log_class
from ...nn import Classifier
from ...papers import Paper, by_id
from ...training.objective import Together
from ..ranges import Rule, at_least, up_to
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, classes_in, wanted
from .led import check_read, class_loss, counterpart, side_by_side

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffusionAnomaly"]


@dataclass(frozen=True)
class DiffusionAnomaly(Anomaly):
    """DDIM encoding to half the chain, decoding led by a classifier to the healthy class.

    The same as `swiss-army` with guide=class and no other reader (a test holds the two equal); each
    has its paper's defaults.
    The diffusion is unconditional, so that encoding assumes nothing of the image; both walks have
    the same times (the paper's code is one step apart and adds noise of 0.01). Steps are
    deterministic, so that no variance is learned.
    """

    paper: ClassVar[Paper] = by_id("diffusion-anomaly")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Anomaly.AFTER_TRAINING, "guidance")

    RULES: ClassVar[dict[str, Rule]] = {
        "classes": at_least(0),
        "guidance": at_least(0),
        "classifier_width": at_least(1),
        "read": up_to(1),
    }

    classes: int = 0
    """Classes of the classifier; 0 = from the data (two where only masks are given)."""
    guidance: float = 100.0
    """Factor of the classifier's gradient."""
    classifier_width: int = 32
    """Channels of the classifier's first level."""
    read: float = 1.0
    """Share of the chain that the classifier is trained on; `depth` lies within."""

    def fitted(self, facts: "Facts") -> Self:
        check_read(self.depth, self.read)
        filled = super().fitted(facts)
        return dataclasses.replace(filled, classes=self.classes or classes_in(facts))

    def objective(self) -> Together:
        network = self.network_around(self.unet())
        axes, width = len(self.size), self.classifier_width
        classifier = Classifier(axes, self.channels, self.classes, width, patch=self.patch)
        readers = {"classifier": (classifier, class_loss(self.healthy))}
        return side_by_side(self, network, readers, self.read)

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        check_read(self.depth, self.read)
        image = batch["image"]

        def healthy() -> LogProbability:
            return log_class(objective.readers["classifier"], wanted(self.healthy, image))

        return counterpart(self, objective, image, healthy, self.guidance)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL_FIELDS, guidance=10.0, depth=0.25, steps=25, read=0.4)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY_FIELDS, classifier_width=16, steps=5)
