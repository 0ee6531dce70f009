"""How well two label maps agree: Dice by label, absent labels left out."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["dice", "dice_of_patients", "labels_in", "overlap"]


def labels_in(*maps: Tensor) -> list[int]:
    """Every label but 0 (background) in some of the maps."""
    found = {int(label) for each in maps for label in each.unique()}
    return sorted(found - {0})


def overlap(prediction: Tensor, reference: Tensor, labels: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Voxels in both, and the sum of voxels in each, of every case and label, (B, L) float64.

    Args:
        prediction, reference: label maps (B, 1, *S), integers.
        labels: L of them.
    """
    both, total = [], []
    for label in labels:
        a, b = (prediction == label).flatten(1), (reference == label).flatten(1)
        both.append((a & b).sum(1))
        total.append(a.sum(1) + b.sum(1))
    return torch.stack(both, 1).double(), torch.stack(total, 1).double()


def dice(
    prediction: Tensor, reference: Tensor, labels: Sequence[int], absent: float = math.nan
) -> Tensor:
    """2 |A and B| / (|A| + |B|) of every case and label, (B, L).

    A label in one map alone gives 0, one in neither `absent`. Other args as for `overlap`.
    """
    return _ratio(*overlap(prediction, reference, labels), absent)


def _ratio(both: Tensor, total: Tensor, absent: float = math.nan) -> Tensor:
    return torch.where(total > 0, 2 * both / total, absent)


def dice_of_patients(
    prediction: Tensor, reference: Tensor, labels: Sequence[int], patients: Sequence[str]
) -> dict[str, Tensor]:
    """Dice (L,) of each patient, voxels of all slices or volumes counted together; NaN if absent.

    A slice in which a structure ends does not weigh as much as one that cuts it in the middle.
    """
    both, total = overlap(prediction, reference, labels)
    found: dict[str, Tensor] = {}
    for patient in dict.fromkeys(patients):
        rows = [row for row, name in enumerate(patients) if name == patient]
        found[patient] = _ratio(both[rows].sum(0), total[rows].sum(0))
    return found
