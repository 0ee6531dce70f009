r"""Blur and downsampling, in any number of axes; inpainting is `Mask`.

Super-resolution in-plane and through-plane differ only in the axes: `BlockMean((2, 2))` halves the
last two, `BlockMean((4, 1, 1))` averages four slices of a volume (D, H, W).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import UserError
from .base import LinearOperator
from .fourier import centred_fft, centred_ifft

__all__ = ["BlockMean", "Blur", "KSpaceCrop"]


@lru_cache(maxsize=32)
def _toeplitz(n: int, std: float, reach: float, periodic: bool) -> Tensor:
    """The blur of one axis, (n, n): symmetric, circulant if periodic, otherwise banded Toeplitz."""
    half = math.ceil(reach * std)
    offset = torch.arange(-half, half + 1)
    kernel = torch.exp(-(offset.double() ** 2) / (2 * std**2))
    kernel = kernel / kernel.sum()
    row = torch.arange(n)[:, None].expand(n, len(offset))
    column = row + offset
    kept = (column >= 0) & (column < n) | periodic
    matrix = torch.zeros(n, n, dtype=torch.float64)
    weight = kernel.expand(n, -1)
    matrix.index_put_((row[kept], column[kept] % n), weight[kept], accumulate=True)
    return matrix


@dataclass(frozen=True)
class Blur(LinearOperator):
    """Separable Gaussian blur of the last axes: x (B, C, *S) -> the same shape; self-adjoint.

    Outside the image is zero, or the image again (`periodic`). Norm at most 1; 1 if periodic.

    Args:
        std: of the Gaussian in pixels, one number for each of the last axes; 0 leaves an axis.
        periodic: whether the image repeats.
        reach: where the kernel is cut, in standard deviations.
    """

    std: tuple[float, ...]
    periodic: bool = False
    reach: float = 4.0

    def __call__(self, x: Tensor) -> Tensor:
        if len(self.std) > x.ndim - 2 or min(self.std, default=0) < 0:
            raise UserError(
                f"blur of {self.std} pixels cannot act on data of shape {tuple(x.shape)}: give one "
                "standard deviation (0 or more) for each of the last spatial axes"
            )
        for back, std in enumerate(reversed(self.std), start=1):
            if std > 0:
                matrix = _toeplitz(x.shape[-back], std, self.reach, self.periodic).to(x)
                x = (x.movedim(-back, -1) @ matrix).movedim(-1, -back)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)


@dataclass(frozen=True)
class BlockMean(LinearOperator):
    """Mean over blocks of the last axes: x (B, C, *S) -> (B, C, *S / factors).

    $A A^H = I / n$ with n pixels a block, so the norm is $n^{-1/2}$.

    Args:
        factors: block length on each of the last axes.

    Raises:
        UserError: an axis is not a multiple of its factor.
    """

    factors: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        count = len(self.factors)
        size = x.shape[x.ndim - count :]
        if count > x.ndim - 2 or any(n % f for n, f in zip(size, self.factors, strict=True)):
            raise UserError(
                f"blocks of {self.factors} do not divide data of shape {tuple(x.shape)}: crop or pad "
                "its last axes to multiples"
            )
        pairs = [part for n, f in zip(size, self.factors, strict=True) for part in (n // f, f)]
        blocks = x.reshape(*x.shape[: x.ndim - count], *pairs)
        return blocks.mean(tuple(range(blocks.ndim - 2 * count + 1, blocks.ndim, 2)))

    def adjoint(self, y: Tensor) -> Tensor:
        for back, factor in enumerate(reversed(self.factors), start=1):
            y = y.repeat_interleave(factor, dim=-back)
        return y / math.prod(self.factors)


@dataclass(frozen=True)
class KSpaceCrop(LinearOperator):
    r"""Keep the centre of k-space, as a scan of lower resolution does: (B, C, *size) -> (B, C, *low).

    $A = \sqrt{n/N} F_n^H C F_N$ with the crop C from N to n points: a constant image keeps its value,
    the norm is $\sqrt{n/N}$. A real image gives the real part (the even n's last frequency has no
    partner), which is again linear with the real part of the adjoint.

    Args:
        size: of the last axes of x.
        low: of the last axes of y, at most `size` on each axis.

    Raises:
        UserError: sizes that do not fit each other or the data.
    """

    size: tuple[int, ...]
    low: tuple[int, ...]

    def __post_init__(self) -> None:
        same = len(self.size) == len(self.low)
        if not same or not all(1 <= n <= big for n, big in zip(self.low, self.size, strict=True)):
            raise UserError(f"k-space of {self.size} cannot be cropped to {self.low}: give less")

    def _parts(self, data: Tensor, size: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
        if data.ndim < len(size) + 2 or tuple(data.shape[-len(size) :]) != size:
            raise UserError(
                f"data of shape {tuple(data.shape)} do not fit the k-space crop from {self.size} to "
                f"{self.low}: the last axes must be {size}"
            )
        return tuple(range(-len(size), 0)), math.sqrt(math.prod(self.low) / math.prod(self.size))

    def _before(self) -> list[int]:
        return [big // 2 - n // 2 for n, big in zip(self.low, self.size, strict=True)]

    def __call__(self, x: Tensor) -> Tensor:
        axes, scale = self._parts(x, self.size)
        k = centred_fft(x, axes)
        for axis, start, n in zip(axes, self._before(), self.low, strict=True):
            k = k.narrow(axis, start, n)
        y = scale * centred_ifft(k, axes)
        return y if x.is_complex() else y.real

    def adjoint(self, y: Tensor) -> Tensor:
        axes, scale = self._parts(y, self.low)
        pads: list[int] = []
        for start, n, big in zip(self._before(), self.low, self.size, strict=True):
            pads = [start, big - n - start, *pads]
        k = torch.nn.functional.pad(centred_fft(y, axes), pads)
        x = scale * centred_ifft(k, axes)
        return x if y.is_complex() else x.real
