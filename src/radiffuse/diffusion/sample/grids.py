"""Grids of times: (N + 1,) float64 tensors, decreasing from `start` to `stop`.

A grid that stops at t = 0 makes N network calls; one that stops above zero noise makes one more to
finish (see `Sampler.finish`).
"""

import torch
from torch import Tensor

from ..schedule import Discrete, Schedule

__all__ = ["ascending", "karras", "ladder", "log_ratio", "quadratic", "strided", "uniform"]


def uniform(steps: int, start: float = 1.0, stop: float = 0.0) -> Tensor:
    """Evenly spaced in t (on `EDM` and `VE` this is even in sigma^(1/rho) and log sigma)."""
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


def quadratic(steps: int, start: float = 1.0, stop: float = 0.0) -> Tensor:
    """Evenly spaced in sqrt(t): more steps near the clean end (Song et al. 2021, DDIM, D.2)."""
    return torch.linspace(start**0.5, stop**0.5, steps + 1, dtype=torch.float64) ** 2


def strided(schedule: Discrete, steps: int, start: int | None = None) -> Tensor:
    """Respacing: `steps` of the T original times, rounded equal spacing, then t = 0.

    The network is only asked at times it was trained at (Nichol & Dhariwal 2021, section 4).

    Args:
        start: index (1..T) of the noisiest time, T by default.

    Raises:
        ValueError: more steps than there are times.
    """
    start = schedule.steps if start is None else start
    if not 1 <= steps <= start:
        raise ValueError(f"{steps} steps asked of a chain with {start}")
    kept = torch.linspace(1, start, steps, dtype=torch.float64).round().flip(0)
    if steps == 1:
        kept = torch.tensor([float(start)], dtype=torch.float64)
    return torch.cat([kept, torch.zeros(1, dtype=torch.float64)]) / schedule.steps


def karras(
    schedule: Schedule, steps: int, rho: float = 7.0, start: float = 1.0, stop: float = 1e-3
) -> Tensor:
    r"""Evenly spaced in $(\sigma/\alpha)^{1/\rho}$ between the two times (Karras et al. 2022, eq. 5)."""
    ends = torch.exp(-schedule.log_ratio(torch.tensor([start, stop], dtype=torch.float64)))
    if not bool(torch.isfinite(ends[0])):
        raise ValueError("this schedule has no signal at t = start; give a start below 1")
    high, low = ends ** (1 / rho)
    levels = (high + torch.linspace(0, 1, steps + 1, dtype=torch.float64) * (low - high)) ** rho
    return _between(schedule.time(-torch.log(levels)), start, stop)


def log_ratio(schedule: Schedule, steps: int, start: float = 1.0, stop: float = 1e-3) -> Tensor:
    r"""Evenly spaced in $\lambda=\log(\alpha/\sigma)$ (Lu et al. 2022); start must have some signal."""
    ends = schedule.log_ratio(torch.tensor([start, stop], dtype=torch.float64))
    if not bool(torch.isfinite(ends).all()):
        raise ValueError("the log-SNR is infinite at an end; give start < 1 and stop > 0")
    values = ends[0] + torch.linspace(0, 1, steps + 1, dtype=torch.float64) * (ends[1] - ends[0])
    return _between(schedule.time(values), start, stop)


def ladder(levels: int) -> Tensor:
    """The levels of annealed Langevin dynamics: uniform, the first one twice.

    A step of `Langevin` from t to s works at s, so the walk begins by working at the first level.
    """
    grid = uniform(levels - 1)
    return torch.cat([grid[:1], grid])


def ascending(times: Tensor) -> Tensor:
    """The same grid from clean to noisy, to encode; noise-free times are left out."""
    return times[times > 0].flip(0)


def _between(times: Tensor, start: float, stop: float) -> Tensor:
    times = times.clone()
    times[0], times[-1] = start, stop
    return times
