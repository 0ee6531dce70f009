r"""A particle filter along the chain: twisted diffusion sampling (TDS, Wu et al. 2023).

Particles walk towards the measurement and carry weights that correct for it, so that they converge
to the posterior of the chain's own prior as their number grows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.kernels import ancestral
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from ..errors import UserError
from ..operators.base import conjugate_gradient
from .measurement import Measurement, white_spread

__all__ = ["SMC", "systematic"]


@dataclass(frozen=True)
class _Cloud:
    """Log-weights (B, K); of each particle: estimate, log twist, and gradient of the log twist."""

    log_weight: Tensor
    x_0: Tensor
    log_twist: Tensor
    gradient: Tensor

    def picked(self, rows: Tensor, log_weight: Tensor) -> "_Cloud":
        return _Cloud(log_weight, self.x_0[rows], self.log_twist[rows], self.gradient[rows])


class SMC(Sampler):
    r"""Twisted sequential Monte Carlo with systematic resampling (Wu et al. 2023, algorithm 1).

    Row b K + k of x is particle k of case b, and y has as many rows (`y.repeat_interleave(K, 0)`). The twist is
    $\log\psi_t(x_t) = -\tfrac12 \rho^H (r^2 A A^H + s^2 I)^{-1} \rho$, $\rho = y - A\hat x_0(x_t)$ (PiGDM's
    likelihood; the paper's is r = 0 with a tuned variance), ending in the likelihood itself. From t to s
    particles are proposed from $q = N(\mu(\hat x_0 + \tfrac{\sigma^2}{\alpha}\nabla\log\psi_t), v)$ and weighted by

    $$ \frac{p(x_s\mid x_t)\,\psi_s(x_s)}{q(x_s\mid x_t)\,\psi_t(x_t)}. $$

    A case is resampled where its effective number of particles falls below `threshold` K, and once at
    the end, so the rows returned are equally weighted draws.

    Args:
        particles: K.
        data_std: d in r^2.
        w: the variance v of the chain: 1 its own beta (the paper's), 0 the posterior's. Under 0 a
            proposal as far off has a smaller weight, so a poor twist needs more particles; with a
            good one both converge (docs/posterior.md).
        threshold: of resampling, in [0, 1].
        iterations: of the conjugate gradients in the twist.

    Raises:
        UserError: rows of x or y are no multiple of K, particles of a case differ in y, or s = 0.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        particles: int = 16,
        data_std: float = 0.5,
        w: float = 1.0,
        threshold: float = 0.5,
        iterations: int = 20,
    ) -> None:
        super().__init__(denoiser, noise)
        if bool((measurement.deviations <= 0).any()):
            raise UserError(
                "particles need a measurement with noise: give a standard deviation > 0"
            )
        self.measurement, self.particles, self.data_std = measurement, particles, data_std
        self.w, self.threshold, self.iterations = w, threshold, iterations

    def init(self, x: Tensor, t: Tensor) -> State:
        if len(x) % self.particles or len(self.measurement.y) != len(x):
            raise UserError(
                f"{self.particles} particles a case need batches of x and y with K rows a case, got "
                f"{len(x)} and {len(self.measurement.y)}: repeat each case K times"
            )
        cases = self.measurement.y.unflatten(0, (-1, self.particles))
        if not torch.equal(cases, cases[:, :1].expand_as(cases)):
            raise UserError(
                f"the {self.particles} particles of a case must share its measurement: repeat each row "
                "of y with y.repeat_interleave(K, 0)"
            )
        x_0, log_twist, gradient = self._twisted(x, t)
        return _Cloud(log_twist.view(-1, self.particles), x_0, log_twist, gradient)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_t, cloud = self._resampled(x_t, state, self.threshold)
        mean, variance = ancestral(self.schedule, x_t, cloud.x_0, t, s, self.w)
        if not bool(self.schedule.sigma(s) > 0):
            return mean, self._ended(mean, cloud)
        alpha, sigma = self.schedule(t, x_t)
        towards = cloud.x_0 + sigma**2 / alpha * cloud.gradient
        proposed, _ = ancestral(self.schedule, x_t, towards, t, s, self.w)
        std, z = torch.sqrt(variance), self.noise(x_t)
        shift = (proposed - mean) / std
        # log p - log q of two normals with one variance
        ratio = -_dot(shift, z) - _dot(shift, shift) / 2
        x_s = proposed + std * z
        x_0, log_twist, gradient = self._twisted(x_s, s)
        gain = (ratio + log_twist - cloud.log_twist).view(-1, self.particles)
        return x_s, _Cloud(cloud.log_weight + gain, x_0, log_twist, gradient)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        if bool(self.schedule.sigma(t) > 0):
            x, state = state.x_0, self._ended(state.x_0, state)
        return self._resampled(x, state, 2.0)[0]

    def _ended(self, x_0: Tensor, cloud: _Cloud) -> _Cloud:
        """The weights of clean particles: the twist gives way to the likelihood."""
        log_twist = self.measurement.log_likelihood(x_0)
        gain = (log_twist - cloud.log_twist).view(-1, self.particles)
        return _Cloud(cloud.log_weight + gain, x_0, log_twist, torch.zeros_like(x_0))

    def _twisted(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x_0 (B K, *), log psi (B K,), and its gradient (B K, *)."""
        m, r2 = self.measurement, white_spread(self.schedule, t, x_t, self.data_std)
        with torch.enable_grad():
            leaf = x_t.detach().requires_grad_()
            x_0 = self.denoiser(leaf, t)
        clean = x_0.detach()
        residual = m.residual(clean)
        v = conjugate_gradient(
            lambda v: m.A(r2 * m.adjoint(v, clean)) + m.std**2 * v,
            residual,
            iterations=self.iterations,
        )
        (gradient,) = torch.autograd.grad(x_0, leaf, m.adjoint(v, clean))
        return clean, -_dot(residual, v) / 2, gradient

    def _resampled(self, x: Tensor, cloud: _Cloud, threshold: float) -> tuple[Tensor, _Cloud]:
        log_weight = torch.log_softmax(cloud.log_weight, 1)
        # the uniform number of a case: from its first particle's stream, drawn at every step alike
        z = self.noise(x.real.flatten(1)[:, :1]).view(-1, self.particles)[:, :1]
        effective = 1 / (2 * log_weight).exp().sum(1, keepdim=True)
        poor = effective < threshold * self.particles
        stay = torch.arange(self.particles, device=x.device).expand_as(log_weight)
        chosen = torch.where(poor, systematic(log_weight, torch.special.ndtr(z)), stay)
        first = torch.arange(0, len(x), self.particles, device=x.device)[:, None]
        rows = (first + chosen).flatten()
        return x[rows], cloud.picked(rows, torch.where(poor, 0.0, log_weight))


def systematic(log_weight: Tensor, u: Tensor) -> Tensor:
    """Systematic resampling: particle k is chosen floor or ceil of K w_k times.

    Args:
        log_weight: (B, K), normalised.
        u: (B, 1), uniform in (0, 1).

    Returns:
        (B, K), the chosen indices.
    """
    count = log_weight.shape[1]
    edges = log_weight.exp().cumsum(1)
    places = (u + torch.arange(count, device=u.device)) / count
    chosen = torch.searchsorted(edges, places.to(edges).contiguous())
    return chosen.clamp(max=count - 1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of each row, (B,)."""
    return (a.conj() * b).real.flatten(1).sum(1)
