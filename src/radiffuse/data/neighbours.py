"""Slices beside each other: cases that bring their neighbours of the same scan along."""

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .cases import Cases
from .columns import Column, Kind, content_hash
from .image import Image

__all__ = ["BESIDE", "SUFFIX", "neighbour", "with_neighbours"]

SUFFIX = "_neighbours"
"""Added to the key whose neighbours a column holds."""
BESIDE = ("image", "noisy", "mr", "kspace")
"""Keys whose neighbours methods look at."""


def with_neighbours(cases: Cases, offsets: Sequence[int]) -> Cases:
    """Add "image_neighbours", "noisy_neighbours", "mr_neighbours", "kspace_neighbours": the slices at `offsets`.

    They are joined along the channel axis, (B, n C, *S). Slices lie side by side where the data number
    them (`slice`) within a patient, or a volume they were cut from: s + 1 is the number that follows.
    Where there is no slice at an offset, the one on the other side stands for it, and where that is
    missing too, the case itself.
    Data without slice numbers, and volumes, come back as they are.

    Args:
        offsets: e.g. (-1, 1).
    """
    numbers = cases.all_texts.get("slice")
    if not offsets or numbers is None or not all(_whole(number) for number in numbers):
        return cases
    of: Sequence[str | int] = cases.all_patients
    of = of if cases.volumes is None else cases.volumes.of
    times: Counter[tuple[str | int, str]] = Counter()
    nth = []  # columns that were joined number the slices of a patient once each
    for one in zip(of, numbers, strict=True):
        nth.append(times[one])
        times[one] += 1
    scans: dict[tuple[str | int, str, int], dict[int, int]] = {}
    placed = [
        (row, (of[row], cases.all_splits[row], nth[row]), int(float(numbers[row])))
        for row in cases.rows
    ]
    for row, scan, number in placed:
        scans.setdefault(scan, {})[number] = row
    beside = {
        row: tuple(
            row if other == number else scans[scan][other]
            for other in (neighbour(scans[scan], number, offset) for offset in offsets)
        )
        for row, scan, number in placed
    }
    added = {
        key + SUFFIX: Neighbours(column, beside)
        for key, column in cases.columns.items()
        if key in BESIDE and _flat(cases, key, column)
    }
    ranges = {key: cases.ranges[key.removesuffix(SUFFIX)] for key in added if "kspace" not in key}
    return replace(cases, columns={**cases.columns, **added}, ranges={**cases.ranges, **ranges})


def _whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False


def _flat(cases: Cases, key: str, column: Column) -> bool:
    """Whether the cases are slices: two spatial axes."""
    if column.kind == "image":
        return len(column.image(cases.rows[0]).size) == 2
    return column.stack(cases.rows[:1]).dim() - 2 == 2


def neighbour(there: Container[int], number: int, offset: int) -> int:
    """The slice of a scan that stands at an offset, or for it where it is not there."""
    sides = (number + offset, number - offset)
    return next((side for side in sides if side in there), number)


@dataclass(frozen=True)
class Neighbours:
    """A column of the neighbours of each case.

    Attributes:
        column: of the cases themselves.
        beside: by row, the rows of its neighbours.
    """

    column: Column
    beside: dict[int, tuple[int, ...]]

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.column)

    def image(self, row: int) -> Image:
        images = [self.column.image(other) for other in self.beside[row]]
        return replace(images[0], data=torch.cat([image.data for image in images]))

    def stack(self, rows: Sequence[int]) -> Tensor:
        offsets = zip(*(self.beside[row] for row in rows), strict=True)
        return torch.cat([self.column.stack(others) for others in offsets], 1)

    def to_size(self, size: tuple[int, ...]) -> "Neighbours":
        return replace(self, column=self.column.to_size(size))

    def as_kind(self, kind: Kind) -> "Neighbours":
        return replace(self, column=self.column.as_kind(kind))

    def hashed(self, row: int) -> str:
        return content_hash(torch.tensor(self.beside[row]))

    def stamp(self, row: int) -> str:
        return ""

    def source(self, row: int) -> str:
        return self.column.source(row)
