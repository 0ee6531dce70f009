"""Variety among generated images, and whether they are copies of training images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .estimate import (
    REPLICAS,
    Metric,
    average,
    average_per_patient,
    measured,
    of_few,
    proportion,
    quantiles,
    redrawn,
    refused,
)
from .fidelity import similarity

_BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_SIGMA, _WINDOW = 1.0, 9
CLOSEST = 0.01


# -------------------------------------------------------------------------------------- MS-SSIM
def pair_similarity(
    images: Tensor, pairs: int = 1000, seed: int = 0, people: Sequence[str] = ()
) -> Metric:
    """Mean MS-SSIM over random disjoint pairs; lower is more varied, compare with real images.

    See `ms_ssim`. Disjoint pairs of images of other people are independent. Where people have several, the bootstrap
    draws people, and a pair counts as often as both of its own are drawn (Owen 2007, "The pigeonhole bootstrap").

    Args:
        images: `(n, C, *S)` in [-1, 1].
        pairs: at most this many.
        seed: of the pairs and of the bootstrap.
        people: whose each image is; () where each is of another one.
    """
    n, size = len(images), images.shape[2:]
    if scales(size) == 0:
        return refused(_needs(size), n)
    if n < 20:
        return refused(f"needs 20 images, there are {n}", n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    half = min(n // 2, pairs)
    first, second = order[:half], order[half : 2 * half]
    values = ms_ssim(images[first], images[second])
    if len(set(people)) in (0, n):
        return {**average(values, seed), "n": 2 * half}
    drawn = [torch.bincount(rows, minlength=n) for rows in redrawn(n, REPLICAS, seed, people)]
    weights = torch.stack([(counts[first] * counts[second]).double() for counts in drawn])
    weights = weights[weights.sum(1) > 0]
    low, high = quantiles(weights @ values / weights.sum(1))
    return of_few(measured(float(values.mean()), low, high, 2 * half), people)


def ms_ssim_per_patient(x: Tensor, y: Tensor, patients: Sequence[str]) -> Metric:
    """Mean over patients of `ms_ssim`; refused where an axis is shorter than its window."""
    if scales(x.shape[2:]) == 0:
        return refused(_needs(x.shape[2:]), len(set(patients)))
    return average_per_patient(ms_ssim(x, y).tolist(), patients)


def ms_ssim(x: Tensor, y: Tensor, batch: int = 10) -> Tensor:
    """MS-SSIM of each pair `(n, C, *S)`, `(n, C, *S)` in [-1, 1], brought to [0, 1] -> `(n,)`.

    Wang et al. 2003: contrast and structure of `fidelity.similarity` at every scale, the luminance at
    the coarsest; a negative factor counts 0. A Gaussian window of 9 voxels (sigma 1) in place of 11 and as
    many scales as it fits (3 at 64 voxels, 5 from 144), their published exponents scaled to sum to
    one: numbers compare only at one image size. NaN where an axis is shorter than the window.
    """
    several = scales(x.shape[2:])
    if several == 0:
        return x.new_full((len(x),), math.nan, dtype=torch.float64)
    exponents = torch.tensor(_BETAS[:several], dtype=torch.float64)
    exponents = exponents / exponents.sum()
    parts = zip(x.split(batch), y.split(batch), strict=True)
    return torch.cat([_product((a + 1) / 2, (b + 1) / 2, exponents.tolist()) for a, b in parts])


def _product(x: Tensor, y: Tensor, exponents: Sequence[float]) -> Tensor:
    """The product over scales, each half as fine as the one before, of images in [0, 1]."""
    made = x.new_ones(len(x), dtype=torch.float64)
    for scale, exponent in enumerate(exponents):
        if scale:
            x, y = _halved(x), _halved(y)
        whole, contrast = similarity(x, y, _SIGMA, _WINDOW)
        factor = whole if scale == len(exponents) - 1 else contrast
        made = made * factor.clamp_min(0) ** exponent
    return made


def _halved(x: Tensor) -> Tensor:
    """Means of blocks of two voxels along every axis; an odd last one is left out."""
    for axis in range(2, x.dim()):
        x = x.unfold(axis, 2, 2).mean(-1)
    return x


def scales(size: Sequence[int]) -> int:
    """On how many of the five scales the window lies inside images of this size."""
    return sum(min(size) // 2**scale >= _WINDOW for scale in range(len(_BETAS)))


def _needs(size: Sequence[int]) -> str:
    return f"MS-SSIM needs {_WINDOW} voxels along every axis, images are " + " x ".join(
        map(str, size)
    )


# --------------------------------------------------------------------------------------- copies
@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each case.

    Attributes:
        distance: `(n,)`.
        index: `(n,)` int64 into the training images.
    """

    distance: Tensor
    index: Tensor


def nearest(queries: Tensor, train: Tensor, block: int = 512) -> Nearest:
    """Nearest of `train` `(m, *)` for each of `queries` `(n, *)`: root mean square difference.

    sqrt(mean over elements of (q - x)^2): on images in [-1, 1] half of it is a share of the grey
    range; on features it is in their own units.
    """
    x = train.flatten(1).float()
    best = [
        torch.cdist(q, x, compute_mode="use_mm_for_euclid_dist").min(dim=1)
        for q in queries.flatten(1).float().split(block)
    ]
    index = torch.cat([found.indices for found in best])
    # Once more without the matrix product, whose rounding hides an exact copy (distance 0).
    gap = (queries.flatten(1).float() - x[index]).double()
    return Nearest(gap.square().mean(dim=1).sqrt(), index)


@dataclass(frozen=True)
class Copies:
    """Generated images that lie suspiciously close to a training image.

    Attributes:
        found: nearest training image of each generated image.
        control: nearest training image of each held-out real image.
        threshold: the 1st percentile of the control's distances.
        flagged: `(n,)` bool, closer than the threshold.
    """

    found: Nearest
    control: Nearest
    threshold: float
    flagged: Tensor

    def closest(self, count: int) -> Tensor:
        """Indices of the generated images nearest to a training image, nearest first."""
        return self.found.distance.argsort()[:count]


def find_copies(generated: Tensor, held_out: Tensor, train: Tensor) -> Copies:
    """Flag generated images closer to a training image than 99 % of held-out real images are.

    All three `(n, *)`: images or features. Held-out images are never copies, so one in a hundred
    is what chance flags; many more than that means memory. (Held-out images that nearly repeat a
    training image, such as neighbouring slices, lower the threshold and make the test blunter.)
    """
    found, control = nearest(generated, train), nearest(held_out, train)
    threshold = float(torch.quantile(control.distance, CLOSEST))
    return Copies(found, control, threshold, found.distance < threshold)


def copy_metrics(
    copies: Copies, ids: tuple[str, ...], name: str, people: Sequence[str] = ()
) -> dict[str, Metric]:
    """`nearest_NAME` (mean distance, by case) and `copies_NAME` (share flagged); `people`: whose each image is, where
    several are of one."""
    n_control = len(copies.control.distance)
    if n_control < 100:
        reason = f"the 1st percentile needs 100 held-out images, there are {n_control}"
        share = refused(reason, n_control)
    else:
        share = proportion(copies.flagged, people)
    distance = average(copies.found.distance, people=people)
    if "mean" in distance:
        values = copies.found.distance.tolist()
        low, high = distance["ci95"]
        per_case = dict(zip(ids, values, strict=True))
        distance = measured(distance["mean"], low, high, len(values), per_case)
    return {f"nearest_{name}": distance, f"copies_{name}": share}
