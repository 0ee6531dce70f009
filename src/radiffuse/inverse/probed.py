r"""The covariance of $x_0\mid x_t$ from one more network call: by voxel and by frequency.

By Tweedie's second formula $\mathrm{Cov}[x_0\mid x_t] = \tfrac{\sigma^2}{\alpha} J$, and a finite
difference along one random image z gives $q = \mathrm{Cov}\,z$. A model of few numbers is fitted to z and q,

$$ V = S\,\mathcal F^{-1} \operatorname{diag}(v)\,\mathcal F\,S, $$

S the deviation of each voxel (smooth; images differ where tissue is, not in air) and v(f) the spectrum of
what is left, equal on rings of frequencies. Both are what a moment estimate says of $E[z q]$. Diagonal
models of the covariance are Boys et al. 2024 (TMPD, by voxel), Peng et al. 2024 and Rissanen et al. 2025
(in a transform's basis); the product of both and the probe are ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..degrade import blurred
from ..denoise import Denoiser
from ..noise import Noise, gaussian
from ..spectrum import rings
from .conditioned import Conditioned
from .measurement import Measurement

__all__ = ["Probed", "probed_covariance"]

STEP = 0.1
"""Length of the finite difference over sigma."""
RINGS = 24
"""Rings of frequencies."""
LEAST = 1e-3
"""Smallest variance over the largest possible one."""


class Probed(Conditioned):
    r"""The posterior's denoiser with a covariance that is diagonal by voxel times by frequency.

    Exact for stationary Gaussian data with isotropic spectrum and `fwhm` = inf; costs two network calls
    and no gradient.

    Args:
        noise: draws the probes.
        fwhm: full width at half maximum in voxels of the window that S is averaged over; inf = the same S everywhere.
        denoiser, measurement, data_std, iterations: as the other conditioned denoisers.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        data_std: float = 0.5,
        iterations: int = 20,
        fwhm: float = 3.5,
    ) -> None:
        super().__init__(denoiser, measurement, data_std, iterations)
        self.noise, self.fwhm = noise, fwhm

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0, covariance = probed_covariance(
            self.denoiser, x_t, t, self.noise, self.spread(x_t, t), self.fwhm
        )
        return self.corrected(x_0, covariance, covariance)


def probed_covariance(
    denoiser: Denoiser, x_t: Tensor, t: Tensor, noise: Noise, most: Tensor, fwhm: float = 3.5
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    r"""The estimate, and $v \mapsto V v$, as this module's text says.

    Args:
        denoiser: of x_t (B, C, *S), real or complex.
        x_t, t: where.
        noise: draws z.
        most: the largest variance that is believed, broadcast over x_t.
        fwhm: of the window of S in voxels; inf = the same S everywhere.
    """
    alpha, sigma = denoiser.schedule(t, x_t)
    z = noise(x_t)
    step = STEP * sigma
    x_0 = denoiser(x_t, t)
    q = sigma**2 / alpha * (denoiser(x_t + step * z, t) - x_0) / step
    s = _voxels(z, q, fwhm)
    s = s.clamp(LEAST * most, most).sqrt()
    v = _rings(s * z, q / s)

    def covariance(x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        return s * _like(torch.fft.ifftn(torch.fft.fftn(s * x, dim=axes) * v, dim=axes), x)

    return x_0, covariance


def _like(x: Tensor, like: Tensor) -> Tensor:
    return x if like.is_complex() else x.real


def _voxels(z: Tensor, q: Tensor, fwhm: float) -> Tensor:
    """The variance of each voxel, (B, 1, *S): z q averaged over channels and a window."""
    product, square = (
        blurred((z.conj() * part).real.mean(1, keepdim=True), fwhm) for part in (q, z)
    )
    return product / square


def _rings(z: Tensor, q: Tensor) -> Tensor:
    """v(f) (B, 1, *S) at least `LEAST`: q = V z averaged over channels and rings."""
    axes, size = tuple(range(2, z.ndim)), tuple(z.shape[2:])
    a, b = (torch.fft.fftn(part, dim=axes) for part in (z, q))
    ring = rings(size, RINGS).flatten().to(z.device)
    sums = [
        part.sum(1).flatten(1).new_zeros(len(z), RINGS).index_add(1, ring, part.sum(1).flatten(1))
        for part in ((a.conj() * b).real, (a.conj() * a).real)
    ]
    v = (sums[0] / sums[1].clamp_min(1e-30)).clamp_min(LEAST)
    return v[:, ring].reshape(len(z), 1, *size)
