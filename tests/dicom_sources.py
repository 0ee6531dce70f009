"""Small DICOM series of every kind that predictions go back to, made by pydicom; and whether objects are valid."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SIZE = (12, 10, 5)
"""Rows, columns, slices."""
SPACING, GAP = (2.0, 1.5), 3.0
AXIAL = (1, 0, 0, 0, 1, 0)
FEET_FIRST = (-1, 0, 0, 0, 1, 0)
OBLIQUE = (*(np.cos(0.35), np.sin(0.35), 0), *(0, 0, -1))
CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "OCT": "1.2.840.10008.5.1.4.1.1.7",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}
PERSON = {
    "PatientName": "Müłler^Änne",
    "PatientID": "P-4711",
    "PatientBirthDate": "19501224",
    "PatientSex": "F",
    "PatientAge": "070Y",
    "StudyDate": "20200101",
    "StudyTime": "101112",
    "StudyID": "S1",
    "AccessionNumber": "A-99",
    "ReferringPhysicianName": "Referring^Doctor",
    "StudyDescription": "Study of a head",
    "SeriesDescription": "T1 axial",
    "BodyPartExamined": "HEAD",
    "PatientPosition": "HFS",
    "Manufacturer": "Scanners Ltd",
    "ManufacturerModelName": "Tube 3",
    "SeriesNumber": 4,
    "WindowCenter": "40",
    "WindowWidth": "400",
}
OWN = {
    "CT": {"KVP": "120", "RescaleSlope": "1", "RescaleIntercept": "-1024", "RescaleType": "HU",
           "ConvolutionKernel": "B30f", "AcquisitionNumber": 1},
    "MR": {"ScanningSequence": "SE", "SequenceVariant": "SP", "ScanOptions": "", "EchoTime": "9.5",
           "RepetitionTime": "500", "EchoTrainLength": 1, "MRAcquisitionType": "2D"},
    "PT": {"Units": "BQML", "CountsSource": "EMISSION", "SeriesType": ["STATIC", "IMAGE"], "SeriesDate": "20200101",
           "SeriesTime": "101500", "CorrectedImage": ["ATTN", "SCAT"], "DecayCorrection": "START", "CollimatorType": "",
           "ActualFrameDuration": "120000", "FrameReferenceTime": "60000", "DecayFactor": "1.1",
           "AcquisitionDate": "20200101", "AcquisitionTime": "101600"},
    "US": {"ImageType": ["ORIGINAL", "PRIMARY", "ABDOMINAL", "0001"], "TransducerType": "SECTOR_PHASED"},
    "OCT": {"ConversionType": "DI"},
    "OT": {"ConversionType": "WSD"},
    "CR": {},
}  # fmt: skip


def isotope():
    """Of a PET series."""
    item = Dataset()
    item.RadiopharmaceuticalStartTime, item.RadionuclideTotalDose = "091000", "370000000"
    item.RadionuclideHalfLife = "6586.2"
    return item


def one(modality, array, place=None, axes=AXIAL, number=1, uids=None, **tags):
    """One image as a data set; `array` is (rows, columns), or of colours (rows, columns, 3)."""
    uids = uids or {name: generate_uid() for name in ("study", "series", "frame")}
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        CLASSES[modality],
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SpecificCharacterSet = "ISO_IR 101"
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = uids["study"], uids["series"]
    header.Modality, header.InstanceNumber = modality, number
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.Rows, header.Columns = array.shape[:2]
    colour = array.ndim == 3
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    header.BitsAllocated = header.BitsStored = 8 * array.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(array.dtype.kind == "i")
    for name, value in {**PERSON, **OWN[modality], **tags}.items():
        setattr(header, name, value)
    if modality == "PT":
        header.RadiopharmaceuticalInformationSequence = [isotope()]
    if place is not None:
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = uids["frame"], ""
        header.ImagePositionPatient = [round(float(value), 9) for value in place]
        header.ImageOrientationPatient = [round(float(value), 9) for value in axes]
        header.PixelSpacing, header.SliceThickness = list(SPACING), GAP
    header.PixelData = array.tobytes()
    return header


def series(folder, modality="MR", axes=AXIAL, step=None, names=None, colour=False, **tags):
    """A series of five slices; `step` (mm) goes from one to the next, along the normal where it is left out.

    Files are named so that their order says nothing. Returns its numbers (rows, columns, slices).
    """
    normal = np.cross(axes[:3], axes[3:])
    step = GAP * normal if step is None else np.array(step, float)
    volume = np.random.default_rng(0).integers(5, 1500, SIZE).astype(np.uint16)
    uids = names or {name: generate_uid() for name in ("study", "series", "frame")}
    order = np.random.default_rng(1).permutation(SIZE[2])
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(SIZE[2]):
        place = np.array([-10.0, 20.0, 30.0]) + k * step
        own = (
            {"RescaleSlope": f"{0.5 + k / 10:g}", "RescaleIntercept": "0"}
            if modality == "PT"
            else {}
        )
        own = {**own, "ImageIndex": k + 1, "NumberOfSlices": 5} if modality == "PT" else own
        array = (
            volume[..., k] if not colour else np.stack([volume[..., k] % 251] * 3, -1).astype("u1")
        )
        header = one(modality, array, place, axes, k + 1, uids, **{**own, **tags})
        header.save_as(folder / f"IM{order[k]:02d}.dcm", enforce_file_format=True)
    return volume


def picture(path, modality, colour=False, **tags):
    """One image without a place in space."""
    shape = (24, 20, 3) if colour else (24, 20)
    array = np.random.default_rng(2).integers(0, 255, shape).astype(np.uint8)
    header = one(modality, array, **{"BodyPartExamined": "EYE", "PatientPosition": None, **tags})
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return array


def enhanced(path):
    """An Enhanced MR object: five frames out of order, place, echo time and slope in functional groups."""
    volume = np.random.default_rng(3).integers(0, 1000, SIZE).astype(np.uint16)
    uids = {name: generate_uid() for name in ("study", "series", "frame")}
    header = one("MR", volume[..., 0], (0, 0, 0), OBLIQUE, 1, uids)
    kind = "1.2.840.10008.5.1.4.1.1.4.1"
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = kind
    for name in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "SliceThickness",
        "EchoTime",
    ):
        delattr(header, name)
    shared = Dataset()
    orientation, measures, echo = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [round(float(value), 9) for value in OBLIQUE]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), GAP
    echo.EffectiveEchoTime = 17.5
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.MREchoSequence = [echo]
    normal, frames, order = np.cross(OBLIQUE[:3], OBLIQUE[3:]), [], (3, 0, 4, 1, 2)
    for k in order:
        frame, position, values = Dataset(), Dataset(), Dataset()
        place = np.array([10.0, -20.0, 30.0]) + k * GAP * normal
        position.ImagePositionPatient = [round(float(value), 9) for value in place]
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = "2", "0", "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
        frames.append(frame)
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = frames
    header.NumberOfFrames = len(frames)
    header.PixelData = np.stack([volume[..., k] for k in order]).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return volume


def stripped(folder, *names):
    """A copy of every file of a series without some attributes, and others empty."""
    for file in folder.iterdir():
        header = pydicom.dcmread(file)
        for name in names:
            header.pop(name, None)
        header.save_as(file)


def files_of(path):
    return sorted(path.iterdir()) if path.is_dir() else [path]


def valid(path):
    """No error of dciodvfy, and dcmtk reads it."""
    if shutil.which("dciodvfy") is None or shutil.which("dcmdump") is None:
        pytest.skip("needs Debian's dicom3tools and dcmtk")
    for file in files_of(path)[:2]:
        said = subprocess.run(["dciodvfy", file], capture_output=True, text=True).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said
        dumped = subprocess.run(["dcmdump", "-q", file], capture_output=True, text=True)
        assert dumped.returncode == 0 and not dumped.stderr, dumped.stderr
