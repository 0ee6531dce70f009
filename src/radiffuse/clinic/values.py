"""Real values as stored numbers, in the scaling of the source where that can be, and the window to see them by."""

from typing import Any

import numpy as np

from ..data.formats.dicom_values import number, text, whole
from ..data.formats.dicom_write import Stored, stored
from .attributes import CLASSES, GREY_STACK
from .source import Source

__all__ = ["eight_bit", "held_as", "put_values"]


def held_as(array: np.ndarray, source: Source, same_units: bool, zero: bool) -> Stored:
    """Numbers as they are stored: with the scaling of the source where values mean the same and fit.

    Args:
        array: real values `(C, rows, columns, slices)`.
        source: whose scaling it may be.
        same_units: values mean what those of the source do.
        zero: the intercept must be 0 (PET).
    """
    if len(array) == 3:
        return eight_bit(array)
    if same_units and (own := _as_source(array, source)) is not None:
        return own
    return stored(array, zero)


def eight_bit(array: np.ndarray) -> Stored:
    """Values from 0 to 255, rounded."""
    return Stored(np.clip(np.round(array), 0, 255).astype(np.uint8), bits=8)


def _as_source(array: np.ndarray, source: Source) -> Stored | None:
    """Numbers in the slope, intercept, sign and bits of the source; None where these differ from slice to
    slice, or cannot hold the values."""
    header = source.header
    names = ("RescaleSlope", "RescaleIntercept", "BitsStored", "PixelRepresentation")
    if (
        any(text(one.header, name) != text(header, name) for one in source.slices for name in names)
        or text(header, "PhotometricInterpretation") != "MONOCHROME2"
    ):
        return None
    slope = number(header, "RescaleSlope") or 1.0
    intercept = number(header, "RescaleIntercept") or 0.0
    bits = whole(header, "BitsStored", 1, 16)
    if bits is None or "ModalityLUTSequence" in header or text(header, "DoseGridScaling"):
        return None
    bits = 16 if text(header, "Modality") == "PT" else max(bits, 12)  # CT wants 12 to 16
    signed = whole(header, "PixelRepresentation", 0, 1) == 1
    numbers = np.round((array.astype(np.float64) - intercept) / slope)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if numbers.min() < low or numbers.max() > high:
        return None
    exact = array.dtype.kind == "f" or np.array_equal(numbers * slope + intercept, array)
    if not exact:
        return None
    return Stored(numbers.astype(np.int16 if signed else np.uint16), slope, intercept, bits)


def put_values(header: Any, held: Stored, modality: str, kind: tuple[str, str]) -> None:
    """From stored numbers to real values, and how a viewer shows them at first."""
    from pydicom.valuerep import format_number_as_ds

    if held.numbers.dtype == np.uint8:
        return
    scaled = (held.slope, held.intercept) != (1.0, 0.0)
    if scaled or kind in (CLASSES["CT"], CLASSES["PT"], GREY_STACK):
        header.RescaleSlope = format_number_as_ds(held.slope)
        header.RescaleIntercept = format_number_as_ds(held.intercept)
        header.RescaleType = "HU" if modality == "CT" else "US"
    if kind == CLASSES["PT"]:
        del header.RescaleType
    if "WindowCenter" not in header:
        _put_window(header, held)


def _put_window(header: Any, held: Stored) -> None:
    """A window from the 1st to the 99th percentile of the values, where the source has none that fits."""
    from pydicom.valuerep import format_number_as_ds

    low, high = np.percentile(held.numbers, (1, 99)) * held.slope + held.intercept
    width = max(float(high - low), 1.0)
    header.WindowCenter = format_number_as_ds(float(low) + width / 2)
    header.WindowWidth = format_number_as_ds(width)
    header.WindowCenterWidthExplanation = "1 % to 99 % of the values"
