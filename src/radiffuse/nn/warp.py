r"""Displacement fields: warping, composition, the diffeomorphic exponential, folding.

A field u (B, n, *S) has one channel an axis, in the order of the axes, and is in voxels. The warped
image is read at the displaced place, $(I\circ\varphi)(x) = I(x + u(x))$, so a field of the fixed
image's grid brings the moving image onto it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import resized

__all__ = ["compose", "enlarged", "exponential", "folded", "jacobian", "places", "warp"]


def places(size: torch.Size | tuple[int, ...], like: Tensor) -> Tensor:
    """Index of every voxel, (n, *S), on the device of `like` and in its type."""
    axes = [torch.arange(side, device=like.device, dtype=like.dtype) for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def warp(image: Tensor, field: Tensor, nearest: bool = False, padding: str = "border") -> Tensor:
    """The image read at x + u(x), linearly between voxels.

    Args:
        image: (B, C, *S), two or three axes.
        field: u (B, n, *S) in voxels.
        nearest: take the nearest voxel instead, as label maps need; keeps the type.
        padding: "border" repeats the outermost voxels beyond the image, "zeros" takes 0.
    """
    size = image.shape[2:]
    at = places(size, field.float()) + field.float()
    # a side of one voxel has no extent to divide by
    last = torch.tensor([max(side - 1, 1) for side in size], device=at.device)
    unit = 2 * at.movedim(1, -1) / last - 1
    mode = "nearest" if nearest else "bilinear"
    values = F.grid_sample(image.float(), unit.flip(-1), mode, padding, align_corners=True)
    return values.round().to(image.dtype) if nearest else values


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The field of warping by `first` and the result by `then`: v(x) + u(x + v(x))."""
    return then + warp(first, then)


def enlarged(field: Tensor, factor: int) -> Tensor:
    """A field given on every `factor`-th voxel, on all of them: linear between, still in voxels."""
    if factor == 1:
        return field
    return resized(field.float(), [factor * side for side in field.shape[2:]])


def exponential(velocity: Tensor, squarings: int = 7) -> Tensor:
    r"""The diffeomorphism at time 1 of a stationary velocity (B, n, *S), by scaling and squaring.

    $\exp v = (\exp 2^{-N}v)^{2^N}$ (Arsigny et al. 2006); its inverse is the exponential of -v.
    """
    field = velocity.float() / 2**squarings
    for _ in range(squarings):
        field = compose(field, field)
    return field


def jacobian(field: Tensor) -> Tensor:
    """Determinant of the derivative of x + u(x), (B, *S): the local change of volume.

    Central differences, one-sided at the border; two or three axes.
    """
    axes = field.shape[1]
    rows = []
    for axis in range(axes):
        slopes = torch.gradient(field.float(), dim=axis + 2)[0]
        slopes[:, axis] += 1
        rows.append(slopes)
    if axes == 2:
        (a, b), (c, d) = rows[0].unbind(1), rows[1].unbind(1)
        return a * d - b * c
    return (rows[0] * torch.linalg.cross(rows[1], rows[2], dim=1)).sum(1)


def folded(field: Tensor) -> Tensor:
    """Share of voxels (B,) where the map x + u(x) folds: Jacobian determinant 0 or less."""
    return (jacobian(field) <= 0).float().flatten(1).mean(1)
