"""Coil maps and phase from all of the measured k-space, not from its centre alone."""

import math

import torch
from torch import Tensor

from ..inverse import Measurement
from ..inverse.classical import RIDGE, cg_sense
from ..operators import Coils, Fourier, Mask, conjugate_gradient
from ..operators.coils import root_sum_of_squares

__all__ = ["SmoothMaps", "refined"]

BAND, DECAY = 3.0, 3
r"""Amplitude of the maps at f cycles a field of view: $(1 + f^2 / \mathrm{BAND}^2)^{-\mathrm{DECAY}}$."""
WIDER = 1.25
"""Maps are periodic in a field so much wider, as they need not be in that of the image."""


def _amplitude(size: tuple[int, ...]) -> Tensor:
    """Root of the spectrum of maps on a wider grid, mean square 1."""
    wide = [math.ceil(WIDER * n) for n in size]
    axes = [torch.fft.fftfreq(m, 1 / n) / BAND for m, n in zip(wide, size, strict=True)]
    squares = torch.stack(torch.meshgrid(*[axis.square() for axis in axes], indexing="ij"))
    root = (1 + squares.sum(0)) ** -DECAY
    return root / root.square().mean().sqrt()


class SmoothMaps:
    r"""The smooth maps that explain a scan of a known image, of sum of squares 1.

    $\arg\min_c \|M F c x - y\|^2 / s^2 + \sum_f |\hat c_f|^2 / S_f$ by conjugate gradients: the
    posterior mean of Gaussian fields of mean square 1 / K. A further image begins where the last
    one ended.

    Args:
        kspace: y, (B, K, *S), zero where not sampled.
        mask: M, (B, 1, *S).
        std: s, deviation of real and imaginary part of the noise.
    """

    def __init__(self, kspace: Tensor, mask: Tensor, std: float) -> None:
        size = tuple(kspace.shape[2:])
        self._kspace, self._variance = kspace, std**2
        self._axes = tuple(range(2, kspace.dim()))
        self._inside = (..., *[slice(n) for n in size])
        self._measured = Mask(mask) @ Fourier(len(size))
        self._root = _amplitude(size).to(kspace.real) / math.sqrt(kspace.shape[1])
        self._waves: Tensor | None = None

    def __call__(self, image: Tensor, iterations: int = 15) -> Tensor:
        """Maps (B, K, *S) of an image x, (B, 1, *S); those of a real one hold its phase."""

        def normal(u: Tensor) -> Tensor:
            signal = self._measured(image * self._fields(u))
            return self._back(image, signal) + self._variance * u

        self._waves = conjugate_gradient(
            normal, self._back(image, self._kspace), self._waves, iterations=iterations
        )
        maps = self._fields(self._waves)
        return maps / root_sum_of_squares(maps).clamp_min(1e-12)

    def _fields(self, waves: Tensor) -> Tensor:
        return torch.fft.ifftn(self._root * waves, dim=self._axes, norm="ortho")[self._inside]

    def _back(self, image: Tensor, signal: Tensor) -> Tensor:
        """Adjoint of waves -> signal."""
        fields = image.conj() * self._measured.adjoint(signal)
        wide = tuple(self._root.shape)
        return self._root * torch.fft.fftn(fields, s=wide, dim=self._axes, norm="ortho")


def refined(
    maps: Tensor, kspace: Tensor, mask: Tensor, std: float, real: bool, rounds: int
) -> Tensor:
    r"""Maps that explain all of a scan's k-space, from maps that come of its centre.

    Image and maps are estimated in turns from each other, as in JSENSE (Ying & Sheng 2007): x by
    `cg_sense`, $\arg\min_x \|M F c x - y\|^2 + w \|x\|^2$, then c by `SmoothMaps`. Ten steps
    of conjugate gradients an image: more would fit what wrong maps do.

    Args:
        maps: c to begin with, (B, K, *S).
        kspace: y, (B, K, *S), zero where not sampled.
        mask: M, (B, 1, *S).
        std: deviation of real and imaginary part of the noise.
        real: whether x is; the maps then hold its phase.
        rounds: turns; 0 leaves the maps as they are.
    """
    found, x = SmoothMaps(kspace, mask, std), None
    like = kspace.real[:, :1] if real else kspace[:, :1]
    for _ in range(rounds):
        A = Mask(mask) @ Fourier(kspace.dim() - 2) @ Coils(maps)
        x = cg_sense(Measurement(kspace, A, std), like, RIDGE, iterations=10, start=x)
        maps = found(x)
    return maps
