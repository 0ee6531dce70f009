"""The headers of a case's source series, slice by slice, as what is derived of them may carry them."""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.formats.dicom_frames import Frame, count_frames, frames_of, placed
from ..data.formats.dicom_stack import ordered
from ..data.formats.dicom_values import quiet, text

__all__ = ["Identities", "Identity", "Slice", "Source", "kept", "new_identities", "read_source"]

Identity = Callable[[Any], Any]
"""A header -> what outputs may carry of it (a copy)."""
Identities = defaultdict[str, str]
"""New UIDs of one case for what its sources lack, by what they are of: all its outputs share them."""

_RENAMED = {"EffectiveEchoTime": "EchoTime", "FrameAcquisitionDateTime": "AcquisitionDateTime"}
"""Functional groups -> the attribute of objects of one image."""
_GROUPS = (
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
)


def kept(header: Any) -> Any:
    """A copy of a header that carries identity as it is."""
    return deepcopy(header)


def new_identities() -> Identities:
    """No UIDs so far; each is random (never made from contents)."""
    from pydicom.uid import generate_uid

    return defaultdict(lambda: str(generate_uid(None)))


@dataclass(frozen=True)
class Slice:
    """One picture of a source.

    Attributes:
        header: its attributes in one level, functional groups among them, without pixels.
        place: centre of the first pixel, LPS in mm; None where unknown.
        frame: its number in a file of several, from 1; None in a file of one.
    """

    header: Any
    place: np.ndarray | None
    frame: int | None


@dataclass(frozen=True)
class Source:
    """A series, or a part of one, that a case was read from.

    Attributes:
        slices: in the order of the image's last axis.
        files: the headers of its files, functional groups and all.
        spacing: of rows and columns in mm; None where unknown.
        lacking: UIDs that no file says and that are new here.
    """

    slices: tuple[Slice, ...]
    files: tuple[Any, ...]
    spacing: tuple[float, float] | None
    lacking: tuple[str, ...]

    @property
    def header(self) -> Any:
        """That of the first slice."""
        return self.slices[0].header

    @property
    def modality(self) -> str:
        return text(self.header, "Modality")

    def nearest(self, place: np.ndarray | None, within: float | None = None) -> Slice | None:
        """The slice that lies nearest to a place along the normal; None where none lies within so many mm.

        Without places: the only slice.
        """
        if place is None or self.slices[0].place is None:
            return self.slices[0] if len(self.slices) == 1 else None
        axes = np.array(self.header.ImageOrientationPatient, float).reshape(2, 3)
        normal = np.cross(*axes)
        off = [abs(float((place - one.place) @ normal)) for one in self.slices]
        best = int(np.argmin(off))
        return self.slices[best] if within is None or off[best] <= within else None


def read_source(
    files: Sequence[Path],
    only: Sequence[int] | None = None,
    identity: Identity = kept,
    identities: Identities | None = None,
) -> Source:
    """The headers of the files that an image was read from (`Image.files`), each through `identity` first.

    Args:
        files: of one series.
        only: these frames of the only file.
        identity: what of a header may be carried.
        identities: of the case, for UIDs that the files lack.
    """
    identities = new_identities() if identities is None else identities
    frames: list[Frame] = []
    for file in files:
        header = _read(file, identity)
        found = frames_of(file, header)
        frames += found if only is None else [found[index] for index in only]
    if len(frames) > 1 and all(map(placed, frames)):
        frames, _ = ordered(frames, files[0])
    lacking: dict[str, None] = {}
    for one in frames:
        _complete(one, identities, lacking)
    flat = [_flat(one) for one in frames]
    slices = tuple(
        Slice(header, one.place, one.index + 1 if count_frames(one.header) > 1 else None)
        for header, one in zip(flat, frames, strict=True)
    )
    headers = {id(one.header): one.header for one in frames}
    return Source(slices, tuple(headers.values()), frames[0].spacing, tuple(lacking))


def _read(file: Path, identity: Identity) -> Any:
    import pydicom

    with quiet():
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        told = text(header.file_meta, "MediaStorageSOPInstanceUID")
        if not text(header, "SOPInstanceUID") and told:
            header.SOPInstanceUID = told
        if not text(header, "SOPClassUID"):
            header.SOPClassUID = text(header.file_meta, "MediaStorageSOPClassUID")
        return identity(_readable(header))


def _readable(header: Any) -> Any:
    """A header without attributes that cannot be read as their type, its text decoded."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
            if element.VR == "SQ":
                element.value = [_readable(part) for part in element.value]
        except Exception:  # a damaged element may raise anything while it is converted
            del header[tag]
    header.decode()
    return header


def _flat(frame: Frame) -> Any:
    """The attributes of one frame: those of the file, and over them those of its functional groups."""
    from pydicom import Dataset

    flat = Dataset()
    for element in frame.header:
        if element.keyword not in _GROUPS:
            flat[element.tag] = copy(element)
    for group in reversed(frame.groups[:-1]):
        for element in group:
            for item in (element.value or ()) if element.VR == "SQ" else ():
                for part in item:
                    name = _RENAMED.get(part.keyword, part.keyword)
                    if name and part.VR != "SQ":
                        setattr(flat, name, part.value)
    return flat


def _complete(frame: Frame, new: Identities, lacking: dict[str, None]) -> None:
    """Give a header every UID that others refer to; those it lacks are new ones of the case."""
    header = frame.header
    about = {
        "StudyInstanceUID": "study",
        "SeriesInstanceUID": f"series {frame.file.parent}",
        "SOPInstanceUID": f"instance {frame.file}",
        "FrameOfReferenceUID": f"frame {text(header, 'SeriesInstanceUID') or frame.file.parent}",
    }
    for name, of in about.items():
        wanted = name != "FrameOfReferenceUID" or placed(frame)
        if wanted and not text(header, name):
            setattr(header, name, new[of])
            lacking[name] = None


@contextmanager
def without_remarks() -> Iterator[None]:
    """Writers say nothing of what is in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def values_of(header: Any, names: Sequence[str]) -> Mapping[str, Any]:
    """Copies of those of the attributes that are there and valid, as elements by keyword."""
    from pydicom.dataset import Dataset

    found: dict[str, Any] = {}
    with quiet():
        for name in names:
            if name in header and (element := _sound(header[name])) is not None:
                found[name] = element
    assert isinstance(header, Dataset)
    return found


def _sound(element: Any) -> Any:
    """An element, its items without what cannot stand in them; None where its value is empty or invalid."""
    from pydicom import config
    from pydicom.valuerep import validate_value

    if element.is_empty:
        return None
    if element.VR == "SQ":
        element = deepcopy(element)
        for item in element.value:
            for part in list(item):
                sound = None if part.tag.is_private else _sound(part)
                if sound is not None:
                    item[part.tag] = sound
                elif part.tag.is_private or not part.is_empty:
                    del item[part.tag]
        return element
    values = list(element.value) if element.VM > 1 else [element.value]
    try:
        if element.VR in ("DS", "IS"):
            return _numbers(element, values)
        for value in values:
            validate_value(element.VR, value, config.RAISE)
    except (ValueError, TypeError, OverflowError):
        return None
    return copy(element)


def _numbers(element: Any, values: list[Any]) -> Any:
    """Decimal and integer strings, those longer than 16 letters rounded.

    Raises:
        ValueError: one is no finite number.
    """
    from pydicom import DataElement
    from pydicom.valuerep import format_number_as_ds

    found = [float(value) for value in values]
    if not all(map(math.isfinite, found)):
        raise ValueError
    if element.VR == "IS":
        told: list[Any] = [int(value) for value in found]
    else:
        told = [
            str(value) if len(str(value)) <= 16 else format_number_as_ds(number)
            for value, number in zip(values, found, strict=True)
        ]
    return DataElement(element.tag, element.VR, told if len(told) > 1 else told[0])
