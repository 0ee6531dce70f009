"""Opening a data set: layout, roles, sizes, splits, ranges, and a check of every case."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .cases import Cases, Range
from .checks import check_labels, check_trainable
from .codes import check_ignored, coded
from .columns import ArrayColumn, Column
from .facts import Facts
from .formats.pseudonyms import Choice, Names
from .formats.stored import MOST_BYTES
from .gaps import filled, without_image
from .grids import check_pair
from .names import safe_names
from .opening import table_of
from .placed import placed
from .planes import CODES, Cut
from .roles import mapped, those_there, with_lone_image
from .scan import Seen, check_measured, check_scalars, outside, scan, told_of_copies, value_range
from .slices import cut
from .splits import OnLeak, assign, guard
from .table import Table

__all__ = [
    "Cases",
    "Facts",
    "Range",
    "cases_from",
    "check_labels",
    "check_trainable",
    "from_iterable",
    "open_cases",
]


def open_cases(
    path: str | Path,
    *,
    mapping: Mapping[str, str] = {},
    range: Range | Mapping[str, Range] | None = None,
    size: tuple[int, ...] | None = None,
    seed: int = 0,
    on_leak: OnLeak = "auto",
    orientation: str = "",
    codes: Sequence[int] = (),
    slices: Cut = "none",
    gaps: Sequence[str] = (),
    where_there: Mapping[str, str] = {},
    suited: Sequence[str] = (),
    roles: Sequence[str] = (),
    names: Names = "pseudonym",
    series: Sequence[str] = (),
) -> Cases:
    """Open a data set.

    Args:
        path: NAME.npz (one case per row, or MedMNIST), a folder with cases.csv, a Decathlon
            dataset.json, a folder of images (sub-folders are classes, or train / val / test), a
            DICOM folder, one image file, a fastMRI or ISMRMRD .h5, PDB or mmCIF files, or "brains", "brains3d",
            "shapes3d", "vessels" or "backbones" for what is embedded, with options as in "brains:count=200,size=96".
        mapping: key -> column. Only these keys, and "label", remain. "ed+es" joins columns: every
            case is there once for each.
        range: stored values that become [-1, 1], for every image key or by key. Without it the
            range that files declare (8 bit: 0 to 255), else one from training cases, with a notice.
        size: resize every image; masks take the nearest label.
        seed: of the split by patient (80/10/10) where the data give none, and of embedded data.
        on_leak: what to do about patients or byte-identical images in train and a held-out split;
            see `OnLeak`.
        orientation: axis codes that volumes get inside, for example "RAS"; "": those of most of them.
        codes: the stored numbers that mean the labels 0, 1, 2 ... of masks; (): found in the data.
        slices: cut volumes into slices, each a case of its patient: along a plane of the patient, or along
            axis 0, 1 or 2 of the arrays. `size` is that of a slice.
        gaps: keys of images that some cases may lack (see `gaps`); the cases of a class may be such a column.
        where_there: key -> column, beside `mapping`, of columns that the data may lack; one at least is there.
        suited: keys of which one is enough, where nothing of `where_there` is there; the only image is the first.
        roles: names that a lone image keeps; of another it becomes "image".
        names: what cases and patients of DICOM data are called: pseudonyms, or plainly as their headers say.
        series: of a DICOM folder only the series of which one of these is the SeriesInstanceUID, the SeriesNumber, the
            pseudonym, or a pattern of SeriesDescription, Modality or MODALITY/DESCRIPTION.

    Raises:
        UserError: anything wrong with the data, in one line.
    """
    table = table_of(str(path), seed, Choice(names, tuple(series)))
    return cases_from(
        table,
        mapping=mapping,
        range=range,
        size=size,
        seed=seed,
        on_leak=on_leak,
        orientation=orientation,
        codes=codes,
        slices=slices,
        gaps=gaps,
        where_there=where_there,
        suited=suited,
        roles=roles,
    )


def cases_from(
    table: Table,
    *,
    mapping: Mapping[str, str] = {},
    range: Range | Mapping[str, Range] | None = None,
    size: tuple[int, ...] | None = None,
    seed: int = 0,
    on_leak: OnLeak = "auto",
    orientation: str = "",
    codes: Sequence[int] = (),
    slices: Cut = "none",
    gaps: Sequence[str] = (),
    where_there: Mapping[str, str] = {},
    suited: Sequence[str] = (),
    roles: Sequence[str] = (),
) -> Cases:
    """Decide what a table leaves open: roles, sizes, splits, ranges; and check every case."""
    if not table.ids:
        raise UserError(f"{table.source}: holds no case")
    table = with_lone_image(table, where_there, suited)
    found = those_there(table, where_there, gaps, suited, roles)
    table = filled(mapped(table, {**found, **mapping} or table.default, gaps, roles), gaps)
    columns, told, codes = coded(_ordered(table.columns), codes, table.source)
    check_ignored(table.mask_names, table.columns, table.source)
    orientation = CODES.get(slices, orientation)
    columns, more, orientation = placed(
        columns, orientation, table.source, table.ids, quiet=slices in CODES
    )
    table.notices.extend([*told, *more])
    if size:
        _check_size(size, columns)
    volumes = None
    if slices != "none":
        table, columns, volumes = cut(table, columns, slices, orientation, size)
    if volumes is None:
        columns = {
            key: column.to_size(size) if size and column.kind in ("image", "mask") else column
            for key, column in columns.items()
        }
    seen = {
        key: scan(column, key, table.source, table.ids, without_image(columns, key))
        for key, column in columns.items()
        if column.kind in ("image", "mask")
    }
    table.notices.extend(check_scalars(columns, table.source, table.ids))
    check_measured(columns, table.source, table.ids)
    check_pair(columns, seen, table.source, table.ids)
    table.notices.extend(line for look in seen.values() for line in look.notices)
    table.notices.extend(told_of_copies(table.source, columns))
    patients, split_of, rows = _split(table, _pictures(columns, seen), seed, on_leak)
    training = [row for row in rows if split_of[row] == "train"] or rows
    ranges = _ranges(table, columns, seen, training, range)
    shapes = {
        key: look.shapes
        for key, look in seen.items()
        if len(look.shapes) == len(table.ids) and len(set(look.shapes)) > 1
    }
    called = {key: table.mask_names.get(key) or look.named for key, look in seen.items()}
    return Cases(
        source=table.source,
        columns=columns,
        rows=tuple(rows),
        all_ids=safe_names(table.ids),
        all_names=table.ids,
        orientation=orientation,
        codes=codes,
        all_patients=patients,
        all_splits=split_of,
        ranges=ranges,
        class_names=_class_names(table, columns),
        mask_names={
            key: tuple(names.get(code, "") for code in codes)
            for key, names in called.items()
            if names and key in columns and columns[key].kind == "mask"
        },
        all_texts=table.texts,
        shapes=shapes,
        lines=table.notices,
        known=table.fingerprint,
        split_here=table.split_of is None,
        volumes=volumes,
    )


def _check_size(size: tuple[int, ...], columns: Mapping[str, Column]) -> None:
    """Refuse a size in which the images that lie in memory at once do not fit there."""
    for column in columns.values():
        held = len(column) if isinstance(column, ArrayColumn) else 1
        needed = 4 * held * math.prod(size)
        if column.kind in ("image", "mask") and needed > MOST_BYTES:
            raise UserError(
                f"--size {' '.join(map(str, size))}: {held} image{'s' if held > 1 else ''} of it take "
                f"{needed / 2**30:.3g} GiB, and this machine has {MOST_BYTES / 2**30:.3g}; name a smaller one"
            )


def _pictures(columns: Mapping[str, Column], seen: Mapping[str, Seen]) -> list[frozenset[str]]:
    """Hashes of the images of each case, constant ones left out."""
    images = [look.digests for key, look in seen.items() if columns[key].kind == "image"]
    count = len(next(iter(columns.values()), ()))
    found: list[frozenset[str]] = []
    for row in range(count):
        digests = (digest[row] for digest in images)
        found.append(frozenset(digest for digest in digests if digest is not None))
    return found


def _split(
    table: Table, images: list[frozenset[str]], seed: int, on_leak: OnLeak
) -> tuple[tuple[str, ...], tuple[str, ...], list[int]]:
    """Patient and split of every case, and the rows that stay."""
    patients = table.patients or table.ids
    if table.split_of is None:
        split_of = assign(table.people or patients, images, seed)
        return patients, split_of, list(range(len(table.ids)))
    drop, notices = guard(table.source, table.ids, patients, table.split_of, images, on_leak)
    table.notices.extend(notices)
    return patients, table.split_of, [row for row in range(len(table.ids)) if row not in drop]


def _ordered(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Images first, then masks, then the rest, each in the order of the file."""
    order = {"image": 0, "mask": 1}
    return dict(sorted(columns.items(), key=lambda item: order.get(item[1].kind, 2)))


def _ranges(
    table: Table,
    columns: Mapping[str, Column],
    seen: Mapping[str, Seen],
    training: Sequence[int],
    asked: Range | Mapping[str, Range] | None,
) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for key, column in columns.items():
        if column.kind != "image":
            continue
        given = asked.get(key) if isinstance(asked, Mapping) else asked
        if given is not None:
            low, high = float(given[0]), float(given[1])
            if not -math.inf < low < high < math.inf:
                raise UserError(
                    f"--range {low:g} {high:g}: LOW must be less than HIGH, both finite"
                )
            ranges[key] = (low, high)
            if told := outside(seen[key].values, ranges[key], key, table.source):
                table.notices.append(told)
            continue
        empty = without_image(columns, key)
        there = [row for row in range(len(table.ids)) if row not in empty]
        rows = [row for row in training if row not in empty] or there
        ranges[key], notice = value_range(column, seen[key].ranges, rows, key, table.source)
        if notice:
            table.notices.append(notice)
    return ranges


def _class_names(table: Table, columns: Mapping[str, Column]) -> tuple[str, ...]:
    if "label" not in columns:
        return ()
    labels = [int(label) for label in columns["label"].stack(range(len(table.ids)))]
    if table.label_names is None:
        return ()
    names: dict[int, str] = {}
    for row, (label, name) in enumerate(zip(labels, table.label_names, strict=True)):
        if names.setdefault(label, name) != name:
            raise UserError(
                f"{table.source}: label {label} is called {names[label]!r} and, in case "
                f"{table.ids[row]}, {name!r}"
            )
    return tuple(names.get(label, str(label)) for label in range(max(labels) + 1))


def from_iterable(
    items: Iterable[Mapping[str, Any]],
    *,
    mapping: Mapping[str, str] = {},
    range: Range | Mapping[str, Range] | None = None,
    size: tuple[int, ...] | None = None,
    seed: int = 0,
    on_leak: OnLeak = "auto",
    orientation: str = "",
    codes: Sequence[int] = (),
    slices: Cut = "none",
    roles: Sequence[str] = (),
) -> Cases:
    """Cases from any iterable of dicts of tensors, such as a MONAI or TorchIO data set.

    Values may be tensors, arrays, MONAI MetaTensors or TorchIO images `(C, *S)`; numbers; and text.
    Keys `case`, `patient`, `split`, `label` and names of masks mean what they mean in a file.
    An `affine` that a value carries is kept. Everything is held in memory.

    Args:
        items: one dict for each case.
        mapping, range, size, seed, on_leak, orientation, codes, slices, roles: as in `open_cases`.

    Raises:
        UserError: as in `open_cases`, and where dicts differ in their keys.
    """
    from .memory import table_from

    table = table_from(items)
    return cases_from(
        table,
        mapping=mapping,
        range=range,
        size=size,
        seed=seed,
        on_leak=on_leak,
        orientation=orientation,
        codes=codes,
        slices=slices,
        roles=roles,
    )
