"""Codes of labels: what a segment is, in the words of SNOMED CT, from a file or from the names of labels."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError
from .equipment import SCHEME, local_code

__all__ = ["COLUMNS", "Label", "Naming", "labels_of", "read_codes"]

Code = tuple[str, str, str]
"""Value, scheme, meaning."""
COLUMNS = (
    *("value", "name"),
    *("category_code", "category_scheme", "category_meaning"),
    *("type_code", "type_scheme", "type_meaning"),
)
COLOUR = "colour"
_TISSUE: Code = ("85756007", "SCT", "Tissue")
_ANATOMY: Code = ("91723000", "SCT", "Anatomical structure")
_LESION: Code = ("49755003", "SCT", "Morphologically abnormal structure")
_COLOURS = ("#e41a1c", "#377eb8", "#4daf4a", "#ff7f00", "#984ea3", "#a65628", "#f781bf", "#999999")


@dataclass(frozen=True)
class Label:
    """One label of a map.

    Attributes:
        value: its number in label maps, from 1; 0 is what is none.
        name: for a reader.
        category, type: codes of what it is (PS3.3 C.8.20.2).
        colour: "#rrggbb".
    """

    value: int
    name: str
    category: Code
    type: Code
    colour: str

    @property
    def lab(self) -> Any:
        """The colour as DICOM has it."""
        from highdicom.color import CIELabColor

        red, green, blue = (int(self.colour[k : k + 2], 16) for k in (1, 3, 5))
        return CIELabColor.from_rgb(red, green, blue)


def read_codes(path: Path) -> dict[int, Label]:
    """The labels of a CSV file with the columns `COLUMNS`, and optionally "colour" (#rrggbb), by their value.

    Raises:
        UserError: it cannot be read, or a row of it is not whole (named).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows, there = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    if missing := [name for name in COLUMNS if name not in there]:
        raise UserError(
            f"{path}: lacks columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}"
        )
    found: dict[int, Label] = {}
    for number, row in enumerate(rows, 2):
        label = _label(row, f"{path}: line {number}", len(found))
        if label.value in found:
            raise UserError(f"{path}: line {number}: value {label.value} is there twice")
        found[label.value] = label
    if not found:
        raise UserError(f"{path}: holds no label")
    return found


def _label(row: Mapping[str, str | None], where: str, place: int) -> Label:
    cells = {name: (row.get(name) or "").strip() for name in (*COLUMNS, COLOUR)}
    if empty := [name for name in COLUMNS if not cells[name]]:
        raise UserError(f"{where}: {', '.join(empty)} is empty")
    if not cells["value"].isdecimal() or not 0 < int(cells["value"]) < 65536:
        raise UserError(f"{where}: value is {cells['value']!r}; labels are 1, 2, 3 ...")
    colour = cells[COLOUR] or _COLOURS[place % len(_COLOURS)]
    if len(colour) != 7 or colour[0] != "#" or not _hexadecimal(colour[1:]):
        raise UserError(f"{where}: colour is {colour!r}; it is written #rrggbb")
    category, type_ = (
        (cells[f"{of}_code"], cells[f"{of}_scheme"], cells[f"{of}_meaning"][:64])
        for of in ("category", "type")
    )
    return Label(int(cells["value"]), cells["name"][:64], category, type_, colour)


def _hexadecimal(word: str) -> bool:
    return all(letter in "0123456789abcdefABCDEF" for letter in word)


@dataclass(frozen=True)
class Naming:
    """What the labels of a model are.

    Attributes:
        codes: read of a file; None: no file was given.
        names: of labels where they are known.
        abnormal: labels are what differs from healthy images.
    """

    codes: Mapping[int, Label] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    abnormal: bool = False


def labels_of(values: Sequence[int], naming: Naming, notice: Callable[[str], None]) -> list[Label]:
    """The labels `values`, from a file of codes or, with a notice, as their names say.

    Raises:
        UserError: the file lacks one of the values.
    """
    codes = naming.codes
    if codes is not None:
        if lost := [value for value in values if value not in codes]:
            told = ", ".join(map(str, lost))
            raise UserError(f"--codes: says nothing of label {told}; add a row for it")
        return [codes[value] for value in values]
    found = [
        _assumed(value, naming.names.get(value, ""), naming.abnormal, place)
        for place, value in enumerate(values)
    ]
    told = ", ".join(f"{one.value} = {one.name} ({' '.join(one.type[:2])})" for one in found)
    notice(f"codes of labels were assumed: {told}; --codes labels.csv says others")
    return found


def _assumed(value: int, name: str, abnormal: bool, place: int) -> Label:
    colour = _COLOURS[place % len(_COLOURS)]
    if abnormal:
        return Label(value, name or "anomaly", _LESION, _LESION, colour)
    if (known := _snomed(name)) is not None:
        return Label(value, name, _ANATOMY, known, colour)
    if name:
        own: Code = (f"LABEL_{value}", SCHEME, name[:64])
        return Label(value, name, _TISSUE, own, colour)
    return Label(value, f"label {value}", _TISSUE, _TISSUE, colour)


def _snomed(name: str) -> Code | None:
    """The SNOMED CT code of an anatomical name (pydicom's dictionary of the standard's context groups)."""
    from pydicom.sr.codedict import codes

    wanted = "".join(letter for letter in name.lower() if letter.isalpha())
    for keyword in codes.SCT.dir() if wanted else ():
        if keyword.lower() == wanted:
            code = getattr(codes.SCT, keyword)
            return code.value, "SCT", code.meaning
    return None


def concept(code: Code) -> Any:
    """A code as highdicom takes it."""
    from highdicom.sr import CodedConcept

    value, scheme, meaning = code
    if scheme == SCHEME:
        return local_code(value, meaning)
    return CodedConcept(value, scheme, meaning)
