"""Diffusion models for medical anomaly detection (Wolleb et al. 2022): a classifier leads to health."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch.nn.functional as F
from torch import Tensor

from ...diffusion.guidance import Steered
from ...diffusion.losses import discrete_times
from ...nn import Classifier
from ...papers import Paper, by_id
from ...training.objective import Denoising
from ..ranges import Rule, at_least, up_to
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, check_read, classes_in, device_of, wanted
from .counterfactual import Reader, Together, decode, encode, ladder, log_class
from .task import labels_of

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffusionAnomaly"]


@dataclass(frozen=True)
class DiffusionAnomaly(Anomaly):
    """DDIM encoding to half the chain, decoding led by a classifier to the healthy class.

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
        check_read(self)
        filled = super().fitted(facts)
        return dataclasses.replace(filled, classes=self.classes or classes_in(facts))

    def objective(self) -> Together:
        network = self.network_around(self.unet())
        times = discrete_times(self.schedule())
        reading = discrete_times(self.schedule(), self.read)
        classifier = Classifier(
            len(self.size), self.channels, self.classes, self.classifier_width, patch=self.patch
        )
        return Together(
            Denoising(network, times, self.weight()),
            Reader("classifier", classifier, network, reading, self._loss),
        )

    def _loss(self, read: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(read, labels_of(batch, self.healthy))

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        image = batch["image"]
        check_read(self)
        objective.play()
        denoising, reader = objective.parts
        network = denoising.network.to(device_of(objective)).eval()
        times = ladder(self.schedule(), self.depth, self.steps)
        target = wanted(self.healthy, image)
        led = (
            Steered(network, log_class(reader, target), self.guidance) if self.guidance else network
        )
        return decode(led, encode(network, image, times), times)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL_FIELDS, guidance=10.0, depth=0.25, steps=25, read=0.4)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY_FIELDS, classifier_width=16, steps=5)
