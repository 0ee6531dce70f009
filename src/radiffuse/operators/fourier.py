r"""Magnetic resonance imaging: `Mask(m) @ Fourier(2) @ Coils(maps)`, in two and three dimensions.

The measured k-space of coil k is $y_k = M F (c_k x)$ with the coil's sensitivity $c_k$, the centred
orthonormal Fourier transform F and the sampling mask M (Pruessmann et al. 2001, eq. 3-5).
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..errors import UserError
from .base import LinearOperator, Product

__all__ = ["Coils", "Fourier", "Mask", "RealPart", "Sampled"]


def centred_fft(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Orthonormal DFT over `axes`, origin of both arrays at index n // 2 (the fastMRI convention)."""
    shifted = torch.fft.ifftshift(x, dim=axes)
    return torch.fft.fftshift(torch.fft.fftn(shifted, dim=axes, norm="ortho"), dim=axes)


def centred_ifft(y: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The inverse and adjoint of `centred_fft`."""
    shifted = torch.fft.ifftshift(y, dim=axes)
    return torch.fft.fftshift(torch.fft.ifftn(shifted, dim=axes, norm="ortho"), dim=axes)


@dataclass(frozen=True)
class Fourier(LinearOperator):
    r"""Centred orthonormal Fourier transform over the last `axes` axes; unitary, norm 1.

    $y_k = N^{-1/2} \sum_n x_n e^{-2\pi i (k - c)(n - c) / N}$ with $c = \lfloor N/2 \rfloor$ on each axis:
    the centre of k-space lies in the middle of the array. x (B, C, *S) -> y (B, C, *S), complex.
    A real x is taken as a complex one (the adjoint is complex too).

    Args:
        axes: how many of the last axes are transformed.
    """

    axes: int = 2

    def last(self, x: Tensor) -> tuple[int, ...]:
        """The axes of x that are transformed."""
        if not 1 <= self.axes <= x.ndim - 2:
            raise UserError(
                f"Fourier over {self.axes} axes cannot act on data (batch, channels, *space) of "
                f"shape {tuple(x.shape)}: give the number of its spatial axes"
            )
        return tuple(range(-self.axes, 0))

    def __call__(self, x: Tensor) -> Tensor:
        return centred_fft(x, self.last(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return centred_ifft(y, self.last(y))


class Mask(LinearOperator):
    """A x = m * x: sampling of k-space, or inpainting of images; its own adjoint.

    Args:
        mask: real or boolean, broadcastable over (B, C, *S), e.g. (B, 1, *S) or (W,) for columns.

    Raises:
        UserError: the mask is complex, or does not broadcast over the data.
    """

    def __init__(self, mask: Tensor) -> None:
        if mask.is_complex():
            raise UserError("a mask is real or boolean, this one is complex: give its magnitude")
        self.mask = mask

    def __call__(self, x: Tensor) -> Tensor:
        ours, theirs = tuple(self.mask.shape), tuple(x.shape)
        tail = theirs[len(theirs) - len(ours) :]
        fits = all(m in (1, n) for m, n in zip(ours, tail, strict=False))
        if len(ours) > len(theirs) or not fits:
            raise UserError(
                f"a mask of shape {ours} does not fit data of shape {theirs}: "
                "each of its axes must be 1 or equal, counted from the last"
            )
        return self.mask.to(x.device, x.real.dtype) * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self(y)

    def __matmul__(self, other: LinearOperator) -> LinearOperator:
        return Sampled(self, other) if isinstance(other, Fourier) else super().__matmul__(other)


class Sampled(Product):
    r"""`Mask(m) @ Fourier(axes)`, whose $A^H A$ is a convolution with the transform of $m^2$.

    A convolution commutes with the shifts that centre both arrays, and along axes where the mask does not
    change the two transforms cancel, so `gram` takes neither.
    """

    left: Mask
    right: Fourier

    @cached_property
    def _weight(self) -> tuple[Mask, tuple[int, ...]]:
        """m^2 with its origin first, and the axes along which it changes."""
        m2 = (self.left.mask * 1.0) ** 2
        last = range(-min(self.right.axes, m2.dim()), 0)
        axes = [a for a in last if not torch.equal(m2, m2.narrow(a, 0, 1).expand_as(m2))]
        return Mask(torch.fft.ifftshift(m2, dim=axes) if axes else m2), tuple(axes)

    def gram(self, x: Tensor) -> Tensor:
        self.right.last(x)
        weight, axes = self._weight
        x = x.to(x.dtype.to_complex())
        return torch.fft.ifftn(weight(torch.fft.fftn(x, dim=axes)), dim=axes) if axes else weight(x)


class Coils(LinearOperator):
    r"""Coil images of one image: x (B, 1, *S) -> (B, K, *S); the adjoint is $\sum_k \bar c_k y_k$.

    Args:
        maps: sensitivities c (B or 1, K, *S), complex. Norm 1 where $\sum_k |c_k|^2 = 1$.

    Raises:
        UserError: the data have another batch, channel number or size than the maps.
    """

    def __init__(self, maps: Tensor) -> None:
        self.maps = maps

    def _fitting(self, data: Tensor, channels: int, what: str) -> Tensor:
        ours, theirs = tuple(self.maps.shape), tuple(data.shape)
        same = ours[0] in (1, theirs[0]) and theirs[1:] == (channels, *ours[2:])
        if len(ours) != len(theirs) or not same:
            raise UserError(
                f"coil maps of shape {ours} do not fit {what} of shape {theirs}: "
                f"expected ({theirs[0]}, {channels}, {', '.join(map(str, ours[2:]))})"
            )
        return self.maps.to(data.device, data.dtype.to_complex())

    def __call__(self, x: Tensor) -> Tensor:
        return self._fitting(x, 1, "an image") * x

    def adjoint(self, y: Tensor) -> Tensor:
        maps = self._fitting(y, self.maps.shape[1], "coil data")
        return (maps.conj() * y).sum(1, keepdim=True)


class RealPart(LinearOperator):
    """A real image taken as a complex one; the adjoint is the real part.

    With it an operator of complex images serves a real unknown: `Fourier(2) @ RealPart()`. The inner
    product of the complex side is then Re <a, b>, that of pairs of real numbers.
    """

    def __call__(self, x: Tensor) -> Tensor:
        return x.to(x.dtype.to_complex())

    def adjoint(self, y: Tensor) -> Tensor:
        return y.real
