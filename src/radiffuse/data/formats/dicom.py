"""DICOM: series folders in geometric order, rescaled, with their place in space."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ..image import Image
from .stored import as_tensor, silent

PLACE_MM = 0.01
"""Slices closer than this lie in one place."""
EVEN = 0.05
"""Gaps between slices may differ from the usual one by this share of it."""


def read_series(path: Path, *, notice: Callable[[str], None] = silent) -> Image:
    """Read one series (a folder, or one file) as `(C, rows, columns[, slices])`.

    Slices are ordered by their place along the normal, never by file name. The affine of index
    (row r, column c, slice s) is, in DICOM's LPS frame (PS3.3 C.7.6.2.1.1),
    p = p_0 + r d_r v + c d_c u + s (p_last - p_0)/(n - 1), turned to RAS; u and v are the two
    halves of ImageOrientationPatient, d_r and d_c the PixelSpacing. Values are
    slope * stored + intercept: whole numbers where both are, else float32. MONOCHROME1 is turned
    over so that bright is high. An X-ray without place in space has no affine.

    Raises:
        UserError: no or several series, slices missing (named), doubled, tilted or of different
            size, no pixel data, or a compression that cannot be decoded.
    """
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    slices = [(file, header) for file in files if (header := _read(file)) is not None]
    if not slices:
        raise UserError(f"{path}: holds no readable DICOM image")
    series = {str(header.get("SeriesInstanceUID", "")) for _, header in slices}
    if len(series) > 1:
        raise UserError(f"{path}: holds {len(series)} DICOM series; give each its own folder")
    return build(slices, path, notice)


def build(
    slices: Sequence[tuple[Path, Any]], path: Path, notice: Callable[[str], None] = silent
) -> Image:
    """One image from the files of one series; see `read_series`."""
    first = slices[0][1]
    if int(first.get("NumberOfFrames", 1)) > 1:
        raise UserError(
            f"{path}: is a multi-frame DICOM file, which is not read yet; convert it to NIfTI"
        )
    sizes = {(header.Rows, header.Columns) for _, header in slices}
    if len(sizes) > 1:
        told = ", ".join(f"{rows}x{columns}" for rows, columns in sorted(sizes))
        raise UserError(f"{path}: slices of one series differ in size: {told}")
    modality = str(first.get("Modality", "")) or None
    if "ImagePositionPatient" not in first or "ImageOrientationPatient" not in first:
        if len(slices) > 1:
            raise UserError(
                f"{path}: {len(slices)} DICOM images do not say where they lie "
                "(ImagePositionPatient); give them one by one"
            )
        data = _pixels(*slices[0], notice)
        return Image(as_tensor(data), None, modality, _limits(first, data), ".dcm")
    ordered, places = _ordered(slices, path)
    step = _step(ordered, places, path)
    data = np.stack([_pixels(file, header, notice) for file, header in ordered], axis=-1)
    affine = _affine(ordered[0][1], step)
    if len(ordered) == 1:
        data = data[..., 0]
    return Image(as_tensor(data), torch.from_numpy(affine), modality, _limits(first, data), ".dcm")


def _read(file: Path) -> Any:
    """The data set of one file; None where it is no DICOM image."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        header = pydicom.dcmread(file)
        return header if "PixelData" in header and "Rows" in header else None
    except InvalidDicomError:
        return None
    except (OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError):
        raise UserError(f"{file}: is damaged or cut short") from None


def _axes(header: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors along a row (u), down a column (v), and their normal, LPS."""
    cosines = np.array([float(value) for value in header.ImageOrientationPatient])
    u, v = cosines[:3], cosines[3:]
    return u, v, np.cross(u, v)


def _place(header: Any) -> np.ndarray:
    return np.array([float(value) for value in header.ImagePositionPatient])


def _ordered(
    slices: Sequence[tuple[Path, Any]], path: Path
) -> tuple[list[tuple[Path, Any]], list[float]]:
    """Slices from low to high along the normal, and where each lies on it (mm)."""
    lost = [file for file, header in slices if "ImagePositionPatient" not in header]
    if lost:
        raise UserError(f"{lost[0]}: does not say where it lies (ImagePositionPatient)")
    u, v, normal = _axes(slices[0][1])
    for file, header in slices:
        other_u, other_v, _ = _axes(header)
        if max(np.abs(other_u - u).max(), np.abs(other_v - v).max()) > 1e-3:
            raise UserError(f"{file}: is tilted against {slices[0][0].name} of the same series")
    keyed = sorted(slices, key=lambda item: float(_place(item[1]) @ normal))
    places = [float(_place(header) @ normal) for _, header in keyed]
    for (file, _), (other, _), low, high in zip(keyed, keyed[1:], places, places[1:], strict=False):
        if high - low < PLACE_MM:
            raise UserError(
                f"{path}: {file.name} and {other.name} lie in the same place; a series over "
                "time or with several echoes must be split into one folder each"
            )
    return keyed, places


def _step(ordered: Sequence[tuple[Path, Any]], places: Sequence[float], path: Path) -> np.ndarray:
    """Vector from one slice to the next (LPS, mm), after a check that none is missing."""
    header = ordered[0][1]
    _, _, normal = _axes(header)
    if len(ordered) == 1:
        thickness = header.get("SpacingBetweenSlices") or header.get("SliceThickness") or 1.0
        return normal * abs(float(thickness))
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    usual = float(gaps.min()) if len(gaps) < 3 and gaps.max() > 1.5 * gaps.min() else usual
    wide = [i for i, gap in enumerate(gaps) if abs(gap - usual) > EVEN * usual]
    if wide:
        i = wide[0]
        missing = round(float(gaps[i]) / usual) - 1
        numbers = [str(h.get("InstanceNumber", "?")) for _, h in (ordered[i], ordered[i + 1])]
        what = (
            f"{missing} slice{'s are' if missing > 1 else ' is'} missing"
            if missing > 0
            else (f"slices stand unevenly ({gaps[i]:.3g} mm instead of {usual:.3g} mm)")
        )
        more = f" (and at {len(wide) - 1} more places)" if len(wide) > 1 else ""
        raise UserError(
            f"{path}: {what} between {ordered[i][0].name} and {ordered[i + 1][0].name} "
            f"(instances {numbers[0]} and {numbers[1]}, at {places[i]:.6g} and "
            f"{places[i + 1]:.6g} mm){more}; add them or leave the series out"
        )
    return (_place(ordered[-1][1]) - _place(header)) / (len(ordered) - 1)


def _affine(header: Any, step: np.ndarray) -> np.ndarray:
    u, v, _ = _axes(header)
    down, along = (float(value) for value in header.PixelSpacing)
    affine = np.eye(4)
    affine[:3] = np.stack([v * down, u * along, step, _place(header)], axis=1)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _pixels(file: Path, header: Any, notice: Callable[[str], None]) -> np.ndarray:
    """`(C, rows, columns)` after rescaling."""
    try:
        array = header.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{file}: its pixels cannot be decoded ({reason})") from None
    if array.ndim == 3:
        return np.moveaxis(array, -1, 0)
    slope = float(header.get("RescaleSlope", 1) or 1)
    intercept = float(header.get("RescaleIntercept", 0) or 0)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        notice(f"{file}: is stored dark for bright (MONOCHROME1); it is turned over")
        low, high = _stored_limits(header)
        array = (low + high) - array.astype(np.int32)
    if slope == 1 and intercept == int(intercept):
        if intercept == 0:
            return array[None]
        return (array.astype(np.int32) + int(intercept)).astype(_smallest(header, int(intercept)))[
            None
        ]
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)[None]


def _stored_limits(header: Any) -> tuple[int, int]:
    bits = int(header.BitsStored)
    signed = int(header.get("PixelRepresentation", 0)) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _smallest(header: Any, intercept: int) -> type[np.signedinteger]:
    """int16 where every value that can be stored fits after the intercept, else int32."""
    low, high = _stored_limits(header)
    return np.int16 if low + intercept >= -(2**15) and high + intercept < 2**15 else np.int32


def _limits(header: Any, data: np.ndarray) -> tuple[float, float] | None:
    return (0.0, 255.0) if data.dtype == np.uint8 else None


def read_files(files: Sequence[Path], notice: Callable[[str], None] = silent) -> Image:
    """The image of the files of one series, wherever they lie."""
    slices = [(file, header) for file in files if (header := _read(file)) is not None]
    return build(slices, files[0].parent if len(files) > 1 else files[0], notice)
