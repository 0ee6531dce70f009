r"""Conditioning as Denoiser -> Denoiser: every sampler of the library becomes a posterior sampler.

If $p(x_0\mid x_t) \approx N(\hat x_0, V)$, then

$$ E[x_0 \mid x_t, y] \approx \hat x_0 + V A^H (A V A^H + s^2 I)^{-1}(y - A\hat x_0), $$

and the methods of the field differ in V:

| class | V | exact for Gaussian data | beyond one network call |
|---|---|---|---|
| `MomentMatching` | $\Sigma=\tfrac{\sigma^2}{\alpha}\,\partial\hat x_0/\partial x_t$ | yes | a backward pass each |
| `PseudoInverse` | $r^2 I$ inside the inverse, $\Sigma$ outside | if white | one backward pass |
| `Probed` | diagonal by voxel times by frequency | if stationary | one network call |
| `Stein` | the same, from the chain's own noise | in expectation, if stationary | none |
| `Proximal` | $r^2 I$ | if white | none |
| `RangeNull` | $\tfrac{\sigma^2}{\alpha^2} I$: data of any size | no | none |

(Rozet et al. 2024; PiGDM, Song et al. 2023; DDS, Chung et al. 2024; DDNM, Wang et al. 2023) with
$r^2 = \sigma^2 d^2/(\alpha^2 d^2+\sigma^2)$, the posterior variance of white data of std d.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.schedule import expand
from ..operators.base import conjugate_gradient
from .measurement import Measurement, white_spread

__all__ = [
    "Conditioned",
    "MomentMatching",
    "Proximal",
    "PseudoInverse",
    "RangeNull",
    "jacobian_covariance",
]


class Conditioned(Denoiser):
    """A denoiser that knows a measurement.

    Args:
        denoiser: the prior's.
        measurement: what was measured.
        data_std: d, the standard deviation of the images.
        iterations: of the conjugate gradients that solve for $(A V A^H + s^2 I)^{-1}$.
    """

    has_mean: ClassVar[bool] = False
    """Whether the estimates of the later half of a chain are near E[x_0 given x_t and y], which needs V as the
    prior has it and its inverse solved; else they are so only where little noise is left."""

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        data_std: float = 0.5,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        self.denoiser, self.measurement = denoiser, measurement
        self.schedule = denoiser.schedule
        self.data_std, self.iterations = data_std, iterations

    def spread(self, x_t: Tensor, t: Tensor) -> Tensor:
        """r^2, broadcast over x_t."""
        return white_spread(self.schedule, t, x_t, self.data_std)

    def corrected(
        self, x_0: Tensor, inside: Callable[[Tensor], Tensor], outside: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """x_0 + V_out A^H (A V_in A^H + s^2)^{-1} (y - A x_0)."""
        m = self.measurement

        def normal(v: Tensor) -> Tensor:
            return m.A(inside(m.adjoint(v, x_0))) + m.std**2 * v

        v = conjugate_gradient(normal, m.residual(x_0), iterations=self.iterations)
        return x_0 + outside(m.adjoint(v, x_0))


class MomentMatching(Conditioned):
    """The posterior's denoiser with the covariance the network itself implies, by its Jacobian.

    Exact for Gaussian data; each conjugate-gradient iteration costs one backward pass.
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0, covariance = jacobian_covariance(self.denoiser, x_t, t)
        return self.corrected(x_0, covariance, covariance)


class PseudoInverse(Conditioned):
    """PiGDM: the inverse with white covariance, its correction through the Jacobian.

    Where much noise is left, smooth images are far less known than white ones, and the Jacobian says so:
    the correction would overshoot y many times. It is made no longer than the length that fits y best,
    which for white data is never shorter.
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        r2 = self.spread(x_t, t)
        x_0, covariance = jacobian_covariance(self.denoiser, x_t, t)
        change = self.corrected(x_0, lambda x: r2 * x, covariance) - x_0
        seen = self.measurement.A(change)
        best = _product(seen, self.measurement.residual(x_0)) / _product(seen, seen)
        return x_0 + expand(best.nan_to_num(1.0).clamp(0, 1), change).to(r2) * change


class Proximal(Conditioned):
    r"""The estimate nearest to $\hat x_0$ that explains y: $\min_x \|y-Ax\|^2/s^2 + \|x-\hat x_0\|^2/r^2$.

    Few iterations are DDS; no gradient through the network is taken.
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        return self.measurement.nearest(x_0, self.spread(x_t, t), self.iterations)


class RangeNull(Conditioned):
    r"""DDNM: $\hat x_0 + A^+(y - A\hat x_0)$, the range of A from y, the null space from the prior.

    Of a noisy measurement, as in DDNM+ (Wang et al. 2023, section 3.3), what is less certain in y than
    $\sigma/\alpha$, the noise that the chain still has, is left to the prior too: A^+ is damped
    (`Measurement.damped_inverse`).
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        m, x_0 = self.measurement, self.denoiser(x_t, t)
        alpha, sigma = self.schedule(t, x_t)
        return x_0 + m.damped_inverse(m.residual(x_0), x_0, (sigma / alpha) ** 2, self.iterations)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """The real inner product of each case, (B,)."""
    return (a.conj() * b).real.flatten(1).sum(1)


def jacobian_covariance(
    denoiser: Denoiser, x_t: Tensor, t: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    r"""The estimate, and $v \mapsto \mathrm{Cov}[x_0\mid x_t]\,v = \tfrac{\sigma^2}{\alpha} J^T v$.

    Tweedie's second formula; J is symmetric for an exact denoiser.
    """
    alpha, sigma = denoiser.schedule(t, x_t)
    with torch.enable_grad():
        leaf = x_t.detach().requires_grad_()
        x_0 = denoiser(leaf, t)

    def covariance(v: Tensor) -> Tensor:
        (product,) = torch.autograd.grad(x_0, leaf, v, retain_graph=True)
        return sigma**2 / alpha * product

    return x_0.detach(), covariance
