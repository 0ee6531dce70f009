"""Frames of one series in geometric order, and the place of the stack they make."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .dicom_frames import Frame, Opened, apart_by
from .dicom_values import floats, text, whole

PLACE_MM = 0.01
"""Slices closer than this lie in one place."""
EVEN = 0.05
"""Gaps between slices may differ from the usual one by this share of it."""
ASIDE_MM = 0.1
"""Slices may lie this far beside the line from the first to the last."""
ALIKE = 0.001
"""Pixel spacings of one series may differ by this share."""


def ordered(frames: Sequence[Frame], path: Path) -> tuple[list[Frame], np.ndarray]:
    """Frames from low to high along the normal, and the step from one to the next (LPS, mm).

    Raises:
        UserError: a frame is tilted against the others, two lie in one place, pixels differ in
            size, or one is missing.
    """
    first = frames[0]
    for frame in frames:
        if np.abs(_axes(frame) - _axes(first)).max() > 1e-3:
            raise UserError(
                f"{path}: {frame.name} is tilted against {first.name} of the same series"
            )
        if not np.allclose(frame.spacing or (0, 0), first.spacing or (0, 0), rtol=ALIKE):
            raise UserError(
                f"{path}: {frame.name} has pixels of {_spacing(frame)}, {first.name} of "
                f"{_spacing(first)}; one series has one pixel size"
            )
    normal = np.cross(*_axes(first))
    keyed = sorted(frames, key=lambda frame: float(_place(frame) @ normal))
    places = [float(_place(frame) @ normal) for frame in keyed]
    for one, other, low, high in zip(keyed, keyed[1:], places, places[1:], strict=False):
        if high - low < PLACE_MM:
            apart = apart_by(one, other)
            why = f"; they differ in {apart}" if apart else ""
            what = "a series over time or with several echoes must be split into one folder each"
            uids = {text(frame.header, "SOPInstanceUID") for frame in (one, other)}
            if one.file != other.file and len(uids) == 1 and uids != {""}:
                what = "they are two versions of one image (SOPInstanceUID); keep one"
            raise UserError(
                f"{path}: {one.name} and {other.name} lie in the same place{why}; {what}"
            )
    return keyed, _step(keyed, places, normal, path)


def refuse_gap(kept: Sequence[Frame], lost: Sequence[Opened]) -> None:
    """Refuse a series in the middle of which a file had to be left out.

    Two slices that are left would hide it: where it lies is asked of its place, else its number.

    Raises:
        UserError: names the file and what is wrong with it.
    """
    normal = np.cross(*_axes(kept[0]))
    places = [float(_place(frame) @ normal) for frame in kept]
    numbers = [n for frame in kept if (n := _number(frame.header)) is not None]
    for one in lost:
        place = floats(one.header, "ImagePositionPatient", 3) if one.header is not None else None
        number = _number(one.header) if one.header is not None else None
        between = (
            min(places) < float(np.array(place) @ normal) < max(places)
            if place is not None
            else number is not None and bool(numbers) and min(numbers) < number < max(numbers)
        )
        if between:
            raise UserError(
                f"{one.why}, and it lies between other slices of its series: mend it, or leave the "
                "series out"
            )


def _number(header: Any) -> int | None:
    return whole(header, "InstanceNumber", -(2**31), 2**31)


def affine_of(first: Frame, step: np.ndarray) -> np.ndarray | None:
    """Index (row, column, slice) to mm, RAS; None where pixels have no size."""
    if first.spacing is None:
        return None
    (u, v), (down, along) = _axes(first), first.spacing
    affine = np.eye(4)
    affine[:3] = np.stack([v * down, u * along, step, _place(first)], axis=1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _axes(frame: Frame) -> np.ndarray:
    assert frame.axes is not None
    return frame.axes


def _place(frame: Frame) -> np.ndarray:
    assert frame.place is not None
    return frame.place


def _spacing(frame: Frame) -> str:
    return "no known size" if frame.spacing is None else "{:g} x {:g} mm".format(*frame.spacing)


def _step(
    keyed: Sequence[Frame], places: Sequence[float], normal: np.ndarray, path: Path
) -> np.ndarray:
    """Vector from one slice to the next, after a check that none is missing."""
    if len(keyed) == 1:
        return normal * abs(keyed[0].thickness or 1.0)
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    usual = float(gaps.min()) if len(gaps) < 3 and gaps.max() > 1.5 * gaps.min() else usual
    wide = [i for i, gap in enumerate(gaps) if abs(gap - usual) > EVEN * usual]
    if wide:
        i = wide[0]
        missing = round(float(gaps[i]) / usual) - 1
        numbers = [text(frame.header, "InstanceNumber") or "?" for frame in keyed[i : i + 2]]
        what = (
            f"{missing} slice{'s are' if missing > 1 else ' is'} missing"
            if missing > 0
            else (f"slices stand unevenly ({gaps[i]:.3g} mm instead of {usual:.3g} mm)")
        )
        more = f" (and at {len(wide) - 1} more places)" if len(wide) > 1 else ""
        raise UserError(
            f"{path}: {what} between {keyed[i].name} and {keyed[i + 1].name} "
            f"(instances {numbers[0]} and {numbers[1]}, at {places[i]:.6g} and "
            f"{places[i + 1]:.6g} mm){more}; add them or leave the series out"
        )
    step = (_place(keyed[-1]) - _place(keyed[0])) / (len(keyed) - 1)
    line = _place(keyed[0]) + np.outer(np.arange(len(keyed)), step)
    off = np.linalg.norm(np.stack([_place(frame) for frame in keyed]) - line, axis=1)
    if off.max() > max(ASIDE_MM, EVEN * usual):
        raise UserError(
            f"{path}: {keyed[int(off.argmax())].name} lies {off.max():.3g} mm beside the line of the other slices "
            "(ImagePositionPatient), so that they make no grid; mend it, or leave the series out"
        )
    return step
