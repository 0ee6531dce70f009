r"""Random trees as binary masks: branches that bend and fork, thinner at every fork, in two or three axes.

A branch of width w runs about `reach` w, turned a little at every step, and forks into two of width
$2^{-1/3} w$ (Murray's law, $w^3 = w_1^3 + w_2^3$) until they are thinner than the thinnest. Trees are self-similar
but for the bends, hence "fractal"; the same seed draws the same trees.
"""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

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
        chance = torch.Generator().manual_seed(seed)
        row, place, heading, width = self._trunks(cases, size, chance)
        left = self.reach * width * (0.5 + torch.rand(len(row), generator=chance))
        passed, sides = [], torch.tensor(size)
        while len(row):
            passed.append((row, place, width))
            turn = self.bend * torch.randn(heading.shape, generator=chance)
            heading = torch.nn.functional.normalize(heading + turn, dim=1)
            place, left = place + heading, left - 1
            near = ((place + sides > 0) & (place < 2 * sides)).all(1)  # none comes back from afar
            going, ends = (near & (left > 0)).nonzero()[:, 0], (near & (left <= 0)).nonzero()[:, 0]
            thin = width[ends] * _MURRAY
            ends, thin = ends[thin >= self.thinnest], thin[thin >= self.thinnest]
            aside = self.fork * torch.randn(heading[ends].shape, generator=chance)
            twins = [
                torch.nn.functional.normalize(heading[ends] + sign * aside, dim=1)
                for sign in (1, -1)
            ]
            thin = thin.repeat(2)
            fresh = self.reach * thin * (0.5 + torch.rand(len(thin), generator=chance))
            row = torch.cat([row[going], row[ends], row[ends]])
            place = torch.cat([place[going], place[ends], place[ends]])
            heading = torch.cat([heading[going], *twins])
            width = torch.cat([width[going], thin])
            left = torch.cat([left[going], fresh])
        mask = torch.zeros(cases, 1, *size)
        _stamp(mask, *(torch.cat(each) for each in zip(*passed, strict=True)))
        return mask

    def _trunks(
        self, cases: int, size: tuple[int, ...], chance: Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Case, place, heading and width of each trunk; they head for a point within the mask."""
        larger = max(1.0, math.prod(size) / _SIDE ** len(size))
        counts = torch.rand(cases, generator=chance) * (self.count * larger - 1)
        counts = (1 + counts).round().long()
        row = torch.arange(cases).repeat_interleave(counts)
        sides = torch.tensor(size, dtype=torch.float32)
        outward = torch.nn.functional.normalize(
            torch.randn(len(row), len(size), generator=chance), dim=1
        )
        away = 0.5 + 0.25 * torch.rand(len(row), 1, generator=chance)
        place = sides / 2 + away * outward * sides
        aim = torch.rand(len(row), len(size), generator=chance) * sides
        heading = torch.nn.functional.normalize(aim - place, dim=1)
        least = (self.widest + self.thinnest) / 2
        width = least + (self.widest - least) * torch.rand(len(row), generator=chance)
        return row, place, heading, width


def _stamp(mask: Tensor, row: Tensor, place: Tensor, width: Tensor) -> None:
    """Set to 1 the voxels nearer than half a width to a place, and the one that holds it."""
    size = mask.shape[2:]
    radius = int(float(width.max()) / 2 + 1)
    steps = [torch.arange(-radius, radius + 1)] * len(size)
    offsets = torch.cartesian_prod(*steps).reshape(-1, len(size))
    voxels = place.floor().long()[:, None] + offsets
    gap = (voxels + 0.5 - place[:, None]).norm(dim=2)
    within = (gap <= width[:, None] / 2) | (offsets == 0).all(1)
    within &= ((voxels >= 0) & (voxels < torch.tensor(size))).all(2)
    where, which = within.nonzero(as_tuple=True)
    mask[(row[where], torch.zeros_like(where), *voxels[where, which].T)] = 1.0
