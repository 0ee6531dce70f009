"""Whose the cases of a cases.csv are where it does not say and its cells name DICOM files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from .dicom_file import parsed
from .dicom_values import text
from .pseudonyms import of_person
from .stored import DICOM, ending
from .who import ABOUT, people

__all__ = ["people_of_headers"]

TRIED = 20
"""Files of a folder, of which the first that is DICOM says whose it is."""


def people_of_headers(
    files: Sequence[Sequence[Path]], ids: Sequence[str], where: str, notices: list[str]
) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Pseudonyms of the people that DICOM headers name, and what headers call them; None where no file is DICOM.

    Args:
        files: of each case; folders of slices among them.
        ids: of each case.
        where: for messages.
        notices: are told what was taken as a person.
    """
    headers = [next(_headers(each), None) for each in files]
    if not any(header is not None for header in headers):
        return None
    said = [
        ["" if header is None else text(header, name) for header in headers]
        for name in ("PatientID", "StudyInstanceUID", *ABOUT)
    ]
    persons, studies, *about = said
    found, told = people(persons, studies, ids, [*zip(*about, strict=True)])
    notices.append(
        f"{where}: no column says whose a case is; the headers of its DICOM files do ({len(set(found))} people)"
    )
    notices += [f"{where}: {line}" for line in told]
    return tuple(of_person(person) for person in found), found


def _headers(paths: Iterable[Path]) -> Any:
    """Headers of the DICOM files among some paths, without their pixels."""
    for path in paths:
        if ending(path) and ending(path) not in DICOM:
            continue
        inside = sorted(path.iterdir())[:TRIED] if path.is_dir() else [path]
        for file in inside:
            if (header := _header(file)) is not None:
                yield header


def _header(file: Path) -> Any:
    try:
        return parsed(file, peeking=True) if file.is_file() else None
    except UserError:
        return None  # said by whoever reads its pixels
