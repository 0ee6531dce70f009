"""Several columns of a table, end to end, as one: `--map image=ed+es`.

Every case is there once for each column named, so that a model of one image learns from all
contrasts or phases there are. Patients stay what they are: a split never parts two images of one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import UserError
from .columns import Column, Kind
from .gaps import check_no_gaps
from .image import Image
from .table import Table

__all__ = ["JOINT", "JoinedColumn", "joined"]

JOINT = "+"
"""What stands between the names of columns to join."""


@dataclass(frozen=True)
class JoinedColumn:
    """Columns of equal length, one after the other.

    Attributes:
        parts: the columns; row r of part p is row p * len(part) + r here.
    """

    parts: tuple[Column, ...]

    @property
    def kind(self) -> Kind:
        return self.parts[0].kind

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def _at(self, row: int) -> tuple[Column, int]:
        part, own = divmod(int(row), len(self.parts[0]))
        return self.parts[part], own

    def image(self, row: int) -> Image:
        part, own = self._at(row)
        return part.image(own)

    def stack(self, rows: Sequence[int]) -> Tensor:
        each = len(self.parts[0])
        of = torch.tensor([int(row) // each for row in rows])
        own = [[int(row) % each for row in rows if int(row) // each == n] for n in of.unique()]
        stacked = [
            self.parts[n].stack(part) for n, part in zip(of.unique().tolist(), own, strict=True)
        ]
        if len({tuple(part.shape[1:]) for part in stacked}) > 1:
            shapes = ", ".join(str(tuple(part.shape[1:])) for part in stacked)
            raise UserError(
                f"{self.source(rows[0])}: joined columns differ in shape ({shapes}); --size resizes"
            )
        return torch.cat(stacked)[of.argsort(stable=True).argsort()]

    def to_size(self, size: tuple[int, ...]) -> "JoinedColumn":
        return replace(self, parts=tuple(part.to_size(size) for part in self.parts))

    def as_kind(self, kind: Kind) -> "JoinedColumn":
        return replace(self, parts=tuple(part.as_kind(kind) for part in self.parts))

    def hashed(self, row: int) -> str:
        part, own = self._at(row)
        return part.hashed(own)

    def stamp(self, row: int) -> str:
        part, own = self._at(row)
        return part.stamp(own)

    def source(self, row: int) -> str:
        part, own = self._at(row)
        return part.source(own)


def joined(table: Table, mapping: Mapping[str, str]) -> Table:
    """A table in which every case stands once for each column that `mapping` joins.

    Args:
        table: as a layout tells it.
        mapping: key -> column, or columns with "+" between them. A key with one column has it for
            all cases; keys with several must have equally many.

    Returns:
        A table with columns named as `mapping` names them ("ed+es"); the same one where nothing is
        joined.

    Raises:
        UserError: a column there is not, or keys that join different numbers of columns.
    """
    there = {**table.columns, **table.texts}
    names = {key: [word] if word in there else word.split(JOINT) for key, word in mapping.items()}
    counts = {key: len(words) for key, words in names.items() if len(words) > 1}
    if not counts:
        return table
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UserError(f"{table.source}: --map joins different numbers of columns: {told}")
    times = next(iter(counts.values()))
    for key, words in names.items():
        _check(table, key, words)
    words_of = {key: words * times if len(words) == 1 else words for key, words in names.items()}
    columns: dict[str, Column] = {
        mapping[key]: JoinedColumn(tuple(table.columns[word] for word in words))
        for key, words in words_of.items()
        if words[0] in table.columns
    }
    if "label" in table.columns:
        columns.setdefault("label", JoinedColumn((table.columns["label"],) * times))
    apart = words_of[next(iter(counts))]
    return replace(
        table,
        ids=tuple(f"{case}_{word}" for word in apart for case in table.ids),
        columns=columns,
        patients=(table.patients or table.ids) * times,
        people=table.people and table.people * times,
        split_of=table.split_of and table.split_of * times,
        texts={name: text * times for name, text in table.texts.items()},
        label_names=table.label_names and table.label_names * times,
        fingerprint=table.fingerprint and f"{table.fingerprint} {JOINT.join(apart)}",
    )


def _check(table: Table, key: str, words: Sequence[str]) -> None:
    """Columns of one kind, all there."""
    if len(words) == 1:
        if words[0] in table.columns:
            check_no_gaps(table.columns[words[0]], table.ids)
        return
    for word in words:
        if word not in table.columns:
            raise UserError(
                f"{table.source}: has no column {word!r} to join for {key!r}; "
                f"it has {', '.join(table.columns)}"
            )
        check_no_gaps(table.columns[word], table.ids)
    kinds = {word: table.columns[word].kind for word in words}
    if len(set(kinds.values())) > 1:
        told = ", ".join(f"{word} ({kind})" for word, kind in kinds.items())
        raise UserError(f"{table.source}: columns joined for {key!r} differ in kind: {told}")
