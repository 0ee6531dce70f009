"""Writing predictions as DICOM: a derived, synthetic series with its place in space."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..files import replacing
from ..image import Image

_CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CT": "1.2.840.10008.5.1.4.1.1.2",
}
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def write_series(image: Image, path: Path, patient: str = "", about: str = "radiffuse") -> Path:
    """Write a grey picture as one DICOM file, or a volume as a folder with a file per slice.

    Values are stored in 16 bit with RescaleSlope and RescaleIntercept (slope 1 for whole numbers).
    ImageType is DERIVED\\SECONDARY, the series and derivation descriptions say that the image is
    synthetic, and the burned-in UIDs are made from the contents, so the same image has the same.
    The volume's index axes are (rows, columns, slices), as `read_series` gives them.

    Args:
        image: one channel, `(1, rows, columns[, slices])`; modality MR or CT, else a secondary
            capture (which DICOM gives no place in space).
        path: NAME.dcm; a volume makes the folder NAME.
        patient: PatientID; empty stays empty.
        about: what made the image, for the descriptions.

    Returns:
        The file or folder written.

    Raises:
        UserError: more than one channel, or axes at an angle that DICOM cannot say (sheared).
    """
    array = image.data.cpu().numpy()
    axes = len(image.size)
    if len(array) != 1 or axes not in (2, 3):
        raise UserError(f"{path}: DICOM is written for one channel, found {array.shape}")
    slices = array[0][..., None] if axes == 2 else array[0]
    stored, slope, intercept = _stored(slices)
    identity = hashlib.sha256(stored.tobytes() + repr((image.affine, patient)).encode())
    uid = _uid(identity.hexdigest())
    target = path if axes == 2 else path.with_name(path.name.removesuffix(".dcm"))
    for number in range(stored.shape[-1]):
        header = _header(image, patient, about, uid, number, path)
        header.RescaleSlope, header.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
        header.PixelRepresentation = int(stored.dtype == np.int16)
        header.Rows, header.Columns = stored.shape[:2]
        header.PixelData = np.ascontiguousarray(stored[..., number]).tobytes()
        name = target if axes == 2 else target / f"{number + 1:04d}.dcm"
        with replacing(name) as temporary:
            header.save_as(temporary, enforce_file_format=True)
    return target


def _stored(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """16-bit numbers with slope and intercept; exact for whole numbers that fit."""
    low, high = float(values.min()), float(values.max())
    if values.dtype.kind in "iu":
        if low >= 0 and high < 2**16:
            return values.astype(np.uint16), 1.0, 0.0
        if low >= -(2**15) and high < 2**15:
            return values.astype(np.int16), 1.0, 0.0
    slope = (high - low) / 65535 or 1.0
    # The slope is stored with ten digits: quantise with the number that will be read back.
    slope, low = float(f"{slope:.10g}"), float(f"{low:.10g}")
    stored = np.clip(np.round((values.astype(np.float64) - low) / slope), 0, 65535)
    return stored.astype(np.uint16), slope, low


def _uid(digest: str) -> str:
    """A UID under 2.25 (UUID-derived, PS3.5 B.2)."""
    return f"2.25.{int(digest[:32], 16)}"


def _header(image: Image, patient: str, about: str, uid: str, number: int, path: Path) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    digest = hashlib.sha256(f"{uid} {number}".encode()).hexdigest()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(_CLASSES.get(image.modality or "", _SECONDARY_CAPTURE))
    meta.MediaStorageSOPInstanceUID = UID(_uid(digest))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID = _uid(hashlib.sha256(f"study {uid}".encode()).hexdigest())
    header.SeriesInstanceUID = uid
    header.FrameOfReferenceUID = _uid(hashlib.sha256(f"frame {uid}".encode()).hexdigest())
    header.PatientID, header.PatientName = patient, ""
    header.PatientBirthDate = header.PatientSex = ""
    header.StudyDate = header.StudyTime = header.StudyID = header.AccessionNumber = ""
    header.ReferringPhysicianName = ""
    header.Modality = image.modality or "OT"
    header.Manufacturer = "radiffuse"
    header.ImageType = ["DERIVED", "SECONDARY"]
    header.SeriesDescription = f"SYNTHETIC ({about})"[:64]
    header.DerivationDescription = f"Synthetic image made by a diffusion model ({about})"[:1024]
    header.ConversionType = "SYN"
    header.BurnedInAnnotation = "NO"
    header.SeriesNumber, header.InstanceNumber = 1, number + 1
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    if image.affine is not None:
        _put_place(header, image.affine.numpy(), number, path)
    return header


def _put_place(header: Any, ras: np.ndarray, number: int, path: Path) -> None:
    """Position, orientation and spacing of one slice (PS3.3 C.7.6.2)."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras
    down, along, step = lps[:3, 0], lps[:3, 1], lps[:3, 2]
    height, width = float(np.linalg.norm(down)), float(np.linalg.norm(along))
    if abs(down @ along) > 1e-4 * height * width:
        raise UserError(f"{path}: rows and columns are not at right angles; write .nii.gz")
    place = lps[:3, 3] + number * step
    header.ImagePositionPatient = [f"{value:.10g}" for value in place]
    header.ImageOrientationPatient = [
        f"{value:.10g}" for value in (*(along / width), *(down / height))
    ]
    header.PixelSpacing = [f"{height:.10g}", f"{width:.10g}"]
    normal = np.cross(along / width, down / height)
    header.SliceThickness = f"{abs(float(step @ normal)):.10g}"
    header.SpacingBetweenSlices = header.SliceThickness
