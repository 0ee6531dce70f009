r"""Self-fusion: an image averaged with its neighbours in the same scan, by how alike they are.

Joint label fusion (Wang et al. 2013) of intensities, as in self-fusion of OCT (Oguz et al. 2020): the
neighbours, moved onto the image, are summed with weights that solve, voxel by voxel,

$$ M w = \lambda 1, \quad \textstyle\sum_i w_i = 1, \qquad
   M_{ij} = \Big(\sum_{patch} |d_i||d_j|\Big)^\beta + \alpha\,\delta_{ij}, $$

$d_i$ neighbour i less the image. The image itself is no neighbour of its own.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["fusion_weights", "moved", "offset", "self_fused"]


def self_fused(
    image: Tensor,
    neighbours: Tensor,
    radius: int = 5,
    alpha: float = 30.0,
    beta: float = 2.0,
    reach: int = 4,
) -> Tensor:
    """`(B, C, *S)`: the weighted sum of the neighbours of each image, moved onto it.

    Args:
        image: `(B, C, *S)`.
        neighbours: `(B, n, C, *S)`.
        radius: of the patches compared; a side is 2 radius + 1.
        alpha, beta: see the module; the defaults are those of Hu et al. 2022 (`Joint[30, 2]`).
        reach: largest shift, in voxels along each axis, that registration may find; 0: none.
    """
    placed = [
        torch.stack([moved(one, offset(one, target, reach)) for one in several])
        for target, several in zip(image, neighbours, strict=True)
    ]
    aligned = torch.stack(placed)
    weights = fusion_weights(aligned - image[:, None], radius, alpha, beta)
    return (weights[:, :, None] * aligned).sum(dim=1)


def fusion_weights(difference: Tensor, radius: int, alpha: float, beta: float) -> Tensor:
    """Weights `(B, n, *S)`, adding to 1, of differences `(B, n, C, *S)` from the image."""
    d = difference.double().abs()
    n = d.shape[1]
    pairs = torch.stack([d * d[:, j : j + 1] for j in range(n)], dim=2).sum(dim=3)
    axes = range(3, pairs.ndim)
    for axis in axes:
        pairs = _box_sum(pairs, axis, radius)
    matrix = pairs.clamp(min=0).movedim((1, 2), (-2, -1)) ** beta
    matrix = matrix + alpha * torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    weights = torch.linalg.solve(matrix, torch.ones_like(matrix[..., :1]))[..., 0]
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights.movedim(-1, 1).to(difference)


def _box_sum(x: Tensor, axis: int, radius: int) -> Tensor:
    """Sums over 2 radius + 1 voxels along an axis, fewer at its ends."""
    side = x.shape[axis]
    sums = torch.cat([torch.zeros_like(x.narrow(axis, 0, 1)), x.cumsum(axis)], dim=axis)
    place = torch.arange(side, device=x.device)
    upper = sums.index_select(axis, (place + radius + 1).clamp(max=side))
    return upper - sums.index_select(axis, (place - radius).clamp(min=0))


def offset(image: Tensor, onto: Tensor, reach: int) -> tuple[int, ...]:
    """The whole-voxel shift, at most `reach` an axis, that brings `image` onto `onto`, both `(C, *S)`.

    The highest place of their cross-correlation.
    """
    axes = tuple(range(1, image.ndim))
    if not reach:
        return (0,) * len(axes)
    a, b = (x - x.mean() for x in (image, onto))
    product = torch.fft.fftn(b, dim=axes) * torch.fft.fftn(a, dim=axes).conj()
    likeness = torch.fft.ifftn(product, dim=axes).real.sum(dim=0)
    for axis in range(likeness.ndim):
        most = min(reach, (likeness.shape[axis] - 1) // 2)
        likeness = likeness.roll(most, axis).narrow(axis, 0, 2 * most + 1)
    best = torch.unravel_index(likeness.argmax(), likeness.shape)
    return tuple(int(k) - side // 2 for k, side in zip(best, likeness.shape, strict=True))


def moved(image: Tensor, by: Sequence[int]) -> Tensor:
    """`(C, *S)` moved by whole voxels; what comes in at a border repeats the outermost voxel."""
    for axis, step in enumerate(by, start=1):
        side = image.shape[axis]
        place = torch.arange(side, device=image.device) - step
        image = image.index_select(axis, place.clamp(0, side - 1))
    return image
