r"""Diffusion around a first guess: mean and deviation of x_0 told the condition, and what they leave.

A small network guesses mean m and deviation s of every voxel from the condition. With $r = x_t - \alpha m$,

$$ \hat x_0 = m + W_s\,r + g_s\,F\big(r / n,\ c,\ m,\ \log s,\ W_s r / s\big), \qquad n^2 = \alpha^2 s^2 + \sigma^2, $$

where $W_s$ is the Wiener filter of images of deviation s and the targets' spectrum and $g_s^2$ the mean
squared error it leaves (see `filtered`), at each voxel those of its s, between `LEVELS` of s by linear
interpolation in log s. F = 0 is right where the target is Gaussian around m with that spectrum: what is
known from the condition, as background is, is right from the first step, and what is not is smooth.
The forward process, and with it every sampler, stays as it is. (What a first guess leaves: Whang et al.
2022; a mean and deviation that depend on the condition: Lee et al. 2022, PriorGrad.)
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from .filtered import Wiener, wiener_of
from .network import Network, log_noise, unscaled
from .parametrization import CLEAN
from .schedule import Schedule

__all__ = ["LEVELS", "Residual"]

LEVELS = tuple(0.01 * 10 ** (k / 2.5) for k in range(6))
"""Deviations that have a filter of their own, 0.01 to 1."""


class Residual(Network):
    """A network of what a first guess leaves, read as a denoiser.

    Args:
        backbone: as `Network`'s, with an image condition of C_c + 3 C channels.
        guess: (B, C_c, *S) -> mean and deviation of x_0, (B, C, *S) each.
        schedule: of its training.
        spectrum: of the targets, as `spectrum.power` measures it; only its shape matters.
    """

    def __init__(
        self,
        backbone: nn.Module,
        guess: nn.Module,
        schedule: Schedule,
        spectrum: Sequence[float],
    ) -> None:
        super().__init__(backbone, schedule, CLEAN, unscaled, log_noise)
        self.guess, self.spectrum = guess, tuple(spectrum)

    @property
    def players(self) -> dict[str, nn.Module]:
        return {**super().players, "guess": self.guess}

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        mean, std = self.guess(condition["image"])
        return {**condition, "mean": mean, "std": std}

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and the conditions] `image`, `mean` and `std`, as `bound` makes them."""
        return self.with_gain(x_t, t, **condition)[0]

    def with_gain(
        self, x_t: Tensor, t: Tensor, image: Tensor, mean: Tensor, std: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The estimate (B, C, *S), and what an output of 1 adds to it at each voxel."""
        alpha, sigma = self.schedule(t, x_t)
        r = x_t - alpha * mean
        base, gain = self._linear(r, t, std)
        told = torch.cat([image, mean, std.log() / 4, base / std], 1)
        seen = torch.rsqrt(alpha**2 * std**2 + sigma**2) * r
        out = super().raw(seen, t, image=told).to(base.dtype)
        return mean + base + gain * out, gain

    def _linear(self, r: Tensor, t: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """W_s r, and the gain of the network's output, (B, C, *S) each."""
        _, alpha, sigma = self.levels(r, t)
        place = (std / LEVELS[0]).log() * (1 / math.log(LEVELS[1] / LEVELS[0]))
        place = place.clamp(0, len(LEVELS) - 1)
        base, gain = torch.zeros_like(r), torch.zeros_like(r)
        for k, level in enumerate(LEVELS):
            share = (1 - (place - k).abs()).clamp_min(0)
            wiener = _wiener(self.spectrum, level, tuple(r.shape[2:]))
            base = base + share * wiener.filter(r, alpha, sigma).to(r.dtype)
            left = wiener.left(alpha, sigma).sqrt().to(r)
            gain = gain + share * left.reshape(-1, *[1] * (r.ndim - 1))
        return base, gain


@lru_cache(maxsize=64)
def _wiener(spectrum: tuple[float, ...], level: float, size: tuple[int, ...]) -> Wiener:
    """The filter of deviation `level`; a mean brightness is guessed like the lowest waves."""
    rings = spectrum[1:]
    shape = wiener_of((rings[0] / math.prod(size), *rings), size)
    unit = level**2 / float((shape.share * shape.power).sum())
    return Wiener([unit * value for value in shape.values], size)
