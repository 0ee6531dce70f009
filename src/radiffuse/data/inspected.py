"""What a data set holds, before anything is made of it: cases, columns, sizes, places, values, splits, refusals."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UserError
from .cases import Cases
from .checks import check_trainable
from .columns import Column
from .dataset import cases_from
from .formats.pseudonyms import EVERY, Choice
from .formats.series_list import Listing, listed
from .image import Image, orientation_of
from .opening import table_of
from .scan import spread
from .table import Table

__all__ = ["CaseLook", "ColumnLook", "Look", "inspected"]


@dataclass(frozen=True)
class ImageLook:
    """One image: its channels, sides, mm between voxels, axis codes, stored type, and range of values."""

    channels: int
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    stored: str
    low: float
    high: float
    modality: str = ""


@dataclass(frozen=True)
class ColumnLook:
    """A column over all cases that were read.

    Attributes:
        name, kind: as `data.columns`; "text" of what is no tensor.
        read: cases of it that were read.
        sizes, spacings, orientations, stored, modalities: each one that occurs, and in how many cases.
        low, high: of its values; None where it has none, or none that compare.
    """

    name: str
    kind: str
    read: int
    sizes: dict[str, int] = field(default_factory=dict)
    spacings: dict[str, int] = field(default_factory=dict)
    orientations: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CaseLook:
    """A case: its row in the data set, its name and patient as they may be shown, its split ("" where none is known).

    Its images by key are what was read of it; `refused` says why some were not.
    """

    row: int
    case: str
    patient: str
    split: str
    images: dict[str, ImageLook]
    refused: str = ""


@dataclass(frozen=True)
class Look:
    """What a data set holds.

    Attributes:
        source: the path.
        cases: how many.
        read: how many of them were decoded.
        patients: how many; None where none are named.
        splits: cases of each.
        drawn: whether the splits would be drawn here.
        columns, rows: of all that was read.
        classes: names of the labels.
        notices: what had to be assumed.
        refused: what would not be read, or not be trained on, and why.
        series: of a DICOM folder.
    """

    source: str
    cases: int = 0
    read: int = 0
    patients: int | None = None
    splits: dict[str, int] = field(default_factory=dict)
    drawn: bool = False
    columns: tuple[ColumnLook, ...] = ()
    rows: tuple[CaseLook, ...] = ()
    classes: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    series: Listing | None = None


def inspected(
    path: str, choice: Choice = EVERY, seed: int = 0, most: int = 256
) -> tuple[Look, Table | None]:
    """Look at a data set; what is wrong with it is told, and not raised.

    Args:
        path: as `open_cases`.
        choice: of DICOM series, and whether names are shown.
        seed: of splits that are drawn.
        most: cases that are decoded; of more a spread.

    Returns:
        What was found, and the table whose columns read the images; None where there is none.
    """
    try:
        table = table_of(path, seed, choice)
    except UserError as error:
        return Look(path, refused=(str(error),), series=_series(path, None, choice)), None
    rows = spread(len(table.ids), most)
    looks, refused = _read(table, rows)
    cases = _whole(table, seed, refused)
    known = {} if cases is None else dict(zip(cases.all_ids, cases.all_splits, strict=True))
    splits = Counter(() if cases is None else cases.split_of)
    given = dict(zip(table.ids, table.split_of or (), strict=False))
    names = cases.all_ids if cases is not None else table.ids
    look = Look(
        source=path,
        cases=len(table.ids),
        read=len(rows),
        patients=None if table.patients is None else len(set(table.patients)),
        splits=dict(splits or Counter(table.split_of or ())),
        drawn=table.split_of is None,
        columns=(*_columns(table, rows, looks), *_texts(table)),
        rows=tuple(
            CaseLook(
                row,
                names[row],
                table.patients[row] if table.patients else "",
                known.get(names[row], given.get(table.ids[row], "")),
                looks[row],
                refused.get(row, ""),
            )
            for row in rows
        ),
        classes=() if cases is None else cases.class_names,
        notices=tuple(cases.notices if cases is not None else dict.fromkeys(table.notices)),
        refused=tuple(dict.fromkeys(refused.values())),
        series=_series(path, table, choice),
    )
    return look, table


def _read(
    table: Table, rows: Sequence[int]
) -> tuple[dict[int, dict[str, ImageLook]], dict[int, str]]:
    """The images of cases by key, and why one cannot be read."""
    looks: dict[int, dict[str, ImageLook]] = {}
    refused: dict[int, str] = {}
    for row in rows:
        looks[row] = {}
        for key, column in table.columns.items():
            if column.kind in ("image", "mask"):
                try:
                    looks[row][key] = _image(column.image(row))
                except UserError as error:
                    refused.setdefault(row, str(error))
    return looks, refused


def _image(image: Image) -> ImageLook:
    data = image.data
    return ImageLook(
        channels=len(data),
        size=image.size,
        spacing=tuple(round(mm, 4) for mm in image.spacing_mm or ()),
        orientation=orientation_of(image),
        stored=str(data.dtype).removeprefix("torch."),
        low=float(data.min()),
        high=float(data.max()),
        modality=image.modality or "",
    )


def _whole(table: Table, seed: int, refused: dict[int, str]) -> Cases | None:
    """The cases as a training would open them; what it would refuse is added under -1 and below."""
    try:
        cases = cases_from(table, seed=seed)
    except UserError as error:
        if str(error) not in refused.values():
            refused[-1] = str(error)
        return None
    for number, check in ((-2, cases.check_shapes), (-3, lambda: check_trainable(cases))):
        try:
            check()
        except UserError as error:
            refused[number] = f"to be trained on: {error}"
    return cases


def _columns(
    table: Table, rows: Sequence[int], looks: dict[int, dict[str, ImageLook]]
) -> list[ColumnLook]:
    found = []
    for key, column in table.columns.items():
        images = [looks[row][key] for row in rows if key in looks[row]]
        found.append(
            _of_images(key, column, images)
            if column.kind in ("image", "mask")
            else _of_numbers(key, column, rows)
        )
    return found


def _of_images(key: str, column: Column, images: Sequence[ImageLook]) -> ColumnLook:
    sides = (one.size if one.channels == 1 else (one.channels, *one.size) for one in images)
    return ColumnLook(
        key,
        column.kind,
        len(images),
        sizes=_counted(" x ".join(map(str, size)) for size in sides),
        spacings=_counted(" x ".join(f"{mm:.3g}" for mm in one.spacing) for one in images),
        orientations=_counted(one.orientation for one in images),
        stored=_counted(one.stored for one in images),
        modalities=_counted(one.modality for one in images),
        low=min((one.low for one in images), default=None),
        high=max((one.high for one in images), default=None),
    )


def _of_numbers(key: str, column: Column, rows: Sequence[int]) -> ColumnLook:
    """A label or a number of each case, or raw numbers of the first."""
    raw = column.kind == "raw"
    values = column.stack(rows[:1] if raw else rows)
    known = values.double()[~values.double().isnan()] if not values.is_complex() else None
    shape = " x ".join(map(str, values.shape[1:]))
    return ColumnLook(
        key,
        column.kind,
        len(values),
        sizes={shape: len(values)} if shape else {},
        stored={str(values.dtype).removeprefix("torch."): len(values)},
        low=float(known.min()) if known is not None and len(known) else None,
        high=float(known.max()) if known is not None and len(known) else None,
    )


def _texts(table: Table) -> list[ColumnLook]:
    return [
        ColumnLook(name, "text", len(cells), stored={f"{len(set(cells))} different": len(cells)})
        for name, cells in table.texts.items()
    ]


def _counted(words: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, the most frequent first; nothing of empty ones."""
    return dict(Counter(word for word in words if word).most_common())


def _series(path: str, table: Table | None, choice: Choice) -> Listing | None:
    """The series of DICOM data."""
    place = Path(path)
    dicom = table is not None and any(getattr(c, "members", ()) for c in table.columns.values())
    if not place.exists() or (table is not None and not dicom):
        return None
    found = listed(place, choice)
    return found if found.series else None
