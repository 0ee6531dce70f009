"""Every metric of one way of segmenting, per patient."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...metrics.estimate import Metric, average_per_patient, refused
from ...metrics.overlap import dice_of_patients
from ...metrics.segmentation import errors_in_doubtful_tenth, generalised_energy, voxel_ece
from ...metrics.surface import hausdorff, surface_dice
from ...metrics.translation import correlation

__all__ = ["Answer", "measure"]


@dataclass(frozen=True)
class Answer:
    """What one way of segmenting says of the held-out cases.

    Attributes:
        mask: (n, 1, *S).
        foreground: probabilities (n, L, *S); None where it gives labels alone.
        doubt: (n, 1, *S), the uncertainty map; None where it has none.
        maps: label maps (K, n, 1, *S) of its law.
    """

    mask: Tensor
    foreground: Tensor | None
    doubt: Tensor | None
    maps: Tensor


def measure(
    answer: Answer,
    truth: Tensor,
    patients: Sequence[str],
    labels: int,
    spacings: Sequence[Sequence[float]],
) -> dict[str, Metric]:
    """Every metric of one answer.

    Dice counts a patient's voxels together; border distances are means over slices or volumes.
    Labels in neither map are left out of both. ECE, correlation and doubt pool a patient's voxels.
    """
    names = range(1, labels + 1)
    dice = torch.stack(list(dice_of_patients(answer.mask, truth, names, patients).values()))
    of = list(dict.fromkeys(patients))
    metrics = {"dice": _per_patient(dice.nanmean(1).tolist(), of, "no label")}
    if labels > 1:
        metrics |= {
            f"dice_{label}": _per_patient(dice[:, label - 1].tolist(), of, f"no label {label}")
            for label in names
        }
    far, near = _borders(answer.mask, truth, names, spacings)
    metrics |= {
        "hd95": _per_patient(far, patients, "no label"),
        "surface_dice": _per_patient(near, patients, "no label"),
        "generalised_energy": _per_patient(
            generalised_energy(answer.maps, truth[None], labels).tolist(), patients, "no case"
        ),
    }
    if answer.foreground is not None:
        metrics["ece"] = _pooled(voxel_ece, (answer.foreground, truth), patients, "no case")
    if answer.doubt is not None:
        both = (answer.doubt, answer.mask != truth)
        reason = "the uncertainty map or the error map is constant"
        metrics["uncertainty_error_correlation"] = _pooled(_correlation, both, patients, reason)
        metrics["errors_in_doubtful_tenth"] = _pooled(
            errors_in_doubtful_tenth, both, patients, "no voxel is wrong"
        )
    return metrics


def _correlation(doubt: Tensor, wrong: Tensor) -> float:
    return float(correlation(doubt.flatten()[None], wrong.flatten()[None].double())[0])


def _borders(
    mask: Tensor, truth: Tensor, names: Sequence[int], spacings: Sequence[Sequence[float]]
) -> tuple[list[float], list[float]]:
    """HD95 and surface Dice (tolerance: one voxel) of each case, means over its labels."""
    far, near = [], []
    for one, other, spacing in zip(mask[:, 0], truth[:, 0], spacings, strict=True):
        pairs = [(one == label, other == label) for label in names]
        far.append(_mean([hausdorff(a, b, spacing) for a, b in pairs]))
        near.append(_mean([surface_dice(a, b, spacing, max(spacing)) for a, b in pairs]))
    return far, near


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return sum(known) / len(known) if known else math.nan


def _per_patient(values: Sequence[float], patients: Sequence[str], reason: str) -> Metric:
    """The mean over those that have the value."""
    known = [(v, p) for v, p in zip(values, patients, strict=True) if math.isfinite(v)]
    if not known:
        return refused(f"{reason} in any patient", 0)
    return average_per_patient([v for v, _ in known], [p for _, p in known])


def _pooled(
    metric: Callable[[Tensor, Tensor], float],
    both: tuple[Tensor, Tensor],
    patients: Sequence[str],
    reason: str,
) -> Metric:
    """A metric of each patient's voxels together."""
    of = list(dict.fromkeys(patients))
    values = []
    for patient in of:
        rows = [row for row, name in enumerate(patients) if name == patient]
        values.append(metric(both[0][rows], both[1][rows]))
    return _per_patient(values, of, reason)
