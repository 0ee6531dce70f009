"""Anomaly detection: what of an image differs from its healthy counterpart."""

import torch
from torch import Tensor

from ..task import Task

__all__ = ["ANOMALY", "contradicted", "is_healthy", "labels_of"]

ANOMALY = Task(
    "anomaly",
    reads=("image",),
    optional=("label", "mask"),
    writes=("healthy", "anomaly", "mask", "score"),
    raw=("anomaly",),
    evaluation="radiffuse.applications.anomaly.evaluate:evaluate_anomaly",
    title="Anomaly detection",
    shown=(
        *("auroc", "average_precision", "pixel_auroc", "pixel_average_precision"),
        *("dice_fitted", "dice_best", "psnr_healthy", "psnr_outside"),
    ),
)
"""Writes "healthy" (B, C, *S) in [-1, 1], the counterpart; "anomaly" (B, 1, *S) >= 0, the map;
"mask" int64 (B, 1, *S), the map above a threshold; "score" (B,), one number an image."""


def is_healthy(batch: dict[str, Tensor], healthy: int) -> Tensor:
    """Which cases are healthy, `(B,)` bool.

    Those with an empty "mask" where there is one, whatever their label; else those of the label
    `healthy`; all where the data say neither.
    """
    if "mask" in batch:
        return ~batch["mask"].flatten(1).any(1)
    if "label" in batch:
        return batch["label"] == healthy
    return torch.ones(len(batch["image"]), dtype=torch.bool)


def labels_of(batch: dict[str, Tensor], healthy: int) -> Tensor:
    """The class of each case `(B,)`, `healthy` exactly where `is_healthy` is True.

    Other cases have their label; where there is none, or it says healthy against their mask, the
    first class that is not `healthy`.
    """
    sound = is_healthy(batch, healthy)
    other = torch.full_like(sound, 0 if healthy else 1, dtype=torch.long)
    sick = (
        torch.where(batch["label"] == healthy, other, batch["label"]) if "label" in batch else other
    )
    return torch.where(sound, healthy, sick)


def contradicted(batch: dict[str, Tensor], healthy: int) -> Tensor:
    """Which cases `(B,)` have a label that is `healthy` and a mask that is not empty, or neither."""
    sound = is_healthy(batch, healthy)
    return sound != (batch["label"] == healthy) if "label" in batch else torch.zeros_like(sound)
