"""The same denoiser under another schedule, or of images in other units; both exact."""

import torch
from torch import Tensor

from .denoiser import Denoiser
from .schedule import Schedule, Stretched, expand

__all__ = ["Affine", "Rescheduled"]


class Rescheduled(Denoiser):
    r"""The same denoiser under another schedule.

    At time t of the new schedule it is asked at the time u of its own with equal $\alpha/\sigma$, on
    $x_u = x_t\,\alpha_u/\alpha_t$: the two differ by a change of scale only, so the answer is exact.
    """

    def __init__(self, denoiser: Denoiser, schedule: Schedule) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.schedule = schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        inner = self.denoiser.schedule
        t64 = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        u = inner.time(self.schedule.log_ratio(t64))
        alpha_t, sigma_t, alpha_u, sigma_u = (
            function(time)
            for schedule, time in ((self.schedule, t64), (inner, u))
            for function in (schedule.alpha, schedule.sigma)
        )
        # equal wherever both schedules reach; at an end one of the two ratios may be 0 / 0
        ratio = torch.where(alpha_t > sigma_t, alpha_u / alpha_t, sigma_u / sigma_t)
        return self.denoiser(x_t * expand(ratio.to(x_t.device, x_t.real.dtype), x_t), u)


class Affine(Denoiser):
    r"""The denoiser of images in other units: of $m = (x - b)/k$, where x is what a denoiser knows.

    $x_t = k m_t + \alpha b$ under a schedule of the same alpha and k times the sigma. With k = 2, b = -1 a
    network of images in [-1, 1] serves images in [0, 1], whose measurements have no offset.

    Args:
        denoiser: of x, under any schedule.
        schedule: of m.
        factor: k.
        offset: b.
    """

    def __init__(
        self, denoiser: Denoiser, schedule: Schedule, factor: float = 2.0, offset: float = -1.0
    ) -> None:
        super().__init__()
        self.inner = Rescheduled(denoiser, Stretched(schedule, factor))
        self.schedule, self.factor, self.offset = schedule, factor, offset

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, _ = self.schedule(t, x_t)
        x_0 = self.inner(self.factor * x_t + alpha * self.offset, t)
        return (x_0 - self.offset) / self.factor
