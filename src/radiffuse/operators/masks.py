"""Sampling masks of k-space, one seed a case, with a fully sampled calibration region.

`*_columns` sample lines along the last axis (one phase-encoding direction); the others sample points
of the last two axes (two phase-encoding directions, or a radial trajectory on the grid).
All but `equispaced_columns` and `radial` hit the acceleration exactly, up to rounding to whole
lines or points; the realised one is returned.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

__all__ = [
    "Sampling",
    "equispaced_columns",
    "gaussian_columns",
    "gaussian_points",
    "poisson_disc",
    "radial",
    "uniform_columns",
    "uniform_points",
]

GOLDEN = math.pi * (math.sqrt(5) - 1) / 2
Size = tuple[int, ...]
Draw = Callable[[torch.Generator, int], Tensor]


@dataclass(frozen=True)
class Sampling:
    """Masks and what they achieve.

    Attributes:
        mask: (B, 1, *S), boolean, the centre of k-space at index n // 2.
        acceleration: (B,), number of points divided by the number sampled.
    """

    mask: Tensor
    acceleration: Tensor


def _budget(grid: tuple[int, ...], acceleration: float, calibration: int, unit: str) -> int:
    """How many lines or points to take in all; refuses what cannot be."""
    if not acceleration >= 1:
        raise UserError(f"acceleration {acceleration:g} is below 1: 1 samples everything")
    if calibration < 0 or calibration > min(grid):
        raise UserError(
            f"a calibration region of {calibration} does not fit into {grid}: take less"
        )
    total, fixed = math.prod(grid), calibration ** len(grid)
    budget = round(total / acceleration)
    if budget < max(fixed, 1):
        raise UserError(
            f"acceleration {acceleration:g} leaves {budget} of {total} {unit}, but the calibration "
            f"region of {calibration} needs {max(fixed, 1)}: lower one of them (--acceleration, --calibration)"
        )
    return budget


def _calibration(grid: tuple[int, ...], width: int) -> Tensor:
    """Boolean (*grid): the central `width` of every axis, index n // 2 in its middle."""
    region = torch.ones(grid, dtype=torch.bool)
    for axis, n in enumerate(grid):
        index = torch.arange(n) - (n // 2 - width // 2)
        shape = [-1 if a == axis else 1 for a in range(len(grid))]
        region &= ((index >= 0) & (index < width)).reshape(shape)
    return region


def _distance(grid: tuple[int, ...]) -> list[Tensor]:
    """Distance from the centre on each axis in units of half its length, broadcastable."""
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2) for n in grid]
    return list(torch.meshgrid(*axes, indexing="ij"))


def _weighted(log_weight: Tensor, region: Tensor, budget: int) -> Draw:
    """Draws `budget` points without replacement, the region first (Gumbel's top-k trick)."""

    def draw(generator: torch.Generator, _: int) -> Tensor:
        u = torch.rand(log_weight.shape, generator=generator, dtype=torch.float64)
        key = log_weight - torch.log(-torch.log(u.clamp(1e-300, 1 - 1e-16)))
        key[region] = torch.inf
        mask = torch.zeros(key.numel(), dtype=torch.bool)
        mask[key.flatten().topk(budget).indices] = True
        return mask.reshape(key.shape)

    return draw


def _sampling(size: Size, seeds: Iterable[int], draw: Draw, budget: int) -> Sampling:
    """One draw a seed, repeated over the axes in front."""
    cases = [draw(torch.Generator().manual_seed(int(seed)), budget) for seed in seeds]
    if not cases:
        raise UserError("no mask without a seed: give one seed a case")
    fraction = torch.stack([case.double().mean() for case in cases])
    front = [1] * (len(size) - cases[0].ndim)
    masks = [case.reshape(1, *front, *case.shape).expand(1, *size) for case in cases]
    return Sampling(torch.stack(masks), 1 / fraction)


def _grid(size: Size, axes: int) -> tuple[int, ...]:
    if len(size) < axes or min(size, default=0) < 1:
        raise UserError(f"size {size} has too few axes: this mask needs {axes} at least")
    return tuple(size[-axes:])


def gaussian_columns(
    size: Size, acceleration: float, calibration: int, seeds: Iterable[int], std: float = 1 / 3
) -> Sampling:
    """Random lines of the last axis, denser in the middle: probability exp(-k^2 / (2 std^2)).

    Args:
        size: S, the spatial size of k-space.
        acceleration: points / sampled points, at least 1.
        calibration: number of central lines always taken; 0 for none.
        seeds: one a case.
        std: of the density, in units of half the axis.

    Raises:
        UserError: acceleration below 1, or a calibration region it does not allow.
    """
    grid = _grid(size, 1)
    budget = _budget(grid, acceleration, calibration, "lines")
    weight = -(_distance(grid)[0] ** 2) / (2 * std**2)
    draw = _weighted(weight, _calibration(grid, calibration), budget)
    return _sampling(size, seeds, draw, budget)


def uniform_columns(
    size: Size, acceleration: float, calibration: int, seeds: Iterable[int]
) -> Sampling:
    """Random lines of the last axis, equally likely. Arguments and errors: `gaussian_columns`."""
    return gaussian_columns(size, acceleration, calibration, seeds, std=math.inf)


def equispaced_columns(
    size: Size, acceleration: float, calibration: int, seeds: Iterable[int]
) -> Sampling:
    """Lines of the last axis at one spacing from a random offset, beside the calibration region.

    The spacing is (W - c) / (n - c), so that the lines outside the region fill the budget n = W / R;
    the realised acceleration differs by a line or two. Arguments and errors: `gaussian_columns`.
    """
    grid = _grid(size, 1)
    (width,) = grid
    budget = _budget(grid, acceleration, calibration, "lines")
    region = _calibration(grid, calibration)

    def draw(generator: torch.Generator, count: int) -> Tensor:
        mask = region.clone()
        if count > calibration:
            spacing = (width - calibration) / (count - calibration)
            offset = float(torch.rand((), generator=generator, dtype=torch.float64)) * spacing
            steps = torch.arange(math.ceil(width / spacing), dtype=torch.float64)
            lines = (offset + steps * spacing).floor().long()
            mask[lines[lines < width]] = True
        return mask

    return _sampling(size, seeds, draw, budget)


def gaussian_points(
    size: Size, acceleration: float, calibration: int, seeds: Iterable[int], std: float = 1 / 3
) -> Sampling:
    """Random points of the last two axes, density exp(-|k|^2 / (2 std^2)); std = inf: uniform.

    Arguments and errors: `gaussian_columns`; the calibration region is a square of that side.
    """
    grid = _grid(size, 2)
    budget = _budget(grid, acceleration, calibration, "points")
    weight = -sum((k**2 for k in _distance(grid)), torch.zeros(())) / (2 * std**2)
    draw = _weighted(weight, _calibration(grid, calibration), budget)
    return _sampling(size, seeds, draw, budget)


uniform_points = partial(gaussian_points, std=math.inf)


def poisson_disc(
    size: Size,
    acceleration: float,
    calibration: int,
    seeds: Iterable[int],
    slope: float = 2.0,
) -> Sampling:
    """Points of the last two axes that keep a distance r (1 + slope |k|), k = 1 at the edge.

    Variable-density Poisson disc by dart throwing: any two points keep at least the smaller of their
    two distances. r is found by bisection; surplus points are then dropped at random.
    Arguments and errors: `gaussian_points`.
    """
    grid = _grid(size, 2)
    budget = _budget(grid, acceleration, calibration, "points")
    region = _calibration(grid, calibration)
    growth = (1 + slope * torch.stack(_distance(grid)).square().sum(0).sqrt()).numpy()

    def draw(generator: torch.Generator, count: int) -> Tensor:
        order = torch.randperm(region.numel(), generator=generator)
        order = order[~region.flatten()[order]]
        count -= int(region.sum())
        low, high = 0.0, float(max(grid))
        chosen = order
        for _ in range(14):
            middle = (low + high) / 2
            thrown = _darts(order, middle * growth)
            low, high = (middle, high) if len(thrown) >= count else (low, middle)
            chosen = thrown if len(thrown) >= count else chosen
        keep = chosen[torch.randperm(len(chosen), generator=generator)[:count]]
        mask = region.flatten().clone()
        mask[keep] = True
        return mask.reshape(grid)

    return _sampling(size, seeds, draw, budget)


def _darts(order: Tensor, radius: np.ndarray) -> Tensor:
    """Take points in this order; each one taken forbids all nearer than its radius."""
    rows, columns = radius.shape
    reach = math.ceil(radius.max())
    offset = np.arange(-reach, reach + 1, dtype=np.float64) ** 2
    squared = offset[:, None] + offset[None]
    free = np.ones(radius.shape, dtype=bool)
    taken = []
    for index in order.tolist():
        i, j = divmod(index, columns)
        if not free[i, j]:
            continue
        taken.append(index)
        r = radius[i, j]
        n = math.ceil(r)
        top, left = max(i - n, 0), max(j - n, 0)
        bottom, right = min(i + n + 1, rows), min(j + n + 1, columns)
        near = squared[reach + top - i : reach + bottom - i, reach + left - j : reach + right - j]
        free[top:bottom, left:right] &= near >= r * r
    return torch.tensor(taken, dtype=torch.long)


def radial(size: Size, acceleration: float, calibration: int, seeds: Iterable[int]) -> Sampling:
    """Spokes through the centre of the last two axes, at golden angles from a random first one.

    As many spokes as come nearest to the acceleration (Winkelmann et al. 2007 for the angle).
    Arguments and errors: `gaussian_points`.
    """
    grid = _grid(size, 2)
    budget = _budget(grid, acceleration, calibration, "points")
    region = _calibration(grid, calibration)

    def draw(generator: torch.Generator, count: int) -> Tensor:
        angle = float(torch.rand((), generator=generator, dtype=torch.float64)) * math.pi
        mask = before = region
        for _ in range(8 * sum(grid)):
            if int(mask.sum()) >= count:
                break
            before, mask = mask, mask | _spoke(grid, angle)
            angle += GOLDEN
        nearer = count - int(before.sum()) < int(mask.sum()) - count and bool(before.any())
        return before if nearer else mask

    return _sampling(size, seeds, draw, budget)


def _spoke(grid: tuple[int, ...], angle: float) -> Tensor:
    """Boolean (H, W): the line through the centre at this angle, out to the edge of the array."""
    direction = (math.sin(angle), math.cos(angle))
    longest = max(abs(part) for part in direction)
    along = torch.linspace(-1, 1, 2 * max(grid) + 1, dtype=torch.float64) / longest
    parts = zip(grid, direction, strict=True)
    offsets = [along * d * n / 2 for n, d in parts]
    # halves are rounded outwards on both sides, so that the spoke is symmetric
    whole = [(o.abs() + 0.5).floor() * o.sign() for o in offsets]
    at = [(n // 2 + o).long() for n, o in zip(grid, whole, strict=True)]
    inside = (at[0] >= 0) & (at[0] < grid[0]) & (at[1] >= 0) & (at[1] < grid[1])
    mask = torch.zeros(grid, dtype=torch.bool)
    mask[at[0][inside], at[1][inside]] = True
    return mask
