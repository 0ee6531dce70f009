"""Resizing, with its geometry, and scaling to [-1, 1]."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .image import Image


def resize(x: Tensor, size: Sequence[int], nearest: bool = False, cubic: bool = False) -> Tensor:
    """Resize `(..., *S)` to `(..., *size)` about the outer edges of the picture.

    Along each axis, with s = old/new, voxel j of the result is centred at (j + 1/2) s - 1/2 of the
    old index. A whole s averages blocks of s voxels; another s > 1 averages the linear interpolant
    over a stretch of s - 1 about the centre; s < 1 interpolates linearly. `nearest` takes the voxel
    under the centre (label maps). A field linear in position stays that field exactly when
    shrinking, and up to the outermost centres when enlarging: geometry is kept.

    Args:
        x: any type; integers come back as float32 unless `nearest`.
        size: new spatial size; as many last axes of `x` as it is long.
        nearest: for label maps.
        cubic: s < 1 interpolates by cubic convolution (Keys 1981), edges repeated.
    """
    if not nearest and not x.is_floating_point():
        x = x.float()
    for number, new in enumerate(size):
        axis = x.ndim - len(size) + number
        old = x.shape[axis]
        if old == new:
            continue
        if nearest:
            index = ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new).floor().long()
            x = x.index_select(axis, index.clamp_max(old - 1).to(x.device))
        else:
            enlarging = cubic and old < new
            weights = (cubic_weights if enlarging else axis_weights)(old, new).to(x)
            x = torch.tensordot(x.movedim(axis, -1), weights, dims=([-1], [1])).movedim(-1, axis)
    return x.contiguous()


def axis_weights(old: int, new: int) -> Tensor:
    """`(new, old)` weights of `resize` along one axis; every row adds up to 1."""
    scale = old / new
    position = torch.arange(old, dtype=torch.float64)
    start = torch.arange(new, dtype=torch.float64)[:, None] * scale
    if old % new == 0:
        return ((position >= start) & (position < start + scale)).double() / scale
    if scale > 1:
        stretch = scale - 1
        return (_ramp(start + stretch - position) - _ramp(start - position)) / stretch
    centre = (start + (scale - 1) / 2).clamp(0, old - 1)
    return (1 - (centre - position).abs()).clamp_min(0)


def cubic_weights(old: int, new: int) -> Tensor:
    """`(new, old)` weights of cubic convolution along one axis (Keys 1981, a = -1/2); every row adds up to 1."""
    centre = ((torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5)[:, None]
    taps = centre.floor() + torch.arange(-1, 3)
    far = (centre - taps).abs()
    inner, outer = 1.5 * far**3 - 2.5 * far**2 + 1, -0.5 * far**3 + 2.5 * far**2 - 4 * far + 2
    weights = torch.where(far <= 1, inner, outer)
    return torch.zeros(new, old).double().scatter_add_(1, taps.long().clamp(0, old - 1), weights)


def _ramp(u: Tensor) -> Tensor:
    """Integral of the hat function max(0, 1 - |x|) from -1 to u."""
    u = u.clamp(-1, 1)
    return 0.5 + u - u * u.abs() / 2


def resized_affine(affine: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Affine of the grid that `resize` makes: A diag(s) with the offset (s - 1)/2, s = old/new."""
    step = torch.eye(4, dtype=torch.float64)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        step[axis, axis] = before / after
        step[axis, 3] = (before / after - 1) / 2
    return affine.double() @ step


def resized(image: Image, size: Sequence[int], nearest: bool = False) -> Image:
    """`image` on a grid of `size`, its affine moved along; labels stay whole with `nearest`."""
    if tuple(size) == image.size:
        return image
    affine = None if image.affine is None else resized_affine(image.affine, image.size, size)
    return replace(image, data=resize(image.data, size, nearest), affine=affine)


def to_unit(x: Tensor, limits: tuple[float, float]) -> Tensor:
    """Stored values to [-1, 1]: 2 (x - low)/(high - low) - 1, clipped at both ends."""
    low, high = limits
    return ((x.float() - low) * (2 / (high - low)) - 1).clamp_(-1, 1)


def from_unit(x: Tensor, limits: tuple[float, float], dtype: torch.dtype) -> Tensor:
    """[-1, 1] back to stored values; integers are rounded and kept inside their type."""
    low, high = limits
    values = (x.double() + 1) / 2 * (high - low) + low
    if dtype.is_floating_point:
        return values.to(dtype)
    limit = torch.iinfo(dtype)
    values = values.round().clamp(
        max(limit.min, math.ceil(min(low, high))), min(limit.max, math.floor(max(low, high)))
    )
    return values.to(dtype)
