"""Writing DICOM images: numbers, places, and an object of a new patient for an image that has no source."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..files import replacing
from ..image import Image
from ..made import NAME, Made

__all__ = [
    "MANUFACTURER",
    "Stored",
    "describe",
    "new_object",
    "own_equipment",
    "place",
    "put_pixels",
    "save",
    "software",
    "stored",
    "target_of",
    "write_series",
]

_CLASSES = {"MR": "1.2.840.10008.5.1.4.1.1.4", "CT": "1.2.840.10008.5.1.4.1.1.2"}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
MANUFACTURER = "Radiffuse"


@dataclass(frozen=True)
class Stored:
    """Numbers as pixels hold them: value = slope * number + intercept.

    Attributes:
        numbers: int16 or uint16, or uint8 of colours.
        slope, intercept: see above.
        bits: BitsStored.
    """

    numbers: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    bits: int = 16


def stored(values: np.ndarray, zero: bool = False) -> Stored:
    """Values in 16 bits, exact for whole numbers that fit.

    Args:
        values: any shape, finite.
        zero: the intercept must be 0 (PET).
    """
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        if low >= 0 and high < 2**16:
            return Stored(values.astype(np.uint16))
        if low >= -(2**15) and high < 2**15:
            return Stored(values.astype(np.int16))
    # The slope is stored with ten digits: quantise with the number that will be read back.
    if zero:
        kind: type = np.uint16 if low >= 0 else np.int16
        most = np.iinfo(kind).max
        slope = _ten(max(high, -low) / most) or 1.0
        numbers = np.clip(np.round(values.astype(np.float64) / slope), np.iinfo(kind).min, most)
        return Stored(numbers.astype(kind), slope)
    slope, low = _ten((high - low) / 65535) or 1.0, _ten(low)
    numbers = np.clip(np.round((values.astype(np.float64) - low) / slope), 0, 65535)
    return Stored(numbers.astype(np.uint16), slope, low)


def _ten(value: float) -> float:
    return float(f"{value:.10g}")


def target_of(path: Path, axes: int) -> Path:
    """The file of a picture, the folder of a volume that gets a file a slice."""
    return path if axes == 2 else path.with_name(path.name.removesuffix(".dcm"))


def new_object(kind: str, uid: str) -> Any:
    """A data set of class `kind` with its own UID, in UTF-8."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(kind), UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 192"
    header.SOPClassUID, header.SOPInstanceUID = UID(kind), UID(uid)
    return header


def put_pixels(header: Any, held: Stored, number: int | None, photometric: str) -> None:
    """Pixels and what says how they lie; slice `number` of them, or all as frames.

    Args:
        header: to fill.
        held: numbers (C, rows, columns, slices).
        number: of a slice; None: every slice is a frame.
        photometric: "MONOCHROME2" or "RGB".
    """
    numbers = np.moveaxis(held.numbers, (3, 0), (0, 3))  # (slices, rows, columns, C)
    numbers = numbers if number is None else numbers[number : number + 1]
    header.Rows, header.Columns = numbers.shape[1:3]
    header.SamplesPerPixel, header.PhotometricInterpretation = numbers.shape[3], photometric
    if numbers.shape[3] > 1:
        header.PlanarConfiguration = 0
    header.BitsAllocated = 8 * numbers.dtype.itemsize
    header.BitsStored, header.HighBit = held.bits, held.bits - 1
    header.PixelRepresentation = int(numbers.dtype.kind == "i")
    content = np.ascontiguousarray(numbers).tobytes()
    header.PixelData = content + b"\0" * (len(content) % 2)
    header["PixelData"].VR = "OB" if numbers.dtype.itemsize == 1 else "OW"


def place(affine: np.ndarray, number: int, path: Path) -> dict[str, Any]:
    """Position, orientation, spacing and thickness of one slice (PS3.3 C.7.6.2), by keyword.

    Args:
        affine: of the volume, index (row, column, slice) -> mm, RAS.
        number: of the slice.
        path: for the message.

    Raises:
        UserError: rows and columns are not at right angles.
    """
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    down, along, step = lps[:3, 0], lps[:3, 1], lps[:3, 2]
    height, width = float(np.linalg.norm(down)), float(np.linalg.norm(along))
    if abs(down @ along) > 1e-4 * height * width:
        raise UserError(f"{path}: rows and columns are not at right angles; write .nii.gz")
    normal = np.cross(along / width, down / height)
    return {
        "ImagePositionPatient": _decimals(lps[:3, 3] + number * step),
        "ImageOrientationPatient": _decimals((*(along / width), *(down / height))),
        "PixelSpacing": _decimals((height, width)),
        "SliceThickness": _decimals([abs(float(step @ normal))])[0],
    }


def _decimals(values: Any) -> list[str]:
    """Numbers as DICOM's decimal strings, 16 letters at most."""
    from pydicom.valuerep import format_number_as_ds

    return [format_number_as_ds(float(value) + 0.0) for value in values]


def describe(header: Any, made: Made, description: str) -> None:
    """When and by what an object was made, and how its series is called."""
    now = datetime.now()
    header.InstanceCreationDate = header.ContentDate = now.strftime("%Y%m%d")
    header.InstanceCreationTime = header.ContentTime = now.strftime("%H%M%S")
    header.SeriesDescription = description[:64]
    about = software(made)
    header.Manufacturer = about["manufacturer"]
    header.ManufacturerModelName = about["manufacturer_model_name"]
    header.DeviceSerialNumber = about["device_serial_number"]
    header.SoftwareVersions = about["software_versions"]
    header.DerivationDescription = made.text[:1024]


def software(made: Made) -> dict[str, Any]:
    """Manufacturer, model, version and serial number, by the names of highdicom's arguments.

    The model's name is the method, its serial number the sha256 of its weights.
    """
    preset = f" ({made.preset})" if made.preset else ""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": f"{NAME} {made.method}{preset}"[:64].strip(),
        "software_versions": made.version or "unknown",
        "device_serial_number": made.model_sha256 or "unknown",
    }


def own_equipment(made: Made) -> Any:
    """This software as contributing equipment: synthesising (DCM 109100) where there is no source, else processing
    (109102)."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    synthetic = made.kind == "synthetic"
    return ContributingEquipment(
        purpose_of_reference=codes.DCM.SynthesizingEquipment
        if synthetic
        else codes.DCM.ProcessingEquipment,
        contribution_datetime=datetime.now(),
        contribution_description=made.line,
        **software(made),
    )


def save(header: Any, path: Path) -> None:
    """Write an object in one move."""
    with replacing(path) as temporary:
        header.save_as(temporary, enforce_file_format=True)


def write_series(image: Image, path: Path, made: Made | None = None) -> Path:
    """Write an image without a source: one DICOM file, or for a volume a folder with a file a slice.

    It is of a new patient whose name says synthetic, in a study of its own; UIDs are random. MR and CT have a
    place in space; anything else is a secondary capture. What was derived of DICOM is written beside its source
    instead (`clinic.study`).

    Args:
        image: one channel, or three of 8 bits, `(C, rows, columns[, slices])`.
        path: NAME.dcm; a volume makes the folder NAME.
        made: what made it.

    Returns:
        The file or folder written.

    Raises:
        UserError: other channels, or axes at an angle that DICOM cannot say (sheared).
    """
    from pydicom.uid import generate_uid

    array = image.data.cpu().numpy()
    axes = len(image.size)
    if len(array) not in (1, 3) or axes not in (2, 3):
        raise UserError(f"{path}: DICOM is written for one or three channels, found {array.shape}")
    if len(array) == 3 and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255):
        raise UserError(f"{path}: DICOM holds colours of 8 bits; write .nii.gz")
    array = array[..., None] if axes == 2 else array
    held = Stored(array.astype(np.uint8), bits=8) if len(array) == 3 else stored(array)
    made = made or Made("image", "synthetic")
    uids = {name: str(generate_uid(None)) for name in ("study", "series", "frame")}
    uids["patient"] = f"SYNTHETIC-{secrets.token_hex(6)}"
    target = target_of(path, axes)
    for number in range(array.shape[-1]):
        header = _header(image, made, uids, number, path)
        put_pixels(header, held, number, "RGB" if len(array) == 3 else "MONOCHROME2")
        if len(array) == 1 and (header.Modality == "CT" or (held.slope, held.intercept) != (1, 0)):
            header.RescaleSlope, header.RescaleIntercept = _decimals((held.slope, held.intercept))
            header.RescaleType = "HU" if header.Modality == "CT" else "US"
        save(header, target if axes == 2 else target / f"{number + 1:04d}.dcm")
    return target


def _header(image: Image, made: Made, uids: dict[str, str], number: int, path: Path) -> Any:
    from pydicom.uid import generate_uid

    grey = len(image.data) == 1 and image.affine is not None
    modality = (image.modality or "OT") if grey else "OT"
    kind = _CLASSES.get(modality, _SECONDARY_CAPTURE)
    header = new_object(kind, str(generate_uid(None)))
    header.StudyInstanceUID, header.SeriesInstanceUID = uids["study"], uids["series"]
    header.PatientName, header.PatientID = f"Synthetic^{MANUFACTURER}", uids["patient"]
    header.PatientBirthDate = header.PatientSex = header.PatientPosition = ""
    header.StudyDate = header.StudyTime = header.StudyID = header.AccessionNumber = ""
    header.ReferringPhysicianName = header.Laterality = ""
    header.Modality = modality
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if modality == "CT" else "OTHER"]
    describe(header, made, f"{made.kind.upper()} {made.what}")
    header.ContributingEquipmentSequence = [own_equipment(made)]
    header.SeriesNumber, header.InstanceNumber, header.BurnedInAnnotation = 1, number + 1, "NO"
    if kind == _SECONDARY_CAPTURE:
        header.ConversionType, header.PatientOrientation = "SYN", ""
        del header.PatientPosition
    if modality == "MR" and kind == _CLASSES["MR"]:
        header.ScanningSequence, header.SequenceVariant = "RM", "NONE"
        header.ScanOptions = header.MRAcquisitionType = ""
        header.RepetitionTime = header.EchoTime = header.EchoTrainLength = None
    if kind == _CLASSES["CT"]:
        header.KVP, header.AcquisitionNumber = None, None
    if image.affine is not None:
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = uids["frame"], ""
        for name, value in place(image.affine.numpy(), number, path).items():
            setattr(header, name, value)
    return header
