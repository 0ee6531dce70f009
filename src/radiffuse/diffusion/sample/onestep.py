"""Samplers that need no history: DDIM, DDPM, Euler-Maruyama, reverse diffusion, Heun with churn."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..denoiser import Denoiser, score_of
from ..kernels import ancestral, posterior, reverse
from ..noise import Noise, gaussian
from .base import Sampler, State, checked

__all__ = ["DDIM", "DDPM", "EulerMaruyama", "Heun", "ReverseDiffusion"]


class DDIM(Sampler):
    r"""DDIM (Song et al. 2021); eta = 0 is Euler's rule for the flow in $\sigma/\alpha$, order 1.

    With an increasing grid (`grids.ascending`) and eta = 0 it encodes: the inversion.
    """

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian, eta: float = 0.0) -> None:
        super().__init__(denoiser, noise)
        self.eta, self.upwards = eta, eta == 0

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.denoiser(x_t, t)
        return reverse(self.schedule, x_t, x_0, t, s, self.eta, self.noise), state

    @torch.no_grad()
    def encode(self, x: Tensor, times: Tensor) -> Tensor:
        """Walk x (B, *), at times[0], up an increasing grid with eta = 0; returns x at times[-1].

        Raises:
            ValueError: a grid that begins without noise.
        """
        for t, s in pairwise(checked(times, self.schedule, upwards=True)):
            x = reverse(self.schedule, x, self.denoiser(x, t), t, s)
        return x


class DDPM(Sampler):
    """Ancestral sampling (Ho et al. 2020, algorithm 2), on any grid, with both times explicit.

    Args:
        w: 0 the posterior's variance ("small"), 1 the chain's ("large"), None the learned one.
    """

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian, w: float | None = 0.0) -> None:
        super().__init__(denoiser, noise)
        self.w = w

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        w: float | Tensor
        if self.w is None:
            x_0, w = self.denoiser.with_variance(x_t, t)
        else:
            x_0, w = self.denoiser(x_t, t), self.w
        mean, variance = ancestral(self.schedule, x_t, x_0, t, s, w)
        return mean + torch.sqrt(variance) * self.noise(x_t), state


class EulerMaruyama(Sampler):
    r"""The reverse SDE $dx = (f x - g^2 \nabla\log p_t)\,dt + g\,dw$ by Euler's rule, weak order 1.

    The grid must begin where alpha > 0. A step to a level without noise ends at the denoiser's answer: g
    need not vanish there (VP, sigma^t), so that Euler's rule would leave its last noise in the result.
    """

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        alpha_s, sigma_s = self.schedule(s, x_t)
        if bool(sigma_s == 0):
            return alpha_s * self.denoiser(x_t, t), state
        device, dtype = x_t.device, x_t.real.dtype
        f, g = (
            rate(t).to(device, dtype) for rate in (self.schedule.drift, self.schedule.diffusion)
        )
        h = (s - t).to(device, dtype)
        slope = f * x_t - g**2 * score_of(self.denoiser, x_t, t)
        return x_t + h * slope + g * torch.sqrt(-h) * self.noise(x_t), state


class ReverseDiffusion(Sampler):
    r"""The chain's own steps reversed (Song et al. 2021, appendix E), weak order 1.

    Where the chain goes from s to t by $x_t = a x_s + \sqrt\beta z$, $a = \alpha_t/\alpha_s$,
    $\beta = \sigma_t^2 - a^2\sigma_s^2$: $x_s = (2-a) x_t + \beta\nabla\log p_t + \sqrt\beta z$. A step to
    a level without noise ends at the denoiser's answer.
    """

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.denoiser(x_t, t)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.schedule(t, x_t), self.schedule(s, x_t)
        if bool(sigma_s == 0):
            return alpha_s * x_0, state
        beta = posterior(self.schedule, x_t, x_0, t, s)[2]
        score = (alpha_t * x_0 - x_t) / sigma_t**2
        mean = (2 - alpha_t / alpha_s) * x_t + beta * score
        return mean + torch.sqrt(beta) * self.noise(x_t), state


class Heun(Sampler):
    r"""EDM's second-order sampler (Karras et al. 2022, algorithm 2), for any schedule.

    With $y = x/\alpha$ and $u = \sigma/\alpha$ the flow is $dy/du = (y - \hat x_0)/u$ whatever the
    schedule; steps that begin without signal or end without noise are first order.

    Args:
        churn: S_churn / N, noise added before each step as a share of u, at most sqrt(2) - 1.
        window: (S_min, S_max), the range of u where churn acts.
        inflate: S_noise.
    """

    order = 2

    def __init__(
        self,
        denoiser: Denoiser,
        noise: Noise = gaussian,
        churn: float = 0.0,
        window: tuple[float, float] = (0.0, math.inf),
        inflate: float = 1.0,
    ) -> None:
        super().__init__(denoiser, noise)
        self.churn = min(churn, math.sqrt(2) - 1)
        self.window, self.inflate = window, inflate
        self.upwards = self.churn == 0

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_t, t = self._churned(x_t, t)
        x_0 = self.denoiser(x_t, t)
        x_s = reverse(self.schedule, x_t, x_0, t, s)
        alpha_t, sigma_t = self.schedule(t, x_t)
        alpha_s, sigma_s = self.schedule(s, x_t)
        if float(alpha_t) == 0 or float(sigma_s) == 0 or float(alpha_s) == 0 or float(sigma_t) == 0:
            return x_s, state
        slope_t = (x_t / alpha_t - x_0) * (alpha_t / sigma_t)
        slope_s = (x_s / alpha_s - self.denoiser(x_s, s)) * (alpha_s / sigma_s)
        h = sigma_s / alpha_s - sigma_t / alpha_t
        return alpha_s * (x_t / alpha_t + h * (slope_t + slope_s) / 2), state

    def _churned(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        u = float(torch.exp(-self.schedule.log_ratio(t)))
        if self.churn == 0 or not self.window[0] <= u <= self.window[1]:
            return x_t, t
        higher = self.schedule.time(-torch.log(torch.tensor(u * (1 + self.churn)).double()))
        alpha_t, sigma_t = self.schedule(t, x_t)
        alpha, sigma = self.schedule(higher, x_t)
        added = torch.sqrt((sigma**2 - (alpha / alpha_t * sigma_t) ** 2).clamp(min=0))
        return alpha / alpha_t * x_t + self.inflate * added * self.noise(x_t), higher
