"""DICOM objects on disk: one received is kept whole or not at all."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels.utils import get_expected_length

from ..data.files import replacing
from .nodes import uid_of

__all__ = ["ENDING", "keep", "kept", "objects_of", "text_of", "whole"]

ENDING = ".dcm"


def keep(header: Dataset, folder: Path) -> Path:
    """Write an object as UID.dcm into a folder.

    Raises:
        ValueError: it lacks its end.
        UserError: it has no UID, or the disk is full.
    """
    path = folder / f"{uid_of(header.get('SOPInstanceUID', ''), 'an object')}{ENDING}"
    if not whole(header):
        raise ValueError("an object without its end")
    with replacing(path) as temporary:
        header.save_as(temporary, enforce_file_format=True)
    return path


def whole(header: Dataset) -> bool:
    """Whether the pixels of an object are all there; of compressed ones, whether their end is.

    A reader of DICOM leaves out pixels whose end it does not find.
    """
    if "PixelData" not in header:
        others = ("FloatPixelData", "DoubleFloatPixelData")
        return "Rows" not in header or any(name in header for name in others)
    if header.file_meta.TransferSyntaxUID.is_compressed:
        return True
    try:
        expected = get_expected_length(header)
    except (AttributeError, TypeError, ValueError):
        return True  # what it lacks is told where it is read
    return len(header.PixelData) >= expected


def text_of(header: Dataset, keyword: str) -> str:
    """An attribute as a word, several values with strokes between them; "" where it is not there."""
    value = header.get(keyword, "")
    if isinstance(value, (list, MultiValue)):
        return "/".join(map(str, value))
    return "" if value is None else str(value)


def kept(folder: Path) -> set[str]:
    """UIDs of the objects in a folder."""
    return {path.name.removesuffix(ENDING) for path in folder.glob(f"[0-9]*{ENDING}")}


def objects_of(files: Iterable[Path]) -> Mapping[str, tuple[str, str, Path]]:
    """Study, series and file of DICOM files, by their SOP instance UIDs; files of other kinds are left out."""
    found: dict[str, tuple[str, str, Path]] = {}
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            continue
        uids = (uid_of(header.get(w, ""), str(file)) for w in _UIDS)
        study, series, uid = uids
        found[uid] = (study, series, file)
    return found


_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
