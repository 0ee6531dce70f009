"""Tiles of histology brought to one stain as they are read, so that whoever reads them sees no other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from . import stain
from .cases import Cases
from .columns import Column, Kind
from .image import Image
from .transforms import to_unit

__all__ = ["Stained", "with_stain"]

Range = tuple[float, float]


def with_stain(cases: Cases, reference: Sequence[float] = ()) -> Cases:
    """The same cases, "image" in the stains of a reference (`stain.normalised`), as a notice says.

    Args:
        cases: tiles in red, green and blue.
        reference: eight numbers of `stain.stains`; () takes the median over the training tiles, vectors brought to
            length 1.

    Raises:
        UserError: a tile has no tissue, or not the colours from which stains are told.
    """
    if "image" not in cases.image_keys:
        return cases
    column, limits = cases.columns["image"], cases.ranges["image"]
    own = {row: _own(cases, column, row, limits) for row in cases.rows}
    found = tuple(reference) or _median([own[row] for row in _training(cases)])
    told = stain.described(torch.tensor(found))
    cases.lines.append(f"{cases.source}: tiles are brought to one stain: {told}")
    stained = Stained(column, own, found, limits)
    return replace(cases, columns={**cases.columns, "image": stained}, known=None)


def _training(cases: Cases) -> Sequence[int]:
    return [row for row in cases.rows if cases.all_splits[row] == "train"] or cases.rows


def _own(cases: Cases, column: Column, row: int, limits: Range) -> Tensor:
    try:
        return stain.stains(_levels(column.image(row).data, limits))
    except UserError as error:
        raise UserError(
            f"{column.source(row)}: case {cases.all_ids[row]}: {error}; leave it out, or take --stain none"
        ) from None


def _median(own: Sequence[Tensor]) -> tuple[float, ...]:
    middle = torch.stack(list(own)).median(0).values
    vectors = torch.nn.functional.normalize(middle[:6].reshape(2, 3), dim=1)
    return tuple(round(v, 4) for v in torch.cat([vectors.flatten(), middle[6:]]).tolist())


def _levels(data: Tensor, limits: Range) -> Tensor:
    """Stored values as grey levels from 0 to 255."""
    return (to_unit(data, limits).clamp(-1, 1) + 1) * 127.5


@dataclass(frozen=True)
class Stained:
    """A column of tiles in the stains of a reference.

    Attributes:
        column: the tiles as they are stored.
        own: by row, the stains of the tile.
        reference: those it gets.
        limits: stored values that become -1 and 1.
    """

    column: Column
    own: dict[int, Tensor]
    reference: tuple[float, ...]
    limits: Range

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.column)

    def _made(self, row: int, data: Tensor) -> Tensor:
        low, high = self.limits
        target = torch.tensor(self.reference, dtype=torch.float64)
        levels = stain.normalised(_levels(data, self.limits), self.own[row], target)
        return low + levels * ((high - low) / 255)

    def image(self, row: int) -> Image:
        image = self.column.image(row)
        return replace(image, data=self._made(row, image.data))

    def stack(self, rows: Sequence[int]) -> Tensor:
        stored = self.column.stack(rows)
        return torch.stack([self._made(row, data) for row, data in zip(rows, stored, strict=True)])

    def to_size(self, size: tuple[int, ...]) -> "Stained":
        return replace(self, column=self.column.to_size(size))

    def as_kind(self, kind: Kind) -> "Stained":
        return replace(self, column=self.column.as_kind(kind))

    def hashed(self, row: int) -> str:
        return f"{self.column.hashed(row)} {self.reference}"

    def stamp(self, row: int) -> str:
        return ""

    def source(self, row: int) -> str:
        return self.column.source(row)
