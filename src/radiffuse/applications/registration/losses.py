r"""What a displacement field is judged by in training: likeness of the images, and smoothness."""

import torch.nn.functional as F
from torch import Tensor

from ...nn.warp import warp

__all__ = ["local_correlation", "misfit", "smoothness"]

WINDOW = 9
EPSILON = 1e-5


def local_correlation(first: Tensor, second: Tensor, window: int = WINDOW) -> Tensor:
    r"""Mean squared correlation of two images in a window about every voxel, (B,), 0 to 1.

    $\mathrm{cc} = \frac{(\sum (a-\bar a)(b-\bar b))^2}{\sum (a-\bar a)^2\,\sum (b-\bar b)^2 + 10^{-5}}$,
    sums and means over `window` voxels along each axis (Balakrishnan et al. 2019, eq. 5); zeros are
    thought around the image.

    Args:
        first, second: (B, C, *S), the epsilon is meant for values in [0, 1].
        window: odd number of voxels.
    """
    a, b = first.float(), second.float()
    count = window ** (a.ndim - 2)
    mean_a, mean_b, aa, bb, ab = (_mean(x, window) for x in (a, b, a * a, b * b, a * b))
    cross = count * (ab - mean_a * mean_b)
    spread_a = count * (aa - mean_a**2).clamp(min=0)
    spread_b = count * (bb - mean_b**2).clamp(min=0)
    return (cross**2 / (spread_a * spread_b + EPSILON)).flatten(1).mean(1)


def _mean(x: Tensor, window: int) -> Tensor:
    """Mean over the window about every voxel, one axis after another."""
    for axis in range(2, x.ndim):
        rows = x.movedim(axis, -1)
        means = F.avg_pool1d(rows.flatten(0, -2), window, stride=1, padding=window // 2)
        x = means.reshape(rows.shape).movedim(-1, axis)
    return x


def smoothness(field: Tensor) -> Tensor:
    """Mean squared difference of neighbours along each axis, averaged over axes, (B,).

    Args:
        field: (B, n, *S) in voxels.
    """
    axes = range(2, field.ndim)
    steps = [field.diff(dim=axis).square().flatten(1).mean(1) for axis in axes]
    return sum(steps[1:], steps[0]) / len(steps)


def misfit(
    moving: Tensor,
    fixed: Tensor,
    field: Tensor,
    smooth: float = 1.0,
    window: int = WINDOW,
    padding: str = "border",
) -> Tensor:
    """-(local correlation of warped moving and fixed) + smooth x smoothness of the field, (B,).

    Args:
        moving, fixed: (B, 1, *S) in [-1, 1]; compared in [0, 1].
        field: (B, n, *S) in voxels.
        smooth: weight of the smoothness.
        window: of the correlation.
        padding: of the warp.
    """
    warped = warp((moving + 1) / 2, field, padding=padding)
    likeness = local_correlation(warped, (fixed + 1) / 2, window)
    return smooth * smoothness(field.float()) - likeness
