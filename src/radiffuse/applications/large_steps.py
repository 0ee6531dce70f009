r"""What adversarial diffusions of few large steps share: their chain, and a critic of its states.

Xiao et al. 2022, denoising diffusion GANs: at large steps the step back is no Gaussian, so that a generator draws
$x_0$ from $(x_t, t, z)$, the state before is drawn from $q(x_s \mid x_t, x_0)$, and a critic judges the pair.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..diffusion.kernels import diffuse, posterior
from ..diffusion.losses import Times, discrete_times
from ..diffusion.noise import Noise, gaussian
from ..diffusion.schedule import VP, Discrete, expand

__all__ = ["LargeSteps", "large_steps"]


def large_steps(steps: int, first: float = 1e-3) -> Discrete:
    r"""The VP schedule in few steps: $\bar\alpha_i = e^{-\tfrac12 t_i^2(20-0.1)-0.1 t_i}$.

    $t_i = 10^{-3} + (1-10^{-3})\,i/T$; time 0 of the chain is clean, as in the authors' code.
    """
    grid = first + (1 - first) * torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    kept = VP(0.1, 20.0).alpha(grid) ** 2
    return Discrete(1 - kept[1:] / kept[:-1])


class LargeSteps:
    """States of a chain of T large steps, real ones and drawn ones, and how a critic takes them.

    Args:
        schedule: T large steps.
        penalty: factor of R1 (Mescheder et al. 2018), gamma.
        every: steps between penalties; they are not scaled up for it.
    """

    def __init__(self, schedule: Discrete, penalty: float = 1.0, every: int = 10) -> None:
        self.schedule, self.penalty, self.every = schedule, penalty, every
        self.times: Times = discrete_times(schedule)
        self.noise: Noise = gaussian

    def states(self, x_0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A real pair (x_s, x_t) of successive states of the chain, and t (B,); s = t - 1/T."""
        t = self.times(len(x_0))
        x_s = diffuse(self.schedule, x_0, self.before(t), self.noise(x_0))
        beta = self.schedule.betas[(t * self.schedule.steps).round().long() - 1]
        beta = expand(beta.to(x_0), x_0)
        return x_s, torch.sqrt(1 - beta) * x_s + torch.sqrt(beta) * self.noise(x_0), t

    def drawn_before(self, x_t: Tensor, x_0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """x_s drawn from q(x_s given x_t and an estimate of x_0)."""
        mean, variance, _ = posterior(self.schedule, x_t, x_0, t, self.before(t))
        return mean + torch.sqrt(variance) * noise(x_t)

    def judged(self, judge: nn.Module, x_s: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The logits (B,) of a critic: high = real."""
        return judge(x_s, x_t, self.clock(t, x_t))

    def told_apart(
        self, judge: nn.Module, real: Tensor, made: Tensor, x_t: Tensor, t: Tensor
    ) -> Tensor:
        """The critic's softplus loss of real and drawn states before x_t."""
        found = F.softplus(-self.judged(judge, real, x_t, t)).mean()
        return found + F.softplus(self.judged(judge, made, x_t, t)).mean()

    def slope(self, judge: nn.Module, x_s: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Mean squared norm of the gradient of the critic's logit at real states, along x_s."""
        with torch.enable_grad():
            x = x_s.detach().requires_grad_()
            logit = judge(x, x_t, self.clock(t, x_t), exact=True)
            (slope,) = torch.autograd.grad(logit.sum(), x, create_graph=True)
            return slope.square().flatten(1).sum(dim=1).mean()

    def before(self, t: Tensor) -> Tensor:
        """t - 1/T, exactly 0 at the clean end."""
        return ((t * self.schedule.steps).round() - 1) / self.schedule.steps

    def clock(self, t: Tensor, like: Tensor) -> Tensor:
        """t as networks are told it."""
        return t.to(like.device, like.dtype)
