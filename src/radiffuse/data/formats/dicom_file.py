"""Opening one DICOM file: is it one, is there an image in it, can its pixels be there."""

import math
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

from ...errors import UserError
from .dicom_values import harmless, quiet, text, whole
from .packed import LARGE, MOST_RATIO, RAW, check_expansion, unpacked_bytes
from .stored import DICOM, check_bytes, ending

__all__ = ["MOST_FRAMES", "PIXELS", "check", "check_pixels", "compressed", "is_dicom", "parsed"]

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
"""Where the pixels of a file may be."""
TAGS = (
    *(
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "PatientID",
        "SeriesDescription",
        "Modality",
    ),
    *("SOPClassUID", "ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames"),
    *("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation"),
    "HighBit",
    *("PhotometricInterpretation", "GridFrameOffsetVector", "SharedFunctionalGroupsSequence"),
    *("PerFrameFunctionalGroupsSequence", "InstanceNumber", "RescaleSlope", "RescaleIntercept"),
    *("DoseGridScaling", "EchoTime", "DiffusionBValue", "TemporalPositionIdentifier", "ImageType"),
    *("AcquisitionNumber", "TriggerTime", "SeriesNumber", "BurnedInAnnotation", *PIXELS),
    *("PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "FrameOfReferenceUID"),
    *("IssuerOfPatientID", "PatientBirthDate", "PatientSex"),
)
"""What peeking reads."""
KEPT_BYTES = 1 << 16
"""Peeking leaves longer values in the file."""
MOST_FRAMES = 1 << 24

_SIZES = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
_DIRECTORY, _DEFLATED = "1.2.840.10008.1.3.10", b"1.2.840.10008.1.2.1.99"
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation object, which marks places in other images",
    "1.2.840.10008.5.1.4.1.1.66.7": "a segmentation object, which marks places in other images",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "a whole slide in tiles, which is not read",
}
_COLOURS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422"),
    *("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"),
)
_STARTS = (b"\x02\x00", b"\x08\x00", b"\x00\x02", b"\x00\x08")


def is_dicom(file: Path) -> bool:
    """By its ending or its beginning; a file without preamble begins with the first group."""
    kind = ending(file)
    if kind:
        return kind in DICOM
    try:
        with file.open("rb") as stream:
            begin = stream.read(132)
    except OSError:
        return False
    return begin[128:] == b"DICM" or (
        begin[:2] in _STARTS and _parsed(file, peeking=True) is not None
    )


def parsed(file: Path, *, peeking: bool = False) -> Any:
    """The data set of a file; None where it is no DICOM file, or a directory of others.

    Args:
        file: to read.
        peeking: only `TAGS`, and no pixels.

    Raises:
        UserError: damaged.
    """
    header = _parsed(file, peeking)
    if header is None:
        if ending(file) in DICOM:
            raise UserError(f"{file}: is no DICOM file, whatever its name says")
        return None
    directory = text(header.file_meta, "MediaStorageSOPClassUID") == _DIRECTORY
    return None if directory else header


def _parsed(file: Path, peeking: bool) -> Any:
    """The data set of a file; None where it is none."""
    from pydicom.errors import InvalidDicomError

    _check_deflated(file)
    source = file if peeking else BytesIO(_bytes(file))
    try:
        with quiet():
            try:
                return _read(source, peeking, force=False)
            except InvalidDicomError:
                header = _read(source, peeking, force=True)
    except MemoryError:
        raise
    except Exception:  # the parser may raise anything on bytes that mean something else
        if _begins(file, 128, (b"DICM",)) or ending(file) in DICOM:
            raise UserError(f"{file}: is damaged or cut short") from None
        return None
    return _named(header) if "SOPClassUID" in header or "Rows" in header else None


def _check_deflated(file: Path) -> None:
    """Count what a deflated data set expands to; the parser would do so at once.

    Raises:
        UserError: to far more than an image does, or it cannot be unpacked.
    """
    try:
        with file.open("rb") as stream:
            begin = stream.read(KEPT_BYTES)
            if begin[128:132] != b"DICM" or _DEFLATED not in begin[:1024]:
                return
            size = file.stat().st_size
            stream.seek(_meta_end(begin))
            count = unpacked_bytes(stream, max(LARGE, MOST_RATIO * size), RAW)
    except (OSError, EOFError, zlib.error):
        raise UserError(f"{file}: is damaged or cut short") from None
    check_expansion(count, size, file)


def _meta_end(begin: bytes) -> int:
    """Where the meta information ends: elements of group 2, explicit, little endian."""
    at = 132
    while begin[at : at + 2] == b"\2\0":
        long = begin[at + 4 : at + 6] in (b"OB", b"UN", b"OW", b"UT", b"SQ")
        length = begin[at + 8 : at + 12] if long else begin[at + 6 : at + 8]
        at += (12 if long else 8) + int.from_bytes(length, "little")
    return at


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def _read(source: Path | BytesIO, peeking: bool, force: bool) -> Any:
    import pydicom

    if isinstance(source, BytesIO):
        source.seek(0)
    if peeking:
        return pydicom.dcmread(source, force=force, specific_tags=list(TAGS), defer_size=KEPT_BYTES)
    return pydicom.dcmread(source, force=force)


def _begins(file: Path, where: int, words: tuple[bytes, ...]) -> bool:
    try:
        with file.open("rb") as stream:
            stream.seek(where)
            return stream.read(len(words[0])) in words
    except OSError:
        return False


def _named(header: Any) -> Any:
    """A header without its meta information, told how its numbers are written."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return header


def compressed(header: Any) -> bool:
    """Whether pixels are stored in a codec."""
    try:
        with quiet():
            return bool(header.file_meta.TransferSyntaxUID.is_compressed)
    except (AttributeError, ValueError):
        return False


def check(file: Path, header: Any) -> None:
    """Look at what a header declares before any pixel is decoded.

    Raises:
        UserError: no image, sizes that make no sense, or fewer bytes than they need.
    """
    kind = text(header, "SOPClassUID")
    if kind in _NO_IMAGES:
        raise UserError(f"{file}: is {_NO_IMAGES[kind]}")
    if "MOSAIC" in text(header, "ImageType").upper():
        raise UserError(
            f"{file}: is a mosaic, all slices of a volume as tiles of one picture, whose places its header does not "
            "say; convert it with dcm2niix"
        )
    check_pixels(file, header)


def check_pixels(file: Path, header: Any) -> None:
    """The same of what holds pixels of any kind.

    Raises:
        UserError: no pixels, sizes that make no sense, or fewer bytes than they need.
    """
    held = _held(file, header)
    if not held:
        about = harmless(text(header, "Modality"), "")
        raise UserError(f"{file}: holds no pixels{f' ({about})' if about else ''}")
    size = _declared(file, header)
    frames = whole(header, "NumberOfFrames", 1, MOST_FRAMES) or 1
    needed = -(-frames * math.prod(size[name] for name in _SIZES) // 8)
    told = f"{file}: declares {frames} x {size['Rows']} x {size['Columns']} pixels and holds {held} bytes"
    if compressed(header):
        check_expansion(needed, held, file)
    else:
        halved = text(header, "PhotometricInterpretation").endswith("422")
        if held < (needed * 2 // 3 if halved else needed):
            raise UserError(f"{told}; it is cut short")
    check_bytes(needed, file)


def _declared(file: Path, header: Any) -> dict[str, int]:
    """What says the size of pixels, each within what it may be."""
    limits = {"Rows": (1, 65535), "Columns": (1, 65535), "SamplesPerPixel": (1, 3)}
    limits["BitsAllocated"] = (1, 64)
    if "PixelData" in header:
        limits |= {"BitsStored": (1, 64), "PixelRepresentation": (0, 1)}
    found = {}
    for name, (low, high) in limits.items():
        value = whole(header, name, low, high)
        known = {"SamplesPerPixel": (1, 3), "BitsAllocated": (1, 8, 16, 32, 64)}.get(name, (value,))
        if value is None or value not in known:
            raise UserError(_unsaid(file, header, name))
        found[name] = value
    top = whole(header, "HighBit", 0, 63)
    if "BitsStored" in found and top not in (None, found["BitsStored"] - 1):
        raise UserError(
            f"{file}: its pixels of {found['BitsStored']} bits end at bit {top} and not at {found['BitsStored'] - 1} "
            "(HighBit), which no decoder here reads; convert it with dcmconv or dcm2niix"
        )
    if text(header, "PhotometricInterpretation") not in _COLOURS:
        raise UserError(_unsaid(file, header, "PhotometricInterpretation"))
    return found


def _unsaid(file: Path, header: Any, name: str) -> str:
    value = harmless(text(header, name))
    return f"{file}: its {name} is {f'{value!r:.40}' if value else 'missing'}, so its pixels mean nothing"


def _held(file: Path, header: Any) -> int:
    """Bytes of pixels that are there; 0 where there are none."""
    for name in PIXELS:
        if name not in header:
            continue
        element = header.get_item(name, keep_deferred=True)
        if element.value is not None:
            return len(element.value)
        length, begin = int(element.length), int(element.value_tell)
        if text(header.file_meta, "TransferSyntaxUID") == _DEFLATED.decode():
            return length  # of what the file unpacks to, and that was counted
        left = file.stat().st_size - begin
        return left if length == 0xFFFFFFFF else min(length, left)
    return 0
