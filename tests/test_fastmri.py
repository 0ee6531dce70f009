"""fastMRI files: voxel sizes, oversampled readouts and masks; k-space through `predict`."""

import json
import os
import shutil
from types import SimpleNamespace

import h5py
import nibabel as nib
import numpy as np
import pytest
import scipy.io
import torch

from radiffuse import cli
from radiffuse.acquisition import MRI
from radiffuse.commands.source import source_of
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.operators.fourier import centred_fft, centred_ifft
from radiffuse.runs.config import DataSource

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>{x}</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>{wide}</x><y>160</y><z>4.5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>32</x><y>32</y><z>1</z></matrixSize>
<fieldOfView_mm><x>220</x><y>160</y><z>4.5</z></fieldOfView_mm></reconSpace>
</encoding></ismrmrdHeader>"""


def scan(slices=2):
    """K-space (slices, 4, 32, 32) of brains at an acceleration of 2."""
    images = (open_cases("brains:count=8,size=32").batch(range(slices))["image"] + 1) / 2
    return MRI(coils=4, acceleration=2.0).simulate(images, list(range(slices))).measurement.y


def written(path, kspace, header=None, mask=None):
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.numpy()
        if header is not None:
            file["ismrmrd_header"] = header
        if mask is not None:
            file["mask"] = mask
    return path


def test_voxel_sizes_are_the_field_of_view_over_the_samples(tmp_path):
    cases = open_cases(written(tmp_path / "a.h5", scan(), HEADER.format(x=32, wide=220)))
    affine = cases.columns["kspace"].image(cases.rows[1]).affine
    assert torch.allclose(affine.diagonal()[:3], torch.tensor([220 / 32, 5.0, 4.5]).double())
    assert float(affine[2, 3]) == 4.5


def test_the_oversampling_of_the_readout_is_cut_off_and_the_image_stays(tmp_path):
    kspace = scan()
    image = centred_ifft(kspace, (2,))
    wide = torch.zeros(2, 4, 64, 32, dtype=torch.complex64)
    wide[:, :, 16:48] = image
    wide[:, :, :10] = 7.0  # what folds in from outside of the field of view
    path = written(tmp_path / "a.h5", centred_fft(wide, (2,)), HEADER.format(x=64, wide=440))
    cases = open_cases(path)
    assert torch.allclose(cases.batch([0, 1])["kspace"], kspace, atol=1e-4)
    affine = cases.columns["kspace"].image(0).affine
    assert float(affine[0, 0]) == pytest.approx(220 / 32)


@pytest.mark.parametrize("rows", [32, 40])
def test_oversampling_that_was_removed_is_not_removed_again(tmp_path, rows):
    """By reconSpace, or where that has other rows too by the image in the file."""
    kspace = torch.zeros(2, 4, rows, 32, dtype=torch.complex64)
    kspace[:, :, :32] = scan()
    path = written(tmp_path / "a.h5", kspace, HEADER.format(x=64, wide=440))
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"] = np.random.default_rng(0).random((2, rows, 32))
    cases = open_cases(path)
    assert torch.allclose(cases.batch([0, 1])["kspace"], kspace, atol=1e-5)
    affine = cases.columns["kspace"].image(0).affine
    assert float(affine[0, 0]) == pytest.approx(220 / rows)
    assert any(f"taken as removed, {rows} of 220 mm" in line for line in cases.notices)


def test_rows_that_a_header_does_not_explain_are_told(tmp_path):
    kspace = torch.zeros(2, 4, 40, 32, dtype=torch.complex64)
    kspace[:, :, 4:36] = scan()
    cases = open_cases(written(tmp_path / "a.h5", kspace, HEADER.format(x=64, wide=440)))
    assert cases.batch([0])["kspace"].shape == (1, 4, 20, 32)
    assert any("40 rows" in line and "taken with it" in line for line in cases.notices)
    there = open_cases(written(tmp_path / "b.h5", scan(), HEADER.format(x=32, wide=220)))
    assert not any("header says" in line for line in there.notices)


def test_columns_without_their_oversampling_have_the_voxels_of_the_image(tmp_path):
    header = HEADER.format(x=32, wide=220).replace("<y>32</y>", "<y>64</y>", 1)
    cases = open_cases(written(tmp_path / "a.h5", scan(), header.replace("<y>160<", "<y>320<", 1)))
    affine = cases.columns["kspace"].image(0).affine
    assert float(affine[1, 1]) == pytest.approx(160 / 32)
    assert any("taken as removed, 32 of 160 mm" in line for line in cases.notices)


def test_a_header_that_cannot_be_read_is_told_and_costs_the_geometry_alone(tmp_path):
    cases = open_cases(written(tmp_path / "a.h5", scan(), "<no"))
    assert any("ismrmrd_header cannot be read" in notice for notice in cases.notices)
    assert cases.columns["kspace"].image(0).affine is None


def test_a_mask_of_columns_leaves_out_what_it_does_not_hold(tmp_path):
    full = torch.ones(1, 1, 8, 8, dtype=torch.complex64)
    mask = np.array([0, 1, 0, 1, 1, 1, 0, 1])
    found = open_cases(written(tmp_path / "a.h5", full, mask=mask)).batch([0])["kspace"]
    assert torch.equal(found.abs(), torch.from_numpy(mask).float().expand(1, 1, 8, 8))
    with pytest.raises(UserError, match="mask has 6 columns, its k-space 8"):
        open_cases(written(tmp_path / "b.h5", full, mask=mask[:6]))


def test_a_mask_of_points_leaves_out_what_it_does_not_hold(tmp_path):
    full = torch.ones(3, 2, 8, 6, dtype=torch.complex64)
    points = np.random.default_rng(0).integers(0, 2, (8, 6)).astype(bool)
    found = open_cases(written(tmp_path / "a.h5", full, mask=points)).batch([2])["kspace"]
    np.testing.assert_array_equal(found[0, 1].abs().numpy(), points)
    each = np.random.default_rng(1).integers(0, 2, (3, 8, 6)).astype(np.float32)
    found = open_cases(written(tmp_path / "b.h5", full, mask=each)).batch([0, 1, 2])["kspace"]
    np.testing.assert_array_equal(found[:, 1].abs().numpy(), each)
    lines = each[:, 0]
    found = open_cases(written(tmp_path / "c.h5", full, mask=lines)).batch([0, 1, 2])["kspace"]
    np.testing.assert_array_equal(
        found.abs().numpy(), np.broadcast_to(lines[:, None, None], (3, 2, 8, 6))
    )
    fastmri = lines[:1, None, :, None]
    found = open_cases(written(tmp_path / "d.h5", full, mask=fastmri)).batch([1])["kspace"]
    np.testing.assert_array_equal(found[0, 0].abs().numpy(), np.broadcast_to(lines[0], (8, 6)))


def test_a_mask_that_can_be_read_in_two_ways_is_refused(tmp_path):
    """Three slices of three rows: (3, 6) is of lines of each slice, or of points."""
    full = torch.ones(3, 2, 3, 6, dtype=torch.complex64)
    points = np.eye(3, 6)
    with pytest.raises(UserError, match="rows, columns or of slices, columns"):
        open_cases(written(tmp_path / "a.h5", full, mask=points))
    found = open_cases(written(tmp_path / "b.h5", full, mask=points[None])).batch([1])["kspace"]
    np.testing.assert_array_equal(found[0, 0].abs().numpy(), points)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.full((8, 6), 0.5), "other values than 0 and 1"),
        (np.full((8, 6), np.nan), "other values than 0 and 1"),
        (np.ones((7, 6)), r"shape \(7, 6\), its k-space \(3, 2, 8, 6\)"),
    ],
)
def test_a_mask_that_is_none_is_refused(tmp_path, mask, why):
    full = torch.ones(3, 2, 8, 6, dtype=torch.complex64)
    with pytest.raises(UserError, match=why):
        open_cases(written(tmp_path / "a.h5", full, mask=mask))


def test_readouts_with_gaps_keep_their_oversampling(tmp_path):
    """Fourier interpolation of a readout needs all of it: zeros would become numbers."""
    wide = torch.ones(1, 2, 64, 32, dtype=torch.complex64)
    points = np.random.default_rng(0).integers(0, 2, (64, 32))
    header = HEADER.format(x=64, wide=440)
    cases = open_cases(written(tmp_path / "a.h5", wide, header, mask=points))
    np.testing.assert_array_equal(cases.batch([0])["kspace"][0, 0].abs().numpy(), points)
    assert any("64 rows, not 32" in notice for notice in cases.notices)
    lines = open_cases(written(tmp_path / "b.h5", wide, header, mask=points[0]))
    assert lines.batch([0])["kspace"].shape == (1, 2, 32, 32)


# --- complex numbers as MATLAB and others store them, axes in another order ------------------------


def pairs(array, names=("real", "imag")):
    """Complex numbers as a compound of two members."""
    found = np.zeros(array.shape, dtype=[(name, array.real.dtype) for name in names])
    found[names[0]], found[names[1]] = array.real, array.imag
    return found


def some_kspace(*shape):
    rng = np.random.default_rng(0)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def by_matlab(path, **arrays):
    """As MATLAB's save -v7.3 writes: axes reversed, texts as 16-bit codes, classes as attributes."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in arrays.items():
            if isinstance(value, str):
                file[name] = np.array([[ord(letter)] for letter in value], np.uint16)
                file[name].attrs["MATLAB_class"] = np.bytes_("char")
            else:
                file[name] = pairs(value).T if np.iscomplexobj(value) else value.T
                file[name].attrs["MATLAB_class"] = np.bytes_("single")
    return path


@pytest.mark.parametrize("names", [("real", "imag"), ("re", "im"), ("r", "i")])
def test_two_members_are_complex_numbers(tmp_path, names):
    kspace = some_kspace(2, 4, 8, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = pairs(kspace, names)
    cases = open_cases(tmp_path / "a.h5")
    np.testing.assert_array_equal(cases.batch([0, 1])["kspace"].numpy(), kspace)


def test_how_the_axes_of_such_numbers_are_taken_is_said(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = pairs(some_kspace(2, 4, 8, 6))
    assert any(
        "slices, coils, rows, columns" in line for line in open_cases(tmp_path / "a.h5").notices
    )


def test_members_of_other_names_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = pairs(some_kspace(2, 4, 8, 6), ("magnitude", "phase"))
    with pytest.raises(UserError, match="members magnitude, phase"):
        open_cases(tmp_path / "a.h5")


@pytest.mark.parametrize("order", ["HWCN", "NCHW", "CNWH"])
def test_kspace_of_matlab_is_read_by_the_axes_it_says(tmp_path, order):
    """The axes are those that MATLAB shows: size(kspace) of "HWCN" is [rows columns coils slices]."""
    kspace = some_kspace(3, 2, 8, 6)
    mask = np.random.default_rng(1).integers(0, 2, (8, 6)).astype(np.float32)
    turn = [letter for letter in order if letter in "HW"] == ["W", "H"]
    path = by_matlab(
        tmp_path / "a.h5",
        kspace=kspace.transpose(["NCHW".index(letter) for letter in order]),
        mask=mask.T if turn else mask,
        axes=order,
    )
    found = open_cases(path).batch([0, 1, 2])["kspace"].numpy()
    np.testing.assert_array_equal(found, kspace * mask)


def test_kspace_of_matlab_without_axes_is_asked_for_them(tmp_path):
    """Coils and slices, rows and columns cannot be told apart by their number."""
    path = by_matlab(tmp_path / "a.h5", kspace=some_kspace(8, 8, 2, 3))
    with pytest.raises(UserError, match=r"\(8, 8, 2, 3\) was saved by MATLAB.*axes = 'HWCN'"):
        open_cases(path)


@pytest.mark.parametrize("axes", ["HWCQ", "HW", "HHWC", "", "NCDH"])
def test_axes_that_do_not_fit_are_refused(tmp_path, axes):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"], file["axes"] = some_kspace(2, 4, 8, 6), axes
    with pytest.raises(UserError, match="one letter for each axis"):
        open_cases(tmp_path / "a.h5")


def test_other_writers_may_say_their_axes_too_and_the_image_follows(tmp_path):
    kspace = some_kspace(3, 2, 8, 6)
    image = np.random.default_rng(0).normal(size=(3, 8, 6)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"], file["axes"] = kspace.transpose(2, 3, 0, 1), "HWNC"
        file["reconstruction_rss"] = image.transpose(1, 2, 0)
    cases = open_cases(tmp_path / "a.h5")
    np.testing.assert_array_equal(cases.batch([0, 1, 2])["kspace"].numpy(), kspace)
    np.testing.assert_array_equal(cases.columns["image"].stack([2])[0, 0].numpy(), image[2])


def test_a_last_axis_of_real_and_imaginary_part_is_joined_and_said(tmp_path):
    kspace = some_kspace(2, 4, 8, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = np.stack([kspace.real, kspace.imag], -1)
    cases = open_cases(tmp_path / "a.h5")
    np.testing.assert_array_equal(cases.batch([0, 1])["kspace"].numpy(), kspace)
    assert any("real and imaginary part" in line for line in cases.notices)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["kspace"] = np.stack([np.abs(kspace), np.angle(kspace)], -1)
    with pytest.raises(UserError, match="expected complex"):
        open_cases(tmp_path / "b.h5")


# --- data that lie elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kspace", "mask", "ismrmrd_header", "reconstruction_rss"])
def test_links_to_another_file_are_not_followed(tmp_path, name):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = some_kspace(2, 4, 8, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        if name != "kspace":
            file["kspace"] = some_kspace(2, 4, 8, 6)
        file[name] = h5py.ExternalLink(str(tmp_path / "other.h5"), "secret")
    with pytest.raises(UserError, match=f"{name} is a link"):
        open_cases(tmp_path / "a.h5")


def test_a_link_to_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("kspace", "dataset"):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file[name] = h5py.ExternalLink(str(tmp_path / "pipe"), "x")
        with pytest.raises(UserError, match=f"{name} is a link"):
            open_cases(tmp_path / "a.h5")


def test_virtual_arrays_and_external_storage_are_refused(tmp_path):
    kspace = some_kspace(2, 4, 8, 6)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = kspace
    layout = h5py.VirtualLayout(kspace.shape, kspace.dtype)
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", shape=kspace.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    (tmp_path / "raw").write_bytes(kspace.tobytes())
    with h5py.File(tmp_path / "b.h5", "w") as file:
        outside = [(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset("kspace", kspace.shape, kspace.dtype, external=outside)
    for name in ("a.h5", "b.h5"):
        with pytest.raises(UserError, match="kspace is a link"):
            open_cases(tmp_path / name)


def test_arrays_that_were_declared_and_not_written_are_refused(tmp_path):
    """HDF5 gives zeros for them, however large."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kspace", (2, 4, 8, 6), np.complex64)
    with pytest.raises(UserError, match="declared and never written"):
        open_cases(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("kspace", (10**6, 10**6, 8, 6), np.complex64, chunks=(1, 1, 8, 6))
    with pytest.raises(UserError, match="GiB of voxels"):
        open_cases(tmp_path / "b.h5")


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["train", "sde", "--data", "brains:count=30,size=32", "--preset", "tiny"]
    assert cli.main([*words, "--train.steps", "30", "--out", str(folder / "prior")]) == 0
    words = ["train", "score-mri", "--prior", str(folder / "prior"), "--preset", "tiny"]
    assert cli.main([*words, "--out", str(folder / "mri")]) == 0
    return folder / "mri"


def test_images_across_their_edges_are_told_by_axis(tmp_path):
    """`fftshift(fft2(image))`, where the image's own origin is its corner."""
    image = centred_ifft(scan(), (2, 3))
    for rolled, told in (((), None), ((2,), "rows"), ((3,), "columns"), ((2, 3), "rows and col")):
        moved = image.roll([16] * len(rolled), rolled) if rolled else image
        quarter = moved if rolled else moved.roll(8, 2)
        for one in (moved, quarter):
            cases = open_cases(written(tmp_path / "a.h5", centred_fft(one, (2, 3))))
            lines = [line for line in cases.notices if "across their edges" in line]
            assert len(lines) == bool(told) and (not told or f"along {told}" in lines[0])


@pytest.mark.parametrize("name", ["a.h5", "a.H5", "a.mat", "folder", "a.npz"])
def test_kspace_of_any_form_needs_no_column_of_the_training(tmp_path, name):
    """A prior of grey images, trained with --map image=t1."""
    (tmp_path / "folder").mkdir()
    path = written(tmp_path / "folder" / "b.h5", scan())
    for other in ("a.h5", "a.H5", "a.mat"):
        shutil.copy(path, tmp_path / other)
    np.savez(tmp_path / "a.npz", kspace=scan().numpy())
    made_with = SimpleNamespace(data=DataSource(path="x", map={"image": "t1"}))
    assert source_of(made_with, str(tmp_path / name), ()).map == {}
    np.savez(tmp_path / "both.npz", kspace=scan().numpy(), t1=np.ones((2, 8, 8)))
    found = source_of(made_with, str(tmp_path / "both.npz"), ())
    assert found.map == {"image": "t1"}, "the column of the training is there"


def test_predict_writes_what_draws_agree_on_and_how_sure_they_are(method, tmp_path):
    path = written(tmp_path / "knee.h5", scan(), HEADER.format(x=32, wide=220))
    out = tmp_path / "out"
    words = ["predict", str(method), "--data", str(path), "--out", str(out), "--samples", "3"]
    words += ["--keep", "draws"]
    assert cli.main([*words, "--set", "solver=dds", "steps=4", "widen=2.0"]) == 0

    def read(end):
        return nib.load(out / f"knee_slice001-{end}.nii.gz")

    draws = [nib.load(out / f"knee_slice001-{k:02d}-magnitude.nii.gz") for k in range(3)]
    magnitudes = np.stack([draw.get_fdata() for draw in draws])
    mean, std = read("magnitude-mean"), read("magnitude-std").get_fdata()
    assert np.allclose(mean.header.get_zooms()[:2], (220 / 32, 5.0))
    assert np.allclose(std, magnitudes.std(0, ddof=1), rtol=1e-3, atol=1e-5 * std.max())
    assert (mean.get_fdata() <= magnitudes.mean(0) * (1 + 1e-5)).all(), "magnitude of complex means"
    assert (mean.get_fdata() < 0.999 * magnitudes.mean(0)).any()
    # Student's t of 3 draws: 2.92 * sqrt(1 + 1/3), twice as wide by --set widen
    assert np.allclose(read("magnitude-interval90").get_fdata(), 2 * 3.3717 * std, rtol=1e-3)
    energy, missed = read("unmeasured-energy").get_fdata(), read("unexplained-mean").get_fdata()
    assert (energy >= 0).all() and energy.max() > 0 and missed.max() > 0
    assert energy.mean() < read("magnitude-energy").get_fdata().mean()
    told = json.loads((out / "predictions.json").read_text())["predictions"]
    assert {entry["case"] for entry in told} == {"knee_slice000", "knee_slice001"}
    assert not list(out.glob("*-_*")), "keys for means alone are not written"


def test_a_slice_without_measurement_is_named_and_the_others_are_kept(method, tmp_path, refused):
    kspace = scan()
    kspace[1] = 0
    path, out = written(tmp_path / "knee.h5", kspace), tmp_path / "out"
    said = refused("predict", method, "--data", path, "--out", out, "--steps", "2")
    assert "knee_slice001" in said and "zero everywhere" in said
    assert (out / "knee_slice000-magnitude.nii.gz").is_file()


@pytest.mark.parametrize("shape", [(3, 20, 16, 4), (2, 16, 8, 20, 4)])
def test_an_order_of_axes_with_more_coils_than_columns_is_asked_for(tmp_path, shape):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = some_kspace(*shape)
    with pytest.raises(UserError, match="more coils than rows or columns; say its order"):
        open_cases(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["axes"] = "NHWC" if len(shape) == 4 else "NDHWC"
    assert open_cases(tmp_path / "a.h5").columns["kspace"].image(0).data.shape[0] == shape[-1]


def test_five_axes_are_told_as_they_are_taken(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = some_kspace(2, 3, 4, 8, 6)
    lines = "\n".join(open_cases(tmp_path / "a.h5").lines)
    assert "is taken as slices, coils, partitions, rows, columns" in lines


def test_kspace_that_is_not_finite_is_refused_at_opening(tmp_path):
    kspace = some_kspace(3, 4, 8, 6)
    kspace[1, 2, 3, 4] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = kspace
    with pytest.raises(UserError, match="'kspace' of case a_slice001 holds 1 NaN or infinite"):
        open_cases(tmp_path / "a.h5")


def test_the_older_format_of_matlab_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"kspace": some_kspace(3, 4, 8, 6)})
    with pytest.raises(UserError, match=r"MATLAB's older format; .* '-v7\.3'"):
        open_cases(tmp_path / "a.mat")


# ------------------------------------------------------------------------------- several scans
def test_a_folder_of_scans_is_one_data_set_of_one_person_a_scan(tmp_path):
    whole = scan(6)
    for n in range(3):
        written(tmp_path / f"s{n}.h5", whole[2 * n : 2 * n + 2], HEADER.format(x=32, wide=220))
    cases = open_cases(tmp_path)
    assert cases.all_ids == tuple(f"s{n}_slice{k:03d}" for n in range(3) for k in range(2))
    assert cases.all_patients == ("s0", "s0", "s1", "s1", "s2", "s2")
    assert torch.allclose(cases.columns["kspace"].stack(range(6)), whole, atol=1e-4)
    affines = [cases.columns["kspace"].image(row).affine for row in (2, 3)]
    assert [float(affine[2, 3]) for affine in affines] == [0, 4.5]
    assert all(len({*cases.all_splits[k : k + 2]}) == 1 for k in (0, 2, 4))


def test_scans_of_several_sizes_or_of_one_name_are_refused(tmp_path):
    written(tmp_path / "a.h5", scan(1))
    written(tmp_path / "b.h5", scan(1)[:, :2])
    with pytest.raises(UserError, match=r"2 sizes.* 4x32x32 \(a.h5\), 2x32x32 \(b.h5\)"):
        open_cases(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "b.h5").rename(tmp_path / "c" / "a.h5")
    with pytest.raises(UserError, match="has the name of"):
        open_cases(tmp_path)


def test_scans_are_in_the_splits_that_their_folders_name(tmp_path):
    for n, split in enumerate(("train", "val", "test")):
        (tmp_path / split).mkdir()
        written(tmp_path / split / f"s{n}.h5", scan(2))
    cases = open_cases(tmp_path)
    found = dict(zip(cases.all_ids, cases.all_splits, strict=True))
    assert found == {
        f"s{n}_slice{k:03d}": s for n, s in enumerate(("train", "val", "test")) for k in range(2)
    }
