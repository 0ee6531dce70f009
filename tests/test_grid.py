"""`predict --grid input`: outputs of a model of resized images, on the grid that each input is stored on."""

import json
import re

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from scipy.ndimage import map_coordinates

import scanned
from radiffuse import cli
from radiffuse.commands.grid import on_own_grid
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.image import Image
from radiffuse.data.transforms import resized_affine
from radiffuse.report import write_report

LARGE, SMALL = (24, 20), (16, 16)


def run(*words):
    assert cli.main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Noisy volumes of 24 x 20 x 4 voxels in LPS."""
    folder = tmp_path_factory.mktemp("scans")
    for k in range(3):
        data = np.random.default_rng(k).uniform(0, 600, (*LARGE, 4)).astype(np.int16)
        image = nibabel.Nifti1Image(data, np.diag([-1.5, -2.0, 3.0, 1.0]))
        nibabel.save(image, folder / f"p{k}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    words = [
        "--data",
        scans,
        "--slices",
        "axial",
        "--size",
        *SMALL,
        "--preset",
        "tiny",
        "--healthy",
        "0",
    ]
    run("train", "anoddpm", *words, "--noise", "gaussian", "--train.steps", 1, "--out", out)
    return out


def linear(coarse, size):
    """Samples at the centres of `size` voxels over the same outer edges, edges repeated."""
    at = [(np.arange(n) + 0.5) * o / n - 0.5 for o, n in zip(coarse.shape, size, strict=True)]
    return map_coordinates(coarse, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")


def test_an_image_is_interpolated_where_its_voxels_lie():
    value = torch.randn(1, *SMALL, dtype=torch.float64)
    like, own = (Image(torch.zeros(1, *size)) for size in (SMALL, LARGE))
    made, written_like = on_own_grid(value, "denoised", like, own)
    assert written_like is own
    assert np.allclose(made[0].numpy(), linear(value[0].numpy(), LARGE), atol=1e-12)


def test_labels_stay_labels():
    value = torch.randint(0, 3, (1, *SMALL))
    like, own = (Image(torch.zeros(1, *size)) for size in (SMALL, LARGE))
    made, _ = on_own_grid(value, "mask", like, own)
    assert made.dtype == value.dtype and made.shape[1:] == LARGE
    assert torch.equal(made[0, 0, 0], value[0, 0, 0]) and set(made.unique().tolist()) <= {0, 1, 2}


def test_a_displacement_keeps_its_millimetres():
    """A shift of one voxel is as many mm on either grid."""
    affine = torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64))
    own = Image(torch.zeros(1, 24, 20, 8), affine)
    like = Image(torch.zeros(1, 12, 10, 8), resized_affine(affine, own.size, (12, 10, 8)))
    value = torch.ones(3, 12, 10, 8)
    made, _ = on_own_grid(value, "displacement", like, own)
    for axis in range(3):
        coarse, fine = like.spacing_mm[axis], own.spacing_mm[axis]
        assert float(made[axis, 5, 5, 5]) * fine == pytest.approx(1.0 * coarse)


@pytest.mark.parametrize("value", [torch.tensor([0.2, 0.8]), torch.zeros(1, 32, 32)])
def test_numbers_and_other_grids_stay_as_they_are(value):
    like, own = (Image(torch.zeros(1, *size)) for size in (SMALL, LARGE))
    made, written_like = on_own_grid(value, "probability", like, own)
    assert made is value and written_like is like


def test_volumes_lie_where_their_inputs_lie(trained, scans, tmp_path, capsys):
    run("predict", trained, "--split", "train", "--out", tmp_path / "model")
    assert "--grid input puts them on that of each input" in capsys.readouterr().err
    run("predict", trained, "--split", "train", "--grid", "input", "--out", tmp_path / "input")
    assert "--grid input" not in capsys.readouterr().err
    entries = json.loads((tmp_path / "input" / "predictions.json").read_text())["predictions"]
    assert entries
    for entry in entries:
        given = nibabel.load(scans / f"{entry['case']}.nii.gz")
        for name in entry["files"].values():
            made, coarse = (read_image(tmp_path / where / name) for where in ("input", "model"))
            assert made.size == given.shape and coarse.size == (*SMALL, 4)
            assert np.allclose(made.affine.numpy(), given.affine)
            expected = linear(coarse.data[0, :, :, 2].double().numpy(), LARGE)
            step = 1e-3 if made.data.is_floating_point() else 0.51  # rounded twice
            assert np.abs(made.data[0, :, :, 2].double().numpy() - expected).max() < 2 * step


def test_it_is_a_setting_of_the_folder(trained, tmp_path, capsys):
    words = ["predict", str(trained), "--split", "train", "--out", str(tmp_path / "out")]
    run(*words)
    assert cli.main([*words, "--grid", "input"]) == 1
    assert "grid" in capsys.readouterr().err


def test_a_segmentation_of_a_series_has_its_rows_and_columns(tmp_path):
    """What lies on another grid than its series is not shown over it by most viewers."""
    for name in "ab":
        scanned.series(tmp_path / "in" / name, study=name, slices=4, size=24)
    words = ["--data", tmp_path / "in", "--slices", "axial", "--size", *SMALL, "--preset", "tiny"]
    words += [
        "--noise",
        "gaussian",
        "--range",
        0,
        700,
        "--train.steps",
        1,
        "--out",
        tmp_path / "run",
    ]
    run("train", "anoddpm", *words)
    words = ["--split", "train", "--grid", "input", "--out", tmp_path / "out"]
    run("predict", tmp_path / "run", *words)
    found = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").rglob("*.dcm"))]
    page = write_report(tmp_path / "out").read_text()
    cases = json.loads(re.search(r'id="volumes">(.*?)</script>', page, re.S)[1])
    layers = {layer["name"] for case in cases for layer in case["layers"]}
    assert {"image, given", "mask", "anomaly"} <= layers, "copies of what is DICOM"
    images = [each for each in found if "PixelData" in each or "FloatPixelData" in each]
    assert images and all((each.Rows, each.Columns) == (24, 24) for each in images)
