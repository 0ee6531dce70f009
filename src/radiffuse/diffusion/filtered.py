r"""Denoising that starts from the Wiener filter of the images' power spectrum, and learns what it leaves.

Of stationary Gaussian images with power S(f) at frequency f, the denoiser is known,

$$ E[x_0 \mid x_t] = W x_t, \quad W(f) = \frac{\alpha S(f)}{\alpha^2 S(f) + \sigma^2}, \qquad
   g^2 = \operatorname{mean}_f \frac{S(f)\,\sigma^2}{\alpha^2 S(f) + \sigma^2} $$

the mean squared error it leaves. Images are not Gaussian, but at high noise learned denoisers are nearly
this one (Wang & Vastola 2024), and at any noise it removes what is above the images' own spectrum, which
a network that starts from $x_t$ must cancel voxel by voxel. So here
$\hat x_0 = W x_t + g\,F(c_{in} x_t, W x_t / s)$: Karras et al. 2022 (section 5) with a spectrum in place
of one deviation s, their c_skip and c_out where S is flat.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from .losses import Weight
from .network import Clock, Network, log_noise, unit_variance
from .parametrization import CLEAN, Predicts
from .schedule import Schedule
from .spectrum import power_on

__all__ = ["Filtered", "Wiener", "wiener_of"]


class Wiener:
    """The Wiener filter of images of one size and spectrum.

    Args:
        values: of `spectrum.power`, measured on images of any size.
        size: spatial size.
    """

    def __init__(self, values: Sequence[float], size: Sequence[int]) -> None:
        self.values, self.size = tuple(values), tuple(size)

    @cached_property
    def power(self) -> Tensor:
        """S(f) on the grid of `torch.fft.rfftn`, float64."""
        return power_on(self.values, self.size)

    @cached_property
    def share(self) -> Tensor:
        """Share of each frequency in a mean over all: the half that `rfftn` leaves out counts too."""
        twice = torch.full(self.power.shape, 2.0, dtype=torch.float64)
        twice[..., 0] = 1
        if self.size[-1] % 2 == 0:
            twice[..., -1] = 1
        return twice / twice.sum()

    def left(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """g^2 (B,): the mean squared error of the Wiener filter; alpha, sigma (B,) float64."""
        shape = (-1, *[1] * len(self.size))
        a2, s2 = alpha.square().reshape(shape), sigma.square().reshape(shape)
        each = self.share * self.power * s2 / (a2 * self.power + s2)
        return each.flatten(1).sum(1)

    def filter(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """W x, x (B, C, *S); alpha, sigma (B,)."""
        axes = tuple(range(2, x.ndim))
        shape = (-1, 1, *[1] * len(self.size))
        real = x if x.dtype in (torch.float32, torch.float64) else x.float()
        power = self.power.to(real)
        a, s2 = (part.to(real).reshape(shape) for part in (alpha, sigma.square()))
        spectrum = torch.fft.rfftn(real, dim=axes) * (a * power / (a.square() * power + s2))
        return torch.fft.irfftn(spectrum, s=self.size, dim=axes)

    def weight(self) -> Weight:
        """The loss weight 1 / g^2 on the clean error: the error of F as it is."""

        def weight(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
            alpha, sigma = schedule.alpha(t), schedule.sigma(t)
            c_x, c_z = predicts.coefficients(alpha, sigma)
            return (sigma / (c_x * sigma - c_z * alpha)) ** 2 / self.left(alpha, sigma)

        return weight


@lru_cache(maxsize=64)
def wiener_of(spectrum: tuple[float, ...], size: tuple[int, ...]) -> Wiener:
    """The filter for images of a size, kept for the next call."""
    return Wiener(spectrum, size)


class Filtered(Network):
    """A network of what the Wiener filter leaves, read as a denoiser.

    Args:
        backbone: as `Network`'s, with C more channels of image condition.
        schedule: of its training.
        spectrum: of the images, as `spectrum.power` measures it.
        data_std: their deviation s.
        clock: as `Network`'s.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        spectrum: Sequence[float],
        data_std: float,
        clock: Clock = log_noise,
    ) -> None:
        super().__init__(backbone, schedule, CLEAN, unit_variance(data_std), clock)
        self.spectrum, self.data_std = tuple(spectrum), data_std

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 | x_t]; further channels of the backbone's output as they are."""
        _, alpha, sigma = self.levels(x_t, t)
        wiener = wiener_of(self.spectrum, tuple(x_t.shape[2:]))
        base = wiener.filter(x_t, alpha, sigma)
        told = [condition.pop("image")] if "image" in condition else []
        seen = torch.cat([*told, base / self.data_std], 1)
        out = super().raw(x_t, t, **condition, image=seen)
        gain = wiener.left(alpha, sigma).sqrt().to(base)
        gain = gain.reshape(-1, *[1] * (x_t.ndim - 1))
        channels = x_t.shape[1]
        estimate = base + gain * out[:, :channels].to(base.dtype)
        return torch.cat([estimate, out[:, channels:].to(base.dtype)], 1)
