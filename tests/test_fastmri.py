"""fastMRI files: voxel sizes, oversampled readouts and masks; k-space through `predict`."""

import json

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.acquisition import MRI
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.operators.fourier import centred_fft, centred_ifft

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


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["train", "sde", "--data", "brains:count=30,size=32", "--preset", "tiny"]
    assert cli.main([*words, "--train.steps", "30", "--out", str(folder / "prior")]) == 0
    words = ["train", "score-mri", "--prior", str(folder / "prior"), "--preset", "tiny"]
    assert cli.main([*words, "--out", str(folder / "mri")]) == 0
    return folder / "mri"


def test_predict_writes_what_draws_agree_on_and_how_sure_they_are(method, tmp_path):
    path = written(tmp_path / "knee.h5", scan(), HEADER.format(x=32, wide=220))
    out = tmp_path / "out"
    words = ["predict", str(method), "--data", str(path), "--out", str(out), "--samples", "3"]
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
