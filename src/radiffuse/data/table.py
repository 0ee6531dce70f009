"""A data set as its layout tells it: columns and what is known of each case, undecided."""

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import UserError
from .columns import ArrayColumn, Column, FileColumn, names_mask

SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "tr": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "ts": "test",
}  # fmt: skip
_MISSING = {"", "na", "nan", "n/a", "none", "unknown", "null"}
DESCRIBING = {
    "case": ("case",),
    "patient": (
        *("patient", "patientid", "subject", "subjectid", "participant", "participantid"),
        *("person", "personid", "patients", "patientids", "subjects", "subjectids", "participants"),
        *("participantids", "patientno", "patientnumber", "patientnr", "patientuid", "patientcode"),
        *("pid", "pids", "ptid", "subj", "subjid", "subjectlabel", "subjectcode", "mrn", "eid"),
    ),
    "split": ("split", "splits", "datasplit"),
    "slice": ("slice",),
    "label_name": ("labelname",),
}
"""What describes a case, and the names of columns that say it, in small letters and without what joins words."""
_MAY_SPLIT = ("set", "subset", "partition", "phase", "usage", "fold")
"""Names of columns that say the split where every word of theirs is one."""


@dataclass(frozen=True)
class Table:
    """What a reader of a layout found.

    Attributes:
        source: path, for messages.
        ids: name of each case.
        patients: patient of each case; None where unknown.
        split_of: split of each case; None where the layout gives none.
        columns: data by name, all of one length.
        texts: plain text by name; no tensors, but kept ("seq", "sex").
        label_names: name of the label of each case, where given.
        mask_names: names of stored labels per voxel, by column, where given.
        notices: one line for each thing a reader had to decide; grows while files are read.
        fingerprint: of contents, where it is known without reading (made data).
        default: mapping to use where the user gives none.
        people: whose each case is, where `patients` are pseudonyms: splits by person are drawn by it, and nothing
            shows it.
    """

    source: str
    ids: tuple[str, ...]
    columns: Mapping[str, Column]
    patients: tuple[str, ...] | None = None
    split_of: tuple[str, ...] | None = None
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    mask_names: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    fingerprint: str | None = None
    default: Mapping[str, str] = field(default_factory=dict)
    people: tuple[str, ...] | None = field(default=None, repr=False)


def labels_named(content: Mapping[str, Any]) -> dict[int, str]:
    """Names of labels by their numbers, as dataset.json has them: "labels" of Decathlon ("1": "liver") and of
    nnU-Net ("liver": 1); the background and regions of several labels are left out."""
    given = content.get("labels")
    found: dict[int, str] = {}
    for one, other in given.items() if isinstance(given, dict) else ():
        number, name = (one, other) if isinstance(other, str) else (other, one)
        if isinstance(number, int | str) and str(number).isdecimal() and int(number) > 0:
            found[int(number)] = str(name)
    return found


def listener(notices: list[str]) -> Callable[[str], None]:
    """Something that writes each new line into `notices` once."""

    heard = set(notices)

    def hear(line: str) -> None:
        if line not in heard:
            heard.add(line)
            notices.append(line)

    return hear


def known_split(word: str, where: str) -> str:
    """ "validation" -> "val" and the like; UserError for any other word."""
    try:
        return _SPLIT_WORDS[word.strip().lower()]
    except KeyError:
        raise UserError(f"{where}: split {word!r} is none of train, val, test") from None


def splits_of(words: Sequence[str], where: str) -> tuple[str, ...]:
    """Every word as one of train, val, test."""
    known = {word: known_split(word, where) for word in set(words)}
    return tuple(known[word] for word in words)


def numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Unique ids: a name that occurs several times gets a running number."""
    count: dict[str, int] = {}
    for name in names:
        count[name] = count.get(name, 0) + 1
    seen: dict[str, int] = {}
    out = []
    for name in names:
        if count[name] == 1:
            out.append(name)
        else:
            seen[name] = seen.get(name, 0) + 1
            out.append(f"{name}_{seen[name]:0{len(str(count[name]))}d}")
    return tuple(out)


def row_ids(count: int) -> tuple[str, ...]:
    """ "0000", "0001", ...: ids where a data set gives none."""
    return tuple(f"{row:0{max(4, len(str(count)))}d}" for row in range(count))


def numbers(values: Sequence[str]) -> torch.Tensor | None:
    """Text cells as float64, missing ones as NaN; None where they are not all numbers."""
    out = []
    for value in values:
        if value.strip().lower() in _MISSING:
            out.append(math.nan)
            continue
        try:
            out.append(float(value))
        except ValueError:
            return None
    found = torch.tensor(out, dtype=torch.float64)
    return None if bool(found.isnan().all()) else found


def labels_from(values: torch.Tensor, where: str, ids: Sequence[str]) -> ArrayColumn:
    """A label column: whole numbers from 0.

    Raises:
        UserError: fractions, missing or negative labels, or a label far beyond the number of
            classes (a code such as 2001 rather than a class).
    """
    values = values.reshape(len(values))
    if values.is_complex():
        raise UserError(f"{where}: labels must be whole numbers 0, 1, 2 ..., and these are complex")
    numeric = values.double()
    bad = ~torch.isfinite(numeric) | (numeric != numeric.round())
    if bool(bad.any()):
        case = ids[int(bad.nonzero()[0])]
        raise UserError(
            f"{where}: labels must be whole numbers 0, 1, 2 ...; case {case} has "
            f"{float(numeric[bad][0]):g} ({int(bad.sum())} such)"
        )
    if bool((numeric < 0).any()):
        negative = numeric < 0
        raise UserError(
            f"{where}: labels must not be negative; case {ids[int(negative.nonzero()[0])]} has "
            f"{int(numeric[negative][0])} ({int(negative.sum())} such)"
        )
    distinct, top = len(torch.unique(numeric)), int(numeric.max())
    if top >= 1000 and top >= 10 * distinct:
        raise UserError(
            f"{where}: label {top} of case {ids[int(numeric.argmax())]} is out of range: there are "
            f"only {distinct} different labels; number the classes 0 to {distinct - 1}"
        )
    return ArrayColumn(values.long(), "label", where)


def labels_from_text(
    values: Sequence[str], where: str, ids: Sequence[str]
) -> tuple[ArrayColumn, tuple[str, ...]]:
    """Text labels as classes in alphabetical order, and the name of each case's class.

    Raises:
        UserError: a label is missing.
    """
    for case, value in zip(ids, values, strict=True):
        if not value.strip():
            raise UserError(f"{where}: case {case} has no label")
    order = {name: number for number, name in enumerate(sorted(set(values)))}
    data = torch.tensor([order[value] for value in values], dtype=torch.long)
    return ArrayColumn(data, "label", where), tuple(values)


def file_column(paths: Sequence[Path], name: str, notices: list[str]) -> FileColumn:
    """A column of image files."""
    for path in paths:
        if not path.exists():
            raise UserError(f"{path}: no such file (named by column {name!r})")
    return FileColumn(tuple(paths), "mask" if names_mask(name) else "image", listener(notices))


def strings(array: np.ndarray) -> tuple[str, ...]:
    """A 1-D array of anything plain as text; bytes are UTF-8."""
    values = array.reshape(len(array)).tolist()
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values)


def describing(
    names: Sequence[str],
    where: str,
    notices: list[str],
    words_of: Callable[[str], Iterable[str]] = lambda name: (),
) -> dict[str, str]:
    """Which column says what of a case ("patient" -> "PatientID"); a notice names those of another spelling.

    Args:
        names: of columns.
        where: for messages.
        notices: are told of other spellings.
        words_of: what a column holds.

    Raises:
        UserError: two columns of one spelling but for its capitals.
    """
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault("".join(c for c in name.lower() if c.isalnum()), []).append(name)
    found = {}
    splits = [
        word
        for word in _MAY_SPLIT
        if (
            held := {
                each.strip().lower() for name in plain.get(word, ()) for each in words_of(name)
            }
        )
        and held <= {*_SPLIT_WORDS}
    ]
    for role, words in {**DESCRIBING, "split": (*DESCRIBING["split"], *splits)}.items():
        said = next((plain[word] for word in words if word in plain), [])
        if len(said) > 1:
            raise UserError(
                f"{where}: {' and '.join(said)} both say the {role} of a case; keep one"
            )
        if said:
            found[role] = said[0]
            if said[0].lower() != role:
                notices.append(f"{where}: {said[0]} is taken as the {role} of each case")
    return found


def persons(
    meta: Mapping[str, Sequence[str]], ids: Sequence[str], where: str, notices: list[str]
) -> tuple[str, ...] | None:
    """Patients as `meta` names them, one spelling of Unicode each; None where it does not, with a notice where
    cases are about to be split by patient.

    Raises:
        UserError: a case names none, so that nobody knows whom it must not be parted from.
    """
    if "patient" not in meta:
        if "split" not in meta and len(ids) > 1:
            notices.append(
                f"{where}: no patient is known (a column patient); each case counts as one person"
            )
        return None
    names = meta["patient"]
    blank = [case for case, name in zip(ids, names, strict=True) if name.strip() in ("", "nan")]
    if blank:
        raise UserError(
            f"{where}: case {blank[0]} names no patient ({len(blank)} such); name one for each case"
        )
    return tuple(unicodedata.normalize("NFC", name) for name in names)
