"""DICOM segmentation objects (SEG) as label maps, or as the probabilities they hold."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ..image import Image
from .dicom_file import check_pixels, parsed
from .dicom_frames import Frame, frames_of, placed, value_of
from .dicom_stack import affine_of, ordered
from .dicom_values import item, items, quiet, text, whole
from .stored import check_bytes

__all__ = ["SEGMENTATION", "is_segmentation", "read_segmentation"]

EVEN = 0.05
"""How far a gap may be from whole steps between slices, in steps."""
WIDER = 1.5
"""A gap of so many thicknesses of a slice may have held slices."""
MOST = 4096
"""Slices at most that are left out in a row."""
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


def is_segmentation(path: Path) -> bool:
    """Whether a file is a SEG object."""
    try:
        header = parsed(path, peeking=True)
    except UserError:
        return False
    return header is not None and text(header, "SOPClassUID") == SEGMENTATION


def read_segmentation(path: Path) -> Image:
    """A SEG object on its own grid.

    Returns:
        Binary: labels `(1, rows, columns[, slices])`, the number of the segment at each voxel, 0 where there is none.
        Fractional: `(L, ...)` in [0, 1], a channel a segment. Frames that are left out of the object are 0.

    Raises:
        UserError: damaged, segments that overlap, or frames that do not make one stack.
    """
    header = parsed(path)
    check_pixels(path, header)
    with quiet():
        try:
            pixels = np.asarray(header.pixel_array)
        except MemoryError:
            raise
        except Exception:  # the decoder may raise anything on bytes that mean something else
            raise UserError(f"{path}: its pixels cannot be decoded") from None
    frames = frames_of(path, header)
    pixels = pixels.reshape(len(frames), *pixels.shape[-2:])
    numbers = [_segment(frame, path) for frame in frames]
    stack, affine = _stack(frames, path)
    count = len(header.get("SegmentSequence") or ())
    if max(numbers) > count:
        raise UserError(
            f"{path}: describes {count} segments, and has frames of segment {max(numbers)}"
        )
    check_bytes(4 * count * len(stack) * math.prod(pixels.shape[1:]), path)
    found = np.zeros((count, *pixels.shape[1:], len(stack)), np.float32)
    for frame, number, picture in zip(frames, numbers, pixels, strict=True):
        found[number - 1, ..., _number(frame, stack)] = picture
    flat = len(stack) == 1 and affine is None
    if text(header, "SegmentationType") == "FRACTIONAL":
        data = found / (whole(header, "MaximumFractionalValue", 1, 65535) or 255)
    else:
        if (found.sum(0) > 1).any():
            raise UserError(f"{path}: its segments overlap, so that they are no map of labels")
        data = np.einsum("l...,l->...", found, np.arange(1, count + 1))[None]
        data = data.astype(np.uint8 if count < 256 else np.int32)
    data = data[..., 0] if flat or len(stack) == 1 else data
    place = None if affine is None else torch.from_numpy(affine)
    world = text(header, "FrameOfReferenceUID")
    labels = tuple(map(_called, items(header, "SegmentSequence")))
    return Image(torch.from_numpy(data), place, "SEG", None, ".dcm", world=world, labels=labels)


def _called(segment: Any) -> tuple[str, str, str]:
    """Code of what a segment shows ("SCT 64033007 SCT 7771000", with that of the side), label and meaning; or ""."""
    code, meaning = _coded(segment)
    return code, text(segment, "SegmentLabel"), meaning


def _coded(segment: Any) -> tuple[str, str]:
    """The code of what a segment shows, with that of the side, and its meaning; "" where it has none."""
    kind = item(segment, "SegmentedPropertyTypeCodeSequence")
    if kind is None or not text(kind, "CodeValue"):
        return "", ""
    which = "SegmentedPropertyTypeModifierCodeSequence"
    parts = [kind, item(kind, which) or item(segment, which)]
    told = [
        f"{text(one, 'CodingSchemeDesignator')} {text(one, 'CodeValue')}"
        for one in parts
        if one is not None
    ]
    return " ".join(told), text(kind, "CodeMeaning")


def _segment(frame: Frame, path: Path) -> int:
    """The segment that a frame is of."""
    for group in frame.groups:
        part: Any = item(group, "SegmentIdentificationSequence")
        number = None if part is None else whole(part, "ReferencedSegmentNumber", 1, 65535)
        if number is not None:
            return number
    raise UserError(f"{path}: {frame.name} does not say which segment it is of")


def _stack(frames: list[Frame], path: Path) -> tuple[list[Frame], np.ndarray | None]:
    """One frame for each place, in order, and where the stack lies."""
    if not all(map(placed, frames)):
        return frames[:1], None
    unique: dict[tuple[float, ...], Frame] = {}
    for frame in frames:
        assert frame.place is not None
        unique.setdefault(tuple(np.round(frame.place, 3)), frame)
    stack, step = ordered(_filled(list(unique.values()), path), path)
    return stack, affine_of(stack[0], step)


def _filled(there: list[Frame], path: Path) -> list[Frame]:
    """Frames from low to high, and one wherever whole steps of the slices hold none.

    Most writers leave empty frames out.
    """
    assert there[0].axes is not None
    normal = np.cross(*there[0].axes)
    there = sorted(there, key=lambda frame: float(_place(frame) @ normal))
    step = _step_of(there, normal, path)
    found = there[:1]
    for frame in there[1:]:
        begin, gap = _place(found[-1]), _place(frame) - _place(found[-1])
        count = round(float(gap @ normal) / step) if step else 1
        if 1 < count <= MOST and abs(float(gap @ normal) - count * step) < EVEN * step:
            found += [replace(frame, place=begin + gap * k / count) for k in range(1, count)]
        found.append(frame)
    return found


def _step_of(there: list[Frame], normal: np.ndarray, path: Path) -> float:
    """The distance of slices: of neighbours a step apart, else what the object says; 0 where it does not.

    Where it says no SpacingBetweenSlices and every gap holds a whole number of slices of its thickness, slices are as
    far apart as they are thick: frames between may have been left out, and a frame says nothing of what is beside it.

    Raises:
        UserError: gaps that are no whole number of slices.
    """
    said = abs(there[0].thickness or 0.0)
    gaps = np.diff([float(_place(frame) @ normal) for frame in there])
    near = [gap for gap in gaps if abs(gap - said) < EVEN * said]
    if near:
        return float(np.mean(near))
    if value_of(there[0], "PixelMeasuresSequence", "SpacingBetweenSlices"):
        return said
    if not said or not len(gaps) or gaps.min() < WIDER * said:
        return 0.0
    if (abs(gaps / said - np.round(gaps / said)) > EVEN).any():
        if len(gaps) > 1 and np.ptp(gaps) < EVEN * gaps.min():
            return 0.0  # even, and no slices of this thickness fit between
        raise UserError(
            f"{path}: does not say how far apart its slices are (SpacingBetweenSlices), and between frames "
            f"{gaps.min():.4g} mm apart, {said:.4g} mm thick, empty ones may have been left out; write it with "
            "this attribute, or with its empty frames"
        )
    return said


def _place(frame: Frame) -> np.ndarray:
    assert frame.place is not None
    return frame.place


def _number(frame: Frame, stack: list[Frame]) -> int:
    """Where a frame stands in the stack."""
    if frame.place is None:
        return 0
    off = [float(np.linalg.norm(one.place - frame.place)) for one in stack if one.place is not None]
    return int(np.argmin(off))
