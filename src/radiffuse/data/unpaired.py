"""Two kinds of images of different cases, for methods that need no pairs (`Task.unpaired`).

A case that lacks one of them (see `gaps`) is lent that of another case of its split, so that a batch has as many
of either. The column "KEY_given" says whose image is a case's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from .cases import Cases
from .columns import Column, Kind
from .gaps import FLAG, Gapped, without_image
from .image import Image
from .table import Table

__all__ = ["Lent", "check_lent", "given_all", "lent", "of_class", "with_all"]


@dataclass(frozen=True)
class Lent:
    """Images of which cases that have none show another case's.

    Attributes:
        column: the images there are.
        of: whose image each case shows; its own row where it has one.
    """

    column: Column
    of: tuple[int, ...]

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.of)

    def image(self, row: int) -> Image:
        return self.column.image(self.of[row])

    def stack(self, rows: Sequence[int]) -> Tensor:
        return self.column.stack([self.of[row] for row in rows])

    def to_size(self, size: tuple[int, ...]) -> "Lent":
        return replace(self, column=self.column.to_size(size))

    def as_kind(self, kind: Kind) -> "Lent":
        return replace(self, column=self.column.as_kind(kind))

    def hashed(self, row: int) -> str:
        """Of the case's own image: what is lent is no part of it."""
        return self.column.hashed(row)

    def stamp(self, row: int) -> str:
        return self.column.stamp(self.of[row])

    def source(self, row: int) -> str:
        return self.column.source(self.of[row])


def of_class(table: Table, name: str) -> Gapped:
    """The images of one class as a column, which all other cases lack.

    Raises:
        UserError: a case has several images.
    """
    images = {key: column for key, column in table.columns.items() if column.kind == "image"}
    if len(images) != 1:
        raise UserError(
            f"{table.source}: cases of class {name!r} have {len(images)} images ({', '.join(images)}); name columns"
        )
    (column,) = images.values()
    labels = table.label_names or ()
    at = tuple(row if label == name else -1 for row, label in enumerate(labels))
    return Gapped(column, at, f"{table.source}: class {name}")


def given_all(cases: Cases, keys: Sequence[str]) -> list[int]:
    """Places of the cases that have every one of `keys` themselves."""
    empty = [without_image(cases.columns, key) for key in keys]
    return [place for place, row in enumerate(cases.rows) if not any(row in each for each in empty)]


def with_all(cases: Cases, keys: Sequence[str]) -> Cases:
    """The cases that have every one of `keys` themselves."""
    places = given_all(cases, keys)
    return cases if len(places) == len(cases) else cases.take(places)


def lent(cases: Cases, keys: Sequence[str]) -> Cases:
    """The cases, where one lacks an image of `keys` with that of another case of its split.

    Which one is drawn once: all are lent equally often, but for one. In a split where no case has one the image
    stays empty. A notice says how many there are of each.
    """
    gapped = [key for key in keys if key + FLAG in cases.columns]
    if not gapped:
        return cases
    columns, shapes = dict(cases.columns), dict(cases.shapes)
    for key in gapped:
        of = _lenders(cases, key)
        columns[key] = Lent(columns[key], of)
        if key in shapes:
            shapes[key] = tuple(shapes[key][row] for row in of)
    shapes = {key: each for key, each in shapes.items() if len(set(each)) > 1}
    counts = ", ".join(f"{len(given_all(cases, [key]))} have a {key}" for key in keys)
    line = (
        f"{cases.source}: {counts}, {len(given_all(cases, keys))} have both of {len(cases)} cases"
    )
    return replace(cases, columns=columns, shapes=shapes, lines=[*cases.lines, line])


def check_lent(cases: Cases, keys: Sequence[str]) -> None:
    """Refuse training cases of which none has an image of one kind.

    Raises:
        UserError: names the kind.
    """
    training = cases.split("train")
    for key in keys:
        if not given_all(training, [key]):
            raise UserError(f"{cases.source}: no training case has a {key}")


def _lenders(cases: Cases, key: str) -> tuple[int, ...]:
    """Of each row the row whose image it shows."""
    empty = without_image(cases.columns, key)
    of = list(range(len(cases.all_splits)))
    for split in dict.fromkeys(cases.all_splits):
        here = [row for row in cases.rows if cases.all_splits[row] == split]
        there = [row for row in here if row not in empty]
        order = torch.randperm(len(there), generator=torch.Generator().manual_seed(0)).tolist()
        for number, row in enumerate(row for row in here if row in empty and there):
            of[row] = there[order[number % len(there)]]
    return tuple(of)
