"""Volumes cut into slices: every slice is a case of the volume's patient, and keeps its place in the world."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import UserError
from .columns import ArrayColumn, Column, Kind, in_threads, together, wrong_axes
from .copies import copies, named
from .formats.stored import MOST_BYTES
from .grids import PAIR
from .image import Image
from .kept import Kept, bytes_of, most_held
from .planes import CODES, ROWS_AND_COLUMNS, Cut, plane_of
from .table import Table
from .transforms import resized

__all__ = ["Slices", "Stacks", "Volumes", "content", "cut"]

TILTED = 10
"""Slices that lie more degrees out of the patient's plane are said to."""


@dataclass(frozen=True)
class Stacks:
    """Volumes as stacks of slices.

    Attributes:
        column: the volumes.
        axis: that numbers the slices.
        size: of a slice, to resize to; None leaves it.
        kept: volumes in memory.
        digests: hashes so far.
    """

    column: Column
    axis: int
    size: tuple[int, ...] | None = None
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    digests: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.column)

    def image(self, row: int) -> Image:
        if self.size is None and isinstance(self.column, ArrayColumn):
            return self.column.image(row)
        image = self.kept(row, lambda _: self._stood_up(row), lambda: self.stamp(row))
        return replace(image, data=image.data.movedim(1, 1 + self.axis))

    def _stood_up(self, row: int) -> Image:
        """A volume with the axis that numbers the slices first, so that one slice lies together on disk."""
        image = self._read(row)
        return replace(image, data=image.data.movedim(1 + self.axis, 1).contiguous())

    def _read(self, row: int) -> Image:
        image = self.column.image(row)
        if self.size is None:
            return image
        if len(self.size) != 2:
            raise wrong_axes(f"a slice of {self.source(row)}", image.size[1:], self.size)
        size = list(self.size)
        size.insert(self.axis, image.size[self.axis])
        return resized(image, size, nearest=self.kind == "mask")

    def stack(self, rows: Sequence[int]) -> Tensor:
        return together(self, rows, [self.image(row) for row in rows])

    def to_size(self, size: tuple[int, ...]) -> "Stacks":
        return replace(self, size=size, kept=Kept(self.kept.most))

    def as_kind(self, kind: Kind) -> "Stacks":
        return replace(self, column=self.column.as_kind(kind), kept=Kept(self.kept.most))

    def hashed(self, row: int) -> str:
        if row not in self.digests:
            self.digests[row] = self.column.hashed(row)
        return self.digests[row]

    def stamp(self, row: int) -> str:
        return named(self.column.stamp(row), "slices", self.axis, self.size)

    def source(self, row: int) -> str:
        return self.column.source(row)


@dataclass(frozen=True)
class Slices:
    """Slices of volumes.

    Attributes:
        stacks: the volumes.
        at: the volume of each slice, and its number there.
        how: they were cut.
    """

    stacks: Stacks
    at: tuple[tuple[int, int], ...]
    how: Cut

    @property
    def kind(self) -> Kind:
        return self.stacks.kind

    def __len__(self) -> int:
        return len(self.at)

    def image(self, row: int) -> Image:
        volume, number = self.at[row]
        return slice_of(self.stacks.image(volume), self.stacks.axis, number)

    def stack(self, rows: Sequence[int]) -> Tensor:
        kept = all(self.at[row][0] in self.stacks.kept.images for row in rows)
        images = [self.image(row) for row in rows] if kept else in_threads(self.image, rows)
        return together(self, rows, images)

    def to_size(self, size: tuple[int, ...]) -> "Slices":
        return replace(self, stacks=self.stacks.to_size(size))

    def as_kind(self, kind: Kind) -> "Slices":
        return replace(self, stacks=self.stacks.as_kind(kind))

    def hashed(self, row: int) -> str:
        volume, number = self.at[row]
        return f"{self.stacks.hashed(volume)} {self.how} {number}"

    def stamp(self, row: int) -> str:
        return ""

    def source(self, row: int) -> str:
        volume, number = self.at[row]
        return f"{self.stacks.source(volume)} (slice {number})"


def slice_of(image: Image, axis: int, number: int) -> Image:
    """One slice of a volume; the third column of its affine is the step to the next slice."""
    affine = image.affine
    if affine is not None:
        order = [*(n for n in range(3) if n != axis), axis, 3]
        here = torch.zeros(4, dtype=affine.dtype)
        here[axis], here[3] = number, 1
        place = affine @ here
        affine = affine[:, order].clone()
        affine[:, 3] = place
    return replace(image, data=image.data.select(1 + axis, number), affine=affine, own=None)


def content(images: Mapping[str, Tensor], axis: int) -> Tensor:
    """Which slices of volumes `(C, *S)` by key have content, `(n,)` bool.

    Those with more than one value in a channel of some image; of a pair to register, of both.
    """
    found = {}
    for key, data in images.items():
        values = data.movedim(1 + axis, 0).flatten(2)
        found[key] = (values != values[..., :1]).any(2).any(1)
    if all(key in found for key in PAIR):
        return found[PAIR[0]] & found[PAIR[1]]
    return torch.stack(list(found.values())).any(0)


@dataclass(frozen=True)
class Volumes:
    """What slices were cut from.

    Attributes:
        columns: by key.
        names: of the volumes.
        of: the volume of each slice.
        axis: that numbers the slices.
        plane: "axial", "coronal", "sagittal", or "axis 0".
    """

    columns: Mapping[str, Column]
    names: tuple[str, ...]
    of: tuple[int, ...]
    axis: int
    plane: str

    def without(self, keys: Collection[str]) -> "Volumes":
        """The volumes without some of their data."""
        columns = {key: column for key, column in self.columns.items() if key not in keys}
        return replace(self, columns=columns)


def cut(
    table: Table,
    columns: Mapping[str, Column],
    how: Cut,
    orientation: str,
    size: tuple[int, ...] | None,
) -> tuple[Table, dict[str, Column], Volumes | None]:
    """The slices of the volumes of a table; a table of pictures stays, with a notice.

    Slices without content are left out, with a notice. Every volume is read once; what does not fit into the
    memory kept for them is mapped from copies on disk, or read again where there can be none.

    Args:
        table: ids, patients, splits and texts of the volumes.
        columns: the volumes, each case on one grid.
        how: where to cut.
        orientation: axis codes of all volumes; "" where no geometry is known.
        size: that slices get; None leaves it.

    Returns:
        The table of slices, their columns, and what they were cut from (None of pictures).

    Raises:
        UserError: coordinates or k-space, pictures among volumes, a plane of the patient where no geometry
            is known, no slice with content.
    """
    each = _images(table, columns, how)
    if len(each[next(iter(each))].image(0).size) == 2:
        table.notices.append(f"{table.source}: holds pictures; --slices {how} cuts nothing of them")
        return table, dict(columns), None
    axis, plane = plane_of(how, orientation)
    share = _share(each)
    stacks = {key: Stacks(column, axis, size, Kept(share)) for key, column in each.items()}
    looks = in_threads(lambda row: _look(row, stacks, how, table), range(len(table.ids)))
    at = tuple((row, k) for row, look in enumerate(looks) for k in look.filled)
    if not at:
        raise UserError(
            f"{table.source}: no slice holds more than one grey value; nothing to learn"
        )
    table.notices.extend(_told(table, looks, how, plane, orientation, share))
    of = tuple(row for row, _ in at)
    whole = Volumes({**columns, **stacks}, table.ids, of, axis, plane)
    made = {
        key: Slices(stacks[key], at, how) if key in stacks else _repeated(column, of)
        for key, column in columns.items()
    }
    return _table(table, at, how), made, whole


def _share(each: Mapping[str, Column]) -> int:
    """Bytes of volumes that a column keeps in memory: more where there can be no copies on disk."""
    copied = copies().room_for(1) and all(column.stamp(0) for column in each.values())
    return most_held() if copied else MOST_BYTES // 4 // len(each)


def _images(table: Table, columns: Mapping[str, Column], how: Cut) -> dict[str, Column]:
    """The columns to cut, images first."""
    for key, column in columns.items():
        if column.kind == "raw":
            raise UserError(
                f"{table.source}: {key} is no image, and --slices {how} cuts images; leave it out"
            )
    each = {key: column for key, column in columns.items() if column.kind in ("image", "mask")}
    if not each:
        raise UserError(f"{table.source}: holds no image that --slices {how} could cut")
    return each


@dataclass(frozen=True)
class _Look:
    """One case.

    Attributes:
        count: of slices.
        filled: numbers of those with content.
        bytes: of a key in memory.
        tilt: between the slices' normal and the patient's axis, degrees; 0 where that is not known.
    """

    count: int
    filled: tuple[int, ...]
    bytes: int
    tilt: float


def _look(row: int, stacks: Mapping[str, Stacks], how: Cut, table: Table) -> _Look:
    case, images = table.ids[row], {}
    for key, stack in stacks.items():
        stored = stack.column.image(row)
        if len(stored.size) != 3:
            raise UserError(
                f"{table.source}: {key} of case {case} has {len(stored.size)} axes, and --slices {how} cuts "
                "volumes of three; give pictures and volumes apart"
            )
        images[key] = stack.image(row)
    first, axis = next(iter(images)), stacks[next(iter(stacks))].axis
    if how in CODES and images[first].affine is None:
        raise UserError(
            f"{table.source}: {first} of case {case} says nothing of its place in the patient, so that no "
            f"axis of it is known to be {how}; --slices 0, 1 or 2 cuts along an axis of the array"
        )
    counts = {key: image.size[axis] for key, image in images.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} {count}" for key, count in counts.items())
        raise UserError(f"{table.source}: the images of case {case} differ in their slices: {told}")
    seen = {key: image.data for key, image in images.items() if stacks[key].kind == "image"}
    filled = content(seen or {key: image.data for key, image in images.items()}, axis)
    numbers = tuple(filled.nonzero()[:, 0].tolist())
    tilt = _tilt(images[first].affine, how)
    return _Look(len(filled), numbers, max(map(bytes_of, images.values())), tilt)


def _tilt(affine: Tensor | None, how: Cut) -> float:
    if affine is None or how not in CODES:
        return 0.0
    world = "RAS".index(CODES[how][2])
    normal = torch.linalg.cross(affine[:3, 0], affine[:3, 1])
    cosine = float(normal[world].abs() / normal.norm())
    return math.degrees(math.acos(min(cosine, 1.0)))


def _told(
    table: Table, looks: Sequence[_Look], how: Cut, plane: str, orientation: str, share: int
) -> list[str]:
    """One line on how volumes were cut, and one where they do not fit the memory."""
    total, filled = sum(look.count for look in looks), sum(len(look.filled) for look in looks)
    blank = [case for case, look in zip(table.ids, looks, strict=True) if not look.filled]
    lie = ROWS_AND_COLUMNS.get(how, f"axis {how} of volumes that are {orientation} inside")
    lie = lie if how in CODES or orientation else "nothing is known of their place in the patient"
    many = f"{len(looks)} volumes are" if len(looks) > 1 else "the volume is"
    told = f"{table.source}: {many} cut into {total} slices, {plane}: {lie}"
    tilt = max(look.tilt for look in looks)
    if tilt > TILTED:
        told += f" (they are tilted by up to {tilt:.0f} degrees)"
    if filled < total:
        told += f"; {total - filled} of one grey value are left out"
        told += f" (all of case {', '.join(blank[:3])})" if blank else ""
    size = sum(look.bytes for look in looks)
    if size <= share:
        return [told]
    gib = f"{size / 2**30:.3g} GiB, of which {share / 2**30:.3g} are kept in memory"
    rest = (
        "the rest is mapped from copies on disk"
        if copies().room_for(size)
        else "files are read again"
    )
    return [told, f"{table.source}: slices take {gib}: {rest}; --size makes them smaller"]


def _repeated(column: Column, of: Sequence[int]) -> Column:
    """A column of one number a volume, for its slices."""
    return ArrayColumn(column.stack(of), column.kind, column.source(0))


def _table(table: Table, at: Sequence[tuple[int, int]], how: Cut) -> Table:
    """The table of the slices `at`: the volume's patient, split and texts, and the slice's number."""
    of = [volume for volume, _ in at]
    digits = max(3, len(str(max(number for _, number in at))))

    def each(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(values[volume] for volume in of)

    numbers = tuple(f"{number:0{digits}d}" for _, number in at)
    return replace(
        table,
        ids=tuple(
            f"{case}_slice{number}" for case, number in zip(each(table.ids), numbers, strict=True)
        ),
        patients=each(table.patients or table.ids),
        people=table.people and each(table.people),
        split_of=table.split_of and each(table.split_of),
        texts={**{name: each(text) for name, text in table.texts.items()}, "slice": numbers},
        label_names=table.label_names and each(table.label_names),
        fingerprint=table.fingerprint and f"{table.fingerprint} {how}",
    )
