"""Detection: thresholds, scores, and how well both tell sick from healthy, per image and per voxel."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .estimate import REPLICAS, Metric, measured, quantiles, refused, resamples, rows_of_patients

__all__ = [
    "fitted_threshold",
    "level_at",
    "levels",
    "otsu",
    "p_values",
    "ranking",
    "top_mean",
]

_GROUPS, _CELLS = 2**14, 2**24
"""Most groups of neighbouring anomalous scores that the bootstrap tells apart, and times patients."""


def top_mean(x: Tensor, share: float) -> Tensor:
    """Mean of the highest `share` of the values of each case, `(B, *)` -> `(B,)`."""
    flat = x.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(1)


def otsu(x: Tensor) -> Tensor:
    """Otsu's threshold of each map: `(B, 1, *S)` -> a number a case that broadcasts over x.

    A map of one value throughout has that value as its threshold, so nothing lies above it.
    """
    from skimage.filters import threshold_otsu

    maps = x.detach().cpu().numpy()
    levels = [threshold_otsu(m) if m.max() > m.min() else m.max() for m in maps]
    return torch.tensor(np.array(levels, dtype=np.float32)).to(x).reshape(-1, *[1] * (x.ndim - 1))


def fitted_threshold(healthy: Tensor, rate: float) -> float:
    """The threshold that the share `rate` of healthy values exceeds (a quantile, ties not above)."""
    values = healthy.flatten().double().sort().values
    return float(values[min(len(values) - 1, math.ceil((1 - rate) * len(values)) - 1)])


def levels(healthy: Tensor, lowest: float = 1e-4, count: int = 25) -> list[list[float]]:
    """[rate, fitted threshold] for rates from `lowest` to 0.5, evenly spaced in their logarithm."""
    rates = torch.logspace(math.log10(lowest), math.log10(0.5), count, dtype=torch.float64)
    ordered = healthy.flatten().double().sort().values
    return [[rate, fitted_threshold(ordered, rate)] for rate in rates.tolist()]


def level_at(table: Sequence[Sequence[float]], rate: float) -> float:
    """The threshold for any rate, linear in its logarithm between the rows of `levels`."""
    rates, thresholds = zip(*table, strict=True)
    return float(np.interp(math.log(rate), np.log(rates), thresholds))


def p_values(scores: Tensor, healthy: Tensor) -> Tensor:
    """(1 + number of healthy scores at least as high) / (1 + number of them), `(n,)`.

    The chance of such a score if the image were another healthy one (a permutation p-value;
    Phipson & Smyth 2010), never below 1 / (1 + n).
    """
    above = (healthy.double()[None] >= scores.double()[:, None]).sum(1)
    return (1 + above).double() / (1 + len(healthy))


def ranking(
    scores: Tensor, positive: Tensor, patients: Sequence[str], prefix: str = "", seed: int = 0
) -> dict[str, Metric]:
    """AUROC and average precision (scikit-learn), intervals by a bootstrap over patients.

    Args:
        scores: `(n,)` or `(n, V)`: of images, or of the voxels of images; high = anomalous.
        positive: bool of the same shape.
        patients: of the n images.
        prefix: goes before the names "auroc" and "average_precision".

    Returns:
        The two metrics, refused where everything is of one kind. Estimate and replicas are exact where
        anomalous scores have at most G = 16384 values (2^24 / patients, if that is less). Of n scores
        with more, replicas see G groups: that changes AUROC by less than 1 / G and average precision
        by less than (2 + 4 ln n) / G, the total variation of precision being 1 + 2 ln n at most.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    names = (f"{prefix}auroc", f"{prefix}average_precision")
    count = len(set(patients))
    if not bool(positive.any()) or bool(positive.all()):
        kind = "anomalous" if bool(positive.any()) else "healthy"
        return {name: refused(f"everything measured is {kind}", count) for name in names}
    if count < 2:
        return {name: refused("an interval needs at least 2 patients", count) for name in names}
    x, y = scores.flatten().double().numpy(), positive.flatten().numpy()
    exact = float(roc_auc_score(y, x)), float(average_precision_score(y, x))
    drawn = resamples(count, REPLICAS, seed)
    times = torch.stack([torch.bincount(rows, minlength=count) for rows in drawn]).double()
    table = _areas(*_by_patient(scores, positive, patients), times)
    table = table[torch.isfinite(table).all(1)]
    if len(table) < REPLICAS // 2:
        return {
            name: refused("too few patients of one kind for an interval", count) for name in names
        }
    return {
        name: measured(exact[k], *quantiles(table[:, k]), n=count) for k, name in enumerate(names)
    }


def _by_patient(
    scores: Tensor, positive: Tensor, patients: Sequence[str]
) -> tuple[list[Tensor], list[Tensor]]:
    """The anomalous and the healthy scores of each patient, rising."""
    sick, sound = [], []
    for own in rows_of_patients(patients).values():
        values, truth = scores[own].double(), positive[own]
        sick.append(values[truth].sort().values)
        sound.append(values[~truth].sort().values)
    return sick, sound


def _areas(sick: Sequence[Tensor], sound: Sequence[Tensor], times: Tensor) -> Tensor:
    """AUROC (ties count half) and average precision, `(R, 2)`, of patients each taken `times` `(R, p)`.

    Args:
        sick, sound: anomalous and healthy scores of each patient, rising.
        times: how often each patient was drawn; NaN where none of one kind was.
    """
    low, high = _groups(torch.cat(list(sick)), min(_GROUPS, _CELLS // len(sick)))
    here = torch.stack([_below(x, high, True) - _below(x, low, False) for x in sick])
    under = torch.stack([_below(x, low, False) for x in sound])
    until = torch.stack([_below(x, high, True) for x in sound])
    healthy = torch.tensor([len(x) for x in sound], dtype=torch.float64)
    wins = here @ ((under + until) / 2).T  # pairs that patient p's lesions win against q's healthy
    above = healthy[:, None] - under
    found = []
    for each in times.split(100):
        hits, alarms = each @ here, each @ above
        true, total = hits.cumsum(1), hits.sum(1)
        precision = true / (true + alarms).clamp_min(1)
        auroc = ((each @ wins) * each).sum(1) / (total * (each @ healthy))
        found.append(torch.stack([auroc, (hits * precision).sum(1) / total], 1))
    return torch.cat(found)


def _groups(values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest of groups of neighbouring values, highest first.

    A group is one value, or, where there are more than `most` of these, less than 2 / `most` of all.
    """
    ordered = values.sort().values
    low = ordered.unique()
    if len(low) > most:
        places = torch.arange(most // 2, dtype=torch.float64) * (len(ordered) / (most // 2))
        low = ordered[places.long()].unique()
        after = torch.searchsorted(ordered, low, right=True).clamp(max=len(ordered) - 1)
        low = torch.cat([low, ordered[after]]).unique()
    ends = torch.cat([_below(ordered, low[1:], False).long(), torch.tensor([len(ordered)])])
    return low.flip(0), ordered[ends - 1].flip(0)


def _below(ordered: Tensor, levels: Tensor, included: bool) -> Tensor:
    """How many of some rising values lie below each level, or on it where `included`."""
    return torch.searchsorted(ordered, levels.contiguous(), right=included).double()
