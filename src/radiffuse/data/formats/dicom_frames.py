"""Frames: what each picture of a DICOM file says of its place, size of pixels and scaling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .dicom_file import MOST_FRAMES, check, parsed
from .dicom_values import floats, harmless, item, items, number, said, text, whole

__all__ = [
    *("Frame", "Opened", "apart_by", "count_frames", "frames_of", "opened", "placed", "value_of"),
]


LARGEST = 1e12
"""Slopes and intercepts beyond are damage."""


@dataclass(frozen=True)
class Frame:
    """One picture of a file, which may hold several.

    Attributes:
        file, header: where it comes from.
        index: which frame of the file, from 0.
        place: centre of the first pixel, LPS in mm; None where the file does not say.
        axes: unit vectors along a row and down a column, `(2, 3)`; None likewise.
        spacing: distance of rows, distance of columns in mm; None likewise.
        thickness: distance of slices where there is no other slice to tell, in mm.
        slope, intercept: from stored numbers to real values, where no table does it.
        groups: functional groups of this frame, then those shared by all, then the header.
    """

    file: Path
    header: Any
    index: int
    place: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float] | None
    thickness: float | None
    slope: float
    intercept: float
    groups: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The file, and the frame where there are several."""
        several = count_frames(self.header) > 1
        return f"{self.file.name} frame {self.index + 1}" if several else self.file.name


@dataclass(frozen=True)
class Opened:
    """A DICOM file and what can be made of it.

    Attributes:
        file: where it is.
        header: its data set; None where it cannot be read.
        frames: its pictures; none where it cannot be used.
        why: why it cannot be used, as a line for the user; "" where it can.
    """

    file: Path
    header: Any
    frames: tuple[Frame, ...] = ()
    why: str = ""

    def unplaced(self) -> "Opened":
        """This file left out, since others of its series say where they lie and it does not."""
        why = "does not say where it lies (ImagePositionPatient, ImageOrientationPatient)"
        return Opened(self.file, self.header, (), f"{self.file}: {why}")


def opened(file: Path, *, peeking: bool = False) -> Opened | None:
    """A file with its frames, or why it cannot be used; None where it is no DICOM file."""
    header = None
    try:
        header = parsed(file, peeking=peeking)
        if header is None:
            return None
        check(file, header)
        return Opened(file, header, tuple(frames_of(file, header)))
    except UserError as error:
        return Opened(file, header, (), str(error))


def count_frames(header: Any) -> int:
    """NumberOfFrames; 1 where it is absent, empty or no such number."""
    return whole(header, "NumberOfFrames", 1, MOST_FRAMES) or 1


def frames_of(file: Path, header: Any) -> list[Frame]:
    """Every frame of a file in its order.

    Places come from functional groups (enhanced objects), from the header and GridFrameOffsetVector
    (doses), or from the header (a file of one frame).

    Raises:
        UserError: groups or offsets for another number of frames, or places of some frames only; a
            slope that is no number.
    """
    count = count_frames(header)
    each = items(header, "PerFrameFunctionalGroupsSequence")
    shared = item(header, "SharedFunctionalGroupsSequence")
    if each and len(each) != count:
        raise UserError(f"{file}: holds {count} frames and says where {len(each)} of them lie")
    offsets = _offsets(file, header, count)
    found = []
    for index in range(count):
        groups = tuple(g for g in (each[index] if each else None, shared, header) if g is not None)
        found.append(_frame(file, header, index, groups, offsets))
    lost = [frame.index + 1 for frame in found if not placed(frame)]
    if 0 < len(lost) < count:
        raise UserError(
            f"{file}: {len(lost)} of its {count} frames (the first is {lost[0]}) do not say where they lie"
        )
    return found


def _offsets(file: Path, header: Any, count: int) -> np.ndarray | None:
    if count == 1 or said(header, "GridFrameOffsetVector") is None:
        return None
    found = floats(header, "GridFrameOffsetVector", count)
    if found is None:
        raise UserError(f"{file}: its GridFrameOffsetVector does not place {count} frames")
    return np.array(found) - found[0]


def _frame(
    file: Path, header: Any, index: int, groups: tuple[Any, ...], offsets: np.ndarray | None
) -> Frame:
    measures = _group(groups, "PixelMeasuresSequence", "PixelSpacing")
    spacing = floats(measures, "PixelSpacing", 2)
    thickness = number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness")
    place, axes = _placed(groups)
    if place is not None and axes is not None and count_frames(header) > 1 and len(groups) == 1:
        shift = None if offsets is None else offsets[index] * np.cross(*axes)
        place = None if shift is None else place + shift
    usable = spacing is not None and min(spacing) > 0
    pair = (spacing[0], spacing[1]) if usable and spacing is not None else None
    slope, intercept = _line(file, header, groups)
    return Frame(file, header, index, place, axes, pair, thickness, slope, intercept, groups)


def _line(file: Path, header: Any, groups: Sequence[Any]) -> tuple[float, float]:
    """Slope and intercept from stored numbers to real values; 1 and 0 where none are given.

    Raises:
        UserError: one is given and is no number: what it was cannot be guessed.
    """
    group = _group(groups, "PixelValueTransformationSequence", "RescaleSlope")
    found = []
    for name, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = number(group, name, -LARGEST, LARGEST)
        if value is None and said(group, name) is not None:
            told = repr(harmless(text(group, name)))
            raise UserError(f"{file}: its {name} is {told:.40}, which cannot be")
        found.append(default if value is None else value)
    return (found[0] or 1.0) * (number(header, "DoseGridScaling", 0, LARGEST) or 1.0), found[1]


def _placed(groups: Sequence[Any]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Place and unit axes, each None where the file does not say it in a way that can be."""
    position = "ImagePositionPatient"
    orientation = "ImageOrientationPatient"
    place = floats(_group(groups, "PlanePositionSequence", position), position, 3)
    angles = floats(_group(groups, "PlaneOrientationSequence", orientation), orientation, 6)
    if place is None or angles is None:
        return None, None
    axes = np.array(angles).reshape(2, 3)
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 1e-2 or abs(float(axes[0] @ axes[1])) > 1e-2:
        return None, None
    return np.array(place), axes


def _group(groups: Sequence[Any], sequence: str, name: str) -> Any:
    """The first item of `sequence` that says `name`; the header where none does."""
    for group in groups[:-1]:
        part = item(group, sequence)
        if part is not None and said(part, name) is not None:
            return part
    return groups[-1]


def placed(frame: Frame) -> bool:
    """Whether a frame says where it lies."""
    return frame.place is not None and frame.axes is not None


_DIFFERENCES = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("FrameContentSequence", "StackID"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("", "EchoTime"),
    ("", "DiffusionBValue"),
    ("", "TemporalPositionIdentifier"),
    ("", "TriggerTime"),
    ("", "AcquisitionNumber"),
    ("", "AcquisitionTime"),
    ("", "ImageType"),
)
"""What may tell frames in one place apart."""


def value_of(frame: Frame, sequence: str, name: str) -> str:
    """What the functional group `sequence` of a frame says of an attribute, else the header; "" where neither does."""
    return text(_group(frame.groups, sequence, name), name)


def apart_by(one: Frame, other: Frame) -> str:
    """What differs between two frames in one place, "EchoTime 10 and 80"; "" where nothing does."""
    for sequence, name in _DIFFERENCES:
        values = [value_of(frame, sequence, name) for frame in (one, other)]
        if values[0] != values[1] and all(values):
            shown = [harmless(value, "") for value in values]
            hidden = name == "AcquisitionTime" or not all(shown)
            return name if hidden else f"{name} {shown[0]} and {shown[1]}"
    return ""
