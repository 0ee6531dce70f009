"""`evaluate` on k-space: a full scan is undersampled as it was measured, and is its own reference."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.acquisition import MRI
from radiffuse.applications.reconstruction.scans import undersampled
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.data.dataset import open_cases
from radiffuse.operators.fourier import centred_ifft

pytestmark = pytest.mark.usefixtures("hasty_baselines")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "mri"
    words = ["train", "score-mri", "--data", "brains:count=30,size=32", "--preset", "tiny"]
    assert cli.main([*words, "--train.steps", "2", "--out", str(out)]) == 0
    return out


def scan(acceleration=1.0, noise=0.0):
    """K-space (1, 4, 32, 32) of a brain."""
    images = (open_cases("brains:count=8,size=32").batch([0])["image"] + 1) / 2
    scanner = MRI(coils=4, acceleration=acceleration, noise=noise)
    return scanner.simulate(images, [0]).measurement.y


def written(path, kspace):
    """A fastMRI file: k-space, and the root of the sum of squares of what is in it."""
    with h5py.File(path, "w") as file:
        file["kspace"] = 1e-4 * kspace.numpy()
        rss = centred_ifft(kspace, (2, 3)).abs().square().sum(1).sqrt()
        file["reconstruction_rss"] = 1e-4 * rss.numpy()
    return path


def error(capsys, *words):
    """The last line of a command that fails; notices stand before it."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 1
    *notes, last = capsys.readouterr().err.splitlines()
    assert all(line.startswith("note: ") for line in notes) and "radiffuse: error: " in last
    return last


def test_what_is_left_of_a_full_scan_is_its_own_values(tmp_path):
    kspace = scan()
    recipe = ScoreMRI(acceleration=2.0, mask="gaussian-columns")
    acquired, truth = undersampled(recipe, kspace, "a")
    y = acquired.measurement.y * acquired.scale
    assert torch.allclose(y, kspace * (y.abs() > 0), atol=1e-5)
    assert float(acquired.acceleration) == pytest.approx(2.0, rel=0.15)
    rss = centred_ifft(kspace, (2, 3)).abs().square().sum(1, keepdim=True).sqrt()
    assert np.corrcoef(truth.flatten(), rss.flatten())[0, 1] > 0.999999, "all of it, by one factor"
    again, _ = undersampled(recipe, kspace, "a")
    other, _ = undersampled(recipe, kspace, "b")
    assert torch.equal(again.mask, acquired.mask) and not torch.equal(other.mask, acquired.mask)


def test_everything_measured_is_the_reference():
    recipe = ScoreMRI(acceleration=1.0)
    acquired, truth = undersampled(recipe, scan(), "a")
    off = acquired.first.abs() - truth
    assert float(off.square().mean().sqrt() / truth.max()) < 0.01


def test_evaluate_takes_the_scan_and_not_a_simulation_of_its_picture(run, tmp_path):
    words = ["evaluate", run, "--data", written(tmp_path / "scan.h5", scan(noise=0.002))]
    words += ["--samples", "2", "--steps", "3", "--set", "acceleration=2"]
    out = tmp_path / "metrics.json"
    assert cli.main([*map(str, words), "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert record["settings"]["reference"] == "fully sampled k-space"
    assert record["settings"]["acceleration"] == pytest.approx(2.0, rel=0.15)
    best = record["baselines"][record["settings"]["baseline"]]["psnr"]["mean"]
    assert best > record["baselines"]["first"]["psnr"]["mean"] > 15
    assert (tmp_path / "pictures" / "reconstructions.png").is_file()


def test_an_undersampled_scan_has_nothing_to_compare_with(run, tmp_path, capsys):
    path = written(tmp_path / "scan.h5", scan(acceleration=3.0))
    said = error(capsys, "evaluate", run, "--data", path, "--out", tmp_path / "metrics.json")
    assert "undersampled itself" in said and "radiffuse predict" in said
    assert not (tmp_path / "metrics.json").exists()


def test_k_space_is_no_tomogram(run, tmp_path, capsys):
    path = written(tmp_path / "scan.h5", scan())
    words = ["evaluate", run, "--data", path, "--out", tmp_path / "metrics.json"]
    assert "measurement=mri" in error(capsys, *words, "--set", "measurement=super-resolution")


@pytest.mark.parametrize("name", ["kspace_brain_8ch_R8.h5", "kspace_brain_8ch_2x2.h5"])
def test_real_undersampled_scans_are_told_from_full_ones(name, run, tmp_path, capsys):
    if not (REAL / name).exists():
        pytest.skip(f"needs {name}, which is not here")
    said = error(capsys, "evaluate", run, "--data", REAL / name, "--out", tmp_path / "metrics.json")
    assert "undersampled itself" in said


def test_a_real_full_scan_is_its_own_reference():
    if not (REAL / "kspace_brain_8ch_full.h5").exists():
        pytest.skip("needs kspace_brain_8ch_full.h5, which is not here")
    kspace = open_cases(REAL / "kspace_brain_8ch_full.h5").batch([0])["kspace"]
    acquired, truth = undersampled(ScoreMRI(acceleration=4.0), kspace, "a")
    assert 3 < float(acquired.acceleration) < 4.5
    relative = (acquired.first.abs() - truth).norm() / truth.norm()
    assert 0.05 < float(relative) < 0.5
