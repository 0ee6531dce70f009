"""The one sampling loop. A sampler is its step; the grid of times and the noise are handed in."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..noise import Noise, gaussian
from ..schedule import Schedule

__all__ = ["Sampler", "Then", "checked", "last", "prior"]

State = Any


def prior(schedule: Schedule, like: Tensor, noise: Noise = gaussian, t: float = 1.0) -> Tensor:
    """Where a chain starts: sigma(t) times noise, of the shape of `like` (B, *)."""
    _, sigma = schedule(torch.tensor(t), like)
    return sigma * noise(like)


def last(states: Iterator[Tensor]) -> Tensor:
    """The last of the states of a chain; the others are forgotten as they come."""
    return deque(states, maxlen=1)[0]


def checked(times: Tensor, schedule: Schedule, upwards: bool) -> Tensor:
    """A grid of times in float64.

    Raises:
        ValueError: not one axis of numbers, both up and down, up where `upwards` is false, or up from where
            there is no noise to follow.
    """
    times = times.double()
    if times.ndim != 1 or not len(times) or not bool(times.isfinite().all()):
        raise ValueError("a grid of times is one axis of finite numbers")
    steps = times.diff()
    if bool((steps <= 0).all()):
        return times
    if not bool((steps > 0).all()):
        raise ValueError("a grid of times goes down (to sample) or up (to encode), not both")
    if not upwards:
        raise ValueError(
            "this sampler goes down only; DDIM, Heun and FlowODE encode, without noise"
        )
    if bool(schedule.sigma(times[0]) == 0):
        raise ValueError("a grid that encodes begins above zero noise, say at Schedule.smallest")
    return times


class Sampler(ABC):
    """Walks x from one time to the next. Knows a denoiser and a noise source, nothing else.

    Args:
        denoiser: E[x_0 given x_t]; its schedule is the sampler's.
        noise: the noise source, `Seeded` for per-case streams.
    """

    upwards: bool = False
    """Whether a rising grid encodes; other samplers add the noise of a falling one."""
    order: int = 1
    """Claimed order of convergence in the step (weak order for stochastic samplers)."""

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian) -> None:
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.noise = noise

    def init(self, x: Tensor, t: Tensor) -> State:
        """The state before the first step; multistep samplers keep their history here."""
        return None

    @abstractmethod
    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        """From time t to time s (both 0-d float64); returns x_s and the next state."""

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        """The result at the last time t: denoised once more if the grid ends above zero noise.

        This is the last Euler step of EDM to sigma = 0 and the final denoising of NCSNv2.
        """
        return x if bool(self.schedule.sigma(t) == 0) else self.denoiser(x, t)

    @torch.no_grad()
    def trajectory(self, x: Tensor, times: Tensor) -> Iterator[Tensor]:
        """Yield x after every step and, last, the finished result.

        Args:
            x: start, (B, *), at times[0].
            times: (N + 1,) strictly decreasing to sample, increasing to encode.

        Raises:
            ValueError: a grid that this sampler cannot follow.
        """
        times = checked(times, self.schedule, self.upwards)
        state = self.init(x, times[0])
        for t, s in pairwise(times):
            x, state = self.step(x, t, s, state)
            yield x
        yield self.finish(x, times[-1], state)

    def __call__(self, x: Tensor, times: Tensor) -> Tensor:
        """Walk x (B, *) from times[0] to the end and finish it."""
        return last(self.trajectory(x, times))


class Then(Sampler):
    """A predictor's step from t to s, then a corrector's at s (Song et al. 2021, algorithm 1)."""

    def __init__(self, predictor: Sampler, corrector: Sampler) -> None:
        super().__init__(predictor.denoiser, predictor.noise)
        self.predictor, self.corrector = predictor, corrector
        self.order = predictor.order

    def init(self, x: Tensor, t: Tensor) -> State:
        return self.predictor.init(x, t), self.corrector.init(x, t)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        first, second = state
        x_s, first = self.predictor.step(x_t, t, s, first)
        if bool(self.schedule.sigma(s) > 0):
            x_s, second = self.corrector.step(x_s, s, s, second)
        return x_s, (first, second)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return self.predictor.finish(x, t, state[0])
