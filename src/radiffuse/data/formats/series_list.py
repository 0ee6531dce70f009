"""A table of the DICOM series in a folder: those that are read, and what else there is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .chosen import fits, heading
from .dicom import sorted_out, without_copies
from .dicom_file import is_dicom
from .dicom_frames import Frame, Opened, opened, placed
from .dicom_parts import parts
from .dicom_stack import PLACE_MM, ordered
from .dicom_values import harmless, text
from .pseudonyms import EVERY, Choice, of_person
from .series import by_series, series_in
from .series_names import pseudonym_of

__all__ = ["Listing", "SeriesRow", "listed"]

PLANES = ("sagittal", "coronal", "axial")
"""By the axis of the patient that is nearest to their normal."""


@dataclass(frozen=True)
class SeriesRow:
    """What is told of a series.

    Attributes:
        series: its pseudonym.
        patient: pseudonym, or PatientID where names are plain.
        number: SeriesNumber; "" where it has none.
        modality: Modality.
        what: "images", or the kind of object that it is.
        cases: that it gives.
        files: of it.
        size: "rows x columns", "" where there is none.
        slices: images of it.
        spacing: mm between rows, columns and slices, as far as it is known.
        plane: axial, coronal or sagittal, and by how many degrees it is tilted; "" where it says no place.
        description, uid: SeriesDescription and SeriesInstanceUID; "" unless names are plain.
        refused: why it gives no case; "" where it does.
    """

    series: str
    patient: str
    number: str
    modality: str
    what: str
    cases: int
    files: int
    size: str
    slices: int
    spacing: tuple[float, ...]
    plane: str
    description: str
    uid: str
    refused: str


@dataclass(frozen=True)
class Listing:
    """Series of a folder, and files that belong to none.

    Attributes:
        series: by patient and number.
        hidden: files whose names begin with a dot, which are not looked into.
        others: files that are no DICOM.
    """

    series: tuple[SeriesRow, ...]
    hidden: int
    others: int


def listed(path: Path, choice: Choice = EVERY) -> Listing:
    """Every series in a folder, or of one file; of the images only those chosen.

    Args:
        path: folder or file.
        choice: which series of images, and whether names are shown.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    shown = [file for file in files if not file.name.startswith(".")]
    peeked = [one for file in shown if is_dicom(file) and (one := opened(file, peeking=True))]
    found = without_copies(peeked, lambda line: None)
    rows = []
    for group in by_series(found, lambda line: None):
        row = _row(group, path, choice)
        header, name = heading(group), pseudonym_of(heading(group), group[0].file, path)
        if not choice.series or any(fits(header, name, word) for word in choice.series):
            rows.append(row)
    rows.sort(key=lambda row: (row.patient, len(row.number), row.number, row.series))
    return Listing(tuple(rows), len(files) - len(shown), len(shown) - len(peeked))


def _row(group: Sequence[Opened], path: Path, choice: Choice) -> SeriesRow:
    header, plain = heading(group), choice.names == "plain"
    kept, _ = sorted_out(group)
    frames = [frame for one in kept for frame in one.frames]
    cases, refused = _cases(group, kept, path)
    person = text(header, "PatientID") or text(header, "StudyInstanceUID")
    spacing, plane = _lie(frames)
    return SeriesRow(
        series=pseudonym_of(header, group[0].file, path),
        patient=(person if plain else of_person(person)) if person else "",
        number=harmless(text(header, "SeriesNumber"), ""),
        modality=harmless(text(header, "Modality"), ""),
        what="images" if frames else _kind(header),
        cases=cases,
        files=len(group),
        size=f"{frames[0].header.Rows} x {frames[0].header.Columns}" if frames else "",
        slices=len(frames),
        spacing=spacing,
        plane=plane,
        description=text(header, "SeriesDescription") if plain else "",
        uid=text(header, "SeriesInstanceUID") if plain else "",
        refused=refused,
    )


def _cases(group: Sequence[Opened], kept: Sequence[Opened], path: Path) -> tuple[int, str]:
    """How many cases a series gives, or why none."""
    if not kept:
        return 0, ""
    try:
        cases = series_in([group], lambda line: None)
        if placed(kept[0].frames[0]):
            for part in parts(kept):
                ordered(part.pictures, path)
        return len(cases), ""
    except UserError as error:
        return 0, str(error)


def _kind(header: Any) -> str:
    """What an object without images is: the name of its class in the standard."""
    from pydicom.uid import UID

    if header is None:
        return "damaged"
    name = UID(text(header, "SOPClassUID")).name
    return name.removesuffix(" Storage") if not name[:1].isdigit() else "no image"


def _lie(frames: Sequence[Frame]) -> tuple[tuple[float, ...], str]:
    """Spacing in mm and plane of a series."""
    if not frames:
        return (), ""
    first = frames[0]
    spacing = first.spacing or ()
    if not placed(first) or first.axes is None:
        return spacing, ""
    normal = np.cross(*first.axes)
    axis = int(np.abs(normal).argmax())
    tilt = round(float(np.degrees(np.arccos(min(1.0, abs(float(normal[axis])))))))
    plane = f"{PLANES[axis]} {tilt}°" if tilt else PLANES[axis]
    if not all(map(placed, frames)):
        return spacing, plane
    along = np.sort([float(frame.place @ normal) for frame in frames if frame.place is not None])
    steps = np.diff(along)
    apart = steps[steps > PLACE_MM]
    step = float(np.median(apart)) if len(apart) else first.thickness
    return (*spacing, *([round(step, 4)] if step and spacing else [])), plane
