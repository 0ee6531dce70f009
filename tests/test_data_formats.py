"""Every format keeps numbers, bit depth, value range and geometry, or refuses in one line."""

import gzip
import os
import resource
import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk
import torch

from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image, save_image, save_like
from radiffuse.data.image import Image
from radiffuse.data.transforms import to_unit
from radiffuse.errors import UserError


def hearing():
    lines = []
    return lines, lines.append


# --- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_picture_cut_short_is_an_error_and_nothing_is_left(tmp_path, name):
    """A full disk cannot be made here, but a limit on the size of a file fails the same way."""
    grey = torch.randint(0, 256, (1, 200, 200), dtype=torch.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        with pytest.raises(UserError, match="no file may be as large here"):
            save_image(Image(grey, range=(0, 255)), tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("free", "why"), [(10, "disk is full"), (10**9, "cannot be written")])
def test_itk_names_no_reason_so_the_disk_is_asked(tmp_path, monkeypatch, free, why):
    def broken(*_):
        raise RuntimeError("fwrite wrote only 3 1-sized things")

    monkeypatch.setattr(sitk, "WriteImage", broken)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    grey = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=why):
        save_image(Image(grey, range=(0, 255)), tmp_path / "a.nrrd")
    assert not list(tmp_path.iterdir())


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".tif"])
@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_grey_pictures_keep_their_depth_there_and_back(tmp_path, ending, dtype, top):
    array = np.random.default_rng(0).integers(0, top + 1, (5, 7)).astype(dtype)
    PIL.Image.fromarray(array).save(tmp_path / f"in{ending}")
    image = read_image(tmp_path / f"in{ending}")
    assert image.data.shape == (1, 5, 7)
    assert image.range == (0, top)
    np.testing.assert_array_equal(image.data[0].numpy(), array)
    path = save_like(image, to_unit(image.data, image.range), tmp_path / "out")
    assert path.name == f"out{ending}"
    with PIL.Image.open(path) as again:
        written = np.asarray(again)
    assert written.dtype == dtype
    np.testing.assert_array_equal(written, array)


def test_colour_is_three_channels_and_comes_back(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    PIL.Image.fromarray(array).save(tmp_path / "in.png")
    image = read_image(tmp_path / "in.png")
    assert image.data.shape == (3, 4, 6)
    path = save_like(image, to_unit(image.data, image.range), tmp_path / "out.png")
    with PIL.Image.open(path) as again:
        np.testing.assert_array_equal(np.asarray(again), array)


def test_alpha_is_dropped_and_said(tmp_path):
    array = np.full((4, 6, 4), 9, dtype=np.uint8)
    array[..., 3] = 255
    PIL.Image.fromarray(array).save(tmp_path / "in.png")
    lines, hear = hearing()
    assert read_image(tmp_path / "in.png", notice=hear).data.shape == (3, 4, 6)
    assert "alpha" in lines[0] and "in.png" in lines[0]


def test_a_black_and_white_picture_declares_0_to_1(tmp_path):
    PIL.Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "in.png")
    image = read_image(tmp_path / "in.png")
    assert image.range == (0, 1)
    assert torch.equal(image.data[0], torch.eye(4, dtype=torch.uint8))


def test_jpeg_predictions_are_stored_without_loss(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(tmp_path / "in.jpg")
    image = read_image(tmp_path / "in.jpg")
    assert save_like(image, torch.zeros(1, 4, 6), tmp_path / "out").name == "out.png"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.nii.gz", "a.nii", "a.mha", "a.dcm", "a.tif"])
def test_garbage_is_refused_in_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is no image at all" * 30)
    with pytest.raises(UserError, match=name) as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.nii.gz", "a.nii", "a.mha", "a.tif"])
def test_truncated_files_are_refused(tmp_path, name):
    rng = np.random.default_rng(0)
    if name.endswith((".png", ".jpg", ".tif")):
        PIL.Image.fromarray(rng.integers(0, 256, (64, 64)).astype(np.uint8)).save(tmp_path / name)
    else:
        save_image(Image(torch.rand(1, 16, 16, 16)), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=name):
        read_image(tmp_path / name)


def test_unknown_and_missing_files(tmp_path):
    (tmp_path / "a.docx").write_bytes(b"x" * 200)
    with pytest.raises(UserError, match="not an image format"):
        read_image(tmp_path / "a.docx")
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "b.png")


def test_a_picture_cannot_hold_a_volume(tmp_path):
    with pytest.raises(UserError, match=r"nii\.gz"):
        save_image(Image(torch.zeros(1, 2, 2, 2)), tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


# --- NIfTI ----------------------------------------------------------------------------------------


def nifti(path, array, affine=None, slope=None, **forms):
    file = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    if slope is not None:
        file.header.set_slope_inter(*slope)
    for name, (form, code) in forms.items():
        getattr(file, f"set_{name}")(form, code)
    nibabel.save(file, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_nifti_keeps_the_stored_type(tmp_path, dtype):
    array = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    image = read_image(nifti(tmp_path / "a.nii.gz", array))
    assert image.data.numpy().dtype == dtype
    np.testing.assert_array_equal(image.data[0].numpy(), array)
    assert image.range == ((0, 255) if dtype == np.uint8 else None)


def test_uint16_and_big_endian_lose_nothing(tmp_path):
    array = np.array([[[0, 40000, 65535]]], dtype=np.uint16).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(read_image(nifti(tmp_path / "a.nii", array)).data[0], array)
    big = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    nibabel.save(
        nibabel.Nifti1Image(big, np.eye(4), nibabel.Nifti1Header(endianness=">")),
        tmp_path / "b.nii",
    )
    np.testing.assert_array_equal(read_image(tmp_path / "b.nii").data[0], big)


def test_declared_scaling_is_applied(tmp_path):
    """scl_slope 0.5, scl_inter -10 on stored 0..23."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    file = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4), header)
    nibabel.save(file, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.5, -10], dtype="<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    image = read_image(tmp_path / "a.nii")
    assert image.data.dtype == torch.float32
    np.testing.assert_allclose(image.data.flatten().numpy(), np.arange(24) * 0.5 - 10)


def test_a_series_is_channels_and_comes_back(tmp_path):
    array = np.random.default_rng(0).integers(-100, 100, (3, 4, 5, 6)).astype(np.int16)
    affine = np.diag([2.0, 3.0, -4.0, 1.0])
    image = read_image(nifti(tmp_path / "a.nii.gz", array, affine))
    assert image.data.shape == (6, 3, 4, 5)
    assert image.spacing_mm == (2.0, 3.0, 4.0)
    path = save_like(image, to_unit(image.data, (-100, 100)), tmp_path / "out", (-100, 100))
    again = nibabel.load(path)
    assert again.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(again.dataobj), array)
    np.testing.assert_allclose(again.affine, affine)


@pytest.mark.parametrize(("unit", "factor"), [("sec", 1), ("msec", 1e-3), ("unknown", None)])
def test_a_series_keeps_the_time_between_its_frames(tmp_path, unit, factor):
    file = nibabel.Nifti1Image(np.zeros((3, 4, 5, 6), np.float32), np.eye(4))
    file.header.set_zooms((1, 1, 1, 2.5))
    file.header.set_xyzt_units("mm", unit)
    file.to_filename(tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    assert image.frame_seconds == (factor and 2.5 * factor)
    path = save_like(image, image.data, tmp_path / "out", (0, 1))
    again = read_image(path)
    assert again.frame_seconds == (factor and pytest.approx(2.5 * factor))
    fewer = read_image(save_like(image, image.data[:2], tmp_path / "two", (0, 1)))
    assert fewer.frame_seconds is None


def test_places_in_microns_and_metres_are_brought_to_mm(tmp_path):
    for unit, spacing in (("micron", 2000.0), ("meter", 0.002), ("mm", 2.0), ("unknown", 2.0)):
        affine = np.diag([spacing] * 3 + [1.0])
        affine[0, 3] = 5 * spacing
        file = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), affine)
        file.header.set_xyzt_units(unit)
        file.to_filename(tmp_path / "a.nii")
        image = read_image(tmp_path / "a.nii")
        assert image.spacing_mm == pytest.approx((2.0, 2.0, 2.0))
        assert float(image.affine[0, 3]) == pytest.approx(10.0)


def test_vectors_and_colours_are_channels(tmp_path):
    field = np.random.default_rng(0).normal(size=(3, 4, 5, 1, 3)).astype(np.float32)
    image = read_image(nifti(tmp_path / "field.nii", field))
    np.testing.assert_array_equal(image.data.numpy(), np.moveaxis(field[:, :, :, 0], -1, 0))
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3)).astype(np.uint8)
    packed = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    image = read_image(nifti(tmp_path / "rgb.nii", packed))
    np.testing.assert_array_equal(image.data.numpy(), np.moveaxis(colours, -1, 0))
    with pytest.raises(UserError, match="not understood"):
        read_image(nifti(tmp_path / "five.nii", np.zeros((2, 2, 2, 3, 3), np.float32)))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd"])
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_of_complex_numbers_the_magnitude_is_read_and_said(tmp_path, name, dtype):
    """SimpleITK writes them. Their real part alone is another image."""
    rng = np.random.default_rng(0)
    array = (rng.normal(size=(4, 5, 6)) + 1j * rng.normal(size=(4, 5, 6))).astype(dtype)
    if dtype == np.complex128 and name == "a.nii.gz":
        nifti(tmp_path / name, array.T)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    lines, hear = hearing()
    image = read_image(tmp_path / name, notice=hear)
    assert image.data.numpy().dtype == np.zeros(0, dtype).real.dtype
    np.testing.assert_allclose(image.data[0].numpy(), np.abs(array).T, rtol=1e-6)
    assert any("magnitude" in line and name in line for line in lines)


def test_scaled_complex_numbers_keep_their_imaginary_part(tmp_path):
    array = np.full((2, 3, 4), 3 + 4j, np.complex64)
    nifti(tmp_path / "a.nii", array)
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([2, 0], dtype="<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    assert read_image(tmp_path / "a.nii").data.unique().tolist() == [10.0]


def test_a_complex_volume_is_opened_and_its_prediction_written_as_magnitude(tmp_path):
    for k in range(3):
        turned = np.exp(1j * np.linspace(0, 9, 4 * 5 * 6).reshape(4, 5, 6)) * (k + 1)
        nifti(tmp_path / f"{k}.nii.gz", (turned * np.arange(1, 5)[:, None, None]).astype("c8"))
    cases = open_cases(tmp_path, range=(0, 12))
    assert any("magnitude" in notice for notice in cases.notices)
    image = cases.image(1, "image")
    path = save_like(image, to_unit(image.data, (0, 12)), tmp_path / "out", (0, 12))
    expected = np.abs(nibabel.load(tmp_path / "1.nii.gz").get_fdata(dtype=np.complex64))
    np.testing.assert_allclose(nibabel.load(path).get_fdata(), expected, rtol=1e-4)


def test_a_flat_volume_is_a_picture_with_geometry(tmp_path):
    image = read_image(nifti(tmp_path / "a.nii.gz", np.zeros((4, 5, 1), np.float32)))
    assert image.size == (4, 5)
    path = save_like(image, torch.zeros(1, 4, 5), tmp_path / "out", (0, 1))
    assert nibabel.load(path).shape == (4, 5, 1)


def test_sform_and_qform_that_disagree_are_noticed(tmp_path):
    other = np.diag([1.0, 1.0, 1.0, 1.0])
    other[0, 3] = 7
    array = np.zeros((3, 3, 3), np.float32)
    path = nifti(tmp_path / "a.nii", array, sform=(np.eye(4), 1), qform=(other, 1))
    lines, hear = hearing()
    image = read_image(path, notice=hear)
    assert torch.equal(image.affine, torch.eye(4, dtype=torch.float64))
    assert "disagree by 7 mm" in lines[0]


@pytest.mark.parametrize(
    ("unit", "shift", "told"),
    [("micron", 1, "0.001 mm"), ("meter", 1, "1e+03 mm"), ("mm", 0.05, ""), ("meter", 0, "")],
)
def test_sform_and_qform_are_compared_in_mm_and_by_the_voxels_they_place(
    tmp_path, unit, shift, told
):
    affine, other = np.eye(4), np.eye(4)
    other[0, 3] = shift
    image = nibabel.Nifti1Image(np.zeros((3, 3, 3), np.float32), affine)
    image.set_sform(affine, 1)
    image.set_qform(other, 1)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    lines, hear = hearing()
    read_image(tmp_path / "a.nii", notice=hear)
    assert [line.split("disagree by ")[1].split(";")[0] for line in lines] == [told] * bool(told)


def test_the_qform_counts_where_there_is_no_sform(tmp_path):
    other = np.diag([2.0, 2.0, 2.0, 1.0])
    array = np.zeros((3, 3, 3), np.float32)
    path = nifti(tmp_path / "a.nii", array, qform=(other, 1), sform=(None, 0))
    lines, hear = hearing()
    assert read_image(path, notice=hear).spacing_mm == (2.0, 2.0, 2.0)
    assert not lines


def test_no_geometry_is_said(tmp_path):
    array = np.zeros((3, 3, 3), np.float32)
    path = nifti(tmp_path / "a.nii", array, qform=(None, 0), sform=(None, 0))
    lines, hear = hearing()
    read_image(path, notice=hear)
    assert "no place in space" in lines[0]


def test_a_flat_affine_is_refused(tmp_path):
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    path = nifti(
        tmp_path / "a.nii", np.zeros((3, 3, 3), np.float32), qform=(None, 0), sform=(flat, 1)
    )
    with pytest.raises(UserError, match="plane"):
        read_image(path)


def test_labels_that_a_slope_stores_come_back_whole_and_it_is_said(tmp_path):
    """nibabel spreads 0 to 4 over 8 bits by itself: 1 is stored as 64 of 255 and read as 1.0039."""
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    labels[0, 0, :2] = 0, 4
    file = nibabel.Nifti1Image(labels.astype(np.float64), np.eye(4))
    file.set_data_dtype(np.uint8)
    nibabel.save(file, tmp_path / "a.nii")
    assert nibabel.load(tmp_path / "a.nii").dataobj.slope == pytest.approx(4 / 255)
    lines, hear = hearing()
    image = read_image(tmp_path / "a.nii", labels=True, notice=hear)
    np.testing.assert_array_equal(image.data[0].numpy(), labels)
    assert "rounded" in lines[0]
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").data[0], labels, atol=0.01)
    assert read_image(tmp_path / "a.nii").data.frac().any()


def test_fractions_that_a_slope_stores_are_not_made_labels(tmp_path):
    file = nibabel.Nifti1Image(np.linspace(0, 4, 120).reshape(4, 5, 6), np.eye(4))
    file.set_data_dtype(np.uint8)
    nibabel.save(file, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii", labels=True).data.frac().any()


# --- kin of NIfTI: FreeSurfer, pairs of header and voxels ------------------------------------------

TURNED = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_volumes_keep_type_and_place(tmp_path, name, dtype):
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    nibabel.save(nibabel.MGHImage(array, TURNED), tmp_path / name)
    lines, hear = hearing()
    image = read_image(tmp_path / name, notice=hear)
    assert image.data.numpy().dtype == dtype and not lines
    np.testing.assert_array_equal(image.data[0].numpy(), array)
    np.testing.assert_allclose(image.affine, TURNED)


def test_frames_of_freesurfer_are_channels_in_time(tmp_path):
    array = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    file = nibabel.MGHImage(array, TURNED)
    file.header.set_zooms((3, 2, 4, 2500))  # milliseconds
    nibabel.save(file, tmp_path / "a.mgz")
    image = read_image(tmp_path / "a.mgz")
    np.testing.assert_array_equal(image.data.numpy(), np.moveaxis(array, -1, 0))
    assert image.frame_seconds == pytest.approx(2.5)


def test_freesurfer_without_a_place_is_said(tmp_path):
    file = nibabel.MGHImage(np.zeros((2, 3, 4), np.float32), TURNED)
    nibabel.save(file, tmp_path / "a.mgh")
    raw = bytearray((tmp_path / "a.mgh").read_bytes())
    raw[28:30] = b"\0\0"  # goodRASFlag
    (tmp_path / "a.mgh").write_bytes(raw)
    lines, hear = hearing()
    image = read_image(tmp_path / "a.mgh", notice=hear)
    np.testing.assert_allclose(image.affine, nibabel.MGHImage.from_bytes(bytes(raw)).affine)
    assert "no place in space" in lines[0]


@pytest.mark.parametrize("name", ["a.img", "a.hdr"])
def test_a_pair_of_nifti_is_one_image_with_its_place(tmp_path, name):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nibabel.save(nibabel.Nifti1Pair(array, TURNED), tmp_path / "a.img")
    lines, hear = hearing()
    image = read_image(tmp_path / name, notice=hear)
    np.testing.assert_array_equal(image.data[0].numpy(), array)
    np.testing.assert_allclose(image.affine, TURNED)
    assert not lines


def test_a_folder_of_pairs_has_a_case_for_each_pair(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(3):
        array = rng.integers(0, 99, (4, 5, 6)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Pair(array, TURNED), tmp_path / f"{k}.img")
    assert open_cases(tmp_path, range=(0, 99)).ids == ("0", "1", "2")


@pytest.mark.parametrize(("kept", "lost"), [("a.img", "a.hdr"), ("a.hdr", "a.img")])
def test_half_a_pair_is_refused_and_the_other_half_named(tmp_path, kept, lost):
    nibabel.save(nibabel.Nifti1Pair(np.zeros((2, 3, 4), np.int16), TURNED), tmp_path / "a.img")
    (tmp_path / lost).unlink()
    with pytest.raises(UserError, match=f"{lost}, which is missing"):
        read_image(tmp_path / kept)


def test_analyze_stores_no_orientation_which_is_said(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    file = nibabel.AnalyzeImage(array, None)
    file.header.set_zooms((2, 3, 4))
    nibabel.save(file, tmp_path / "a.img")
    lines, hear = hearing()
    image = read_image(tmp_path / "a.img", notice=hear)
    np.testing.assert_array_equal(image.data[0].numpy(), array)
    np.testing.assert_allclose(image.affine, nibabel.load(tmp_path / "a.img").affine)
    assert "no orientation" in lines[0] and "LAS" in lines[0] and image.spacing_mm == (2, 3, 4)


def test_what_came_as_a_pair_or_of_freesurfer_goes_out_as_nifti(tmp_path):
    nibabel.save(nibabel.MGHImage(np.zeros((2, 3, 4), np.float32), TURNED), tmp_path / "a.mgz")
    image = read_image(tmp_path / "a.mgz")
    path = save_like(image, torch.zeros(1, 2, 3, 4), tmp_path / "out", (0, 1))
    assert path.name == "out.nii.gz"
    np.testing.assert_allclose(nibabel.load(path).affine, TURNED)


# --- what headers declare -------------------------------------------------------------------------


def with_header(path, **fields):
    """A NIfTI file of 2 x 3 x 4 voxels whose header holds `fields` as they are, right or wrong."""
    nifti(path, np.arange(24, dtype=np.int16).reshape(2, 3, 4), TURNED)
    raw = bytearray(path.read_bytes())
    header = np.frombuffer(raw, nibabel.Nifti1Header.template_dtype, count=1).copy()
    for name, value in fields.items():
        header[name] = value
    raw[: header.nbytes] = header.tobytes()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"srow_x": np.nan}, "plane or is not finite"),
        ({"srow_x": np.inf}, "plane or is not finite"),
        ({"srow_x": 0}, "plane or is not finite"),
        ({"dim": [3, 2, 3, -4, 1, 1, 1, 1]}, "a.nii"),
        ({"dim": [3, 2, 0, 4, 1, 1, 1, 1]}, "not understood"),
        ({"dim": [9, 2, 3, 4, 1, 1, 1, 1]}, "a.nii"),
        ({"dim": [3, 2, 3, 5, 1, 1, 1, 1]}, "cut short"),
        ({"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]}, "GiB of voxels"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "a.nii"),
        ({"vox_offset": np.nan}, "a.nii"),
        ({"vox_offset": 1e9}, "a.nii"),
        ({"vox_offset": -400}, "a.nii"),
        ({"datatype": 77}, "a.nii"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": 3}, "a.nii"),
        ({"sform_code": 0, "qform_code": 1, "quatern_b": np.nan}, "a.nii"),
        ({"sform_code": 0, "qform_code": 0, "pixdim": np.nan}, "plane or is not finite"),
    ],
)  # fmt: skip
def test_numbers_of_a_header_that_cannot_be_are_refused(tmp_path, fields, why):
    with pytest.raises(UserError, match=why) as caught:
        read_image(with_header(tmp_path / "a.nii", **fields))
    assert "a.nii" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"quatern_b": 3, "qform_code": 1},
        {"xyzt_units": 7},
        {"pixdim": np.nan},
        {"scl_slope": np.nan},
        {"scl_slope": np.inf},
    ],
)
def test_numbers_that_do_not_count_do_no_harm(tmp_path, fields):
    image = read_image(with_header(tmp_path / "a.nii", **fields))
    np.testing.assert_array_equal(image.data[0].numpy(), np.arange(24).reshape(2, 3, 4))
    np.testing.assert_allclose(image.affine, TURNED)


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"pixdim": [1, -1, 2, 3, 0, 0, 0, 0]}, True),
        ({"pixdim": [-2, 1, 2, 3, 0, 0, 0, 0]}, True),
        ({"pixdim": [1, -1, 2, 3, 0, 0, 0, 0], "sform_code": 1}, False),
        ({"pixdim": [1, -1, 2, 3, 0, 0, 0, 0], "qform_code": 0}, False),
        ({"pixdim": [0, 1, 2, 3, 0, 0, 0, 0]}, False),
    ],
)  # fmt: skip
def test_negative_sizes_are_refused_where_the_qform_alone_says_the_place(
    tmp_path, capfd, fields, refused
):
    """nibabel takes their magnitude, ITK mirrors; the standard allows neither."""
    path = with_header(tmp_path / "a.nii", **{"sform_code": 0, "qform_code": 1, **fields})
    if refused:
        with pytest.raises(UserError, match=r"a\.nii: its voxels are .* in two ways"):
            read_image(path)
    else:
        read_image(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("code", [-3, 9])
def test_codes_of_a_place_that_nifti_does_not_know_are_told_with_the_file(tmp_path, capfd, code):
    lines, hear = hearing()
    path = with_header(tmp_path / "a.nii", sform_code=code, qform_code=1)
    found = read_image(path, notice=hear)
    assert lines == [f"{path}: its sform_code is {code}, which NIfTI does not know; it counts as 0"]
    np.testing.assert_allclose(found.affine, nibabel.load(path).get_qform(), atol=1e-6)
    path = with_header(tmp_path / "b.nii", sform_code=0, pixdim=[1, 0, 2, 3, 0, 0, 0, 0])
    read_image(path, notice=hear)
    assert lines[1] == f"{path}: its voxels are 0 x 2 x 3 mm; 1 mm is taken for 0"
    assert capfd.readouterr() == ("", "")


def test_a_packed_file_that_declares_more_than_it_can_hold_is_refused_unread(tmp_path, monkeypatch):
    path = with_header(tmp_path / "a.nii", dim=[4, 400, 400, 100, 1, 1, 1, 1])
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "get_unscaled", lambda _: 1 / 0)
    with pytest.raises(UserError, match=r"32000000 bytes of voxels, and holds \d+ packed"):
        read_image(tmp_path / "b.nii.gz")


@pytest.mark.parametrize("name", ["a.nii", "a.mgz", "a.img", "a.mha", "a.nrrd", "a.png", "a.dcm"])
def test_pipes_are_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="no regular file"):
        read_image(tmp_path / name)


def test_a_link_to_a_device_is_refused(tmp_path):
    (tmp_path / "a.nii").symlink_to("/dev/zero")
    with pytest.raises(UserError, match="no regular file"):
        read_image(tmp_path / "a.nii")


# --- MetaImage ------------------------------------------------------------------------------------


def test_mha_agrees_with_nifti_of_the_same_image(tmp_path):
    """SimpleITK writes both; its conversion LPS <-> RAS is the truth."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype("f4"))
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection((0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    for name in ("a.mha", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    first, second = read_image(tmp_path / "a.mha"), read_image(tmp_path / "a.nii.gz")
    torch.testing.assert_close(first.data, second.data)
    torch.testing.assert_close(first.affine, second.affine, atol=1e-5, rtol=1e-5)
    save_image(first, tmp_path / "b.mha")
    again = sitk.ReadImage(str(tmp_path / "b.mha"))
    assert again.GetSpacing() == pytest.approx(image.GetSpacing())
    assert again.GetOrigin() == pytest.approx(image.GetOrigin())
    assert again.GetDirection() == pytest.approx(image.GetDirection())


def test_a_flat_mha_is_rows_by_columns(tmp_path):
    image = sitk.GetImageFromArray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.SetSpacing((0.5, 2.0))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    loaded = read_image(tmp_path / "a.mha")
    assert loaded.data[0].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert loaded.spacing_mm == (2.0, 0.5)
    save_image(loaded, tmp_path / "b.mha")
    again = sitk.ReadImage(str(tmp_path / "b.mha"))
    assert again.GetSpacing() == (0.5, 2.0)
    assert sitk.GetArrayFromImage(again).tolist() == [[0, 1, 2], [3, 4, 5]]


META = {
    "ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1",
    "DimSize": "2 3 4", "ElementType": "MET_UCHAR", "ElementDataFile": "LOCAL",
}  # fmt: skip


def meta(path, **fields):
    text = "".join(f"{name} = {value}\n" for name, value in {**META, **fields}.items())
    path.write_bytes(text.encode() + bytes(range(24)))
    return path


def test_a_meta_image_written_by_hand_is_read(tmp_path):
    """So that the refusals below are not for something else."""
    assert read_image(meta(tmp_path / "a.mha")).size == (2, 3, 4)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"Offset": "1 inf 1"}, "its Offset is '1 inf 1'; 3 finite numbers"),
        ({"Offset": "1 2"}, "3 finite numbers"),
        ({"Offset": "1 2 three"}, "3 finite numbers"),
        ({"ElementSpacing": "1 nan 1"}, "3 finite positive numbers"),
        ({"ElementSpacing": "1 -1 1"}, "3 finite positive numbers"),
        ({"ElementSpacing": "1 0 1"}, "3 finite positive numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0"}, "9 finite numbers"),
        ({"TransformMatrix": "0 0 0 0 1 0 0 0 1"}, "cannot be read"),
        ({"DimSize": "2 -3 4"}, "3 finite positive numbers"),
        ({"DimSize": "2 3 5"}, "cannot be read"),
        ({"DimSize": "200000 300000 400000"}, "GiB of voxels"),
        ({"ElementDataFile": "/dev/zero"}, "voxels lie in '/dev/zero', which is no regular"),
        ({"ElementDataFile": "gone.raw"}, "voxels lie in 'gone.raw', which is no regular"),
    ],
)  # fmt: skip
def test_numbers_of_a_meta_image_that_cannot_be_are_refused(tmp_path, fields, why):
    """ITK alone reads the origin "1 inf 1" as (1, 0, 0), and /dev/zero as an image."""
    with pytest.raises(UserError, match=why) as caught:
        read_image(meta(tmp_path / "a.mha", **fields))
    assert "\n" not in str(caught.value)


def test_voxels_in_a_file_beside_the_header_are_read(tmp_path):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.uint8).reshape(4, 3, 2))
    sitk.WriteImage(image, str(tmp_path / "a.mhd"))
    assert read_image(tmp_path / "a.mhd").data[0, 1, 2, 3] == 23


@pytest.mark.parametrize("target", ["LIST\n{0}", "LIST 2\n{0}", "s%d.raw 0 3 1", "s%01d.raw 0 3 1"])
def test_voxels_in_a_file_a_slice_are_read_where_all_are_there(tmp_path, target):
    """Of a list without files ITK makes an image of whatever the memory holds."""
    names = [f"s{k}.raw" for k in range(4)]
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes(range(6 * k, 6 * k + 6)))
    path = meta(tmp_path / "a.mhd", ElementDataFile=target.format("\n".join(names)))
    path.write_bytes(path.read_bytes().removesuffix(bytes(range(24))))
    assert read_image(path).data[0, 1, 2, 3] == 23
    head = path.read_text().partition("ElementDataFile")[0]
    three = "LIST\n" + "\n".join(names[:3])
    for other in (
        "LIST",
        three,
        "LIST 3\ns0.raw",
        "LIST x",
        "s%d.raw 0 3",
        "s%d.raw 0 2 1",
        "s%d.raw 0 3 0",
        "%s 0 3 1",
        "%9999999d%n 0 3 1",
    ):
        path.write_text(f"{head}ElementDataFile = {other}\n")
        with pytest.raises(UserError, match=r"files \(.*are expected"):
            read_image(path)
    path.write_text(f"{head}ElementDataFile = LIST\n" + "\n".join(names))
    (tmp_path / "s2.raw").write_bytes(b"abc")
    with pytest.raises(UserError, match="declares 24 bytes of voxels and holds 12"):
        read_image(path)


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("data file: /dev/zero", "no regular file"),
        ("space directions: (1,0,0) (0,nan,0) (0,0,1)", r"'\(0,nan,0\)'; 3 finite numbers"),
        ("space directions: (1,0,0) (0,1,0)", "3 vectors are expected"),
        ("space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,inf,0)", "3 finite numbers"),
        ("space directions: " + "1 " * 5000, "has a line 'space directions: 1"),
        ("spacings: 1 2", "3 numbers are expected"),
        ("sizes: 2 3 4", "says sizes twice"),
        ("sices: 2 3 4", "has a line 'sices: 2 3 4'"),
    ],
)
def test_numbers_of_nrrd_that_cannot_be_are_refused(tmp_path, field, why):
    text = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n"
    text += f"space: left-posterior-superior\n{field}\n\n"
    (tmp_path / "a.nrrd").write_bytes(text.encode() + bytes(range(24)))
    with pytest.raises(UserError, match=why):
        read_image(tmp_path / "a.nrrd")


# --- damage ---------------------------------------------------------------------------------------


def intact(path):
    """A small volume written by nibabel or SimpleITK."""
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    kinds = {".mgh": nibabel.MGHImage, ".hdr": nibabel.Nifti1Pair, ".nii": nibabel.Nifti1Image}
    if path.suffix in kinds:
        nibabel.save(kinds[path.suffix](array, TURNED), path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.mgh", "a.hdr", "a.mha", "a.nrrd"])
def test_a_damaged_header_is_refused_in_one_line_or_gives_a_finite_place(tmp_path, name):
    path = intact(tmp_path / name)
    whole, rng, refusals = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, min(len(whole), 348), 4)
        damaged[places] = rng.choice([0, 1, 127, 128, 255], 4)
        path.write_bytes(damaged.tobytes())
        try:
            assert torch.isfinite(read_image(path).affine).all()
        except UserError as error:
            refusals += 1
            assert "\n" not in str(error) and name in str(error)
    assert refusals


def test_what_a_gzipped_name_says_is_compared_with_the_content(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.int16), np.eye(4)), tmp_path / "a.nii")
    content = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "packed.nii").write_bytes(gzip.compress(content))
    (tmp_path / "plain.nii.gz").write_bytes(content)
    for name, said in (
        ("packed.nii", "is gzipped, and its name"),
        ("plain.nii.gz", "is not gzipped"),
    ):
        with pytest.raises(UserError, match=said):
            read_image(tmp_path / name)


def test_nifti_in_colour_with_holes_or_in_time_is_refused_by_name(tmp_path):
    for alpha, name in ((255, "opaque.nii"), (254, "clear.nii")):
        array = np.zeros((3, 4, 5), dtype=[(c, "u1") for c in "RGBA"])
        array["R"], array["A"] = 7, alpha
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / name)
    assert read_image(tmp_path / "opaque.nii").data[0].unique().tolist() == [7]
    with pytest.raises(UserError, match="is transparent in places"):
        read_image(tmp_path / "clear.nii")
    series = np.zeros((3, 4, 5, 2), dtype=[(c, "u1") for c in "RGB"])
    nibabel.save(nibabel.Nifti1Image(series, np.eye(4)), tmp_path / "series.nii")
    with pytest.raises(UserError, match="a series in colour"):
        read_image(tmp_path / "series.nii")


@pytest.mark.parametrize("kind", ["mha", "mhd", "nrrd"])
def test_what_simpleitk_makes_of_a_nifti_is_read(tmp_path, kind):
    """It writes every field of the other header, "dim[0] = 3"."""
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine = np.diag([2.0, 3, 4, 1])
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii.gz")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii.gz")), str(tmp_path / f"a.{kind}"))
    image = read_image(tmp_path / f"a.{kind}")
    assert np.array_equal(image.data[0].numpy(), array) and image.placed
    np.testing.assert_allclose(image.affine.numpy(), affine, atol=1e-6)
