"""A network read as a denoiser, whatever it predicts, and the conditions it is told."""

from collections.abc import Callable
from copy import copy
from typing import Self

import torch
from torch import Tensor, nn

from .denoiser import Denoiser
from .parametrization import Predicts
from .schedule import Schedule

__all__ = [
    "Clock",
    "Given",
    "Network",
    "Scale",
    "elapsed",
    "log_noise",
    "unit_variance",
    "unscaled",
]

Scale = Callable[[Tensor, Tensor], Tensor]


Clock = Callable[[Tensor, Tensor, Tensor], Tensor]


def unscaled(alpha: Tensor, sigma: Tensor) -> Tensor:
    """c_in = 1: the network sees x_t itself."""
    return torch.ones_like(alpha)


def unit_variance(data_std: float) -> Scale:
    r"""$c_{in} = 1/\sqrt{\alpha^2 s^2 + \sigma^2}$: the network's input has unit variance."""
    return lambda alpha, sigma: torch.rsqrt(alpha**2 * data_std**2 + sigma**2)


def log_noise(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    r"""$c_{noise} = \tfrac14\log(\sigma/\alpha)$ (Karras et al. 2022, table 1), any alpha."""
    return (torch.log(sigma) - torch.log(alpha)).clamp(-20, 20) / 4


def elapsed(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The time t itself."""
    return t


class Network(Denoiser):
    """A network read as a denoiser.

    Args:
        backbone: module called as `backbone(scaled x_t, clock (B,), **condition)`; it may return
            twice the channels, the second half placing the learned variance: w = (v + 1) / 2.
        schedule: the noise schedule it was trained with.
        predicts: what it outputs (a row of `parametrization`).
        scale: c_in(alpha, sigma), multiplies x_t at the network's input.
        clock: c_noise(t, alpha, sigma), what the network is told of the time.
    """

    def __init__(
        self,
        backbone: nn.Module,
        schedule: Schedule,
        predicts: Predicts,
        scale: Scale = unscaled,
        clock: Clock = log_noise,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.schedule = schedule
        self.predicts = predicts
        self.scale = scale
        self.clock = clock

    def around(self, backbone: nn.Module) -> Self:
        """The same reading of another backbone."""
        other = copy(self)
        other._modules = {**self._modules, "backbone": backbone}
        return other

    @property
    def players(self) -> dict[str, nn.Module]:
        """What is trained, by the name of its player."""
        return {"network": self.backbone}

    def levels(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """t, alpha and sigma of each case of x_t, (B,) float64 each; t () or (B,)."""
        t64 = torch.as_tensor(t, dtype=torch.float64, device="cpu").expand(len(x_t))
        return t64, self.schedule.alpha(t64), self.schedule.sigma(t64)

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's own output at x_t (B, C, *S), t () or (B,)."""
        t64, alpha64, sigma64 = self.levels(x_t, t)
        clock = self.clock(t64, alpha64, sigma64).to(x_t.device, x_t.real.dtype)
        alpha, sigma = self.schedule(t64, x_t)
        return self.backbone(self.scale(alpha, sigma) * x_t, clock, **condition)

    def bound(self, **condition: Tensor) -> dict[str, Tensor]:
        """The condition, with all that follows from it alone: computed once for a chain."""
        return condition

    def given(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """E[x_0 given x_t and the condition]."""
        out = self.raw(x_t, t, **condition)
        alpha, sigma = self.schedule(t, x_t)
        return self.predicts.clean(out[:, : x_t.shape[1]], x_t, alpha, sigma)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.given(x_t, t)

    def with_variance(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> tuple[Tensor, Tensor]:
        out = self.raw(x_t, t, **condition)
        channels = x_t.shape[1]
        if out.shape[1] != 2 * channels:
            return super().with_variance(x_t, t)
        alpha, sigma = self.schedule(t, x_t)
        return self.predicts.clean(out[:, :channels], x_t, alpha, sigma), (
            out[:, channels:] + 1
        ) / 2


class Given(Denoiser):
    """A network with its conditions bound: label=, vector=, image= as its backbone takes them."""

    def __init__(self, network: Network, **condition: Tensor) -> None:
        super().__init__()
        self.network = network
        self.schedule = network.schedule
        self.condition = network.bound(**condition)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.network.given(x_t, t, **self.condition)

    def with_variance(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.with_variance(x_t, t, **self.condition)
