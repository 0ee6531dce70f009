"""Pixels of a DICOM file as real values: decoded, coloured, rescaled, padding found."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from .dicom_file import MOST_FRAMES, compressed
from .dicom_frames import Frame
from .dicom_values import floats, item, quiet, text, whole

__all__ = ["decoded", "real_values"]

_JPEG = ("1.2.840.10008.1.2.4.",)
_STARTS = {
    "1.2.840.10008.1.2.4.50": (0xC0,),
    "1.2.840.10008.1.2.4.51": (0xC0, 0xC1),
    "1.2.840.10008.1.2.4.57": (0xC3,),
    "1.2.840.10008.1.2.4.70": (0xC3,),
    "1.2.840.10008.1.2.4.80": (0xF7,),
    "1.2.840.10008.1.2.4.81": (0xF7,),
    "1.2.840.10008.1.2.4.90": (),
    "1.2.840.10008.1.2.4.91": (),
}
"""Frames (SOF) of JPEG that a syntax allows, none: JPEG 2000; of another kind SimpleITK's decoder prints
on stderr."""
_NEEDED = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def decoded(file: Path, header: Any, frame: int | None = None) -> np.ndarray:
    """Stored numbers of a file, `(frames, rows, columns, samples)`; of one frame where it is named.

    pydicom decodes; what it has no codec for (JPEG Lossless, JPEG with 12 bit) SimpleITK does.

    Raises:
        UserError: the pixels cannot be decoded; says why.
    """
    from pydicom.pixels import pixel_array

    if whole(header, "NumberOfFrames", 1, MOST_FRAMES) is None and "NumberOfFrames" in header:
        del header.NumberOfFrames
    index = frame if (whole(header, "NumberOfFrames", 1, MOST_FRAMES) or 1) > 1 else None
    try:
        with quiet():
            array = pixel_array(header, index=index)
    except Exception as error:  # codecs raise whatever they like on damaged streams
        other = _by_simpleitk(header) if compressed(header) else None
        if other is None:
            reason = " ".join(str(error).split())
            raise UserError(f"{file}: its pixels cannot be decoded ({reason})") from None
        array = other if index is None else other[index]
    rows, columns = int(header.Rows), int(header.Columns)
    samples = whole(header, "SamplesPerPixel", 1, 3) or 1
    return array.reshape(-1, rows, columns, samples)


def _by_simpleitk(header: Any) -> np.ndarray | None:
    """All frames of a JPEG stream, decoded by SimpleITK from a file that holds them alone; else None.

    Without the rest of the header it returns stored numbers: no rescaling, no palette.
    """
    import SimpleITK as sitk
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import UID

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.startswith(_JPEG) or not _complete(header):
        return None
    bare, meta = Dataset(), FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    bare.SOPClassUID = meta.MediaStorageSOPClassUID = UID(_SECONDARY_CAPTURE)
    bare.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    bare.file_meta = meta
    for name in (*_NEEDED, "PixelData"):
        if name in header:
            bare[name] = copy.copy(header[name])
    if text(header, "PhotometricInterpretation") in ("PALETTE COLOR", "MONOCHROME1"):
        bare.PhotometricInterpretation = "MONOCHROME2"
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pixels.dcm"
            with quiet():
                bare.save_as(path, enforce_file_format=True)
            return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    except Exception:  # the caller says why the first decoder failed
        return None


def _complete(header: Any) -> bool:
    """Whether every frame ends as a JPEG stream does; what is cut short would be made up."""
    from pydicom.encaps import generate_frames

    frames = whole(header, "NumberOfFrames", 1, MOST_FRAMES) or 1
    starts = _STARTS.get(str(header.file_meta.TransferSyntaxUID))
    try:
        good = [
            b"\xff\xd9" in frame.rstrip(b"\0")[-3:] and (starts is None or _starts(frame, starts))
            for frame in generate_frames(header.PixelData, number_of_frames=frames)
        ]
    except Exception:  # as in `decoded`
        return False
    return len(good) == frames and all(good)


def _starts(frame: bytes, markers: tuple[int, ...]) -> bool:
    """Whether a stream is of one of some kinds of JPEG, by the first marker that names one (SOF).

    JPEG 2000 (no marker given) starts with SOC and SIZ, or with the boxes of a JP2 file.
    """
    if not markers:
        return frame.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  "))
    at = 2
    while frame[at : at + 1] == b"\xff" and at + 4 <= len(frame):
        marker = frame[at + 1]
        if marker in markers:
            return True
        if 0xC0 <= marker <= 0xCF and marker != 0xC4:
            return False  # of another kind
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return False


def real_values(
    frame: Frame, stored: np.ndarray, notice: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray | None]:
    """One frame as `(C, rows, columns)` of real values, and where it is padding (None: nowhere).

    Args:
        frame: where it comes from.
        stored: `(rows, columns, samples)` of stored numbers.
        notice: is told what had to be decided.

    Raises:
        UserError: a table or a palette that cannot be used.
    """
    file, header = frame.file, frame.header
    kind = text(header, "PhotometricInterpretation").upper()
    if kind == "PALETTE COLOR":
        return _coloured(file, header, stored[..., 0]), None
    if stored.shape[-1] > 1:
        return np.moveaxis(stored, -1, 0), None
    array = stored[..., 0]
    padding = _padding(file, header, array, notice)
    if kind == "MONOCHROME1":
        notice(f"{file}: is stored dark for bright (MONOCHROME1); it is turned over")
    if item(header, "ModalityLUTSequence") is not None:
        return _through_table(file, header, array, kind)[None], padding
    if kind == "MONOCHROME1":
        if array.dtype.kind in "iu":
            low, high = _stored_limits(header)
            array = _of_type((low + high) - array.astype(np.int64), array.dtype)
        else:
            array = array.max() + array.min() - array
    return _rescaled(header, array, frame.slope, frame.intercept)[None], padding


def _rescaled(header: Any, array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    if slope == 1 and intercept == int(intercept) and array.dtype.kind in "iu":
        if intercept == 0:
            return array
        low, high = (limit + int(intercept) for limit in _stored_limits(header))
        small = low >= -(2**15) and high < 2**15
        fits = np.int16 if small else np.int32 if low >= -(2**31) and high < 2**31 else np.int64
        return (array.astype(np.int64) + int(intercept)).astype(fits)
    return (array.astype(np.float64) * slope + intercept).astype(np.float32)


def _through_table(file: Path, header: Any, array: np.ndarray, kind: str) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    try:
        with quiet():
            values = apply_modality_lut(array, header)
            bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
    except Exception as error:  # a table may be wrong in any way
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: its ModalityLUTSequence cannot be used ({reason})") from None
    if kind == "MONOCHROME1":
        return _of_type((2**bits - 1) - values.astype(np.int64), values.dtype)
    return values


def _of_type(wide: np.ndarray, like: np.dtype[Any]) -> np.ndarray:
    """Numbers in the type that files have them in, where it holds them."""
    limits = np.iinfo(like)
    fits = wide.min() >= limits.min and wide.max() <= limits.max
    return wide.astype(like) if fits else wide


def _coloured(file: Path, header: Any, indices: np.ndarray) -> np.ndarray:
    """`(3, rows, columns)` of 8 bit from indices into the palette (PS3.3 C.7.6.3.1.5).

    Entries of 16 bit keep their upper 8, which a screen shows; those of 8 bit may be stored in words of 16.
    """
    from pydicom.pixels import apply_color_lut

    try:
        with quiet():
            colours = apply_color_lut(indices, header)[..., :3]
            bits = int(header.RedPaletteColorLookupTableDescriptor[2])
    except Exception as error:  # a palette may be wrong in any way
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: its palette cannot be used ({reason})") from None
    if bits > 8 or colours.max() > 255:
        colours = colours >> 8
    colours = colours.astype(np.uint8)
    return np.moveaxis(colours, -1, 0)


def _stored_limits(header: Any) -> tuple[int, int]:
    allocated = whole(header, "BitsAllocated", 1, 64) or 16
    bits = whole(header, "BitsStored", 1, allocated) or allocated
    signed = whole(header, "PixelRepresentation", 0, 1) == 1
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _padding(
    file: Path, header: Any, array: np.ndarray, notice: Callable[[str], None]
) -> np.ndarray | None:
    """Where stored numbers are padding: PixelPaddingValue, up to PixelPaddingRangeLimit."""
    names = ("PixelPaddingValue", "PixelPaddingRangeLimit")
    if array.dtype.kind == "f":
        prefix = "Double" if "DoubleFloatPixelData" in header else ""
        names = (f"{prefix}FloatPixelPaddingValue", f"{prefix}FloatPixelPaddingRangeLimit")
    found = [floats(header, name, 1) for name in names]
    ends = [_as_stored(value[0], header, array) for value in found if value is not None]
    if found[0] is None:
        return None
    inside: np.ndarray = (array >= min(ends)) & (array <= max(ends))
    if not inside.any() or inside.all():
        return None
    notice(
        f"{file}: pads the image with {names[0]} {' to '.join(f'{end:g}' for end in ends)}; "
        "the padding takes the lowest value of the rest"
    )
    return inside


def _as_stored(value: float, header: Any, array: np.ndarray) -> float:
    """A padding value in the type of the pixels: 63536 in signed 16 bit is -2000."""
    if array.dtype.kind != "i":
        return value
    bits = 8 * array.itemsize
    return value - 2**bits if value >= 2 ** (bits - 1) else value
