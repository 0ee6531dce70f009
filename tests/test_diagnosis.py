"""Which of codes, noise levels, network and decoder is at fault in a latent diffusion."""

import json
import shutil

import pytest
import torch

from radiffuse import cli
from radiffuse.applications.latent.diagnosis import Stationary, diagnosed
from radiffuse.applications.latent.verdict import verdict
from radiffuse.data.dataset import open_cases
from radiffuse.runs.first import CODES, FIRST
from radiffuse.runs.run import open_run

DATA = "brains3d:count=24,size=16"
WORDS = ["train", "brain-ldm", "--preset", "tiny", "--data", DATA, "--map", "image=t1"]
WORDS += ["--train.steps", "3"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("latents") / "run"
    assert cli.main([*WORDS, "--out", str(out)]) == 0
    return out


def again(out, **changes):
    """The diagnosis of a run, something of its second stage changed."""
    run, cases = open_run(out), open_cases(DATA, mapping={"image": "t1"}, range=(0, 255))
    for name, value in changes.items():
        setattr(run.objective.latent, name, value)
    about = json.loads((out / FIRST / CODES).read_text())
    return diagnosed(run.objective, cases.split("train"), cases.held_out(), about)


def first_words(found):
    return [line.partition(":")[0] for line in found["verdict"]]


# --------------------------------------------------------------------------- runs spoiled on purpose
@pytest.mark.parametrize("factor", [10, 0.1])
def test_a_scale_off_by_ten_is_named(trained, factor):
    scale = tuple(factor * s for s in open_run(trained).recipe.latent_scale)
    found = again(trained, scale=scale)
    assert found["overall"] == pytest.approx(factor, rel=0.1)
    assert first_words(found)[0] == "scale" and "--standardised channels" in found["verdict"][0]
    assert "scale" not in first_words(again(trained))


def test_a_divergence_that_weighs_a_thousand_times_too_much_is_named(trained, tmp_path):
    assert cli.main([*WORDS, "--kl", "1e-3", "--out", str(tmp_path / "run")]) == 0
    found, plain = (
        json.loads((p / "latents.json").read_text()) for p in (tmp_path / "run", trained)
    )
    assert first_words(found)[0] == "collapsed codes" and "--kl" in found["verdict"][0]
    assert "collapsed codes" not in first_words(plain)
    assert found["own_noise"] > 0.5 > 2 * plain["own_noise"]


@pytest.mark.parametrize(
    ("betas", "said"),
    [(("0.00015", "0.00205"), "too little noise"), (("0.15", "0.5"), "too much noise")],
)
def test_a_schedule_made_for_codes_of_another_size_is_named(trained, tmp_path, betas, said):
    words = [
        *WORDS,
        "--autoencoder",
        str(trained),
        "--beta-first",
        betas[0],
        "--beta-last",
        betas[1],
    ]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    found, plain = (
        json.loads((p / "latents.json").read_text()) for p in (tmp_path / "run", trained)
    )
    (line,) = [line for line in found["verdict"] if line.startswith("schedule")]
    assert said in line and "codes of 4 x 4 x 4" in line and "beta_last" in line
    assert "schedule" not in first_words(plain)


# ------------------------------------------------------------------------------------- each measure
def test_the_stationary_gaussian_is_the_best_linear_estimate_of_its_own_codes():
    """Smooth Gaussian codes: its error is the mean over frequencies of sigma^2 P / (alpha^2 P + sigma^2)."""
    generator = torch.Generator().manual_seed(0)
    power = 1 / (0.05 + torch.fft.fftfreq(16).abs()[:9])
    white = torch.randn(6000, 1, 16, generator=generator)
    codes = torch.fft.irfft(torch.fft.rfft(white) * power.sqrt(), n=16) + 2
    gaussian = Stationary.of(codes[:3000])
    torch.testing.assert_close(gaussian.power[0], power, rtol=0.15, atol=0)
    alpha, sigma = torch.tensor(0.6), torch.tensor(0.8)
    seen = codes[3000:]
    made = gaussian(
        alpha * seen + sigma * torch.randn(seen.shape, generator=generator), alpha, sigma
    )
    left = sigma**2 * power / (alpha**2 * power + sigma**2)
    every = (left[0] + left[-1] + 2 * left[1:-1].sum()) / 16
    assert float((made - seen).square().mean()) == pytest.approx(float(every), rel=0.05)


def found(**changes):
    levels = [
        {"noise": s, "network": e, "gaussian": 1.2 * e} for s, e in [(0.1, 0.1), (1, 0.5), (9, 0.8)]
    ]
    codes = {"used": 1.0, "code": [3, 4, 4], "ms_ssim": {"mean": 0.95}}
    plain = {
        "overall": 1.0, "own_noise": 0.01, "scale": [1.0], "start": 0.0, "levels": levels, "codes": codes,
        "decoder": [{"noise": 0.1, "psnr": 35.0}],
    }  # fmt: skip
    return {**plain, **changes}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "nothing stands out"),
        ({"levels": [{"network": 0.6, "gaussian": 0.5}] * 3}, "network"),
        ({"decoder": [{"noise": 0.1, "psnr": 12.0}]}, "decoder"),
        ({"codes": {**found()["codes"], "used": 0.03}}, "codebook"),
        ({"codes": {**found()["codes"], "ms_ssim": {"mean": 0.4}}}, "auto-encoder"),
    ],
)
def test_each_other_fault_has_its_line(changes, word):
    (line,) = verdict(found(**changes))
    assert line.startswith(word)


def test_the_report_shows_the_diagnosis(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    assert cli.main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run/report.html").read_text()
    verdicts = json.loads((trained / "latents.json").read_text())["verdict"]
    assert all(line.partition(";")[0] in page for line in verdicts)
    for said in (
        "Codes of the auto-encoder",
        "a Gaussian of the same spectrum",
        "Noise on codes",
        "From code to code",
    ):
        assert said in page
