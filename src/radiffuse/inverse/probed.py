r"""The covariance of $x_0\mid x_t$ from one more network call: by voxel and by frequency.

By Tweedie's second formula $\mathrm{Cov}[x_0\mid x_t] = \tfrac{\sigma^2}{\alpha} J$, and a finite
difference along one random image z gives $q = \mathrm{Cov}\,z$. A model of few numbers is fitted to z and q,

$$ V = S\,\mathcal F^{-1} \operatorname{diag}(v)\,\mathcal F\,S, $$

S the deviation of each voxel (smooth; images differ where tissue is, not in air) and v(f) the spectrum of
what is left, equal on rings of frequencies. Both are what a moment estimate says of $E[z q]$. At z q a
voxel has the relative variance $2\rho$, $\rho = N\sum v^2/(\sum v)^2$ for N voxels, and so have its
neighbours as far as V reaches: S is averaged over $\rho$ times as many voxels as a white V would need.
With $L = S\,\mathcal F^{-1} \operatorname{diag}(\sqrt v)\,\mathcal F$, $V = L L^H$, the estimate is
$\hat x_0 + L u$, $(L^H A^H A L + s^2) u = L^H A^H (y - A \hat x_0)$: every step of conjugate gradients
there lessens misfit and improbability together. Diagonal models of the covariance are Boys et al. 2024
(TMPD, by voxel), Peng et al. 2024 and Rissanen et al. 2025 (in a transform's basis); the product of both
and the probe are ours.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.complex_images import joined, parts
from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import Noise, gaussian
from ..diffusion.schedule import expand
from ..diffusion.spectrum import rings
from ..operators.base import conjugate_gradient
from ..operators.blur import blurred
from .conditioned import Conditioned
from .measurement import Measurement

__all__ = ["Probed", "VoxelsAndRings", "fitted", "probed_covariance"]

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
        fwhm: full width at half maximum in voxels of the window that S is averaged over where V is white
            (else wider); inf = the same S everywhere.
        denoiser, measurement, data_std, iterations: as the other conditioned denoisers.
    """

    has_mean = True

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
        m = self.measurement
        x_0, V = self.known(x_t, t)
        variance = expand(m.deviations, x_0).to(x_0.real) ** 2

        def normal(u: Tensor) -> Tensor:
            return V.back(m.gram(V.root(u))) + variance * u

        b = V.back(m.adjoint(m.residual(x_0), x_0))
        return x_0 + V.root(conjugate_gradient(normal, b, iterations=self.iterations))

    def known(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, "VoxelsAndRings"]:
        """What the prior alone says of x_0: the estimate, and V."""
        most = self.spread(x_t, t)
        return probed_covariance(self.denoiser, x_t, t, self.noise, most, self.fwhm)


@dataclass(frozen=True)
class VoxelsAndRings:
    r"""The covariance $V = L L^H$, $L = S\,\mathcal F^{-1} \operatorname{diag}(\sqrt v)\,\mathcal F$.

    Of complex images real and imaginary parts have each their own: the rows of s and v are those of all
    real parts, then those of all imaginary ones.

    Attributes:
        s: deviation of each voxel, (B, 1, *S), or (2 B, 1, *S) of complex images.
        v: spectrum, of the same shape, on the grid of `torch.fft.fftn`.
    """

    s: Tensor
    v: Tensor

    def root(self, u: Tensor) -> Tensor:
        """L u, (B, C, *S)."""
        return joined(self.s * self._filtered(parts(u)), u)

    def back(self, x: Tensor) -> Tensor:
        """L^H x, (B, C, *S)."""
        return joined(self._filtered(self.s * parts(x)), x)

    def __call__(self, x: Tensor) -> Tensor:
        return self.root(self.back(x))

    def _filtered(self, x: Tensor) -> Tensor:
        axes, size = tuple(range(2, x.ndim)), x.shape[2:]
        half = self.v[..., : size[-1] // 2 + 1].sqrt()
        return torch.fft.irfftn(torch.fft.rfftn(x, dim=axes) * half, s=size, dim=axes)


def probed_covariance(
    denoiser: Denoiser, x_t: Tensor, t: Tensor, noise: Noise, most: Tensor, fwhm: float = 3.5
) -> tuple[Tensor, VoxelsAndRings]:
    r"""The estimate, and V, as this module's text says.

    Args:
        denoiser: of x_t (B, C, *S), real or complex.
        x_t, t: where.
        noise: draws z.
        most: the largest variance that is believed, broadcast over x_t.
        fwhm: of the window of S in voxels, were V white; inf = the same S everywhere.
    """
    alpha, sigma = denoiser.schedule(t, x_t)
    z = noise(x_t)
    step = STEP * sigma
    both, times = torch.cat([x_t, x_t + step * z]), torch.as_tensor(t)
    x_0, moved = denoiser(both, times.repeat(2) if times.ndim else times).chunk(2)
    q = sigma**2 / alpha * (moved - x_0) / step
    return x_0, fitted(z, q, most, fwhm)


def fitted(z: Tensor, q: Tensor, most: Tensor, fwhm: float) -> VoxelsAndRings:
    """V from one z (B, C, *S) and q, of whose product the expectation is that of z Cov z."""
    q, most = parts(q), most.expand(z[:, :1].shape)
    most = torch.cat([most, most]) if z.is_complex() else most
    z = parts(z)
    s = _voxels(z, q, fwhm).clamp(LEAST * most, most).sqrt()
    return VoxelsAndRings(s, _rings(s * z, q / s).clamp_min(LEAST))


def _voxels(z: Tensor, q: Tensor, fwhm: float) -> Tensor:
    """The variance of each voxel, (B, 1, *S): z q averaged over channels and a window."""
    if math.isfinite(fwhm):
        v = _rings(z, q).clamp_min(0).flatten(1)
        reach = v.shape[1] * v.square().sum(1) / v.sum(1).square().clamp_min(1e-30)
        windows = (fwhm * reach.clamp_min(1) ** (1 / (z.ndim - 2))).tolist()
    else:
        windows = [fwhm] * len(z)
    product, square = (part.mean(1, keepdim=True) for part in (z * q, z.square()))
    rows = zip(product.split(1), square.split(1), windows, strict=True)
    return torch.cat(
        [blurred(above, width) / blurred(below, width) for above, below, width in rows]
    )


def _rings(z: Tensor, q: Tensor) -> Tensor:
    """v(f) (B, 1, *S): q = V z averaged over channels and rings."""
    axes, size = tuple(range(2, z.ndim)), tuple(z.shape[2:])
    a, b = (torch.fft.fftn(part, dim=axes) for part in (z, q))
    ring = rings(size, RINGS).flatten().to(z.device)
    sums = [
        part.sum(1).flatten(1).new_zeros(len(z), RINGS).index_add(1, ring, part.sum(1).flatten(1))
        for part in ((a.conj() * b).real, (a.conj() * a).real)
    ]
    v = sums[0] / sums[1].clamp_min(1e-30)
    return v[:, ring].reshape(len(z), 1, *size)
