"""Windows: parts of images of one size, drawn at random for training, or laid over whole images."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError

__all__ = [
    "Windows",
    "continued",
    "cut_back",
    "random_windows",
    "sides_of_window",
    "tile_weights",
    "tiled",
]


def sides_of_window(window: int, image: Sequence[int], stride: int) -> tuple[int, ...]:
    """Sides of a window: `window`, or the image's rounded up to the stride where it is smaller.

    Args:
        window: divides by the stride.
        image: sides of the images.
        stride: what the network's input must divide by.
    """
    return tuple(min(window, stride * math.ceil(side / stride)) for side in image)


@dataclass(frozen=True)
class Windows:
    """Windows of one size: at random for training, laid over whole images for prediction.

    Attributes:
        size: sides of a window, 1 along an axis of slices.
        crops: windows of each case in a training step.
        overlap: share of a window that its neighbour overlaps.

    Raises:
        UserError: no positive size, no crops, or an overlap outside [0, 1).
    """

    size: tuple[int, ...]
    crops: int = 1
    overlap: float = 0.25

    def __post_init__(self) -> None:
        for right, rule in (
            (all(side > 0 for side in self.size), "--window must be more than 0"),
            (self.crops > 0, "--crops must be 1 or more"),
            (0 <= self.overlap < 1, "overlap must lie between 0 and 1 (a share of the window)"),
        ):
            if not right:
                raise UserError(rule)

    @property
    def overlaps(self) -> list[int]:
        """Voxels of overlap an axis, a multiple of 4 and less than the side."""
        return [4 * min(round(self.overlap * side / 4), (side - 1) // 4) for side in self.size]

    def cut(self, batch: dict[str, Tensor], keys: Sequence[str]) -> dict[str, Tensor]:
        """Random windows of the images `keys`, `(B crops, C, *size)`, and nothing else."""
        cuts = random_windows([batch[key] for key in keys], self.size, self.crops)
        return dict(zip(keys, cuts, strict=True))

    def whole(
        self, apply: Callable[[list[Tensor]], Tensor], images: Sequence[Tensor], batch: int = 16
    ) -> Tensor:
        """A function of windows `(M, C_k, *size)` on whole images `(B, C_k, *S)` (see `tiled`)."""
        sides = images[0].shape[2:]
        images = [continued(x, self.size) for x in images]
        made = tiled(lambda cuts, rows: apply(cuts), images, self.size, self.overlaps, batch)
        return cut_back(made, sides)


def continued(x: Tensor, size: Sequence[int]) -> Tensor:
    """`(B, C, *S)` continued by reflection at the end of each axis until it is `size` at least."""
    for axis, wanted in enumerate(size, start=2):
        side = x.shape[axis]
        if side >= wanted:
            continue
        period = max(2 * side - 2, 1)
        place = torch.arange(wanted, device=x.device) % period
        x = x.index_select(axis, torch.minimum(place, period - place).clamp(max=side - 1))
    return x


def cut_back(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of `(B, C, *S)`: what `continued` was given."""
    for axis, side in enumerate(size, start=2):
        x = x.narrow(axis, 0, side)
    return x


def random_windows(images: Sequence[Tensor], size: Sequence[int], count: int = 1) -> list[Tensor]:
    """`count` windows of each case, the same in all `images`, by torch's global generator.

    Args:
        images: `(B, C_k, *S)`, any channels.
        size: of a window; images smaller than it are continued by reflection.

    Returns:
        One `(B count, C_k, *size)` an image.
    """
    images = [continued(x, size) for x in images]
    sides = images[0].shape[2:]
    found: list[list[Tensor]] = [[] for _ in images]
    for row in range(len(images[0])):
        for _ in range(count):
            starts = [
                int(torch.randint(side - length + 1, ()))
                for side, length in zip(sides, size, strict=True)
            ]
            for kept, image in zip(found, images, strict=True):
                kept.append(image[row][_place(starts, size)])
    return [torch.stack(kept) for kept in found]


def tile_weights(side: int, tile: int, overlap: int) -> tuple[list[int], Tensor]:
    r"""Starts of tiles along one axis, and their weights `(tiles, side)` float64, columns adding to 1.

    A tile's weight is 0 in the outer quarter of its overlap, where it sees too little around it, and
    rises as $\sin^2$ over the middle half. At the ends of the axis it stays 1.

    Raises:
        ValueError: the tile does not fit, or the overlap leaves nothing to go forward by.
    """
    if not 1 <= tile <= side or not 0 <= overlap < tile:
        raise ValueError(f"tiles of {tile} that overlap by {overlap} do not fit {side} voxels")
    count = math.ceil((side - overlap) / (tile - overlap))
    starts = [round(k * (side - tile) / max(count - 1, 1)) for k in range(count)]
    margin = overlap // 4
    ramp = (torch.arange(tile).double() + 0.5 - margin) / max(overlap - 2 * margin, 1)
    rise = torch.sin(ramp.clamp(0, 1) * math.pi / 2) ** 2 if overlap else torch.ones_like(ramp)
    weights = torch.zeros(count, side, dtype=torch.float64)
    for k, start in enumerate(starts):
        weights[k, start : start + tile] = 1
        if k > 0:
            weights[k, start : start + tile] *= rise
        if k < count - 1:
            weights[k, start : start + tile] *= rise.flip(0)
    return starts, weights / weights.sum(dim=0)


def tiled(
    apply: Callable[[list[Tensor], Tensor], Tensor],
    images: Sequence[Tensor],
    tile: Sequence[int],
    overlap: Sequence[int],
    batch: int = 16,
) -> Tensor:
    """A function of windows, on whole images: overlapping windows, blended by smooth weights.

    Args:
        apply: (cuts `(M, C_k, *tile)` one an image, case of each cut `(M,)`) -> `(M, C, *tile)`.
            An axis whose tile is 1 is left out of the cuts: a volume in slices.
        images: `(B, C_k, *S)`.
        tile: sides of a window, at most the image's.
        overlap: of neighbouring windows, an axis each; filters that reach at most a quarter of it
            show no seam.
        batch: windows at once; bounds the memory.

    Returns:
        `(B, C, *S)`.
    """
    axes = [
        tile_weights(side, *one)
        for side, one in zip(images[0].shape[2:], zip(tile, overlap, strict=True), strict=True)
    ]
    flat = [axis + 2 for axis, length in enumerate(tile) if length == 1]
    places = itertools.product(*(range(len(starts)) for starts, _ in axes))
    jobs = list(itertools.product(range(len(images[0])), places))
    result: Tensor | None = None
    for first in range(0, len(jobs), batch):
        part = jobs[first : first + batch]
        starts = [[axes[a][0][k] for a, k in enumerate(place)] for _, place in part]
        cuts = [
            torch.stack(
                [x[row][_place(at, tile)] for (row, _), at in zip(part, starts, strict=True)]
            )
            for x in images
        ]
        for axis in reversed(flat):
            cuts = [cut.squeeze(axis) for cut in cuts]
        out = apply(cuts, torch.tensor([row for row, _ in part]))
        for axis in flat:
            out = out.unsqueeze(axis)
        if result is None:
            result = out.new_zeros(len(images[0]), out.shape[1], *images[0].shape[2:])
        for made, (row, place), at in zip(out, part, starts, strict=True):
            result[row][_place(at, tile)] += made * _weight(axes, place, at, tile).to(made.real)
    assert result is not None
    return result


def _place(starts: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The window of `(C, *S)` that begins at `starts`."""
    sides = zip(starts, size, strict=True)
    return (slice(None), *(slice(start, start + side) for start, side in sides))


def _weight(
    axes: Sequence[tuple[list[int], Tensor]],
    place: Sequence[int],
    starts: Sequence[int],
    tile: Sequence[int],
) -> Tensor:
    """`(*tile)`: the product of the weights along the axes."""
    weight = torch.ones((), dtype=torch.float64)
    for (_, weights), k, start, length in zip(axes, place, starts, tile, strict=True):
        weight = weight[..., None] * weights[k, start : start + length]
    return weight
