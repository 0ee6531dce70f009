"""What a chain expects on its way."""

import math

import torch
from torch import Tensor

from .denoiser import Denoiser

__all__ = ["Averaging"]


class Averaging(Denoiser):
    r"""The same denoiser; `mean` is that of all its estimates so far.

    Along a chain that samples, $E[E[x_0 \mid x_t]] = E[x_0]$ at every t, and the inner mean takes out
    the variance of what is still undecided (Rao-Blackwell): over few chains the mean of the
    estimates is nearer to the expectation than that of the chains' ends.

    Args:
        denoiser: the one asked.
        highest: estimates at a larger sigma / alpha do not count.
    """

    def __init__(self, denoiser: Denoiser, highest: float = math.inf) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.highest = denoiser, denoiser.schedule, highest
        self.mean, self.calls = torch.zeros(()), 0

    def _seen(self, x_0: Tensor, t: Tensor) -> Tensor:
        if bool((self.schedule.sigma(t) > self.highest * self.schedule.alpha(t)).any()):
            return x_0
        self.calls += 1
        self.mean = self.mean.to(x_0) + (x_0 - self.mean.to(x_0)) / self.calls
        return x_0

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self._seen(self.denoiser(x_t, t), t)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_0, w = self.denoiser.with_variance(x_t, t)
        return self._seen(x_0, t), w
