"""A prior of another run, settings after training, and the evaluation of reconstructions."""

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.reconstruction.evaluate import compare
from radiffuse.applications.reconstruction.spreads import Spreads, body
from radiffuse.commands.source import open_source
from radiffuse.data.dataset import open_cases
from radiffuse.report import write_report
from radiffuse.runs.run import open_run

DATA = "brains:count=30,size=32"

pytestmark = pytest.mark.usefixtures("hasty_baselines")


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "prior"
    words = ["train", "sde", "--data", DATA, "--preset", "tiny", "--train.steps", "30"]
    assert cli.main([*words, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def adopted(prior):
    run = prior.parent / "mri"
    words = ["train", "score-mri", "--prior", str(prior), "--preset", "tiny"]
    assert cli.main([*words, "--out", str(run)]) == 0
    return run


def test_a_method_takes_the_network_of_another_run(prior, adopted):
    source, taken = open_run(prior), open_run(adopted)
    assert taken.model_sha256 == source.model_sha256
    assert (taken.recipe.channels, taken.recipe.size) == (1, (32, 32))
    assert taken.manifest["prior"]["sha256"] == source.model_sha256
    x, t = torch.randn(2, 1, 32, 32), torch.tensor(0.5)
    with torch.no_grad():
        assert torch.equal(source.objective.network(x, t), taken.objective.network(x, t))


def test_a_prior_of_a_prior_is_the_first_one(adopted):
    again = adopted.parent / "again"
    words = ["train", "mcg", "--prior", str(adopted), "--preset", "tiny", "--out", str(again)]
    assert cli.main(words) == 0
    assert open_run(again).config.prior["method"] == "sde"


def test_what_cannot_take_a_prior_says_so(prior, adopted, refused):
    out = prior.parent / "none"
    assert "cannot take" in refused("train", "ddpm", "--prior", prior, "--out", out)
    said = refused("train", "mcg", "--prior", prior, "--out", adopted)
    assert "holds a run already" in said
    assert "no such run" in refused("train", "mcg", "--prior", out, "--out", out)
    assert "mc-ddpm cannot take" in refused("train", "mc-ddpm", "--prior", prior, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("method", "mapped"),
    [
        ("mc-ddpm", ()),
        ("anoddpm", ("--healthy", "0")),
        ("ddpm-conversion", ("--map", "source=t1", "target=t2")),
    ],
)
def test_networks_told_more_than_noisy_images_are_no_priors(method, mapped, tmp_path, refused):
    """Of k-space told a mask, of other noise, of images told images: as a prior each would answer wrongly."""
    run = str(tmp_path / "run")
    words = ["train", method, "--data", DATA, *mapped, "--preset", "tiny", "--train.steps", "1"]
    assert cli.main([*words, "--out", run]) == 0
    said = refused("train", "mcg", "--prior", run, "--out", tmp_path / "out")
    assert f"{method} is no prior of images" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("accelration=8", "did you mean acceleration"),
        ("acceleration=fast", "acceleration must be a number, not 'fast'"),
        ("width=64", "no such setting after training"),
        ("mask=spiral", "mask must be one of"),
        ("mask", "write field=value"),
        ("photons=0", "photons must be more than 0"),
        ("views=1", "views must be at least 2"),
        ("lowest=500", "lowest must be less than"),
        ("slice_axis=3", "must be between 0 and 2"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(adopted, refused, word, said):
    assert said in refused("predict", adopted, "--out", "x", "--set", word, code=2)


def test_settings_change_the_measurement_and_are_recorded(adopted, tmp_path):
    words = [
        "evaluate",
        str(adopted),
        "--split",
        "train",
        "--count",
        "6",
        "--samples",
        "2",
        "--steps",
        "2",
    ]
    words += ["--set", "measurement=noise", "noise=0.2", "solver=dds"]
    assert cli.main([*words, "--out", str(tmp_path / "metrics.json")]) == 0
    record = json.loads((tmp_path / "metrics.json").read_text())
    assert {"first", "non_local_means", "total_variation"} == set(record["baselines"])
    assert 0 <= record["method"]["coverage90"]["mean"] <= 1
    fitted = "mean" in record["method"]["coverage90_body_conformal"]
    assert len(record["settings"]["conformal_factors"]) == (2 if fitted else 0)
    assert record["settings"]["network_calls_per_draw"] == pytest.approx(3)  # and one to finish
    assert record["settings"]["backward_passes_per_draw"] == 0
    words[-1] = "solver=moment-matching"
    assert cli.main([*words, "--out", str(tmp_path / "metrics.json")]) == 0
    settings = json.loads((tmp_path / "metrics.json").read_text())["settings"]
    assert settings["network_calls_per_draw"] == pytest.approx(3)
    assert 3 <= settings["backward_passes_per_draw"] <= 12, "one for a product with the covariance"


def test_methods_without_a_prior_are_measured_on_the_same_scans(adopted, tmp_path):
    words = ["evaluate", str(adopted), "--count", "3", "--samples", "1", "--steps", "2"]
    assert cli.main([*words, "--out", str(tmp_path / "metrics.json")]) == 0
    record = json.loads((tmp_path / "metrics.json").read_text())
    run = open_run(adopted)
    cases = open_source(run.config.data)
    rivals = {"again": lambda measurement, first: first}
    alone = compare(run.recipe, cases.held_out(), rivals, Asked(count=3, batch=2))
    assert alone["first"] == alone["again"] == record["baselines"]["first"]


def test_conformal_coverage_is_that_of_patients_not_fitted_on():
    torch.manual_seed(0)
    truth = torch.full((40, 1, 16, 16), 0.5)
    spreads = Spreads()
    # draws vary half as much as they err, so plain intervals cover too little
    centre = truth + 0.1 * torch.randn_like(truth)
    spreads.add(centre + 0.05 * torch.randn(8, *truth.shape), truth)
    found = spreads.metrics([f"p{k // 2}" for k in range(40)])
    assert found["coverage90"]["mean"] < 0.75
    assert found["coverage90_conformal"]["mean"] == pytest.approx(0.9, abs=0.02)
    assert all(factor > 1.5 for factor in spreads.factors)
    assert spreads.factor([f"p{k // 2}" for k in range(40)]) > min(spreads.factors)


def test_air_does_not_count_for_the_coverage_of_the_body():
    torch.manual_seed(0)
    truth = torch.zeros(8, 1, 32, 32)
    truth[..., 8:24, 8:24] = 0.5
    truth[..., 14:18, 14:18] = 0.0  # a ventricle is of the body, dark as it is
    assert int(body(truth)[0].sum()) == 16 * 16
    drawn = truth + torch.where(truth > 0, 0.02, 0.0) * torch.randn(6, *truth.shape)
    spreads = Spreads()
    spreads.add(drawn, truth + torch.where(truth > 0, 0.1, 0.0))
    found = spreads.metrics([f"p{k}" for k in range(8)])
    assert found["coverage90"]["mean"] > 0.7
    assert found["coverage90_body"]["mean"] < 0.2


def test_the_rank_histogram_shows_draws_that_vary_too_little_and_leaves_black_pixels_out():
    torch.manual_seed(0)
    truth = torch.full((10, 1, 32, 32), 0.5)
    truth[..., 16:] = 0.0
    centre = truth + 0.1 * torch.randn_like(truth)
    spreads = Spreads()
    drawn = centre + 0.05 * torch.randn(4, *truth.shape)
    drawn[..., 16:] = 0.0
    spreads.add(drawn, truth)
    found = spreads.histogram()
    assert found["n"] == 10 * 32 * 16
    assert sum(found["shares"]) == pytest.approx(1.0) and len(found["shares"]) == 5
    ends, middle = found["shares"][0] + found["shares"][4], sum(found["shares"][1:4])
    assert ends > middle


def test_a_report_of_a_reconstruction_shows_pictures_and_calibration(adopted, tmp_path):
    words = ["evaluate", str(adopted), "--count", "2", "--samples", "3", "--steps", "2"]
    assert cli.main(words) == 0
    page = write_report(adopted, tmp_path / "report.html").read_text()
    assert "Reconstructed" in page and "4 x deviation" in page
    assert "rank of the truth among 3 draws" in page


def test_images_that_are_measurements_are_restored_as_they_are(adopted, tmp_path, refused, capsys):
    """A small image with voxels of 2 x 3 mm becomes one of twice the size with voxels of 1 x 1.5."""
    small = open_cases("brains:count=8,size=32").batch([0])["image"][0, 0, ::2, ::2]
    data = nib.Nifti1Image(((small + 1) * 127.5).numpy()[..., None], np.diag([2.0, 3.0, 4.0, 1.0]))
    nib.save(data, tmp_path / "small.nii.gz")
    words = ["predict", adopted, "--data", tmp_path / "small.nii.gz", "--out", tmp_path / "out"]
    words += ["--set", "simulated=false", "measurement=super-resolution", "noise=0.01"]
    assert cli.main([str(word) for word in (*words, "solver=ddnm", "steps=30")]) == 0
    found = nib.load(tmp_path / "out" / "small-image.nii.gz")
    assert found.shape[:2] == (32, 32)
    assert np.allclose(found.header.get_zooms()[:2], (1.0, 1.5))
    values = found.get_fdata().reshape(16, 2, 16, 2).mean((1, 3))
    assert np.abs(values - data.get_fdata()[..., 0]).mean() < 8, "its block means are the image"
    mm = nib.load(tmp_path / "out" / "small-unmeasured.nii.gz").affine
    assert np.allclose(mm, found.affine)
    assert (
        cli.main([str(w) for w in (*words[:5], tmp_path / "none", "--set", "simulated=false")]) == 1
    )
    assert "takes images for measurements" in capsys.readouterr().err
    assert "before a simulated measurement" in refused(
        "evaluate", adopted, "--set", "simulated=false"
    )


def test_show_says_what_a_reconstruction_expects(capsys):
    assert cli.main(["show", "score-mri"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "predicts by kspace or image" in said
    assert "fully sampled (5 lines for coil maps)" in said and "unexplained" in said


def test_images_in_other_units_than_the_training_s_are_told_of_and_take_a_range(
    adopted, tmp_path, capsys, refused
):
    image = open_cases("brains:count=8,size=32").batch([0])["image"][0, 0]
    stored = nib.Nifti1Image(((image + 1) * 500).numpy()[..., None], np.eye(4))
    nib.save(stored, tmp_path / "mr.nii.gz")
    words = ["predict", adopted, "--data", tmp_path / "mr.nii.gz", "--set", "measurement=noise"]
    words += ["noise=0.05", "solver=ddnm", "steps=10"]
    brightest = []
    for out, more in (("plain", []), ("told", ["--range", "0", "1000"])):
        found = [str(word) for word in (*words, "--out", tmp_path / out, *more)]
        assert cli.main(found) == 0
        said = capsys.readouterr().err
        assert ("--range LOW HIGH names another range" in said) == (out == "plain")
        brightest.append(nib.load(tmp_path / out / "mr-image.nii.gz").get_fdata().max())
    assert brightest[0] <= 255 < 600 < brightest[1]
    assert "two numbers" in refused(*words, "--out", tmp_path / "x", "--range", "5", code=2)
