"""`cases.csv`: one case a row, cells are paths or values."""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ...errors import UserError
from ..columns import ArrayColumn, Column
from ..gaps import Gapped
from ..table import (
    Table,
    describing,
    file_column,
    labels_from,
    labels_from_text,
    numbers,
    persons,
    splits_of,
)
from .csv_people import people_of_headers
from .stems import slashed
from .stored import DICOM, ENDINGS, ending

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
"""What may stand between cells."""
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def open_csv(path: Path) -> Table:
    """`cases.csv`: one case per row, cells separated by comma, semicolon or tab.

    Columns case, patient, split are metadata, in capitals or not; PatientID, subject and the like name the
    patient too. Each other column holds paths relative to the folder
    of the file, numbers, or text. Numbers may be missing (NaN), also written "unknown"; where cells
    are separated by semicolons a number may have a decimal comma.

    Raises:
        UserError: unreadable, no rows, ragged rows, no path, a path that leads nowhere.
    """
    notices: list[str] = []
    cells = cells_of(path, notices)
    return _table(path, cells, len(next(iter(cells.values()))), notices)


def cells_of(path: Path, notices: list[str] | None = None) -> dict[str, tuple[str, ...]]:
    """The cells of a table by the name of their column, without spaces around them.

    Args:
        path: of the table.
        notices: are told of decimal commas, which become points; None: cells stay as they are.

    Raises:
        UserError: unreadable, no rows, ragged rows, a column that stands twice.
    """
    rows, separator = _rows(path)
    if len(rows) < 2:
        raise UserError(f"{path}: holds no case (a heading and one row per case are needed)")
    head = [cell.strip() for cell in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise UserError(f"{path}: line {number} has {len(row)} cells, the heading {len(head)}")
    if len(set(head)) < len(head):
        raise UserError(f"{path}: a column name stands twice in {', '.join(head)}")
    cells = {name: tuple(row[i].strip() for row in rows[1:]) for i, name in enumerate(head)}
    if separator == ";" and notices is not None:
        return {name: _with_points(values, name, path, notices) for name, values in cells.items()}
    return cells


def _rows(path: Path) -> tuple[list[list[str]], str]:
    """Rows that are not empty, and what separates their cells."""
    try:
        text = _decoded(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: is not UTF-8 text (byte {error.start}); save it as CSV UTF-8"
        ) from None
    named = re.match(r'"?sep=(.)"?\r?\n', text)
    if named:
        text = text[named.end() :]
    try:
        separator = named[1] if named else _separator(text)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return [row for row in lines if any(cell.strip() for cell in row)], separator
    except csv.Error as error:
        raise UserError(f"{path}: cannot be read as CSV ({error})") from None


def _decoded(content: bytes) -> str:
    """UTF-8, or UTF-16 where its mark says so (Excel's "Unicode text")."""
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if utf16 else "utf-8-sig")


def _separator(text: str) -> str:
    """Of comma, semicolon and tab the one that makes most cells of the heading."""
    heading = next((line for line in text.splitlines() if line.strip()), "")
    cells = {mark: len(next(csv.reader([heading], delimiter=mark), [])) for mark in SEPARATORS}
    return max(cells, key=lambda mark: cells[mark])


def _with_points(
    values: tuple[str, ...], name: str, path: Path, notices: list[str]
) -> tuple[str, ...]:
    """Numbers with a decimal comma, with a point; other columns as they are."""
    if not any(_DECIMAL_COMMA.fullmatch(value) for value in values):
        return values
    pointed = tuple(value.replace(",", ".") for value in values)
    if numbers(pointed) is None:
        return values
    notices.append(f"{path}: the comma in numbers of column {name} is read as a decimal point")
    return pointed


def _table(path: Path, cells: dict[str, tuple[str, ...]], count: int, notices: list[str]) -> Table:
    names = describing([*cells], str(path), notices, cells.__getitem__)
    meta = {role: cells[name] for role, name in names.items()}
    data = {name: values for name, values in cells.items() if name not in names.values()}
    ids = meta.get("case") or tuple(f"{row:04d}" for row in range(count))
    twice = sorted(case for case, times in Counter(ids).items() if times > 1)
    if twice:
        raise UserError(f"{path}: case {twice[0]} stands twice ({len(twice)} such)")
    columns: dict[str, Column] = {}
    texts = {"slice": meta["slice"]} if "slice" in meta else {}
    label_names = meta.get("label_name")
    files: list[Sequence[str]] = []
    for name, values in data.items():
        where = f"{path}: column {name}"
        if _are_paths(values, path.parent):
            files.append(values)
            columns[_role(name)] = _files(values, where, path, name, notices)
            continue
        found = numbers(values)
        if name == "label" and found is not None:
            columns[name] = labels_from(found, where, ids)
        elif name == "label":
            columns[name], label_names = labels_from_text(values, where, ids)
        elif found is not None:
            columns[name] = _scalars(found, where)
        else:
            texts[name] = values
    if not files:
        raise UserError(
            f"{path}: no column names image files (columns: {', '.join(cells)}); a cell is a path "
            f"relative to {path.parent} that ends in {' '.join(ENDINGS)}, or a DICOM folder"
        )
    patients, people = _people(meta, ids, files, path, notices)
    return Table(
        source=str(path),
        ids=ids,
        columns=columns,
        patients=patients,
        split_of=splits_of(meta["split"], str(path)) if "split" in meta else None,
        texts=texts,
        label_names=label_names,
        notices=notices,
        people=people,
    )


def _people(
    meta: Mapping[str, Sequence[str]],
    ids: Sequence[str],
    files: Sequence[Sequence[str]],
    path: Path,
    notices: list[str],
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Patients as they may be shown, and as headers call them where only these do."""
    may_be = any(ending(value) in ("", *DICOM) for each in files for value in each if value)
    if "patient" not in meta and len(ids) > 1 and may_be:
        of_case = [
            [path.parent / slashed(path.parent, v) for v in each if v]
            for each in zip(*files, strict=True)
        ]
        found = people_of_headers(of_case, ids, str(path), notices)
        if found is not None:
            return found
    return persons(meta, ids, str(path), notices), None


def _scalars(found: torch.Tensor, where: str) -> ArrayColumn:
    return ArrayColumn(found.float(), "scalar", where)


def _role(name: str) -> str:
    """A column "label" of image files is a mask: "label" is the class of a case."""
    return "mask" if name == "label" else name


def _are_paths(values: Sequence[str], folder: Path) -> bool:
    """Whether cells name files of a format known here, or the first that says anything does exist."""
    said = [value for value in values if value]
    if not said:
        return False
    if all(ending(value) for value in said):
        return True
    return numbers(values) is None and (folder / slashed(folder, said[0])).exists()


def _files(values: Sequence[str], where: str, path: Path, name: str, notices: list[str]) -> Column:
    """The files that cells name; an empty cell is a gap."""
    there = [value for value in values if value]
    column = file_column(
        [path.parent / slashed(path.parent, value) for value in there], name, notices
    )
    if len(there) == len(values):
        return column
    rows = iter(range(len(there)))
    return Gapped(column, tuple(next(rows) if value else -1 for value in values), where)
