"""Columns of images that some cases lack: empty cells of a cases.csv, columns that a folder has not.

Who reads such data says so (`open_cases(gaps=...)`); to all others a gap is an error. Where a case has no image the
column shows an empty one on the grid of what the case has, and a column "KEY_given" says 0 there and 1 elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, Kind, in_threads, together
from .copies import named
from .image import Image
from .table import Table

__all__ = ["FLAG", "Gapped", "check_no_gaps", "filled", "without_image"]

FLAG = "_given"
"""Ends the name of the column that says which cases have an image."""


@dataclass(frozen=True)
class Gapped:
    """Images that some cases lack.

    Attributes:
        column: the images there are.
        at: of each case the row of `column`; -1 where the case has none.
        where: the column, for messages.
        beside: other columns of images, on whose grid an empty image is made.
    """

    column: Column
    at: tuple[int, ...]
    where: str
    beside: tuple[Column, ...] = ()

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.at)

    @property
    def given(self) -> Tensor:
        """Which cases have an image, (N,) float, 0 or 1."""
        return (torch.tensor(self.at) >= 0).float()

    def other(self, row: int) -> Column | None:
        """The first other column that has an image of this case."""
        there = (c for c in self.beside if not isinstance(c, Gapped) or c.at[row] >= 0)
        return next(there, None)

    def image(self, row: int) -> Image:
        if self.at[row] >= 0:
            return self.column.image(self.at[row])
        other = self.other(row)
        assert other is not None, "`filled` has checked every case"
        image = other.image(row)
        channels = len(self.column.image(0).data) if len(self.column) else 1
        return replace(image, data=image.data.new_zeros(channels, *image.size), range=None)

    def stack(self, rows: Sequence[int]) -> Tensor:
        return together(self, rows, in_threads(self.image, rows))

    def to_size(self, size: tuple[int, ...]) -> "Gapped":
        beside = tuple(column.to_size(size) for column in self.beside)
        return replace(self, column=self.column.to_size(size), beside=beside)

    def as_kind(self, kind: Kind) -> "Gapped":
        return replace(self, column=self.column.as_kind(kind))

    def hashed(self, row: int) -> str:
        return self.column.hashed(self.at[row]) if self.at[row] >= 0 else "none"

    def stamp(self, row: int) -> str:
        if self.at[row] >= 0:
            return self.column.stamp(self.at[row])
        other = self.other(row)
        return "" if other is None else named(other.stamp(row), "empty")

    def source(self, row: int) -> str:
        return self.column.source(self.at[row]) if self.at[row] >= 0 else self.where


def check_no_gaps(column: Column, ids: Sequence[str]) -> None:
    """Refuse a column that some cases lack.

    Raises:
        UserError: names the first of them.
    """
    if isinstance(column, Gapped):
        case = ids[column.at.index(-1)]
        raise UserError(f"{column.where}: case {case} names no file; leave the case out")


def filled(table: Table, keys: Sequence[str]) -> Table:
    """A table whose gaps can be read, with a column "KEY_given" for each of `keys` that has any.

    Raises:
        UserError: a gap in another column, or a case that has an image in none.
    """
    columns = dict(table.columns)
    for key, column in columns.items():
        if key not in keys or column.kind != "image":
            check_no_gaps(column, table.ids)
    gapped = {key: column for key, column in columns.items() if isinstance(column, Gapped)}
    if not gapped:
        return table
    images = {key: columns[key] for key in keys if key in columns}
    for key, column in gapped.items():
        beside = tuple(other for name, other in images.items() if name != key)
        columns[key] = made = replace(column, beside=beside)
        columns[key + FLAG] = ArrayColumn(column.given, "scalar", column.where)
        for row, case in enumerate(table.ids):
            if column.at[row] < 0 and made.other(row) is None:
                told = ", ".join(images)
                raise UserError(
                    f"{table.source}: case {case} has none of {told}; leave the case out"
                )
    return replace(table, columns=columns)


def without_image(columns: Mapping[str, Column], key: str) -> frozenset[int]:
    """Rows of the cases (or slices) that lack the image `key`."""
    if key + FLAG not in columns:
        return frozenset()
    flags = columns[key + FLAG].stack(range(len(columns[key + FLAG])))
    return frozenset((flags < 0.5).nonzero()[:, 0].tolist())
