r"""Inverse problems: from a prior's denoiser and a measurement to the posterior's denoiser.

A measurement is $y = A x_0 + n$, $n \sim N(0, s^2 I)$. If $p(x_0\mid x_t) \approx N(\hat x_0, V)$, then

$$ E[x_0 \mid x_t, y] \approx \hat x_0 + V A^H (A V A^H + s^2 I)^{-1}(y - A\hat x_0), $$

so conditioning on a measurement is Denoiser -> Denoiser, and every sampler of the library becomes a
posterior sampler. The methods of the field differ in V:

| class | V | exact for Gaussian data | beyond one network call |
|---|---|---|---|
| `MomentMatching` | $\Sigma=\tfrac{\sigma^2}{\alpha}\,\partial\hat x_0/\partial x_t$ | yes | a backward pass each |
| `PseudoInverse` | $r^2 I$ inside the inverse, $\Sigma$ outside | if white | one backward pass |
| `Proximal` | $r^2 I$ | if white | none |
| `RangeNull` | $r^2 I$, s = 0 | no; for noise-free y | none |

(Rozet et al. 2024; PiGDM, Song et al. 2023; DiffPIR, Zhu et al. 2023 and DDS, Chung et al. 2024;
DDNM, Wang et al. 2023)
with $r^2 = \sigma^2 d^2/(\alpha^2 d^2+\sigma^2)$, the posterior variance of white data of standard
deviation d. `DPS` (Chung et al. 2023) is a sampler: its gradient step has no meaning as a denoiser.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoise import Denoiser
from .kernels import ancestral
from .noise import Noise, gaussian
from .operators.base import LinearOperator, conjugate_gradient
from .sample.base import Sampler, State

__all__ = [
    "DPS",
    "Measurement",
    "MomentMatching",
    "Proximal",
    "PseudoInverse",
    "RangeNull",
]


@dataclass(frozen=True)
class Measurement:
    """What was measured, how, and how well.

    Attributes:
        y: the measured values, (B, *).
        A: the operator.
        std: standard deviation s of the noise (of each part, where y is complex).
    """

    y: Tensor
    A: LinearOperator
    std: float


class _Conditioned(Denoiser):
    """A denoiser that knows a measurement.

    Args:
        denoiser: the prior's.
        measurement: what was measured.
        data_std: d, the standard deviation of the images.
        iterations: of the conjugate gradients that solve for $(A V A^H + s^2 I)^{-1}$.
    """

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
        alpha, sigma = self.schedule(t, x_t)
        white = alpha**2 * self.data_std**2 + sigma**2
        return sigma**2 * self.data_std**2 / white

    def solve(self, normal: Callable[[Tensor], Tensor], residual: Tensor) -> Tensor:
        """The v with normal(v) = residual, by conjugate gradients."""
        return conjugate_gradient(normal, residual, iterations=self.iterations)


class MomentMatching(_Conditioned):
    """The posterior's denoiser with the covariance the network itself implies, by its Jacobian.

    Exact for Gaussian data; each conjugate-gradient iteration costs one backward pass.
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        A, y, s = self.measurement.A, self.measurement.y, self.measurement.std
        x_0, covariance = jacobian_covariance(self.denoiser, x_t, t)
        v = self.solve(lambda v: A(covariance(A.adjoint(v))) + s**2 * v, y - A(x_0))
        return x_0 + covariance(A.adjoint(v))


class PseudoInverse(_Conditioned):
    """PiGDM: the inverse with white covariance, its correction through the Jacobian."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        A, y, s = self.measurement.A, self.measurement.y, self.measurement.std
        r2 = self.spread(x_t, t)
        x_0, covariance = jacobian_covariance(self.denoiser, x_t, t)
        v = self.solve(lambda v: A(r2 * A.adjoint(v)) + s**2 * v, y - A(x_0))
        return x_0 + covariance(A.adjoint(v))


class Proximal(_Conditioned):
    r"""The estimate nearest to $\hat x_0$ that explains y: $\min_x \|y-Ax\|^2/s^2 + \|x-\hat x_0\|^2/r^2$.

    Few iterations are DDS; no gradient through the network is taken.
    """

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        A, y, s = self.measurement.A, self.measurement.y, self.measurement.std
        r2, x_0 = self.spread(x_t, t), self.denoiser(x_t, t)
        v = self.solve(lambda v: A(r2 * A.adjoint(v)) + s**2 * v, y - A(x_0))
        return x_0 + r2 * A.adjoint(v)


class RangeNull(_Conditioned):
    r"""DDNM: $\hat x_0 + A^+(y - A\hat x_0)$, the range of A from y, the null space from the prior."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        A, y = self.measurement.A, self.measurement.y
        x_0 = self.denoiser(x_t, t)
        v = self.solve(lambda v: A(A.adjoint(v)), y - A(x_0))
        return x_0 + A.adjoint(v)


class DPS(Sampler):
    r"""Diffusion posterior sampling (Chung et al. 2023, algorithm 1).

    An ancestral step, then $x_s \leftarrow x_s - \zeta\,\nabla_{x_t}\|y - A\hat x_0(x_t)\|$ (the paper's
    step $\zeta/\|y-A\hat x_0\|$ on the squared norm is twice this).

    Args:
        scale: zeta.
        w: the variance of the ancestral step, as in `DDPM`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        scale: float = 1.0,
        w: float = 0.0,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.scale, self.w = measurement, scale, w

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        with torch.enable_grad():
            leaf = x_t.detach().requires_grad_()
            x_0 = self.denoiser(leaf, t)
            residual = self.measurement.y - self.measurement.A(x_0)
            size = residual.flatten(1).norm(dim=1)
            (gradient,) = torch.autograd.grad(size.sum(), leaf)
        mean, variance = ancestral(self.schedule, x_t, x_0.detach(), t, s, self.w)
        x_s = mean + torch.sqrt(variance) * self.noise(x_t)
        return x_s - self.scale * gradient, state


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
