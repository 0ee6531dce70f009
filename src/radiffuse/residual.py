r"""Diffusion around a first guess: a Gaussian of x_0 told the condition alone, and what is left of it.

A small network guesses mean m and deviation s of every voxel from the condition. The denoiser is then
preconditioned as Karras et al. 2022 (section 5) do for images of mean 0 and deviation `data_std`, but
for those of mean m and deviation s at each voxel: with $r = x_t - \alpha m$ and
$n^2 = \alpha^2 s^2 + \sigma^2$,

$$ \hat x_0 = m + \frac{\alpha s^2}{n^2}\, r + \frac{s\sigma}{n}\, F(r / n, c, m, \log s;\ \sigma/\alpha). $$

F = 0 is the exact answer where x_0 is that Gaussian, voxel by voxel: background known from the condition
is right from the first step, and F learns what only the condition and the noisy image together tell.
The forward process, and with it every sampler, stays as it is. (Guesses as a start or a residual:
Whang et al. 2022; a mean and deviation that depend on the condition: Lee et al. 2022, PriorGrad.)
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .denoise import Denoiser, Network, log_noise, unscaled
from .parametrization import CLEAN
from .schedule import Schedule

__all__ = ["Residual"]


class _Gains(NamedTuple):
    """Factors of r in the network's input and in the estimate, and of the network's output."""

    into: Tensor
    skip: Tensor
    out: Tensor


class Residual(Network):
    """A network of what a first guess leaves, read as a denoiser.

    Args:
        backbone: as `Network`'s, with an image condition of C_c + 2 C channels.
        guess: (B, C_c, *S) -> mean and deviation of x_0, (B, C, *S) each.
        schedule: of its training.
    """

    def __init__(self, backbone: nn.Module, guess: nn.Module, schedule: Schedule) -> None:
        super().__init__(backbone, schedule, CLEAN, unscaled, log_noise)
        self.guess = guess

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        mean, std = self.guess(condition["image"])
        return {**condition, "mean": mean, "std": std}

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's own output; conditions `image`, `mean` and `std`, as `bound` makes them."""
        image, mean, std = (condition[key] for key in ("image", "mean", "std"))
        alpha, _ = self.schedule(t, x_t)
        seen = self._gains(x_t, t, std).into * (x_t - alpha * mean)
        return super().raw(seen, t, image=torch.cat([image, mean, std.log() / 4], 1))

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        out = self.raw(x_t, t, **condition)
        return self.estimate(out, x_t, t, condition["mean"], condition["std"]).to(x_t.dtype)

    def with_variance(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> tuple[Tensor, Tensor]:
        return Denoiser.with_variance(self, x_t, t)

    def estimate(self, out: Tensor, x_t: Tensor, t: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """E[x_0 given x_t and the condition] from the network's output; all (B, C, *S)."""
        alpha, _ = self.schedule(t, x_t)
        gains = self._gains(x_t, t, std)
        return mean + gains.skip * (x_t - alpha * mean) + gains.out * out.float()

    def squared_error(
        self, out: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, mean: Tensor, std: Tensor
    ) -> Tensor:
        """Of the estimate, a case's in units of its mean squared gain of the output: about 1 for F = 0."""
        error = (self.estimate(out, x_t, t, mean, std) - x_0).square()
        unit = self._gains(x_t, t, std).out.square().flatten(1).mean(1).clamp_min(1e-12)
        return (error.flatten(1).mean(1) / unit).mean()

    def _gains(self, x_t: Tensor, t: Tensor, std: Tensor) -> _Gains:
        alpha, sigma = self.schedule(t, x_t)
        norm = torch.rsqrt(alpha**2 * std**2 + sigma**2)
        return _Gains(norm, alpha * (std * norm) ** 2, std * sigma * norm)
