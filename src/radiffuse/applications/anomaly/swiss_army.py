"""The Swiss Army Knife (Wolleb et al. 2022): one diffusion, led by whatever reads its images."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion.guidance import LogProbability, log_class, log_mask, log_value
from ...errors import UserError
from ...nn import UNet
from ...papers import Paper, by_id
from ...training.objective import Together
from ..ranges import Rule, at_least
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, classes_in, wanted
from .led import SMALL_READERS, TINY_READERS, Led, Loss, class_loss, counterpart, side_by_side

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SwissArmy", "lesion_size", "value_loss"]


def lesion_size(batch: Batch, numbers: bool = True) -> Tensor:
    """What the regression learns `(B,)`: batch["value"], or without `numbers` the n-th root of the mask's share.

    The n-th root of a share of the volume is the side of a cube of that volume, the image's being 1.
    """
    if "value" in batch and numbers:
        return batch["value"].float()
    mask = batch["mask"]
    return (mask > 0).float().flatten(1).mean(1) ** (1 / (mask.ndim - 2))


GUIDANCE = {"class": 10.0, "regression": 1000.0, "segmentation": 1.0}
"""Factors at which the three guides change an image about as much: the logarithm of a probability of a class, a
negative square of a value between 0 and 1, and a sum of logarithms over the voxels of a lesion."""


@dataclass(frozen=True)
class SwissArmy(Led):
    """One unconditional diffusion; a classifier, a regression and a segmentation of noisy images.

    Which of these lead is decided at prediction (`guide`): to the healthy class, to a lesion of no
    size, to an empty mask; or to batch["target"] for any other edit, labels (B,), values (B,) or
    masks (B, 1, *S). The diffusion is told of no task. Depth and factors are not stated in the paper.
    """

    paper: ClassVar[Paper] = by_id("swiss-army")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Anomaly.AFTER_TRAINING, "guide", "guidance")

    RULES: ClassVar[dict[str, Rule]] = {
        "mask_classes": at_least(0),
        "guidance": Rule("-1 or at least 0", lambda value: value == -1 or value >= 0),
        "head_width": at_least(1),
    }

    mask_classes: int = 0
    """Labels of the segmentation; 0 = from the data, which have none if it stays 0."""
    values: bool = False
    """Train a regression of "value", or of the size of the lesion; from the data."""
    numbers: bool = True
    """It is of "value", which every training case has; from the data."""
    guide: Literal["class", "regression", "segmentation"] = "class"
    """What leads the decoding."""
    guidance: float = -1.0
    """Factor of the gradient of the guide's log-probability; -1 = the guide's own: class 10, regression 1000,
    segmentation 1."""
    head_width: int = 32
    """Channels of the first level of the networks that read."""
    depth: float = 0.4
    steps: int = 400

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        masks = facts.mask_classes.get("mask", 0)
        filled = dataclasses.replace(
            filled,
            mask_classes=self.mask_classes or (max(2, masks) if masks else 0),
            values=self.values or "value" in facts.scalars or bool(masks),
            numbers="value" in facts.scalars or not masks,
            classes=self.classes or (classes_in(facts) if facts.classes or masks else 0),
        )
        filled._check_guide()
        return filled

    def _check_guide(self) -> None:
        there = {
            "class": bool(self.classes),
            "regression": self.values,
            "segmentation": bool(self.mask_classes),
        }
        if not there[self.guide]:
            needs = {"class": "label", "regression": "value or mask", "segmentation": "mask"}
            raise UserError(
                f"--guide {self.guide} needs the key {needs[self.guide]}, which the data lack; "
                "name a column with --map"
            )

    def objective(self) -> Together:
        network = self.network_around(self.unet())
        readers: dict[str, tuple[torch.nn.Module, Loss]] = {}
        if self.classes:
            classifier = self.encoder(self.classes, self.head_width)
            readers["classifier"] = (classifier, class_loss(self.healthy))
        if self.values:
            readers["regression"] = (self.encoder(1, self.head_width), value_loss(self.numbers))
        if self.mask_classes:
            readers["segmentation"] = (self._segmenter(), _mask_loss)
        return side_by_side(self, network, readers)

    def _segmenter(self) -> UNet:
        # no deeper than the denoiser, whose stride the images divide by
        levels = len(self.multiples)
        return UNet(
            len(self.size),
            self.channels,
            self.head_width,
            self.reader_multiples[:levels],
            max(1, self.reader_blocks),
            tuple(level for level in self.reader_attention if level < levels),
            self.patch,
            out=self.mask_classes,
        )

    @property
    def factor(self) -> float:
        """`guidance`, or what the guide in use has of its own."""
        return GUIDANCE[self.guide] if self.guidance < 0 else self.guidance

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        def target() -> LogProbability:
            return self.log_probability(objective, batch)

        return counterpart(self, objective, batch["image"], target, self.factor)

    def log_probability(self, objective: Any, batch: Batch) -> LogProbability:
        """Of the target under the network that `guide` names.

        Raises:
            UserError: no such network was trained.
        """
        self._check_guide()
        image, target = batch["image"], batch.get("target")
        readers = objective.readers
        if target is not None:
            target = target.to(image.device)
        if self.guide == "class":
            label = wanted(self.healthy, image) if target is None else target
            return log_class(readers["classifier"], label)
        if self.guide == "regression":
            value = torch.zeros(len(image), device=image.device) if target is None else target
            return log_value(readers["regression"], value)
        empty = torch.zeros_like(image[:, :1], dtype=torch.int64)
        return log_mask(readers["segmentation"], empty if target is None else target)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL_FIELDS, **SMALL_READERS, depth=0.25, steps=25)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY_FIELDS, **TINY_READERS, head_width=16, steps=5)


def value_loss(numbers: bool) -> Loss:
    """Squared error of what is read of the size of a lesion (see `lesion_size`)."""
    return lambda read, batch: F.mse_loss(read[:, 0], lesion_size(batch, numbers))


def _mask_loss(read: Tensor, batch: Batch) -> Tensor:
    mask, image = batch["mask"], batch["image"]
    if mask.shape[2:] != image.shape[2:]:
        here, there = (" x ".join(map(str, x.shape[2:])) for x in (mask, image))
        raise UserError(f"masks are {here} and images {there}: they must agree; use --size")
    return F.cross_entropy(read, mask[:, 0]) / math.log(read.shape[1])
