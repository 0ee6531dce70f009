r"""Random trees as binary masks: branches that bend and fork, thinner at every fork, in two or three axes.

A branch of width w runs about `reach` w, turned a little at every step, and forks into two of width
$2^{-1/3} w$ (Murray's law, $w^3 = w_1^3 + w_2^3$) until they are thinner than the thinnest. Trees are self-similar
but for the bends, hence "fractal"; the same seed draws the same trees.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Trees"]

_MURRAY = 2 ** (-1 / 3)
_SIDE = 64


@dataclass(frozen=True)
class Trees:
    """A law of masks of trees.

    Attributes:
        widest: of a trunk, voxels; trunks have widths between this and the mean of it and `thinnest`.
        thinnest: branches thinner than this end.
        count: trees of a mask of 64 voxels a side or less, at most, one at least; larger masks have more in proportion.
        reach: length of a branch over its width.
        bend: deviation of the turn of a step of one voxel, radians.
        fork: angle of a fork, radians.
    """

    widest: float = 3.0
    thinnest: float = 1.0
    count: int = 3
    reach: float = 10.0
    bend: float = 0.08
    fork: float = 0.5

    def draw(self, cases: int, size: tuple[int, ...], seed: int) -> Tensor:
        """Masks of 0 and 1, float32 (cases, 1, *size), by `seed` alone.

        Trunks enter anywhere within a margin around the mask, so that a mask is what a window of a larger one shows.
        """
        chance = np.random.default_rng(seed)
        row, place, heading, width = self._trunks(cases, size, chance)
        left = self.reach * width * (0.5 + chance.random(len(row)))
        passed, sides = [], np.array(size)
        while len(row):
            passed.append((row, place, width))
            heading = _unit(heading + self.bend * chance.standard_normal(heading.shape))
            place, left = place + heading, left - 1
            near = ((place > -sides) & (place < 2 * sides)).all(1)  # none comes back from afar
            ends = near & (left <= 0) & (width * _MURRAY >= self.thinnest)
            going = near & (left > 0)
            aside = self.fork * chance.standard_normal((int(ends.sum()), len(size)))
            thin = np.tile(width[ends] * _MURRAY, 2)
            fresh = self.reach * thin * (0.5 + chance.random(len(thin)))
            twins = [_unit(heading[ends] + sign * aside) for sign in (1, -1)]
            row = np.concatenate([row[going], row[ends], row[ends]])
            place = np.concatenate([place[going], place[ends], place[ends]])
            heading = np.concatenate([heading[going], *twins])
            width = np.concatenate([width[going], thin])
            left = np.concatenate([left[going], fresh])
        mask = np.zeros((cases, *size), dtype=np.float32)
        _stamp(mask, *(np.concatenate(each) for each in zip(*passed, strict=True)))
        return torch.from_numpy(mask)[:, None]

    def _trunks(
        self, cases: int, size: tuple[int, ...], chance: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Case, place, heading and width of each trunk; they head for a point within the mask."""
        larger = max(1.0, math.prod(size) / _SIDE ** len(size))
        counts = np.rint(1 + chance.random(cases) * (self.count * larger - 1)).astype(int)
        row = np.repeat(np.arange(cases), counts)
        shape, sides = (len(row), len(size)), np.array(size)
        away = 0.5 + 0.25 * chance.random((len(row), 1))
        place = sides / 2 + away * _unit(chance.standard_normal(shape)) * sides
        heading = _unit(chance.random(shape) * sides - place)
        least = (self.widest + self.thinnest) / 2
        width = least + (self.widest - least) * chance.random(len(row))
        return row, place, heading, width


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return x / np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-12)


def _stamp(mask: np.ndarray, row: np.ndarray, place: np.ndarray, width: np.ndarray) -> None:
    """Set to 1 the voxels nearer than half a width to a place, and the one that holds it."""
    size = np.array(mask.shape[1:])
    radius = int(width.max() / 2 + 1)
    offsets = np.indices([2 * radius + 1] * len(size)).reshape(len(size), -1).T - radius
    voxels = np.floor(place).astype(int)[:, None] + offsets
    gap = np.square(voxels + 0.5 - place[:, None]).sum(2)
    within = (gap <= np.square(width[:, None] / 2)) | (offsets == 0).all(1)
    within &= ((voxels >= 0) & (voxels < size)).all(2)
    where, which = within.nonzero()
    mask[(row[where], *voxels[where, which].T)] = 1.0
