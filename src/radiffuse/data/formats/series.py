"""A folder of DICOM files as a table, one case a series."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import UserError
from ..columns import FileColumn
from ..table import Table, listener, numbered


def open_dicom(folder: Path, files: Sequence[Path]) -> Table | None:
    """A folder of DICOM files as a table with one case per series; None where it holds none.

    An X-ray series whose images have no place in space gives one case per image.
    """
    import pydicom

    tags = ["SeriesInstanceUID", "PatientID", "ImagePositionPatient", "Rows", "SeriesDescription"]
    groups: dict[str, list[tuple[Path, Any]]] = defaultdict(list)
    for file in files:
        try:
            header = pydicom.dcmread(file, specific_tags=tags, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        except (OSError, EOFError, ValueError, KeyError):
            raise UserError(f"{file}: is damaged or cut short") from None
        if "Rows" in header:
            placed = "ImagePositionPatient" in header
            uid = str(header.get("SeriesInstanceUID", ""))
            groups[uid if placed else f"{uid} {file}"].append((file, header))
    if not groups:
        return None
    return _series_table(folder, list(groups.values()))


def _series_table(folder: Path, series: Sequence[Sequence[tuple[Path, Any]]]) -> Table:
    names, people = [], []
    paths: list[tuple[Path, ...]] = []
    for members in series:
        header = members[0][1]
        person = str(header.get("PatientID", "") or "")
        about = str(header.get("SeriesDescription", "") or "series").replace("/", "-")
        names.append(f"{person or 'unknown'}_{about}".replace(" ", "-"))
        people.append(person)
        paths.append(tuple(file for file, _ in members))
    ids = numbered(names)
    patients = tuple(person or case for person, case in zip(people, ids, strict=True))
    notices: list[str] = []
    column = FileColumn(
        tuple(members[0] for members in paths), "image", listener(notices), members=tuple(paths)
    )
    return Table(str(folder), ids, {"image": column}, patients=patients, notices=notices)
