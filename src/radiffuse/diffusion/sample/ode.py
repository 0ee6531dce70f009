"""The probability-flow ODE solved to a tolerance instead of a number of steps."""

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..integrate import dormand_prince
from ..kernels import reverse
from ..noise import Noise, gaussian
from ..schedule import expand
from .base import Sampler, State

__all__ = ["FlowODE", "flow"]


def flow(denoiser: Denoiser, x_t: Tensor, t: Tensor) -> Tensor:
    r"""The flow's velocity $dx/dt = \dot\alpha\,\hat x_0 + \dot\sigma\,\hat z$, finite also where alpha = 0.

    Equal to $f x - \tfrac12 g^2 \nabla\log p_t$ (Song et al. 2021, eq. 13). t () or (B,), t > 0.
    """
    x_0 = denoiser(x_t, t)
    alpha, sigma = denoiser.schedule(t, x_t)
    slopes = denoiser.schedule.slopes(torch.as_tensor(t, device="cpu"))
    alpha_dot, sigma_dot = (expand(v.to(x_t.device, x_t.real.dtype), x_t) for v in slopes)
    return alpha_dot * x_0 + sigma_dot * (x_t - alpha * x_0) / sigma


class FlowODE(Sampler):
    """Dormand-Prince 5(4) with a step size a case, so that a sample does not depend on its batch.

    Without noise the flow divides by zero, so a step to there ends at `Schedule.smallest` and goes the
    rest of the way as DDIM does.

    Args:
        rtol, atol: tolerance of each step (Song et al. 2021 use 1e-5). The grid's inner times only
            cut the path; `[1, 1e-3]` is the usual one.
    """

    order = 5
    upwards = True

    def __init__(
        self, denoiser: Denoiser, noise: Noise = gaussian, rtol: float = 1e-5, atol: float = 1e-5
    ) -> None:
        super().__init__(denoiser, noise)
        self.rtol, self.atol = rtol, atol

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        if bool(self.schedule.sigma(s) > 0):
            return self._along(x_t, float(t), float(s)), state
        near = min(float(t), self.schedule.smallest)
        x = self._along(x_t, float(t), near) if near < float(t) else x_t
        end = torch.tensor(near, dtype=torch.float64)
        return reverse(self.schedule, x, self.denoiser(x, end), end, s), state

    def _along(self, x_t: Tensor, t: float, s: float) -> Tensor:
        """The flow's end at s of its path through x_t at t."""
        (x_s,) = dormand_prince(
            lambda x, at: (flow(self.denoiser, x[0], at),), (x_t,), t, s, self.rtol, self.atol
        )
        return x_s
