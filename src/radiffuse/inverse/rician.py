r"""Magnitude images: $y = |x + n_1 + i n_2|$ with $n \sim N(0, s^2)$, whose law is Rician.

Where there is signal it is nearly Gaussian; in air it is Rayleigh's, of mean $1.25\,s$, which a
Gaussian model takes for an image that is not black.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import i0e, i1e
from torch import Tensor

from .measurement import Measurement

__all__ = ["RicianMeasurement"]

RANGE = 40.0
"""Signal over noise from which on the law's mean is $x + s^2/2x$ to better than 1e-5 of s."""


@dataclass(frozen=True)
class RicianMeasurement(Measurement):
    r"""A measurement by magnitude of an A that keeps images real.

    $p(y\mid x) = \tfrac{y}{s^2}\,e^{-(y^2+(Ax)^2)/2s^2}\,I_0(y\,Ax/s^2)$ (Gudbjartsson & Patz 1995, eq. 2).
    Solvers that ask for `residual` or `log_likelihood` follow this law; those that use y itself (`DDRM`,
    `AnnealedLangevin`, projections) take it for the signal.
    """

    def residual(self, x: Tensor) -> Tensor:
        r"""$s^2\,\partial\log p/\partial Ax = y\,\tfrac{I_1}{I_0}(y\,Ax/s^2) - Ax$.

        What $y - Ax$ is for Gaussian noise: the first term is what y is expected to hold of the signal,
        without the noise at right angles to it.
        """
        seen = self.seen(x)
        z = self.y * seen / self._variance(seen)
        return self.y * (torch.special.i1e(z) / torch.special.i0e(z)) - seen

    def log_likelihood(self, x: Tensor) -> Tensor:
        """log p of each case, (B,), without its constant; s > 0."""
        seen = self.seen(x)
        s2 = self._variance(seen)
        value = torch.log(torch.special.i0e(self.y * seen / s2))
        return (value - (self.y - seen.abs()) ** 2 / (2 * s2)).flatten(1).sum(1)

    def unbiased(self, image: Tensor) -> Tensor:
        r"""The x whose mean of y is `image`: inverts $s\sqrt{\pi/2}\,L_{1/2}(-x^2/2s^2)$; 0 below $1.25\,s$.

        What a denoiser that averages magnitudes finds, brought back to the signal.
        """
        s = torch.sqrt(self._variance(image)).expand_as(image)
        table = np.linspace(0.0, RANGE, 8001)
        ratio = (image / s).double().cpu().numpy()
        near = np.interp(ratio, _mean(table), table)
        far = (ratio + np.sqrt(np.maximum(ratio**2 - 2, 0))) / 2
        found = np.where(ratio < RANGE, near, far)
        return torch.from_numpy(found).to(image) * s

    def _variance(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.std, dtype=like.dtype, device=like.device).clamp_min(1e-6) ** 2


def _mean(x: np.ndarray) -> np.ndarray:
    """Mean of the law over s, for x over s."""
    v = x**2 / 4
    return math.sqrt(math.pi / 2) * ((1 + 2 * v) * i0e(v) + 2 * v * i1e(v))
