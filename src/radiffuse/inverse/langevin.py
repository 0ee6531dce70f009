"""Annealed Langevin dynamics on prior and likelihood (Jalal et al. 2021)."""

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser, score_of
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from ..diffusion.sample.langevin import StepSize
from ..diffusion.schedule import expand
from ..operators.base import norm
from .measurement import Measurement

__all__ = ["AnnealedLangevin"]


class AnnealedLangevin(Sampler):
    r"""Posterior sampling by Langevin steps at falling noise (Jalal et al. 2021, eq. 4), any schedule.

    `count` times at the level moved to,

    $$ x \leftarrow x + \varepsilon\Big[\nabla\log p_s(x) +
       \frac{A^H(y - A x/\alpha)}{\alpha\,(\gamma^2\sigma^2/\alpha^2 + s^2)}\Big] + \sqrt{2\varepsilon}\,z, $$

    with $\varepsilon$ = rate over the largest curvature there can be,
    $1/\sigma^2 + \|A\|^2/(\alpha^2\gamma^2\sigma^2 + \alpha^2 s^2)$. The law converges to the posterior as rate and the
    last sigma go to 0 and count grows. Use `grids.ladder`, whose last sigma is above 0.

    Args:
        count: Langevin steps a level, one network call each.
        rate: of the largest curvature's inverse, in (0, 2).
        anneal: gamma, how much of the level's noise the likelihood is widened by.
        size: the step-size rule, as of `diffusion.sample.Langevin`, in place of `rate`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        count: int = 3,
        rate: float = 0.5,
        anneal: float = 1.0,
        size: StepSize | None = None,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.count, self.rate, self.anneal = measurement, count, rate, anneal
        self.size = size

    def init(self, x: Tensor, t: Tensor) -> State:
        """||A|| of each case, broadcast over x."""
        return expand(norm(self.measurement.A, x).to(x.real.dtype), x)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        m = self.measurement
        alpha_t, _ = self.schedule(t, x_t)
        alpha, sigma = self.schedule(s, x_t)
        if not bool(sigma > 0):
            return self.denoiser(x_t, t), state
        # precision of the likelihood with respect to x_s
        std = expand(m.deviations.to(x_t.device, x_t.real.dtype), x_t)
        precision = 1 / (self.anneal**2 * sigma**2 + alpha**2 * std**2)
        usual = self.rate / (1 / sigma**2 + state**2 * precision)
        x = x_t * (alpha / alpha_t)
        for _ in range(self.count):
            pull = m.adjoint(alpha * m.y - m.A(x), x) * precision
            drift, z = score_of(self.denoiser, x, s) + pull, self.noise(x)
            step = usual if self.size is None else self.size(self.schedule, s, drift, z)
            x = x + step * drift + torch.sqrt(2 * step) * z
        return x, state
