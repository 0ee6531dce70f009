r"""Do samples of a posterior tell how wrong they may be? Coverage, CRPS, ranks, conformal rescaling.

Samples are (K, B, C, *S), the truth (B, C, *S), both real and in the same units; K at least 2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError

__all__ = [
    "Conformal",
    "conformal_factor",
    "coverage",
    "crps",
    "half_width",
    "half_widths_per_std",
    "rank_histogram",
]


def _checked(samples: Tensor, truth: Tensor) -> None:
    if samples.shape[1:] != truth.shape or len(samples) < 2:
        raise UserError(
            f"samples of shape {tuple(samples.shape)} do not fit a truth of {tuple(truth.shape)}: give "
            "(K, batch, channels, *space) with two samples or more"
        )


def half_width(samples: Tensor, level: float = 0.9) -> Tensor:
    r"""Half the width of each pixel's interval around the samples' mean, (B, C, *S).

    $t_{K-1,(1+l)/2}\sqrt{1+1/K}\,s$ with the samples' standard deviation s (with K - 1) and Student's t:
    the prediction interval of one more draw. If truth and samples are drawn from the same Gaussian it
    covers the truth with probability l, for every K.

    Args:
        samples: (K, B, C, *S).
        level: l.
    """
    _checked(samples, samples[0])
    return half_widths_per_std(len(samples), level) * samples.std(0)


def half_widths_per_std(count: int, level: float = 0.9) -> float:
    """`half_width` over the standard deviation of `count` samples, 2 at least."""
    from scipy.stats import t

    return float(t.ppf((1 + level) / 2, count - 1)) * math.sqrt(1 + 1 / count)


def _inside(error: Tensor, width: Tensor, where: Tensor | None) -> Tensor:
    """Share of pixels with error <= width in each case, (B,)."""
    hit = (error <= width).double()
    weight = torch.ones_like(hit) if where is None else where.expand_as(hit).double()
    return (hit * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)


def coverage(
    samples: Tensor,
    truth: Tensor,
    level: float = 0.9,
    factor: float = 1.0,
    where: Tensor | None = None,
) -> Tensor:
    """Share of pixels whose interval holds the truth, of each case, (B,).

    Args:
        samples: (K, B, C, *S).
        truth: (B, C, *S).
        level: of the intervals, see `half_width`.
        factor: the widths are multiplied by it (`conformal_factor`).
        where: pixels that count, boolean, broadcastable to the truth; all if None. Air around the
            body is easy to cover: leave it out.
    """
    _checked(samples, truth)
    return _inside((truth - samples.mean(0)).abs(), factor * half_width(samples, level), where)


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    r"""Continuous ranked probability score, the mean over pixels, in units of the truth, (B,).

    $\frac1K\sum_k|x_k-x| - \frac{1}{2K(K-1)}\sum_{j,k}|x_j-x_k|$, the estimate without bias from K draws
    (Ferro 2014); by sorting, $\sum_{j,k}|x_j-x_k| = 2\sum_k (2k-K-1)\,x_{(k)}$. Of one certain value it
    is the absolute error; lower is better.
    """
    _checked(samples, truth)
    count = len(samples)
    rank = 2 * torch.arange(1, count + 1, device=samples.device) - count - 1
    ordered = samples.sort(0).values
    spread = torch.tensordot(rank.to(ordered), ordered, dims=([0], [0])) / (count * (count - 1))
    return ((samples - truth).abs().mean(0) - spread).flatten(1).mean(1)


def rank_histogram(
    samples: Tensor, truth: Tensor, seed: int = 0, where: Tensor | None = None
) -> Tensor:
    """How often the truth has rank 0 ... K among its K samples, over all pixels: (K + 1,) counts.

    Flat if truth and samples have one law; a bowl if the samples vary too little, a hill if too much
    (Hamill 2001). Among equal values the rank is drawn at random.

    Args:
        samples: (K, B, C, *S).
        truth: (B, C, *S).
        seed: of these draws.
        where: pixels that count, as in `coverage`.
    """
    _checked(samples, truth)
    below, equal = (samples < truth).sum(0), (samples == truth).sum(0)
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(truth.shape, generator=generator, dtype=torch.float64).to(truth.device)
    rank = below + (share * (equal + 1)).floor().long()
    chosen = rank if where is None else rank[where.expand_as(rank)]
    return torch.bincount(chosen.flatten(), minlength=len(samples) + 1)


@dataclass(frozen=True)
class Conformal:
    """A factor for standard deviations, and what it stands on.

    Attributes:
        factor: half widths times this.
        level: of the intervals.
        patients: how many it was fitted on.
        before: mean over these patients of their pixels' coverage with factor 1.
        after: the same with `factor`.
    """

    factor: float
    level: float
    patients: int
    before: float
    after: float


def conformal_factor(
    errors: Sequence[Tensor],
    widths: Sequence[Tensor],
    patients: Sequence[str],
    level: float = 0.9,
    guaranteed: bool = True,
) -> Conformal:
    r"""The factor that makes intervals cover `level` of a new patient's pixels (split conformal).

    Pixels of a patient depend on each other, patients do not: each of the n patients is one draw of
    a distribution of ratios |error| / width, and the factor is a quantile of their average. With
    $F_i(\lambda)$ the share of patient i's pixels inside intervals $\lambda$ times as wide, it is the least
    $\lambda$ with

    $$ \frac{1}{n+1}\sum_{i=1}^n F_i(\lambda) \ge l, $$

    which guarantees an expected coverage of l or more for one more patient, whatever the errors'
    law (Angelopoulos et al. 2024, conformal risk control; Dunn et al. 2023). The price is coverage
    up to 1/(n+1) above l; without the guarantee the sum is divided by n, and l is met on average.

    Args:
        errors: truth - mean of each case, any shape (only pixels that count).
        widths: half widths (`half_width`) of the same shapes.
        patients: of each case.
        level: l.
        guaranteed: whether n + 1 divides the sum, else n.

    Raises:
        UserError: too few patients for the guarantee, or intervals of width 0 that no factor helps.
    """
    ratios: dict[str, list[Tensor]] = {}
    for error, width, patient in zip(errors, widths, patients, strict=True):
        ratio = torch.where(error == 0, 0.0, error.abs().double() / width.double())
        ratios.setdefault(patient, []).append(ratio.flatten())
    each = [torch.cat(parts) for parts in ratios.values()]
    count = len(each)
    target = level * (count + 1) / count if guaranteed and count else level
    if not 0 < target <= 1:
        raise UserError(
            f"{count} patients are too few to guarantee intervals of {level:.0%}: give "
            f"{math.ceil(level / (1 - level) - 1e-9)} or more, or ask for no guarantee"
        )
    weights = torch.cat([torch.full_like(r, 1 / (count * len(r))) for r in each])
    values, order = torch.cat(each).sort()
    reached = weights[order].cumsum(0)
    index = min(int((reached < target - 1e-9).sum()), len(values) - 1)
    factor = float(values[index])
    if not math.isfinite(factor):
        raise UserError(
            "the intervals have width 0 where the reconstruction is wrong: no factor can make them "
            "cover; draw samples that differ, or leave these pixels out"
        )
    before, after = (float(weights[order][values <= f].sum()) for f in (1.0, factor))
    return Conformal(factor, level, count, before, after)
