"""Small series as a scanner sends them, for the tests of nodes and of the watch folder."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

NAME = "Planted^Name"


def uid(*about):
    """The same UID for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in about])


def series(folder, study="a", number=1, slices=3, size=32, modality="MR"):
    """Write a series of bright discs into `folder`, an object a slice, and give the files back."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:size, :size] - size / 2 + 0.5
    files = []
    for k in range(slices):
        disc = (rows**2 + columns**2 < (size / 3) ** 2) * (600 + 10 * k)
        header = Dataset()
        header.SOPClassUID = MRImageStorage if modality == "MR" else CTImageStorage
        header.SOPInstanceUID = uid(study, number, k)
        header.StudyInstanceUID, header.SeriesInstanceUID = uid(study), uid(study, number)
        header.FrameOfReferenceUID = uid(study, "frame")
        header.PatientName, header.PatientID = NAME, f"planted-id-{study}"
        header.PatientBirthDate, header.PatientSex = "19010203", "O"
        header.StudyDate, header.StudyTime, header.StudyID = "20010203", "101112", "1"
        header.AccessionNumber = header.ReferringPhysicianName = ""
        header.Modality, header.SeriesNumber, header.InstanceNumber = modality, number, k + 1
        header.SeriesDescription = "discs"
        header.Manufacturer = "none"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M_SE"]
        header.ImagePositionPatient = [-size / 2, -size / 2, 3 * k]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.PixelSpacing, header.SliceThickness = [1, 1], 3
        header.Rows = header.Columns = size
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
        header.PixelRepresentation = 0
        if modality == "CT":
            header.RescaleIntercept, header.RescaleSlope, header.RescaleType = -1024, 1, "HU"
            header.KVP, header.AcquisitionNumber = 120, 1
        noise = np.random.default_rng([number, k]).integers(0, 20, (size, size))
        stored = disc + noise + (1024 if modality == "CT" else 0)  # the same values in both
        header.PixelData = stored.astype("<u2").tobytes()
        header.file_meta = FileMetaDataset()
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        files.append(folder / f"{study}-{number}-{k}.dcm")
        header.save_as(files[-1], enforce_file_format=True)
    return files
