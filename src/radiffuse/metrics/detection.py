"""Detection: thresholds, scores, and how well both tell sick from healthy, per image and per voxel."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .estimate import REPLICAS, Metric, measured, quantiles, refused, resamples

__all__ = [
    "fitted_threshold",
    "level_at",
    "levels",
    "otsu",
    "p_values",
    "ranking",
    "top_mean",
]

_BINS = 1000


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
        The two metrics, refused where everything is of one kind. The bootstrap sees scores in
        1000 classes of equal size.
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
    sick, sound = _histograms(
        scores.flatten(1) if scores.ndim > 1 else scores[:, None], positive, patients
    )
    draws = []
    for rows in resamples(count, REPLICAS, seed):
        times = torch.bincount(rows, minlength=count).double()
        draws.append(_areas(times @ sick, times @ sound))
    table = torch.tensor(
        [d for d in draws if all(math.isfinite(v) for v in d)], dtype=torch.float64
    )
    if len(table) < REPLICAS // 2:
        return {
            name: refused("too few patients of one kind for an interval", count) for name in names
        }
    return {
        name: measured(exact[k], *quantiles(table[:, k]), n=count) for k, name in enumerate(names)
    }


def _histograms(scores: Tensor, positive: Tensor, patients: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Counts `(patients, bins)` of anomalous and of healthy scores, highest bin first."""
    flat = scores.flatten().double()
    ordered = flat.sort().values
    places = torch.linspace(0, len(flat) - 1, _BINS + 1).round().long()
    bins = torch.searchsorted(ordered[places].unique(), scores.double().contiguous(), right=True)
    number = {patient: row for row, patient in enumerate(dict.fromkeys(patients))}
    rows = torch.tensor([number[patient] for patient in patients])[:, None].expand_as(bins)
    width = int(bins.max()) + 1
    cell = rows * width + (width - 1 - bins)
    truth = positive.reshape(scores.shape)
    counts = [
        torch.bincount(cell[kind], minlength=len(number) * width).reshape(len(number), width)
        for kind in (truth, ~truth)
    ]
    return counts[0].double(), counts[1].double()


def _areas(sick: Tensor, sound: Tensor) -> tuple[float, float]:
    """AUROC and average precision from counts by falling score; ties count half."""
    true, false = sick.cumsum(0), sound.cumsum(0)
    total, others = true[-1], false[-1]
    below = others - false + sound / 2
    auroc = float((sick * below).sum() / (total * others))
    precision = true / (true + false).clamp_min(1e-12)
    return auroc, float((sick * precision).sum() / total)
