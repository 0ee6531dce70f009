"""Layouts: which files make a data set, and which file is which case and role."""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import ArrayColumn, Column
from ..files import read_json
from ..table import (
    Table,
    file_column,
    known_split,
    labels_from,
    labels_from_text,
    numbered,
    numbers,
    splits_of,
)
from .arrays import open_arrays
from .fastmri import open_fastmri
from .stored import DICOM, ending

_METADATA = ("case", "patient", "split", "slice", "label_name")
_NUMBERED = re.compile(r"(.+?)[_-]((?:slice|slc|sl|z|frame|fr)[_-]?)?\d+", re.IGNORECASE)
_SPLIT_FOLDERS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def open_table(path: Path) -> Table:
    """Find the layout of `path` and read its table.

    Raises:
        UserError: no such path, an empty folder, or no layout known here.
    """
    name = path.name.lower()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; a data set made here is named 'brains'")
    if path.is_file():
        if name.endswith((".npz", ".npy")):
            return open_arrays(path)
        if name.endswith((".h5", ".hdf5")):
            from .ismrmrd import is_ismrmrd, open_ismrmrd

            return open_ismrmrd(path) if is_ismrmrd(path) else open_fastmri(path)
        if name.endswith(".csv"):
            return open_csv(path)
        if name.endswith(".json"):
            return open_decathlon(path)
        return open_files([path], path)
    if (path / "cases.csv").is_file():
        return open_csv(path / "cases.csv")
    if (path / "dataset.json").is_file():
        return open_decathlon(path / "dataset.json")
    return open_folder(path)


def open_csv(path: Path) -> Table:
    """`cases.csv`: one case per row.

    Columns case, patient, split are metadata; each other column holds paths relative to the folder
    of the file, numbers, or text. Numbers may be missing (NaN), also written "unknown".

    Raises:
        UserError: unreadable, no rows, ragged rows, a path that leads nowhere.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None
    if len(rows) < 2:
        raise UserError(f"{path}: holds no case (a heading and one row per case are needed)")
    head = [cell.strip() for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise UserError(f"{path}: line {number} has {len(row)} cells, the heading {len(head)}")
    if len(set(head)) < len(head):
        raise UserError(f"{path}: a column name stands twice in {', '.join(head)}")
    cells = {name: tuple(row[i].strip() for row in rows[1:]) for i, name in enumerate(head)}
    return _csv_table(path, cells, len(rows) - 1)


def _csv_table(path: Path, cells: dict[str, tuple[str, ...]], count: int) -> Table:
    ids = cells.get("case") or tuple(f"{row:04d}" for row in range(count))
    twice = sorted({case for case in ids if ids.count(case) > 1}) if len(set(ids)) < count else []
    if twice:
        raise UserError(f"{path}: case {twice[0]} stands twice ({len(twice)} such)")
    notices: list[str] = []
    columns: dict[str, Column] = {}
    texts = {"slice": cells["slice"]} if "slice" in cells else {}
    label_names = cells.get("label_name")
    for name, values in cells.items():
        if name in _METADATA:
            continue
        where = f"{path}: column {name}"
        if _are_paths(values, path.parent):
            columns[_role(name)] = file_column([path.parent / v for v in values], name, notices)
            continue
        found = numbers(values)
        if name == "label" and found is not None:
            columns[name] = labels_from(found, where, ids)
        elif name == "label":
            columns[name], label_names = labels_from_text(values, where, ids)
        elif found is not None:
            columns[name] = ArrayColumn(found.float(), "scalar", where)
        else:
            texts[name] = values
    return Table(
        source=str(path),
        ids=ids,
        columns=columns,
        patients=cells.get("patient"),
        split_of=splits_of(cells["split"], str(path)) if "split" in cells else None,
        texts=texts,
        label_names=label_names,
        notices=notices,
    )


def _role(name: str) -> str:
    """A column "label" of image files is a mask: "label" is the class of a case."""
    return "mask" if name == "label" else name


def _are_paths(values: Sequence[str], folder: Path) -> bool:
    """Every cell names a file of a format known here, or the first one an existing folder."""
    if all(ending(value) for value in values):
        return True
    return bool(values[0]) and numbers(values) is None and (folder / values[0]).exists()


def open_decathlon(path: Path) -> Table:
    """Medical Segmentation Decathlon / MONAI `dataset.json`.

    "training" (or "train") and "validation" lists of {"image", "label"}; "test" a list of paths or
    of such objects. Cases without a mask are left out if others have one, with a notice. The split
    is the file's where it names validation or test cases that have a mask, else made from patients.

    Raises:
        UserError: not such a file, or a path that leads nowhere.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no Decathlon dataset.json (an object with 'training')")
    found: list[tuple[str, dict[str, str]]] = []
    for word in ("training", "train", "validation", "val", "test"):
        for item in content.get(word) or []:
            found.append((known_split(word, str(path)), _decathlon_item(item, path)))
    if not found:
        raise UserError(f"{path}: lists no case under 'training', 'validation' or 'test'")
    notices: list[str] = []
    masked = [entry for entry in found if "label" in entry[1]]
    if masked and len(masked) < len(found):
        left = len(found) - len(masked)
        notices.append(f"{path}: {left} cases without a mask are left out")
        found = masked
    images = [path.parent / entry["image"] for _, entry in found]
    columns: dict[str, Column] = {"image": file_column(images, "image", notices)}
    if masked:
        masks = [path.parent / entry["label"] for _, entry in found]
        columns["mask"] = file_column(masks, "mask", notices)
    splits = tuple(split for split, _ in found)
    names = numbered([_stem(image) for image in images])
    given = splits if len(set(splits)) > 1 else None
    return Table(str(path), names, columns, split_of=given, notices=notices)


def _decathlon_item(item: Any, path: Path) -> dict[str, str]:
    entry = {"image": item} if isinstance(item, str) else item
    if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
        raise UserError(f"{path}: a case must be a path or an object with 'image', found {item!r}")
    return {key: entry[key] for key in ("image", "label") if isinstance(entry.get(key), str)}


def open_folder(folder: Path) -> Table:
    """A plain folder of images.

    Sub-folders train, val, test are splits; other sub-folders are classes (one level), named by
    the folder. Files of DICOM series make one case per series.

    Raises:
        UserError: no image in it, classes for some images only.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not files:
        raise UserError(f"{folder}: is an empty folder")
    images = [file for file in files if ending(file) and ending(file) not in DICOM]
    if images:
        return open_files(images, folder)
    from .series import open_dicom

    table = open_dicom(folder, files)
    if table is not None:
        return table
    from .proteins import open_pdb

    chains = [file for file in files if file.suffix.lower() in (".pdb", ".ent")]
    if chains:
        return open_pdb(chains, folder)
    raise UserError(
        f"{folder}: holds {len(files)} files but no image, no cases.csv and no dataset.json"
    )


def open_files(files: Sequence[Path], root: Path) -> Table:
    """One image file per case; patients are guessed from names such as p01_slice003.

    Raises:
        UserError: classes for some images only.
    """
    notices: list[str] = []
    parts = [file.relative_to(root).parts[:-1] if root.is_dir() else () for file in files]
    split_of = None
    if all(part and part[0].lower() in _SPLIT_FOLDERS for part in parts):
        split_of = tuple(known_split(part[0], str(root)) for part in parts)
        parts = [part[1:] for part in parts]
    columns: dict[str, Column] = {"image": file_column(files, "image", notices)}
    names = numbered([_stem(file) for file in files])
    label_names = None
    classes = {part[0] for part in parts if part}
    if any(parts) and not all(parts):
        lone = next(file for file, part in zip(files, parts, strict=True) if not part)
        raise UserError(
            f"{root}: some images lie in sub-folders (classes {', '.join(sorted(classes)[:3])}) "
            f"and some do not ({lone.name}); move them into one, or write a cases.csv"
        )
    if classes and (len(classes) > 1 or split_of is not None):
        words = [part[0] for part in parts]
        columns["label"], label_names = labels_from_text(words, str(root), names)
    # a guess at who is who does not overrule a split that somebody made
    patients = None if split_of else _patients([_stem(file) for file in files])
    if len(files) > 1:
        notices.append(f"{root}: {_who(patients)}; name patients in a cases.csv")
    return Table(
        str(root), names, columns, patients, split_of, label_names=label_names, notices=notices
    )


def _patients(stems: Sequence[str]) -> tuple[str, ...] | None:
    """Patient of each file where names tell: p01_slice003, p01_004; None where they do not.

    What stands before a bare number names a patient only if it has a number of its own: img_001,
    img_002 are a count of files, and so is normal_001.
    """
    begins = []
    for stem in stems:
        found = _NUMBERED.fullmatch(stem)
        named = found and (found[2] or re.search(r"\d", found[1]))
        begins.append(found[1] if found and named else stem)
    patients = set(begins)
    return tuple(begins) if 1 < len(patients) < len(begins) else None


def _who(patients: Sequence[str] | None) -> str:
    if patients is None:
        return "no patient is known; each file counts as one, slices of one person too"
    (name, most), *_ = Counter(patients).most_common(1)
    return (
        f"no patient is known; files that begin alike count as one ({len(set(patients))} patients, "
        f"{most} files of {name})"
    )


def _stem(path: Path) -> str:
    return path.name[: len(path.name) - len(ending(path))] or path.name
