"""DICOM series as cases: what each is made of, what it is called, whose it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..table import numbered
from .dicom_values import text
from .pseudonyms import Names, of_person, of_series
from .who import ABOUT, people

__all__ = ["Called", "Series", "called", "pseudonym_of"]


@dataclass(frozen=True)
class Series:
    """Files, or frames of one, that make a case.

    Attributes:
        files: of the series, in the order of their names.
        header: of one of them, which names the patient if any does.
        frames: which frames of its only file; None for all of its files.
        part: what tells it from other volumes of its series, "EchoTime-80"; "" where it is alone.
    """

    files: tuple[Path, ...]
    header: Any
    frames: tuple[int, ...] | None = None
    part: str = ""

    @property
    def ending(self) -> str:
        """What tells the case from others of its series."""
        one = self.frames is not None and not self.part
        frame = f"_frame{self.frames[0] + 1:04d}" if one and self.frames else ""
        return f"{f'_{self.part}' if self.part else ''}{frame}"


@dataclass(frozen=True)
class Called:
    """How the cases of a data set are called.

    Attributes:
        ids: name of each case.
        patients: of each case, as it may be shown.
        people: of each case, as headers say; the split by person is drawn by it, and nothing shows it.
        told: lines on what was taken as a person.
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    people: tuple[str, ...]
    told: tuple[str, ...]


def called(series: Sequence[Series], folder: Path, names: Names) -> Called:
    """Name cases, by pseudonyms of patient and series or plainly by PatientID and SeriesDescription.

    A file that was named by itself gives its own name to its case.
    """
    plain = numbered([_plain(one) for one in series])
    alone = folder.is_file() and len(series) == 1
    ids = (folder.stem,) if alone else plain
    persons = [text(one.header, "PatientID") for one in series]
    studies = [text(one.header, "StudyInstanceUID") for one in series]
    about = [[text(one.header, name) for name in ABOUT] for one in series]
    found, told = people(persons, studies, ids, about)
    if names == "plain":
        return Called(ids, found, found, tuple(told))
    shown = tuple(of_person(person) for person in found)
    words = [
        f"{person}-{pseudonym_of(one.header, one.files[0], folder)}{one.ending}"
        for person, one in zip(shown, series, strict=True)
    ]
    return Called(ids if alone else numbered(_safe(words)), shown, found, tuple(told))


def pseudonym_of(header: Any, file: Path, folder: Path) -> str:
    """Of a series: by its UID, without one by its folder in the data set."""
    uid = text(header, "SeriesInstanceUID")
    inside = file.parent.relative_to(folder) if folder in file.parents else Path()
    return of_series(uid or f"{text(header, 'StudyInstanceUID')} {inside.as_posix()}")


def _plain(one: Series) -> str:
    about = text(one.header, "SeriesDescription") or "series"
    person = text(one.header, "PatientID") or "unknown"
    return _safe([f"{person}_{about}{one.ending}"])[0]


def _safe(names: Sequence[str]) -> list[str]:
    return [re.sub(r"[^\w.+-]+", "-", name) for name in names]
