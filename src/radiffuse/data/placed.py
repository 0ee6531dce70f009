"""What belongs together lies on one grid: masks, targets and other images of a case on that of the first.

Volumes of a set that are stored in several orientations get one inside; outputs are turned back to each
file's own (`Image.own`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from ..errors import UserError
from .columns import Column, Kind, in_threads, together, wrong_axes
from .copies import named
from .geometry import Grid, agree, resampled, turned
from .grids import PAIR
from .image import Image, codes_of, of_one_plane, oriented
from .kept import Kept
from .rows import RowsColumn
from .scan import spread, too_large
from .transforms import resized

__all__ = ["PlacedColumn", "placed"]


def placed(
    columns: Mapping[str, Column],
    orientation: str,
    source: str,
    ids: Sequence[str],
    quiet: bool = False,
) -> tuple[dict[str, Column], list[str], str]:
    """The columns with every image and mask on the grid of the first one of its case.

    Exactly, by permuting and flipping axes, where the grids agree; by their places in the world where they
    overlap (with a notice). What says nothing of its place lies as the first one does where it has as
    many voxels, and else stays as it is. Pairs for registration are only turned.

    Args:
        columns: by key, images first.
        orientation: axis codes that volumes get ("RAS"); "": those of most cases.
        source: of the data, for messages.
        ids: of the cases.
        quiet: say nothing of volumes that are turned.

    Returns:
        The columns, notices, and the orientation of volumes ("" where none is known).

    Raises:
        UserError: an image that nowhere meets the first one of its case.
    """
    keys = [key for key, column in columns.items() if column.kind in ("image", "mask")]
    if not keys or any(column.kind == "raw" for column in columns.values()):
        return dict(columns), [], ""
    if all(
        isinstance(columns[key], RowsColumn) for key in keys
    ):  # which say nothing of their place
        return dict(columns), [], orientation
    first = keys[0]
    each = [columns[key] for key in keys]
    large = any(too_large(column) for column in each)
    rows = spread(len(ids), 8) if large else list(range(len(ids)))
    codes = [codes_of(columns[first].image(row)) for row in rows]
    known = Counter(code for code in codes if code)
    asked = next(
        filter(None, (_of_plane(orientation, code) for code, _ in known.most_common())), ""
    )
    inside = asked or (known.most_common(1)[0][0] if known else orientation)
    notices = [] if quiet else _orientations(known, inside, bool(asked), source)
    made, reference = dict(columns), PlacedColumn(columns[first], inside)
    if large or (set(known) - {inside}):
        made[first] = reference
    for key in keys[1:]:
        column = PlacedColumn(columns[key], inside, reference, (first, key), source, tuple(ids))
        how = Counter(column.how(row)[0] for row in rows)
        if large or set(how) - {""}:
            made[key] = column
        if how["resampled"]:
            notices.append(_resampled(column, rows, how["resampled"]))
        if key not in PAIR and (apart := [row for row in rows if column.in_another_world(row)]):
            notices.append(
                f"{source}: {key} of case {ids[apart[0]]}{_more(len(apart))} is in another frame of reference "
                f"(FrameOfReferenceUID) than {first}, as of another examination; their places in mm are taken as of one"
            )
    return made, notices, inside


def _of_plane(orientation: str, code: str) -> str:
    """What an orientation says of images of the axes of `code`: "PL" of "PLS" for "RA"; "" nothing."""
    axes = {"RLAPSI".index(letter) // 2 for letter in code}
    part = "".join(letter for letter in orientation if "RLAPSI".index(letter) // 2 in axes)
    return part if len(part) == len(code) else ""


def _orientations(known: Counter[str], inside: str, asked: bool, source: str) -> list[str]:
    if not set(known) - {inside}:
        return []
    told = ", ".join(f"{code} ({count})" for code, count in known.most_common())
    why = "as in training" if asked else "inside"
    what = "volumes" if len(inside) == 3 else "images"
    line = f"{source}: {what} are stored as {told}; all are {inside} {why}, and outputs as their inputs"
    apart = [code for code in known if not of_one_plane(code, inside)]
    if apart:
        line += f", but for {', '.join(apart)}, which lie in other planes and stay as they are"
    return [line]


def _resampled(column: "PlacedColumn", rows: Sequence[int], count: int) -> str:
    """One line for all cases of a column that were resampled, with the first of them."""
    row = next(row for row in rows if column.how(row)[0] == "resampled")
    own, onto = Grid.of(column.column.image(row)), column.onto(row)
    first, key = column.keys
    share = min(column.how(row)[1] for row in rows)
    met = f"{share:.0%}" if share >= 0.01 else "less than 1%"
    rest = "" if share > 0.999 else f"; beyond it is nothing ({met} of the grid is met)"
    return (
        f"{column.source_name}: {key} of case {column.ids[row]}{_more(count)} lies on another grid ({own}) than "
        f"{first} ({onto}); brought onto it by their places in the world{rest}"
    )


def _more(count: int) -> str:
    return f" and {count - 1} more" if count > 1 else ""


def _sides(image: Image) -> str:
    return " x ".join(map(str, image.size))


def _by_columns(image: Image) -> bool:
    """Whether it is a picture whose first axis runs from column to column, as NIfTI has it."""
    return image.flat and image.format in (".nii", ".nii.gz")


@dataclass(frozen=True)
class PlacedColumn:
    """Images brought to an orientation, and onto the grids of another column.

    Attributes:
        column: as stored.
        inside: orientation of volumes, "" leaves them.
        reference: whose grids they get; None: their own, turned to `inside`.
        keys: names of reference and column, for messages.
        source_name, ids: of the data, for messages.
        size: grid to resize to afterwards.
    """

    column: Column
    inside: str
    reference: "PlacedColumn | None" = None
    keys: tuple[str, str] = ("", "")
    source_name: str = ""
    ids: tuple[str, ...] = ()
    size: tuple[int, ...] | None = None
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)

    @property
    def kind(self) -> Kind:
        return self.column.kind

    def __len__(self) -> int:
        return len(self.column)

    def onto(self, row: int) -> Grid | None:
        """The grid that an image of this row gets."""
        if self.reference is not None:
            return self.reference.onto(row)
        return Grid.of(self._turned(self.column.image(row)))

    def _turned(self, image: Image) -> Image:
        """An image of the reference in the orientation of the set."""
        own = self._own(image)
        return image if own is None else replace(oriented(image, self.inside), own=own)

    def _own(self, image: Image) -> str | None:
        """The orientation of an image that is to be turned; None of one that stays."""
        own = codes_of(image)
        turns = own and own != self.inside and of_one_plane(own, self.inside)
        return own if turns else None

    def _seen(self, row: int) -> Image:
        """An image as stored; where it or the first one says nothing of its place, and they have as many voxels,
        it has that one's."""
        image = self.column.image(row)
        if self.reference is None:
            return image
        first = self.reference.column.image(row)
        if _by_columns(image) != _by_columns(first) and None in (image.affine, first.affine):
            image = self._rows_first(image, first, row)
        known = None not in (image.affine, first.affine)
        if known and len(first.size) == len(image.size) + 1:
            image = replace(image, data=image.data[..., None])  # one slice of the volume
        if first.size == image.size:
            placed = image.affine is not None and image.placed and first.placed
            return image if placed else replace(image, affine=first.affine)
        if known and len(first.size) == len(image.size) and self.keys[1] not in PAIR:
            self._check_placed(image, first, row)
        return image

    def _check_placed(self, image: Image, first: Image, row: int) -> None:
        """Refuse an image of another size than the first one where the place of either was assumed.

        Raises:
            UserError: names the one that declares none.
        """
        for key, one in zip(self.keys, (first, image), strict=True):
            if not one.placed:
                raise UserError(
                    f"{self.source_name}: {key} of case {self.ids[row]} declares no place in space, and "
                    f"{' and '.join(self.keys)} differ in number of voxels ({_sides(first)} and {_sides(image)}): "
                    "how they lie to each other is not known; store both on one grid"
                )

    def _rows_first(self, image: Image, first: Image, row: int) -> Image:
        """A NIfTI picture, whose first axis runs along rows, beside one of rows and columns, or the other way round.

        Raises:
            UserError: it is square, and who wrote it may have had rows first all the same.
        """
        if image.size == first.size and image.size[0] == image.size[1]:
            first_key, key = self.keys
            raise UserError(
                f"{self.source_name}: {key} of case {self.ids[row]} is a square {image.format} and {first_key} "
                f"{first.format}: NIfTI has columns first, and pictures have rows first, but not every writer "
                "knows; write both in one format"
            )
        if image.size != first.size[::-1]:
            return image
        return replace(image, data=image.data.transpose(-1, -2).contiguous(), affine=first.affine)

    def how(self, row: int) -> tuple[str, float]:
        """How the image of a row comes onto its grid, "", "turned" or "resampled", and the share met.

        Raises:
            UserError: it nowhere meets the grid.
        """
        image, grid = self._seen(row), self.onto(row)
        own = Grid.of(image)
        stored = self.column.image(row).size
        if image.size != stored and image.size == stored[::-1]:
            return "turned", 1.0
        if own is None or grid is None or len(own.size) != len(grid.size):
            return "", 1.0
        if own.size == grid.size and agree(own.affine, grid.affine, grid.size):
            return "", 1.0
        if turned(image, grid) is not None:
            return "turned", 1.0
        if self.keys[1] in PAIR:
            return "", 1.0  # two people, or two scans: `check_pair` refuses them by name
        share = grid.covered_by(own)
        if share == 0 and own.covered_by(grid) == 0:
            first, key = self.keys
            raise UserError(
                f"{self.source_name}: {key} of case {self.ids[row]} ({own}) nowhere meets {first} "
                f"({grid}): they are not of one place; check their headers, or pair others"
            )
        return "resampled", share

    def in_another_world(self, row: int) -> bool:
        """Whether the image of a row and the first one say that places mean something else in each."""
        first = None if self.reference is None else self.reference.column.image(row)
        worlds = {image.world for image in (self.column.image(row), first) if image is not None}
        return len(worlds - {""}) > 1

    def image(self, row: int) -> Image:
        return self.kept(row, lambda _: self._made(row), lambda: self.stamp(row))

    def _made(self, row: int) -> Image:
        image = self._placed(row)
        if self.size is None:
            return image
        if len(self.size) != len(image.size):
            raise wrong_axes(self.source(row), image.size, self.size)
        return resized(image, self.size, nearest=self.kind == "mask")

    def _placed(self, row: int) -> Image:
        image = self._seen(row)
        if self.reference is None:
            return self._turned(image)
        own = self._own(self.reference.column.image(row))
        way, grid = self.how(row)[0], self.onto(row)
        if not way or grid is None:
            return replace(image, own=own)
        there = turned(image, grid) if way == "turned" else None
        there = there or resampled(image, grid, nearest=self.kind == "mask")
        return replace(there, own=own)

    def stack(self, rows: Sequence[int]) -> Tensor:
        return together(self, rows, in_threads(self.image, rows))

    def to_size(self, size: tuple[int, ...]) -> "PlacedColumn":
        return replace(self, size=size, kept=Kept())

    def as_kind(self, kind: Kind) -> "PlacedColumn":
        return replace(self, column=self.column.as_kind(kind), kept=Kept())

    def hashed(self, row: int) -> str:
        return self.column.hashed(row)

    def stamp(self, row: int) -> str:
        own = self.column.stamp(row)
        if self.reference is None:
            return named(own, "turned", self.inside, self.size)
        onto = self.reference.stamp(row)
        return named(own and onto and f"{own} {onto}", "placed", self.inside, self.keys, self.size)

    def source(self, row: int) -> str:
        return self.column.source(row)
