"""Anomaly detection: what of an image differs from its healthy counterpart."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ...errors import UserError
from ..task import Task

__all__ = ["ANOMALY", "contradicted", "healthy_class", "is_healthy", "labels_of"]

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


_HEALTHY = re.compile(
    r"health\w*|normals?|controls?|hc|cn|good|negative|neg|no|none|absent|(?:no|non|without|free)[ _-].+"
    r"|no(?:n?tumou?r|n?lesion|finding|disease|cancer|defect|anomaly|pneumonia|covid)s?",
    re.IGNORECASE,
)
"""What classes of healthy images are called."""


def healthy_class(names: Sequence[str]) -> int:
    """The label of the class that is called healthy; 0 where classes have no names.

    Raises:
        UserError: none or several are called so.
    """
    if not names:
        return 0
    found = [label for label, name in enumerate(names) if _HEALTHY.fullmatch(name.strip())]
    if len(found) == 1:
        return found[0]
    told = ", ".join(f"{label} {name}" for label, name in enumerate(names))
    which = "several" if found else "none"
    raise UserError(
        f"which class is healthy is not clear: {which} of {told} {'are' if found else 'is'} called so; --healthy N "
        "says which"
    )


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
