"""What a chain expects on its way."""

import torch
from torch import Tensor

from .denoiser import Denoiser

__all__ = ["Averaging"]


class Averaging(Denoiser):
    r"""The same denoiser; `mean` is that of all its estimates so far that count.

    Along a chain that samples, $E[E[x_0 \mid x_t]] = E[x_0]$ at every t, and the inner mean takes out
    the variance of what is still undecided (Rao-Blackwell): over few chains the mean of the
    estimates is nearer to the expectation than that of the chains' ends.

    So it is of an exact denoiser. A network's error adds to it at every level: that of a network of noise is
    sigma / alpha times as large in x_0, 150 times at the top of a chain of 1000 betas, and does not average
    out. Only forms whose estimates err alike at every level may be averaged so (`clean`, `edm`, labels).

    Args:
        denoiser: the one asked.
        highest: estimates at a larger sigma / alpha do not count: how far up was measured to help.
    """

    def __init__(self, denoiser: Denoiser, highest: float) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.highest = denoiser, denoiser.schedule, highest
        self.mean, self.calls = torch.zeros(()), 0

    def expected(self, end: Tensor) -> Tensor:
        """The mean of the estimates; where none has counted, the `end` of the chain."""
        return self.mean if self.calls else end

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
