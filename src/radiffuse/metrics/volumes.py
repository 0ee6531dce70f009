"""Sets of volumes: by their slices in all planes, voxel by voxel, and from slice to slice.

| metric | what it says | range, better |
|---|---|---|
| `fid_planes`, `fid_planes_corrected` | Frechet distance of slices ("2.5-D"), mean of the planes | as `fid` |
| `kid_planes` | squared maximum mean discrepancy of volumes that their slices describe, mean of the planes | as `kid` |
| `mmd` | squared maximum mean discrepancy of the voxels, unbiased | about 0 or less, lower |
| `coherence` | how much neighbouring slices have in common, along the axis where it is least | [-1, 1], as real |

Volumes are few where slices are many. What draws anew for an interval draws people with their volumes, never
slices, and no slice is ever paired with one of its own volume, so that eight volumes are enough for a number that
says its n.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .distribution import (
    APART,
    FEWEST,
    LARGEST_KERNEL,
    People,
    discrepancy,
    fid,
    polynomial_kernel,
    resampled,
    some_of,
)
from .estimate import Metric, refused

__all__ = [
    *("FEWEST_VOLUMES", "SLICES", "centred", "coherence", "median_distance"),
    *("planes_fid", "planes_metrics", "slices_of", "voxel_metric"),
]

FEWEST_VOLUMES = 8
SLICES = 8
"""Slices of a volume along every axis."""
BLACK = -1.0


# --------------------------------------------------------------------------------------------- 2.5-D
def slices_of(volumes: Tensor, count: int = SLICES) -> Tensor:
    """Slices across every axis, `(n, axes, count, C, *sides)`, of volumes `(n, C, *S)` in [-1, 1].

    They lie evenly in the middle half of the axis; fewer than `count` where that is shorter. Slices of the
    smaller planes are framed in black to the sides of the largest.
    """
    size = volumes.shape[2:]
    count = max(1, min(count, min(size) // 2))
    share = 0.25 + 0.5 * (torch.arange(count) + 0.5) / count
    cut = [
        volumes.index_select(axis, (share * volumes.shape[axis]).long()).movedim(axis, 1)
        for axis in range(2, volumes.dim())
    ]
    sides = [max(each) for each in zip(*(plane.shape[3:] for plane in cut), strict=True)]
    return torch.stack([_framed(plane, sides) for plane in cut], dim=1)


def _framed(x: Tensor, sides: Sequence[int]) -> Tensor:
    """`(..., *s)` in the middle of a black frame `(..., *sides)`."""
    margins: list[int] = []
    for have, want in zip(reversed(x.shape[-len(sides) :]), reversed(sides), strict=True):
        margins += [(want - have) // 2, want - have - (want - have) // 2]
    return F.pad(x, margins, value=BLACK)


def planes_metrics(
    real: Tensor, generated: Tensor, seed: int = 0, people: People = APART
) -> dict[str, Metric]:
    """`fid_planes`, `fid_planes_corrected` and `kid_planes` of features of slices.

    Args:
        real: `(n, planes, k, d)`, of `slices_of` n volumes.
        generated: `(m, planes, k, d)`.
        seed: of the bootstrap.
        people: see `distribution.People`.

    Each is refused where a set has fewer than 8 volumes, the Frechet distance also where it has fewer slices
    a plane than 50, or than twice the features.
    """
    names = ("fid_planes", "fid_planes_corrected", "kid_planes")
    n = min(len(real), len(generated))
    if n < FEWEST_VOLUMES:
        return dict.fromkeys(names, refused(_too_few(n), n))
    k, d = real.shape[2:]
    needed = max(FEWEST, 2 * d)
    if n * k < needed:
        reason = f"needs {needed} slices a plane ({d} features), there are {n * k} of {n} volumes"
        frechet = (refused(reason, n), refused(reason, n))
    else:
        frechet = resampled(planes_fid, real, generated, seed, people)
    most = LARGEST_KERNEL // k
    (x, y), of = some_of((real, generated), people, most)
    x, y = x.double(), y.double()
    kernels = _kernel(x, x).fill_diagonal_(0), _kernel(y, y).fill_diagonal_(0), _kernel(x, y)
    return dict(zip(names, (*frechet, discrepancy(*kernels, seed, of)), strict=True))


def planes_fid(real: Tensor, generated: Tensor) -> float:
    """Mean over the planes of the Frechet distance of their slices, `(n, planes, k, d)` each."""
    planes = zip(real.transpose(0, 1), generated.transpose(0, 1), strict=True)
    found = [fid(x.flatten(0, 1), y.flatten(0, 1)) for x, y in planes]
    return sum(found) / len(found)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """The kernel of volumes: that of KID, mean over pairs of their slices in each plane, `(n, m)`."""
    total = torch.zeros(len(x), len(y), dtype=x.dtype)
    for plane, other in zip(x.transpose(0, 1), y.transpose(0, 1), strict=True):
        pairs = polynomial_kernel(plane.flatten(0, 1), other.flatten(0, 1))
        total += pairs.unflatten(0, plane.shape[:2]).unflatten(2, other.shape[:2]).mean((1, 3))
    return total / x.shape[1]


def _too_few(n: int) -> str:
    return f"needs {FEWEST_VOLUMES} volumes a set, there are {n}"


# --------------------------------------------------------------------------------------------- voxels
def median_distance(volumes: Tensor, most: int = 500) -> float:
    """The median of the root of summed squared differences of two volumes `(n, C, *S)`, of `most` that are drawn."""
    rows = torch.randperm(len(volumes), generator=torch.Generator().manual_seed(0))[:most]
    x = volumes[rows.sort().values].flatten(1)
    return float(F.pdist(x - x.mean(0)).median())


def voxel_metric(
    real: Tensor, generated: Tensor, width: float, seed: int = 0, people: People = APART
) -> Metric:
    """`mmd`: Gretton et al. 2012, Eq. 3, with k(x, y) = exp(-|x - y|^2 / 2 width^2) of the voxels.

    Args:
        real, generated: `(n, C, *S)` and `(m, C, *S)`.
        width: of the kernel, as a rule the `median_distance` of real volumes.
        seed: of the bootstrap.
        people: see `distribution.People`.
    """
    n = min(len(real), len(generated))
    if n < FEWEST_VOLUMES:
        return refused(_too_few(n), n)
    (x, y), of = some_of((real, generated), people, LARGEST_KERNEL)
    x, y = x.flatten(1), y.flatten(1)
    middle = x.mean(0)
    x, y = x - middle, y - middle

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * (torch.cdist(a, b).double() / width).square())

    kernels = kernel(x, x).fill_diagonal_(0), kernel(y, y).fill_diagonal_(0), kernel(x, y)
    return discrepancy(*kernels, seed, of)


def coherence(volumes: Tensor) -> Tensor:
    r"""How much neighbouring slices have in common, `(n,)` float64, of volumes `(n, C, *S)`.

    $\sum_k a_k\cdot a_{k+1} / \sqrt{\sum_k |a_k|^2 \sum_k |a_{k+1}|^2}$ with $a_k$ slice k less its mean, along
    the axis where it is least: the correlation of neighbours, empty slices counting for nothing. Of independent
    noise it is 0, of a volume of one value too.
    """
    found = []
    for axis in range(2, volumes.dim()):
        slices = volumes.double().movedim(axis, 1).flatten(2)
        slices = slices - slices.mean(2, keepdim=True)
        before, after = slices[:, :-1], slices[:, 1:]
        power = before.square().sum((1, 2)) * after.square().sum((1, 2))
        found.append((before * after).sum((1, 2)) / power.sqrt().clamp_min(1e-9))
    return torch.stack(found).amin(0)


# ------------------------------------------------------------------------------------------ alignment
def centred(volumes: Tensor) -> Tensor:
    """Volumes `(n, C, *S)` in [-1, 1] moved by whole voxels, their centre of mass to voxel side // 2 of each axis.

    Black weighs nothing; what is moved in is black. The nearest of volumes so aligned is the same shape, wherever
    it lay; nothing is turned or deformed.
    """
    moved = []
    for volume in volumes:
        mass = (volume.double() + 1).clamp_min(0).sum(0)
        for axis, side in enumerate(mass.shape):
            line = mass.movedim(axis, 0).flatten(1).sum(1)
            total = float(line.sum())
            place = float((line * torch.arange(side)).sum()) / total if total else side // 2
            # a centre just between two voxels is moved to the same side whatever rounding makes of it
            volume = _shifted(volume, math.floor(side // 2 - place + 0.499), axis + 1)
        moved.append(volume)
    return torch.stack(moved)


def _shifted(x: Tensor, by: int, axis: int) -> Tensor:
    """x moved along an axis, black behind it."""
    if not by:
        return x
    x = x.roll(by, axis)
    x.narrow(axis, 0 if by > 0 else x.shape[axis] + by, abs(by)).fill_(BLACK)
    return x
