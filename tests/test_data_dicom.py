"""DICOM: order by geometry, rescaling, LPS to RAS, refusals, and the way back."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image, save_image, save_like
from radiffuse.data.image import Image
from radiffuse.data.transforms import to_unit
from radiffuse.errors import UserError


def write_slice(path, array, place, orientation=(1, 0, 0, 0, 1, 0), series="1.2.3", **tags):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    meta.MediaStorageSOPInstanceUID = f"1.2.3.4.{abs(hash(str(path))) % 10**9}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID = meta.MediaStorageSOPClassUID
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID, header.StudyInstanceUID = series, "1.2.9"
    header.Modality, header.PatientID = "MR", "P7"
    header.Rows, header.Columns = array.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8 * array.dtype.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(array.dtype.kind == "i")
    header.PixelSpacing = [2.0, 0.5]
    header.InstanceNumber = 1
    if place is not None:
        header.ImagePositionPatient = [float(value) for value in place]
        header.ImageOrientationPatient = list(orientation)
    for name, value in tags.items():
        setattr(header, name, value)
    header.PixelData = array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)


ANGLE = np.deg2rad(20)
OBLIQUE = (np.cos(ANGLE), np.sin(ANGLE), 0, 0, 0, -1)


def series(folder, slices=5, gap=3.0, skip=(), **tags):
    """Slices in an order of names that says nothing; the truth is the value in the corner."""
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    names = np.random.default_rng(1).permutation(slices)
    volume = np.random.default_rng(0).integers(0, 1000, (4, 6, slices)).astype(np.uint16)
    for k in range(slices):
        if k not in skip:
            place = np.array([10.0, -20.0, 30.0]) + gap * k * normal
            name = folder / f"IM{names[k]:03d}.dcm"
            write_slice(name, volume[..., k], place, OBLIQUE, InstanceNumber=k + 1, **tags)
    return volume


def test_slices_are_ordered_by_place_and_agree_with_simpleitk(tmp_path):
    volume = series(tmp_path)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.data[0].numpy(), volume)
    assert image.modality == "MR"
    assert image.spacing_mm == pytest.approx((2.0, 0.5, 3.0))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    truth = reader.Execute()
    for r, c, s in [(0, 0, 0), (3, 5, 4), (1, 2, 3)]:
        lps = truth.TransformIndexToPhysicalPoint((c, r, s))
        mine = image.affine.numpy() @ [r, c, s, 1]
        np.testing.assert_allclose(mine[:3], [-lps[0], -lps[1], lps[2]], atol=1e-3)
        assert truth[c, r, s] == image.data[0, r, c, s]


def test_rescaling_is_applied(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    volume = series(whole, RescaleSlope="1", RescaleIntercept="-1024")
    image = read_image(whole)
    assert not image.data.is_floating_point()
    np.testing.assert_array_equal(image.data[0].numpy(), volume.astype(int) - 1024)
    volume = series(broken, RescaleSlope="0.5", RescaleIntercept="3")
    image = read_image(broken)
    assert image.data.dtype == torch.float32
    np.testing.assert_allclose(image.data[0].numpy(), volume * 0.5 + 3)


def test_a_missing_slice_is_named(tmp_path):
    series(tmp_path, slices=7, skip=(3,))
    with pytest.raises(UserError, match=r"1 slice is missing between .* \(instances 3 and 5"):
        read_image(tmp_path)


def test_doubled_tilted_and_mixed_slices_are_refused(tmp_path):
    doubled, tilted, mixed, sizes = (tmp_path / n for n in ("doubled", "tilted", "mixed", "sizes"))
    array = np.zeros((4, 6), np.uint16)
    for folder in (doubled, tilted, mixed, sizes):
        write_slice(folder / "a.dcm", array, (0, 0, 0))
    write_slice(doubled / "b.dcm", array, (0, 0, 0))
    with pytest.raises(UserError, match="same place"):
        read_image(doubled)
    write_slice(tilted / "b.dcm", array, (0, 0, 3), OBLIQUE)
    with pytest.raises(UserError, match="tilted"):
        read_image(tilted)
    write_slice(mixed / "b.dcm", array, (0, 0, 3), series="1.2.4")
    with pytest.raises(UserError, match="2 DICOM series"):
        read_image(mixed)
    write_slice(sizes / "b.dcm", np.zeros((4, 7), np.uint16), (0, 0, 3))
    with pytest.raises(UserError, match="4x6, 4x7"):
        read_image(sizes)


def test_dark_for_bright_is_turned_over_and_said(tmp_path):
    array = np.array([[0, 4095], [1, 2]], np.uint16)
    write_slice(
        tmp_path / "a.dcm",
        array,
        None,
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=12,
        HighBit=11,
    )
    lines = []
    image = read_image(tmp_path / "a.dcm", notice=lines.append)
    assert image.data[0].tolist() == [[4095, 0], [4094, 4093]]
    assert image.affine is None
    assert "MONOCHROME1" in lines[0]


def test_a_folder_of_series_is_one_case_each(tmp_path):
    for number in range(3):
        volume = series(tmp_path / f"s{number}", series=f"1.2.{number}", PatientID=f"P{number}")
    cases = open_cases(tmp_path)
    assert len(cases) == 3
    assert set(cases.patients) == {"P0", "P1", "P2"}
    assert cases.batch([0, 1])["image"].shape == (2, 1, 4, 6, 5)
    assert cases.image(0, "image").spacing_mm == pytest.approx((2.0, 0.5, 3.0))
    np.testing.assert_array_equal(cases.image(2, "image").data[0].numpy(), volume)
    assert "declares no value range" in cases.notices[0]


def test_truncated_dicom_is_refused(tmp_path):
    series(tmp_path, slices=1)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=file.name):
        read_image(file)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_a_prediction_goes_back_as_a_series_marked_synthetic(tmp_path, dtype):
    series(tmp_path / "in")
    template = read_image(tmp_path / "in")
    template = Image(template.data.to(dtype), template.affine, "MR", (0.0, 1000.0), ".dcm")
    path = save_like(template, to_unit(template.data, (0, 1000)), tmp_path / "out")
    assert path == tmp_path / "out"
    again = read_image(path)
    torch.testing.assert_close(again.affine, template.affine, atol=1e-3, rtol=0)
    error = (again.data.double() - template.data.double()).abs().max()
    assert error <= (0 if dtype == torch.int16 else 1000 / 65535)
    header = pydicom.dcmread(path / "0001.dcm")
    assert header.ImageType[0] == "DERIVED"
    assert "SYNTHETIC" in header.SeriesDescription
    assert header.PatientID == ""


def test_dicom_cannot_hold_colour_or_shear(tmp_path):
    with pytest.raises(UserError, match="one channel"):
        save_image(Image(torch.zeros(3, 2, 2)), tmp_path / "a.dcm")
    sheared = torch.eye(4, dtype=torch.float64)
    sheared[0, 1] = 0.5
    with pytest.raises(UserError, match="right angles"):
        save_image(Image(torch.zeros(1, 2, 2), sheared, "MR"), tmp_path / "a.dcm")
