"""Outputs on the grid of their inputs, where a model saw these resized."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from ..data.dataset import Cases
from ..data.image import Image
from ..data.transforms import resize
from ..runs.config import DataSource

__all__ = ["Grid", "on_own_grid", "told_of_grid", "unresized"]

Grid = Literal["model", "input"]


def unresized(cases: Cases, source: DataSource, read: Callable[[DataSource], Cases]) -> Cases:
    """The same cases, in the same order, each on the grid that it is stored on.

    Args:
        cases: read with `source.size`, volumes whole.
        source: where they come from.
        read: reads what a source names.
    """
    every = read(replace(source, size=())).whole()
    every = every.without(set(every.columns) - set(cases.columns))
    places = {case: place for place, case in enumerate(every.ids)}
    return every.take([places[case] for case in cases.ids])


def on_own_grid(value: Tensor, key: str, like: Image, own: Image) -> tuple[Tensor, Image]:
    """An output on the grid of `like` resized to that of `own`, and the image it is then written like.

    Labels take the nearest voxel, all else is interpolated linearly (`transforms.resize`, which keeps places);
    a displacement (voxels) is multiplied by the voxels of the one grid that lie along a voxel of the other. What
    lies on another grid, or on none, stays as it is.

    Args:
        value: (C, *S), or numbers.
        key: of the output.
        like, own: the input as the model saw it, and as it is stored.
    """
    if value.dim() != len(like.size) + 1 or tuple(value.shape[1:]) != like.size:
        return value, like
    made = resize(value, own.size, nearest=not value.is_floating_point())
    if key in ("displacement", "displacement-mean"):
        factors = [new / old for new, old in zip(own.size, like.size, strict=True)]
        made = made * torch.tensor(factors).to(made).view(-1, *(1 for _ in own.size))
    return made, own


def told_of_grid(grid: Grid, source: DataSource) -> str:
    """What to say of outputs that lie on the grid of --size."""
    if grid == "input" or not source.size:
        return ""
    size = " ".join(map(str, source.size))
    return f"outputs lie on the grid of --size {size}; --grid input puts them on that of each input"
