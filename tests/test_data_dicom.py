"""DICOM: order by geometry, rescaling, LPS to RAS, refusals, and the way back."""

import shutil
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pydicom.data
import pytest
import SimpleITK as sitk
import torch
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.pixels import apply_color_lut
from pydicom.sr.codedict import codes
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

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
    return header


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
    cases = open_cases(tmp_path, names="plain")
    assert len(cases) == 3
    assert set(cases.patients) == {"P0", "P1", "P2"}
    assert cases.batch([0, 1])["image"].shape == (2, 1, 4, 6, 5)
    assert cases.image(0, "image").spacing_mm == pytest.approx((2.0, 0.5, 3.0))
    np.testing.assert_array_equal(cases.image(2, "image").data[0].numpy(), volume)
    assert any("declares no value range" in line for line in cases.notices)


def test_truncated_dicom_is_refused(tmp_path):
    series(tmp_path, slices=1)
    file = next(tmp_path.iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=file.name):
        read_image(file)


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_an_image_without_a_source_is_of_a_new_patient_called_synthetic(tmp_path, dtype):
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
    assert header.PatientID.startswith("SYNTHETIC-")


def test_dicom_cannot_hold_other_channels_deep_colour_or_shear(tmp_path):
    with pytest.raises(UserError, match="one or three channels"):
        save_image(Image(torch.zeros(2, 2, 2)), tmp_path / "a.dcm")
    with pytest.raises(UserError, match="colours of 8 bits"):
        save_image(Image(torch.rand(3, 2, 2)), tmp_path / "a.dcm")
    sheared = torch.eye(4, dtype=torch.float64)
    sheared[0, 1] = 0.5
    with pytest.raises(UserError, match="right angles"):
        save_image(Image(torch.zeros(1, 2, 2), sheared, "MR"), tmp_path / "a.dcm")


# ------------------------------------------------------------------------------ values of pixels
TEST_FILES = Path(pydicom.data.__file__).parent / "test_files"


def by_simpleitk(path):
    """Values as SimpleITK reads them, `(C, rows, columns[, slices])`."""
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    array = array if array.ndim == 4 else array[..., None]
    array = np.moveaxis(array, 0, 2) if len(array) > 1 else array[0]
    return np.moveaxis(array, -1, 0)


def test_a_palette_gives_colours():
    image = read_image(TEST_FILES / "examples_palette.dcm")
    header = pydicom.dcmread(TEST_FILES / "examples_palette.dcm")
    colours = apply_color_lut(header.pixel_array, header) >> 8
    np.testing.assert_array_equal(image.data.numpy(), np.moveaxis(colours, -1, 0))
    np.testing.assert_array_equal(
        image.data.numpy(), by_simpleitk(TEST_FILES / "examples_palette.dcm")
    )
    assert image.range == (0, 255)


@pytest.mark.parametrize(("value", "limit"), [(-2000, None), (63536, None), (-2000, -1990)])
def test_padding_sets_no_range(tmp_path, value, limit):
    array = np.random.default_rng(0).integers(-100, 900, (6, 6)).astype(np.int16)
    padded = array.copy()
    padded[0], padded[1, 0] = -2000, -2000 if limit is None else limit
    tags = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    header = write_slice(tmp_path / "a.dcm", padded, (0, 0, 0), RescaleIntercept="-24", **tags)
    header.add_new("PixelPaddingValue", "US" if value > 2**15 else "SS", value)
    header.save_as(tmp_path / "a.dcm")
    lines = []
    found = read_image(tmp_path / "a.dcm", notice=lines.append).data[0].numpy()
    rest = np.ones((6, 6), bool)
    rest[0], rest[1, 0] = False, False
    np.testing.assert_array_equal(found[rest], array[rest].astype(int) - 24)
    assert set(found[~rest]) == {found[rest].min()}
    assert (
        "PixelPaddingValue -2000" in lines[0] and "takes the lowest value of the rest" in lines[0]
    )


def test_a_modality_table_gives_real_values(tmp_path):
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.ModalityLUTType = "US"
    table.LUTData = np.array([5, 70, 900, 11000], "<u2").tobytes()
    array = np.array([[0, 1], [2, 3]], np.uint16)
    write_slice(tmp_path / "a.dcm", array, None, ModalityLUTSequence=[table])
    assert read_image(tmp_path / "a.dcm").data[0].tolist() == [[5, 70], [900, 11000]]
    table.LUTDescriptor = [4, 0, 99]
    write_slice(tmp_path / "a.dcm", array, None, ModalityLUTSequence=[table])
    with pytest.raises(UserError, match=r"a.dcm: its ModalityLUTSequence cannot be used"):
        read_image(tmp_path / "a.dcm")


def test_bits_beyond_those_declared_are_left_out(tmp_path):
    array = np.array([[1, 4095], [0x7001, 2]], np.uint16)
    write_slice(tmp_path / "a.dcm", array, None, BitsStored=12, HighBit=11)
    image = read_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(image.data.numpy(), by_simpleitk(tmp_path / "a.dcm"))
    assert image.data[0].tolist() == [[1, 4095], [1, 2]]


def test_each_slice_has_its_own_slope(tmp_path):
    array = np.array([[0, 100], [200, 300]], np.uint16)
    for k, slope in enumerate(("1", "0.5")):
        write_slice(tmp_path / f"{k}.dcm", array, (0, 0, 3.0 * k), RescaleSlope=slope)
    image = read_image(tmp_path)
    assert image.data.dtype == torch.float32
    np.testing.assert_array_equal(image.data[0].numpy(), np.stack([array, array / 2], -1))


# -------------------------------------------------------------------------------------- codecs
@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8])
def test_jpeg_lossless_is_decoded(tmp_path, dtype):
    array = np.random.default_rng(0).integers(0, 255, (16, 20)).astype(dtype)
    header = lossless(tmp_path / "a.dcm", array)
    assert "JPEG Lossless" in header.file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").data[0].numpy(), array)
    content = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "cut.dcm").write_bytes(content.replace(b"\xff\xd9", b"\0\0"))
    with pytest.raises(
        UserError, match=r"cut.dcm: its pixels cannot be decoded .*pylibjpeg-libjpeg"
    ):
        read_image(tmp_path / "cut.dcm")


def lossless(path, array):
    """A file of JPEG Lossless, as SimpleITK writes it."""
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(path))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(sitk.GetImageFromArray(array))
    return pydicom.dcmread(path)


def test_jpeg_lossless_that_is_dark_for_bright_is_turned_over(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (16, 20)).astype(np.uint8)
    header = lossless(tmp_path / "a.dcm", array)
    header.PhotometricInterpretation = "MONOCHROME1"
    header.save_as(tmp_path / "a.dcm")
    lines = []
    image = read_image(tmp_path / "a.dcm", notice=lines.append)
    np.testing.assert_array_equal(image.data[0].numpy(), 255 - array)
    assert any("MONOCHROME1" in line for line in lines)


def test_jpeg_lossless_of_a_palette_gives_its_colours(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (16, 20)).astype(np.uint8)
    header = lossless(tmp_path / "a.dcm", array)
    palette = np.random.default_rng(1).integers(0, 255, (3, 256)).astype(np.uint8)
    coloured(header, palette, 8)
    header.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").data.numpy(), palette[:, array])


def coloured(header, palette, bits):
    header.PhotometricInterpretation = "PALETTE COLOR"
    for name, entries in zip(("Red", "Green", "Blue"), palette, strict=True):
        descriptor = pydicom.datadict.tag_for_keyword(f"{name}PaletteColorLookupTableDescriptor")
        header.add_new(descriptor, "US", [256, 0, bits])
        setattr(header, f"{name}PaletteColorLookupTableData", entries.tobytes())


def test_a_palette_of_8_bits_in_words_of_16_gives_its_colours(tmp_path):
    """PS3.3 C.7.6.3.1.6 lets 8-bit entries be held so; dcmtk shows them."""
    array = np.arange(256, dtype=np.uint8).reshape(16, 16)
    header = write_slice(tmp_path / "a.dcm", array, None)
    palette = np.random.default_rng(1).integers(0, 255, (3, 256))
    coloured(header, palette.astype(np.uint16), 8)
    header.save_as(tmp_path / "a.dcm")
    np.testing.assert_array_equal(read_image(tmp_path / "a.dcm").data.numpy(), palette[:, array])


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_pictures_of_8_bits_have_their_range_however_they_are_stored(tmp_path, kind):
    array = np.random.default_rng(0).integers(40, 116, (16, 20)).astype(np.uint8)
    write_slice(tmp_path / "a.dcm", array, None, PhotometricInterpretation=kind)
    image = read_image(tmp_path / "a.dcm")
    assert image.data.dtype == torch.uint8 and image.range == (0, 255)


@pytest.mark.parametrize("name", ["JPGExtended", "SC_rgb_jpeg_gdcm", "GDCMJ2K_TextGBR", "JPEG2000"])
def test_compressed_files_agree_with_simpleitk(name):
    path = TEST_FILES / f"{name}.dcm"
    np.testing.assert_array_equal(read_image(path).data.numpy(), by_simpleitk(path))


# ------------------------------------------------------------------------- files of many frames
def write_enhanced(path, volume, place, normal_step, order, drop=(), **tags):
    """An Enhanced MR object: frames in `order`, place and slope in functional groups."""
    write_slice(path, volume[..., 0], None)
    header = pydicom.dcmread(path)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(OBLIQUE)
    measures.PixelSpacing, measures.SliceThickness = [2.0, 0.5], 3.0
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    frames = []
    for k in order:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [float(v) for v in place + k * normal_step]
        values.RescaleSlope, values.RescaleIntercept = "2", "-7"
        values.RescaleType = "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
        for sequence, name, per_frame in tags.get("per_frame", ()):
            part = Dataset()
            setattr(part, name, per_frame[k])
            setattr(frame, sequence, [part])
        frames.append(frame)
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = frames
    header.NumberOfFrames = len(frames)
    header.PixelData = np.stack([volume[..., k] for k in order]).tobytes()
    for name in ("PixelSpacing", *drop):
        delattr(header, name)
    header.save_as(path)


NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])
VOLUME = np.random.default_rng(3).integers(0, 1000, (4, 6, 5)).astype(np.uint16)


def test_an_enhanced_object_is_a_volume_ordered_by_place(tmp_path):
    place = np.array([10.0, -20.0, 30.0])
    write_enhanced(tmp_path / "sorted.dcm", VOLUME, place, 3 * NORMAL, range(5))
    write_enhanced(tmp_path / "mixed.dcm", VOLUME, place, 3 * NORMAL, (3, 0, 4, 1, 2))
    image, mixed = read_image(tmp_path / "sorted.dcm"), read_image(tmp_path / "mixed.dcm")
    np.testing.assert_array_equal(image.data[0].numpy(), 2 * VOLUME.astype(float) - 7)
    np.testing.assert_array_equal(mixed.data.numpy(), image.data.numpy())
    truth = sitk.ReadImage(str(tmp_path / "sorted.dcm"))
    for read in (image, mixed):
        for r, c, s in [(0, 0, 0), (3, 5, 4), (1, 2, 3)]:
            lps = truth.TransformIndexToPhysicalPoint((c, r, s))
            mine = read.affine.numpy() @ [r, c, s, 1]
            np.testing.assert_allclose(mine[:3], [-lps[0], -lps[1], lps[2]], atol=1e-3)
    cases = open_cases(tmp_path / "mixed.dcm", range=(0, 1000), names="plain")
    assert cases.ids == ("mixed",) and cases.patients == ("P7",)


def test_an_enhanced_object_with_a_gap_or_two_echoes_is_refused(tmp_path):
    place = np.zeros(3)
    write_enhanced(tmp_path / "gap.dcm", VOLUME, place, 3 * NORMAL, (0, 1, 2, 4))
    with pytest.raises(
        UserError, match=r"1 slice is missing between gap.dcm frame 3 and gap.dcm frame 4"
    ):
        read_image(tmp_path / "gap.dcm")
    echoes = ("MREchoSequence", "EffectiveEchoTime", [10.0, 80.0, 10.0, 80.0, 10.0])
    write_enhanced(tmp_path / "two.dcm", VOLUME, place, 0 * NORMAL, (0, 1), per_frame=[echoes])
    with pytest.raises(
        UserError, match=r"same place; they differ in EffectiveEchoTime 10.0 and 80.0"
    ):
        read_image(tmp_path / "two.dcm")
    header = pydicom.dcmread(tmp_path / "two.dcm")
    del header.PerFrameFunctionalGroupsSequence[1]
    header.save_as(tmp_path / "two.dcm")
    with pytest.raises(UserError, match=r"two.dcm: holds 2 frames and says where 1 of them lie"):
        read_image(tmp_path / "two.dcm")


def test_a_parametric_map_of_floats_is_a_volume(tmp_path):
    source = tmp_path / "source"
    series(source)
    slices = sorted((pydicom.dcmread(f) for f in source.iterdir()), key=lambda h: h.InstanceNumber)
    for header in slices:
        header.PatientName = header.PatientBirthDate = header.PatientSex = header.StudyID = ""
        header.StudyDate, header.StudyTime, header.AccessionNumber = "", "", ""
        header.FrameOfReferenceUID, header.SliceThickness = "1.2.8", 3.0
    values = np.random.default_rng(1).normal(size=(5, 4, 6)).astype(np.float32)
    mapping = highdicom.pm.RealWorldValueMapping(
        lut_label="1", lut_explanation="map", unit=codes.UCUM.NoUnits, value_range=(-9.0, 9.0),
        slope=1.0, intercept=0.0,
    )  # fmt: skip
    written = highdicom.pm.ParametricMap(
        slices, values, "1.2.3.77", 1, "1.2.3.78", 1, "m", "m", "1", "1", contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.0, window_width=4.0)],
    )  # fmt: skip
    written.save_as(tmp_path / "map.dcm")
    image = read_image(tmp_path / "map.dcm")
    np.testing.assert_array_equal(image.data[0].numpy(), np.moveaxis(values, 0, -1))
    torch.testing.assert_close(image.affine, read_image(source).affine, atol=1e-4, rtol=0)


def test_a_dose_is_a_volume_in_gray():
    path = TEST_FILES / "rtdose.dcm"
    image, header = read_image(path), pydicom.dcmread(path)
    dose = header.pixel_array * float(header.DoseGridScaling)
    np.testing.assert_allclose(image.data[0].numpy(), np.moveaxis(dose, 0, -1), rtol=1e-6)
    truth = sitk.ReadImage(str(path))
    lps = truth.TransformIndexToPhysicalPoint((2, 1, 3))
    np.testing.assert_allclose(
        (image.affine.numpy() @ [1, 2, 3, 1])[:3], [-lps[0], -lps[1], lps[2]]
    )


def test_a_film_gives_one_case_a_frame_all_of_one_person(tmp_path):
    shutil.copy(TEST_FILES / "SC_rgb_rle_2frame.dcm", tmp_path / "film.dcm")
    truth = pydicom.dcmread(tmp_path / "film.dcm")
    cases = open_cases(tmp_path)
    assert len(cases) == 2 and len(set(cases.patients)) == 1 and len(set(cases.split_of)) == 1
    for k in range(2):
        colours = np.moveaxis(truth.pixel_array[k], -1, 0)
        np.testing.assert_array_equal(cases.image(k, "image").data.numpy(), colours)
    assert "film.dcm: its frames do not say where they lie (a film)" in cases.notices[0]
    assert len({cases.columns["image"].hashed(k) for k in range(2)}) == 2
    with pytest.raises(UserError, match="2 frames that do not say where they lie"):
        read_image(tmp_path / "film.dcm")


def test_echoes_of_one_series_are_cases_named_by_what_tells_them_apart(tmp_path):
    volumes = np.random.default_rng(0).integers(0, 1000, (2, 4, 6, 3)).astype(np.uint16)
    for e, echo in enumerate(("10", "80")):
        for k in range(3):
            tags = {"EchoTime": echo, "AcquisitionTime": f"1000{e}{k}", "SeriesDescription": "t2"}
            write_slice(tmp_path / f"{k}{e}.dcm", volumes[e, ..., k], (0, 0, 3.0 * k), **tags)
    with pytest.raises(UserError, match=r"same place; they differ in EchoTime 10 and 80"):
        read_image(tmp_path)
    cases = open_cases(tmp_path, range=(0, 1000), names="plain")
    assert cases.all_ids == ("P7_t2_EchoTime-10", "P7_t2_EchoTime-80")
    assert cases.all_patients == ("P7", "P7")
    for e in range(2):
        np.testing.assert_array_equal(cases.columns["image"].image(e).data[0].numpy(), volumes[e])
    assert "its series holds 2 volumes in one place (EchoTime-10, EchoTime-80)" in cases.lines[0]
    (tmp_path / "21.dcm").unlink()
    with pytest.raises(UserError, match="same place"):
        open_cases(tmp_path)
