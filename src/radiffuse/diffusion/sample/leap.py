r"""One step over the noise in which images look Gaussian, where steps of other samplers are wasted.

With $y = x/\alpha$, $\tilde\sigma = \sigma/\alpha$ and stationary Gaussian images of power S(f) at
frequency f, the probability flow is known from any level to any other (Wang & Vastola 2024, section 3):
$y_s - \mu = \tfrac{A_s}{A_t}(y_t - \mu)$ with $A = \sqrt{S + \tilde\sigma^2}$, for each frequency.
"""

import torch
from torch import Tensor

from ..denoiser import Denoiser
from .base import Sampler, State

__all__ = ["First", "GaussianFlow"]


class GaussianFlow(Sampler):
    r"""Steps of the flow of Gaussian images; their mean $\mu$ is what the denoiser makes it.

    The denoiser of such images, $D = \mu + \tfrac{S}{A_t^2}(y_t - \mu)$, gives
    $y_s = y_t + \big(\tfrac{A_s}{A_t} - 1\big)\tfrac{A_t^2}{\tilde\sigma_t^2}(y_t - D)$: exact for them
    in one step, and DDIM's step where S = 0. Other images take it while noise covers them.

    Args:
        denoiser: E[x_0 given x_t].
        power: S on the grid of `torch.fft.rfftn` of the images (see `spectrum.power_on`).
    """

    def __init__(self, denoiser: Denoiser, power: Tensor) -> None:
        super().__init__(denoiser)
        self.power = power

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        axes, size = tuple(range(2, x_t.ndim)), x_t.shape[2:]
        alpha_t, alpha_s = (self.schedule(time, x_t)[0] for time in (t, s))
        level_t, level_s = (torch.exp(-2 * self.schedule.log_ratio(time)) for time in (t, s))
        before, after = self.power + level_t.cpu(), self.power + level_s.cpu()
        gain = ((after / before).sqrt() - 1) * before / level_t.cpu()
        y = x_t / alpha_t
        away = torch.fft.rfftn(y - self.denoiser(x_t, t), dim=axes) * gain.to(y)
        return alpha_s * (y + torch.fft.irfftn(away, s=size, dim=axes)), None


class First(Sampler):
    """The first step of one sampler, all others of another."""

    def __init__(self, first: Sampler, others: Sampler) -> None:
        super().__init__(others.denoiser, others.noise)
        self.first, self.others = first, others
        self.order = others.order

    def init(self, x: Tensor, t: Tensor) -> State:
        return None

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        if state is None:
            x_s, _ = self.first.step(x_t, t, s, self.first.init(x_t, t))
            return x_s, (self.others.init(x_s, s),)
        x_s, inner = self.others.step(x_t, t, s, state[0])
        return x_s, (inner,)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return self.others.finish(x, t, None if state is None else state[0])
