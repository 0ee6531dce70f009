"""Grids of voxels in the world: when two are one, and how an image comes from one onto another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from .image import Image, axis_codes

__all__ = ["Grid", "agree", "apart", "resampled", "turned"]

AGREE_MM = 0.1
"""Affines that move no corner further than this against each other agree, nor than a tenth of a voxel's side."""


@dataclass(frozen=True)
class Grid:
    """Where voxels lie.

    Attributes:
        size: S, one to three axes.
        affine: `(4, 4)` float64, index -> mm, RAS+.
    """

    size: tuple[int, ...]
    affine: Tensor

    @classmethod
    def of(cls, image: Image) -> Self | None:
        """The grid of an image; None where its geometry is not known."""
        return None if image.affine is None else cls(image.size, image.affine.double())

    @property
    def sides(self) -> tuple[int, int, int]:
        """The size with three axes."""
        one, two, three = (*self.size, 1, 1, 1)[:3]
        return one, two, three

    def corners(self) -> Tensor:
        """Indices `(8, 4)` of the outermost voxel centres, (i, j, k, 1)."""
        ends = [torch.tensor([0.0, side - 1.0], dtype=torch.float64) for side in self.sides]
        return torch.cartesian_prod(*ends, torch.ones(1, dtype=torch.float64))

    def __str__(self) -> str:
        """Voxels, spacing, orientation and first voxel, for messages."""
        spacing = self.affine[:3, :3].norm(dim=0).tolist()[: len(self.size)]
        origin = ", ".join(f"{x:.4g}" for x in self.affine[:3, 3].tolist())
        sides = " x ".join(map(str, self.size))
        steps = " x ".join(f"{step:.4g}" for step in spacing)
        codes = axis_codes(self.affine, len(self.size))
        return f"{sides} voxels of {steps} mm, {codes}, first voxel at ({origin}) mm"

    def covered_by(self, other: "Grid") -> float:
        """Share of this grid's voxel centres in the other's box, by a lattice of at most 15 an axis around it."""
        edges = [torch.tensor([-0.5, side - 0.5], dtype=torch.float64) for side in other.sides]
        ends = torch.cartesian_prod(*edges, torch.ones(1, dtype=torch.float64))
        box = (ends @ _between(other, self).T)[:, :3]
        low, high = (box.amin(0) - 1e-6).ceil().tolist(), (box.amax(0) + 1e-6).floor().tolist()
        share, axes = 1.0, []
        for side, first, last in zip(self.sides, low, high, strict=True):
            first, last = max(int(first), 0), min(int(last), side - 1)
            count = last - first + 1
            if count < 1:
                return 0.0
            share *= count / side
            axes.append(torch.linspace(first, last, min(count, 15), dtype=torch.float64))
        return share * float(_inside(axes, _between(self, other), other.sides).double().mean())


def _between(first: Grid, second: Grid) -> Tensor:
    """The map of indices of the first grid to those of the second, `(4, 4)`."""
    return torch.linalg.solve(second.affine, first.affine)


def _inside(axes: Sequence[Tensor], there: Tensor, sides: Sequence[int]) -> Tensor:
    """Which points of a lattice lie in the box of a grid, its voxels with their halves up to the edges.

    Args:
        axes: the indices of each axis of the lattice.
        there: the map of these indices to those of the grid, `(4, 4)`.
        sides: of the grid.
    """
    one, two, three = axes[0][:, None, None], axes[1][:, None], axes[2]
    within = torch.ones(1, dtype=torch.bool)
    for row, side in zip(there, sides, strict=False):
        index = row[0] * one + row[1] * two + row[2] * three + row[3]
        within = within & (index > -0.5 - 1e-6) & (index < side - 0.5 + 1e-6)
    return within


def apart(first: Tensor | None, second: Tensor | None, size: Sequence[int]) -> float:
    """Largest distance in mm between the places that two affines give to a corner; 0 if unknown."""
    if first is None or second is None:
        return 0.0
    corners = Grid(tuple(size), first).corners()
    return float((corners @ (first - second).double().T)[:, :3].norm(dim=1).max())


def agree(first: Tensor | None, second: Tensor | None, size: Sequence[int]) -> bool:
    """Whether two affines give the corners of a grid one place, or one of them is unknown."""
    if first is None or second is None:
        return True
    long = [axis for axis, side in enumerate(size) if side > 1]
    steps = [float(affine[:3, axis].norm()) for affine in (first, second) for axis in long]
    return apart(first, second, size) <= min([AGREE_MM, *(0.1 * step for step in steps)])


def turned(image: Image, grid: Grid) -> Image | None:
    """`image` with its axes permuted and flipped so that it lies on `grid`; None where that is not it.

    No voxel is interpolated, and every voxel keeps its place in the world (see `agree`).
    """
    own = Grid.of(image)
    if own is None or len(own.size) != len(grid.size):
        return None
    there = _between(own, grid)
    axes = len(own.size)
    order = there[:axes, :axes].abs().argmax(0).tolist()  # own axis -> axis of the grid
    if sorted(order) != list(range(axes)):
        return None
    source = [order.index(axis) for axis in range(axes)]
    data = image.data.permute(0, *(axis + 1 for axis in source))
    flips = [n + 1 for n, axis in enumerate(source) if float(there[n, axis]) < 0]
    data = data.flip(flips) if flips else data
    if tuple(data.shape[1:]) != grid.size:
        return None
    move = _index_move(source, flips, own.size)
    if not agree(own.affine @ move, grid.affine, grid.size):
        return None
    return replace(image, data=data.contiguous(), affine=grid.affine)


def _index_move(source: Sequence[int], flips: Sequence[int], size: Sequence[int]) -> Tensor:
    """The map of new indices to old ones where axis n of the new is `source[n]` of the old."""
    move = torch.eye(4, dtype=torch.float64)
    move[: len(source), : len(source)] = 0
    for n, axis in enumerate(source):
        move[axis, n] = -1 if n + 1 in flips else 1
        if n + 1 in flips:
            move[axis, 3] = size[axis] - 1
    return move


def resampled(image: Image, grid: Grid, nearest: bool) -> Image:
    """`image` at the voxel centres of `grid`: linear, or the nearest voxel (labels).

    Beyond its outermost voxels' edges it is its lowest value, and labels are 0.
    """
    own = Grid.of(image)
    assert own is not None
    back = _between(grid, own).numpy()
    data = image.data if nearest else image.data.float()
    volume = data.reshape(len(data), *own.sides).numpy()
    axes = [torch.arange(side, dtype=torch.float64) for side in grid.sides]
    inside = _inside(axes, torch.from_numpy(back), own.sides).numpy()
    outside = 0 if nearest else volume.min()
    order = 0 if nearest else 1
    channels = [_sampled(one, back, grid.sides, order) for one in volume]
    found = torch.from_numpy(np.where(inside, np.stack(channels), outside).astype(volume.dtype))
    if not nearest and not image.data.is_floating_point():
        found = found.round().to(image.data.dtype)
    return replace(image, data=found.reshape(len(data), *grid.size), affine=grid.affine)


def _sampled(
    volume: np.ndarray, back: np.ndarray, size: tuple[int, int, int], order: int
) -> np.ndarray:
    from scipy.ndimage import affine_transform

    return affine_transform(volume, back[:3, :3], back[:3, 3], size, order=order, mode="nearest")
