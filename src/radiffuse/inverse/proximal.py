"""DiffPIR (Zhu et al. 2023): half-quadratic splitting along the chain."""

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from .measurement import Measurement

__all__ = ["DiffPIR"]


class DiffPIR(Sampler):
    r"""DiffPIR (Zhu et al. 2023, algorithm 1).

    $\hat x_0' = \arg\min_x \|y-Ax\|^2 + \rho_t\|x-\hat x_0\|^2$ with
    $\rho_t = \lambda s^2\alpha_t^2/\sigma_t^2$, then
    $x_s = \alpha_s\hat x_0' + \sigma_s(\sqrt{1-\zeta}\,\hat z + \sqrt\zeta\,z)$ with
    $\hat z = (x_t-\alpha_t\hat x_0')/\sigma_t$.

    It differs from `DDIM(Proximal(...))` in two places: $r^2 = \sigma^2/(\lambda\alpha^2)$ grows without
    bound where `Proximal`'s ends at the data's variance (equal for $\lambda = 1$ and $d \to \infty$), and
    the share zeta of fresh noise is the same at every step, where DDIM's $\eta^2\tilde\beta/\sigma_s^2$
    falls with the length of the step.

    Args:
        weight: lambda.
        zeta: share of fresh noise, in [0, 1]; 0 is DDIM's deterministic step.
        iterations: of the conjugate gradients.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        weight: float = 8.0,
        zeta: float = 0.3,
        iterations: int = 20,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.weight, self.zeta = measurement, weight, zeta
        self.iterations = iterations

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        alpha, sigma = self.schedule(t, x_t)
        alpha_s, sigma_s = self.schedule(s, x_t)
        x_0 = self._estimate(x_t, t)
        z = (x_t - alpha * x_0) / sigma
        mixed = (1 - self.zeta) ** 0.5 * z + self.zeta**0.5 * self.noise(x_t)
        return alpha_s * x_0 + sigma_s * mixed, state

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return x if bool(self.schedule.sigma(t) == 0) else self._estimate(x, t)

    def _estimate(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t, x_t)
        r2 = sigma**2 / (self.weight * alpha**2)
        # float32 cannot hold s^2 beside a far larger r^2; beyond 1e6 s^2 the prior has no say anyway
        return self.measurement.nearest(
            self.denoiser(x_t, t), torch.clamp(r2, max=1e6), self.iterations
        )
