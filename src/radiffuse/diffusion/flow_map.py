r"""Maps along the probability flow: from x_t to x_s in one call of a network that is told both times.

With $u = \sigma/\alpha$ the flow is $d(x/\sigma)/d(1/u) = E[x_0 \mid x_t]$ whatever the schedule, so that

$$ x_s = \tfrac{\sigma_s}{\sigma_t} x_t + \Big(\alpha_s - \alpha_t\tfrac{\sigma_s}{\sigma_t}\Big) F(x_t, t, s),
   \qquad F(x_t, t, s) = \frac{1}{1/u_s - 1/u_t}\int_t^s E[x_0 \mid x_r]\, d(1/u_r) $$

holds exactly: DDIM's step with the *mean* of the denoiser over the way in place of its value at the start (the
mean velocity of MeanFlow, Geng et al. 2025, in the coordinate in which it holds for every schedule). At s = t the
mean is the denoiser and the step is none; at s = 0 it is the end of the flow, what a consistency model answers
(Song et al. 2023). Of one step from t by r to s,

$$ \Big(\tfrac1{u_s} - \tfrac1{u_t}\Big) F(x_t, t, s) = \Big(\tfrac1{u_r} - \tfrac1{u_t}\Big) F(x_t, t, r)
   + \Big(\tfrac1{u_s} - \tfrac1{u_r}\Big) F(x_r, r, s). $$

A map of a `Filtered` network starts from what is known of Gaussian images of its spectrum S, whose flow is
`sample.leap.GaussianFlow`'s: with $y = x_t/\alpha_t$, $A = \sqrt{S + u^2}$ and D the answer, at each frequency

$$ F = D + (1 - K)(y - D), \qquad K = \frac{1 + u_s/u_t}{1 + A_s/A_t}, $$

exact in one call for them; K = 1 at s = t, and everywhere where S = 0. What images are beyond that is learned.
"""

from abc import abstractmethod
from copy import copy

import torch
from torch import Tensor

from .denoiser import Denoiser
from .filtered import Filtered, wiener_of
from .kernels import reverse
from .network import Clock, Network
from .schedule import Schedule, expand

__all__ = [
    "FlowMap",
    "MovedMap",
    "TwoTimes",
    "gaussian_gain",
    "joined_mean",
    "nested",
    "share_of_way",
    "toward",
]

EVENNESS = 1.5
"""k of `nested`: a few steps are even enough from noise of hundreds to none where k is between 1 and 2."""


class FlowMap(Denoiser):
    """The mean of a denoiser on the way from one time to an earlier one."""

    @abstractmethod
    def mean(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """F(x_t, t, s): x_t (B, *), t and s () or (B,), s at most t; returns (B, *)."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """F(x_t, t, t), the denoiser itself where it is trained there."""
        return self.mean(x_t, t, t)

    def jump(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """x_s of the flow through x_t: exactly x_t where s = t."""
        return reverse(self.schedule, x_t, self.mean(x_t, t, s), t, s)


class TwoTimes(FlowMap):
    """A network told two times, with its conditions bound.

    Args:
        network: whose backbone takes a clock (B, 2), the time it is at and that it goes to; or a clock (B,) where
            `until` is False, for one that always goes to the end (t = 0) or by a grid that it learned.
        until: whether the network is told where it goes.
        leaps: whether it starts from the flow of Gaussian images, where the network knows their spectrum.
        condition: as `Given`'s.
    """

    def __init__(
        self, network: Network, until: bool = True, leaps: bool = True, **condition: Tensor
    ) -> None:
        super().__init__()
        self.network, self.until = network, until
        self.leaps = leaps and isinstance(network, Filtered)
        self.schedule = network.schedule
        self.condition = network.bound(**condition)

    def mean(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        network = toward(self.network, s) if self.until else self.network
        answer = network.given(x_t, t, **self.condition)
        return self._leapt(answer, x_t, t, s) if self.leaps else answer

    def _leapt(self, answer: Tensor, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """F of the network's answer D, (B, C, *S) both."""
        assert isinstance(self.network, Filtered)
        size, axes = tuple(x_t.shape[2:]), tuple(range(2, x_t.ndim))
        power = wiener_of(self.network.spectrum, size).power
        alpha, _ = self.schedule(t, x_t)
        times = (torch.as_tensor(each, dtype=torch.float64, device="cpu") for each in (t, s))
        levels = [torch.exp(-self.schedule.log_ratio(each)).expand(len(x_t)) for each in times]
        more = 1 - gaussian_gain(
            power, *(level.reshape(-1, 1, *[1] * len(size)) for level in levels)
        )
        answer = answer.float() if answer.dtype != torch.float64 else answer
        # without any signal nothing is known but the mean
        y = torch.where(alpha > 0, x_t / alpha, answer)
        rest = torch.fft.rfftn(y - answer, dim=axes) * more.to(y)
        return answer + torch.fft.irfftn(rest, s=size, dim=axes)


def gaussian_gain(power: Tensor, u_t: Tensor, u_s: Tensor) -> Tensor:
    """K of Gaussian images of spectrum S, at every frequency; 1 where s = t or no signal is left at t."""
    before, after = power + u_t.square(), power + u_s.square()
    gain = (1 + u_s / u_t) / (1 + (after / before).sqrt())
    return torch.where((u_s == u_t) | u_t.isinf(), torch.ones_like(gain), gain)


def toward(network: Network, s: Tensor) -> Network:
    """The network told also that it goes to the time s, () or (B,): its clock is (B, 2)."""
    other, one = copy(network), network.clock
    other.clock = _both(one, network.schedule, s)
    return other


def _both(one: Clock, schedule: Schedule, s: Tensor) -> Clock:
    def clock(t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        end = torch.as_tensor(s, dtype=torch.float64, device="cpu").expand(t.shape)
        return torch.stack(
            [one(t, alpha, sigma), one(end, schedule.alpha(end), schedule.sigma(end))], 1
        )

    return clock


class MovedMap(FlowMap):
    """A flow map under another schedule, exactly: see `units.Rescheduled`.

    Args:
        inner: the map.
        schedule: the new one.
    """

    def __init__(self, inner: FlowMap, schedule: Schedule) -> None:
        super().__init__()
        self.inner, self.schedule = inner, schedule

    def mean(self, x_t: Tensor, t: Tensor, s: Tensor) -> Tensor:
        own = self.inner.schedule
        t64, s64 = (torch.as_tensor(each, dtype=torch.float64, device="cpu") for each in (t, s))
        there, end = (own.time(self.schedule.log_ratio(each)) for each in (t64, s64))
        here, scale = self.schedule, own
        # equal wherever both schedules reach; at an end one of the two may be 0 / 0
        ratio = torch.where(
            here.alpha(t64) > here.sigma(t64),
            scale.alpha(there) / here.alpha(t64),
            scale.sigma(there) / here.sigma(t64),
        )
        return self.inner.mean(x_t * expand(ratio.to(x_t.device, x_t.real.dtype), x_t), there, end)


def share_of_way(schedule: Schedule, t: Tensor, r: Tensor, s: Tensor) -> Tensor:
    r"""$(1/u_r - 1/u_t)/(1/u_s - 1/u_t)$ (B,) float64: how much of the way from t to s is done at r; 0 where s = 0."""
    way = [schedule.alpha(each) / schedule.sigma(each) for each in (t, r, s)]
    return torch.where(schedule.sigma(s) == 0, 0.0, (way[1] - way[0]) / (way[2] - way[0]))


def joined_mean(
    schedule: Schedule, first: Tensor, second: Tensor, t: Tensor, r: Tensor, s: Tensor
) -> Tensor:
    """F(x_t, t, s) of F(x_t, t, r) and F(x_r, r, s), (B, *) each; times (B,) float64."""
    share = share_of_way(schedule, t, r, s).to(first.device, first.dtype)
    return torch.lerp(second, first, expand(share, first))


def nested(schedule: Schedule, steps: int, start: float = 1.0) -> Tensor:
    r"""A grid (steps + 1,) from `start` to 0 of which every second time is the grid of half as many steps.

    Even in $\tau = a/(1 + a)$, $a = (\sigma/\alpha)^{1/k}$, which is 0 without noise and 1 without signal.
    """
    end = torch.tensor(start, dtype=torch.float64)
    top = torch.sigmoid(-schedule.log_ratio(end) / EVENNESS)
    tau = torch.linspace(1, 0, steps + 1, dtype=torch.float64) * top
    times = schedule.time(-EVENNESS * torch.logit(tau))
    times[0], times[-1] = start, 0.0
    return times
