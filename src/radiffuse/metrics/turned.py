"""Copies of training images that were turned, mirrored or zoomed: what a difference of pixels does not see.

Cells have no upper side, so that a turned copy is a copy. Images are compared in a disc by correlation, at 16 pixels a
side, over every view of the query: both mirror images, turns by 15 degrees, zooms by steps of a fifth. On LC25000,
which has two views of every tile, the other view is the nearest training image of 89 % of tiles, and 46 % are flagged
where one in a hundred others is; by pixels as they are 8 % and 3 % (`tests/test_mfdpm.py` has such pairs).
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..data.transforms import resize
from ..nn.augment import moved, rotation
from ..nn.blocks import downsample
from .diversity import CLOSEST, Copies, Nearest

__all__ = ["turned_copies"]

SIDE, STEP = 16, 15
ZOOMS = (0.7, 0.84, 1.0, 1.2, 1.4)


def turned_copies(sets: Mapping[str, Tensor], held_out: Tensor, train: Tensor) -> dict[str, Copies]:
    """`diversity.find_copies` over turned, mirrored and zoomed views; distances are 1 - correlation.

    Args:
        sets: images `(n, C, *S)` of two axes by name, whose copies are looked for.
        held_out: images that are no copies.
        train: training images.
    """
    known = _standard(downsample(_small(train)))
    control = _nearest(held_out, known)
    threshold = float(torch.quantile(control.distance, CLOSEST))
    found = {name: _nearest(images, known) for name, images in sets.items()}
    return {
        name: Copies(its, control, threshold, its.distance < threshold)
        for name, its in found.items()
    }


def _nearest(images: Tensor, known: Tensor) -> Nearest:
    best = torch.full((len(images),), -math.inf)
    index = torch.zeros(len(images), dtype=torch.int64)
    for view in _views(_small(images)):
        value, place = (_standard(view) @ known.T).max(1)
        index = torch.where(value > best, place, index)
        best = torch.maximum(best, value)
    return Nearest(1 - best, index)


def _small(images: Tensor) -> Tensor:
    """Images of twice `SIDE`, from which views are read."""
    return resize(images.float(), (2 * SIDE,) * len(images.shape[2:]))


def _views(small: Tensor) -> Iterator[Tensor]:
    axes = len(small.shape[2:])
    for turn in range(0, 360, STEP):
        angle = torch.full((len(small),), math.radians(turn))
        for zoom in ZOOMS:
            seen = moved(small, rotation(angle, axes, 0, 1) / zoom, torch.zeros(len(small), axes))
            seen = downsample(seen)
            yield from (seen, seen.flip(-1))


def _standard(images: Tensor) -> Tensor:
    """Rows `(n, d)` of mean 0 and length 1: the values in the disc that the image holds."""
    place = (torch.arange(SIDE) + 0.5) * 2 / SIDE - 1
    inside = place[:, None].square() + place.square() <= 1
    values = images[..., inside]
    values = (values - values.mean(2, keepdim=True)).flatten(1)
    return values / values.norm(dim=1, keepdim=True).clamp_min(1e-6)
