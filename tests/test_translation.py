"""Translation: the conditional diffusion, its evaluation, baselines and files."""

import dataclasses
import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.evaluation.drawing import Drawn, drawn
from radiffuse.applications.supervised import Pix2Pix, Regression, direct_unet, trained
from radiffuse.applications.translation.conversion import CorrectFirst
from radiffuse.applications.translation.ddpm_conversion import Conversion
from radiffuse.applications.translation.evaluate import _alignment, evaluate_translation, measure
from radiffuse.applications.translation.shared import Eyes
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import (
    DDPM,
    EulerMaruyama,
    FlowODE,
    Heun,
    Langevin,
    grids,
    prior,
    signal_to_noise,
)
from radiffuse.diffusion.schedule import Discrete, SigmaPower
from radiffuse.errors import UserError
from radiffuse.metrics.estimate import Sums
from radiffuse.metrics.translation import correlation, detail, lesion_contrast, shift
from radiffuse.nn.critic import PatchCritic
from radiffuse.testing import check_recipe
from radiffuse.training.options import TrainOptions

SIDE = 16


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 pairs: a disc, and the same disc dark with a bright lesion inside."""
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    t1, flair, mask = [], [], []
    for _ in range(24):
        cy, cx = draw.uniform(6, 10, 2)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < 25
        spot = (y - cy) ** 2 + (x - cx - 2) ** 2 < 4
        t1.append(disc * 200 - spot * 60)
        flair.append(disc * 80 + spot * 120)
        mask.append(spot)
    np.savez(
        path,
        t1=np.stack(t1).astype(np.uint8),
        flair=np.stack(flair).astype(np.uint8),
        mask=np.stack(mask).astype(np.uint8),
        patient=np.array([f"p{k}" for k in range(24)]),
        split=np.array(["train"] * 14 + ["val"] * 4 + ["test"] * 6),
    )
    return path


def pairs(path):
    return open_cases(path, mapping={"source": "t1", "target": "flair"})


# ----------------------------------------------------------------------- one score, three samplers
class Linear(Denoiser):
    """Exact E[x_0 | x_t, c] of x_0 = a c + b + tau n."""

    def __init__(self, c, a=0.7, b=0.1, tau=0.2):
        super().__init__()
        self.schedule, self.mean, self.tau = SigmaPower(25.0), a * c + b, tau

    def forward(self, x_t, t):
        _, sigma = self.schedule(t, x_t)
        gain = self.tau**2 / (self.tau**2 + sigma**2)
        return self.mean + gain * (x_t - self.mean)


SOLVERS = {
    "euler-maruyama": (lambda d, n: EulerMaruyama(d, n), 200),
    "predictor-corrector": (
        lambda d, n: CorrectFirst(Langevin(d, n, signal_to_noise(0.16), 2), EulerMaruyama(d, n)),
        200,
    ),
    "ode": (lambda d, n: FlowODE(d, n), 1),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_every_sampler_draws_from_the_law_given_the_source(name):
    make, steps = SOLVERS[name]
    c = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).expand(40, -1, -1, -1)
    denoiser, noise = Linear(c), Seeded(range(40))
    x = make(denoiser, noise)(
        prior(denoiser.schedule, torch.zeros_like(c), noise), grids.uniform(steps, 1.0, 1e-3)
    )
    assert float((x - denoiser.mean).mean()) == pytest.approx(0, abs=0.02)
    assert float((x - denoiser.mean).std()) == pytest.approx(0.2, rel=0.1)


def test_the_chains_of_the_paper_are_of_images_between_0_and_1():
    """Images in [-1, 1] are twice as wide, and so is their noise: the same signal over noise at every t."""
    t = torch.tensor([0.0, 0.5, 1.0]).double()
    sigma = Conversion(formulation="sde").schedule().sigma(t)
    assert torch.allclose(sigma / 2, torch.tensor([0, 1.9308, 9.8452]).double(), atol=1e-4)
    chain, linear = Conversion().schedule(), Discrete.linear(1000)
    assert torch.allclose(chain.sigma(t) / 2, linear.sigma(t), atol=1e-12)
    assert torch.equal(chain.alpha(t), linear.alpha(t))
    respaced = 1000 * Conversion(grid="strided", steps=37).make_grid(chain)
    assert torch.allclose(respaced, respaced.round()) and len(respaced) == 38


def test_an_untrained_score_costs_one_a_pixel(data):
    """Zero output: the loss is E z^2 = 1 per pixel (the card's D in sum)."""
    tiny = dataclasses.replace(
        Conversion.tiny(), predicts="noise", loss="simple", preconditioned=False
    )
    cases = pairs(data)
    objective = tiny.fitted(cases.facts()).objective()
    torch.manual_seed(0)
    ((name, loss),) = objective.losses(cases.batch(range(24)))
    assert name == "network" and float(loss.detach()) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("formulation", ["ddpm", "sde"])
def test_noise_levels_of_training_can_be_log_normal(formulation):
    """Half of the training lies above e^law_mean, five in six below one deviation more."""
    recipe = Conversion(formulation=formulation, law="log-normal", law_mean=-0.5, law_std=0.7)
    schedule = recipe.schedule()
    t = recipe.times(schedule)(20_000)
    level = schedule.sigma(t).log() - schedule.alpha(t).log()
    assert float((level > -0.5).double().mean()) == pytest.approx(0.5, abs=0.01)
    assert float((level < 0.2).double().mean()) == pytest.approx(0.841, abs=0.01)


def test_mean_of_draws_closes_in_as_one_over_root_n():
    draws = 0.3 * torch.randn(4096, 256, generator=torch.Generator().manual_seed(1))
    errors = []
    for n in (1, 4, 16, 64):
        groups = draws.reshape(-1, n, 256)
        errors.append(float(groups.mean(1).square().mean().sqrt()))
    slope = math.log(errors[-1] / errors[0]) / math.log(64)
    assert slope == pytest.approx(-0.5, abs=0.03)
    sums = Sums()
    for row in draws[:200]:
        sums.add(row)
    assert torch.allclose(sums.mean, draws[:200].double().mean(0))
    assert torch.allclose(sums.std(), draws[:200].std(0), rtol=1e-4)
    assert torch.equal(sums.first, draws[0])


def test_conformance_and_the_source_matters(data):
    cases = pairs(data)
    batch = {**cases.batch(range(8)), "seed": torch.arange(8)}
    check_recipe(Conversion, cases.facts(), batch)
    recipe = Conversion.tiny().fitted(cases.facts())
    objective = recipe.objective()
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    told = recipe.predict(objective, batch)["target"]
    alone = {key: value[2:3] for key, value in batch.items()}
    assert torch.allclose(recipe.predict(objective, alone)["target"], told[2:3], atol=1e-4)
    other = recipe.predict(objective, {**batch, "source": batch["source"].roll(1, 0)})["target"]
    assert float((other - told).abs().max()) > 1e-3
    names = [name for name, _ in recipe.variants()]
    assert names == ["euler-maruyama", "predictor-corrector", "ode"]


def test_the_chain_of_the_paper_too(data):
    cases = pairs(data)
    tiny = dataclasses.replace(
        Conversion.tiny(), formulation="ddpm", sampler="ddpm", grid="uniform", stop=0.0, steps=3
    )
    recipe = tiny.fitted(cases.facts())
    out = recipe.predict(recipe.objective(), {**cases.batch([0]), "seed": torch.arange(1)})
    assert out["target"].shape == (1, 1, SIDE, SIDE)


# --------------------------------------------------------------------------------------- metrics
@pytest.mark.parametrize("axes", [2, 3])
def test_a_shifted_output_is_detected(axes):
    image = torch.rand(3, 1, *[12] * axes, generator=torch.Generator().manual_seed(0))
    assert float(shift(image, image).max()) == 0
    moved = image.roll((2, -1), (2, 3))
    assert torch.allclose(shift(moved, image), torch.full((3,), 5**0.5).double(), atol=0.05)
    record = _alignment(moved, image)
    assert not record["aligned"] and "2.2 voxels" in record["warning"]
    assert _alignment(image, image) == {"median_shift_voxels": 0.0, "aligned": True}
    assert float(shift(torch.zeros_like(image), image).max()) == 0


@pytest.mark.parametrize("axes", [2, 3])
def test_detail_tells_a_draw_from_a_mean(axes):
    draws = torch.randn(4, 1, *[32] * axes, generator=torch.Generator().manual_seed(0))
    real, other = draws[:1] + 3, draws[1:2]
    assert float(detail(other, real)) == pytest.approx(1, abs=0.1)
    assert float(detail(draws.mean(0, keepdim=True), real)) == pytest.approx(0.5, abs=0.1)
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, *[32] * axes)
    assert float(detail(ramp, real)) < 0.15, "coarse structure hardly counts"


def test_deviation_correlation_and_lesion_contrast():
    x = torch.rand(2, 1, 8, 8)
    assert torch.allclose(correlation(x, 3 * x + 1), torch.ones(2).double())
    assert torch.allclose(correlation(x, -x), -torch.ones(2).double())
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.int64)
    mask[..., :2, :2] = 1
    image = torch.where(mask > 0, 0.9, 0.2)
    image[..., 7] = -1.0  # air
    assert float(lesion_contrast(image, mask, image > -0.95)) == pytest.approx(0.7)
    assert math.isnan(float(lesion_contrast(image, 0 * mask, image > -0.95)))


def test_draws_as_wide_as_the_truth_score_better_than_their_exact_mean(data):
    """CRPS of N(m, s^2) against N(m, s^2): s / sqrt(pi); of m alone its absolute error, s sqrt(2 / pi)."""
    cases = open_cases(str(data), mapping={"source": "t1", "target": "flair"})
    n, s, draws = len(cases), 0.2, 40
    law = torch.Generator().manual_seed(0)
    parts = {"target": s * torch.randn(n, 1, SIDE, SIDE, generator=law)}

    def batches(width):
        for first in range(0, n, 5):
            rows = range(first, min(first + 5, n))
            shape = (len(rows), 1, SIDE, SIDE)
            yield (
                rows,
                iter([{"y": width * torch.randn(shape, generator=law)} for _ in range(draws)]),
            )

    def score(drawn):
        return measure(drawn, parts, cases, Eyes(None))["crps"]["mean"]

    right = score(drawn(batches(s), "y", parts["target"]))
    assert right == pytest.approx(s / math.sqrt(math.pi), rel=0.02)
    exact = score(Drawn.of_one(torch.zeros(n, 1, SIDE, SIDE)))
    assert exact == pytest.approx(s * math.sqrt(2 / math.pi), rel=0.02)
    assert right < min(score(drawn(batches(w * s), "y", parts["target"])) for w in (0.3, 2.0))


# ------------------------------------------------------------------------------------- baselines
def test_baselines_learn_and_are_found_again(data, tmp_path, capsys):
    cases = pairs(data).split("train")
    options = TrainOptions(steps=30, batch=8, learning_rate=3e-3, warmup=0, ema=(0.05,))
    torch.manual_seed(0)
    regression = Regression(direct_unet(2, 1, 1, (SIDE, SIDE), 16), ("source",), "target")
    batch = cases.batch(range(14))
    before = float((regression.predict(batch) - batch["target"]).abs().mean().detach())
    trained(regression, cases, options, tmp_path / "baseline-regression")
    after = float((regression.predict(batch) - batch["target"]).abs().mean())
    assert after < 0.5 * before
    again = Regression(direct_unet(2, 1, 1, (SIDE, SIDE), 16), ("source",), "target")
    trained(again, cases, options, tmp_path / "baseline-regression")
    assert "done already" in capsys.readouterr().err
    assert torch.equal(again.predict(batch), regression.predict(batch))
    network = direct_unet(2, 1, 1, (SIDE, SIDE), 16)
    gan = Pix2Pix(network, PatchCritic(2, 2, 8, 1, 2), ("source",), "target")
    trained(gan, cases, dataclasses.replace(options, steps=2), tmp_path / "baseline-pix2pix")
    assert torch.isfinite(gan.predict(batch)).all()


# ---------------------------------------------------------------------------- by the command line
def command(*words):
    assert cli.main([str(word) for word in words]) == 0


def few_steps(monkeypatch):
    """Of the features' training, and of the samplers that are compared."""
    monkeypatch.setattr("radiffuse.metrics.features.STEPS", 3)
    monkeypatch.setattr("radiffuse.applications.translation.ddpm_conversion.COMPARED", 4)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("ddpm-conversion", ()),
        ("ddpm-conversion", ("--window", 8)),
        ("ddpm-conversion", ("--window", 8, "--guess", 8)),
        ("syndiff", ()),
    ],
)
def test_train_predict_evaluate_report(method, more, data, tmp_path, monkeypatch):
    few_steps(monkeypatch)
    run = tmp_path / "run"
    mapped = ("--map", "source=t1", "target=flair", "mask=mask")
    command("train", method, "--data", data, *mapped, "--preset", "tiny",
            "--train.steps", 3, "--train.batch", 4, *more, "--out", run)  # fmt: skip
    out = tmp_path / "predicted"
    command("predict", run, "--out", out, "--samples", 3, "--keep", "draws")
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    assert len(entries) == 6 * 4
    summed = [entry for entry in entries if "target-mean" in entry["files"]]
    assert len(summed) == 6 and summed[0]["samples"] == 3
    assert_sums(out, entries, summed[0])
    command("evaluate", run, "--samples", 2, "--batch", 6)
    record = json.loads((run / "metrics.json").read_text())
    assert record["task"] == "translation" and record["settings"]["samples"] == 2
    for name in ("psnr", "ssim", "shift", "psnr_single", "deviation_correlation",
                 "lesion_contrast_error"):  # fmt: skip
        assert "mean" in record["method"][name], name
    assert len(record["method"]["psnr"]["per_patient"]) == 6
    assert set(record["baselines"]) == {"regression", "pix2pix"}
    assert (run / "baseline-pix2pix" / "model.safetensors").is_file()
    assert (run / "pictures" / "translation.png").is_file()
    if method == "ddpm-conversion":
        assert set(record["samplers"]) == {"euler-maruyama", "predictor-corrector", "ode"}
    command("report", run)
    assert "Translated" in (run / "report.html").read_text()


def test_images_of_another_size_are_measured_but_for_features(tmp_path, monkeypatch):
    """A model of windows serves any size; a feature network compares sets of one size only."""
    few_steps(monkeypatch)
    run, mapped = tmp_path / "run", ("--map", "source=t1", "target=t2")
    command("train", "ddpm-conversion", "--data", "brains:count=40,size=16", *mapped, "--preset", "tiny",
            "--window", 8, "--train.steps", 2, "--out", run)  # fmt: skip
    command("evaluate", run, "--data", "brains:count=40,size=24", *mapped, "--samples", 1)
    record = json.loads((run / "metrics.json").read_text())
    assert "mean" in record["method"]["psnr"] and "features" not in record
    assert "differ in size" in record["method"]["kid"]["refused"]
    command("report", run)


def test_few_training_pairs_are_measured_but_for_features(tmp_path, monkeypatch):
    few_steps(monkeypatch)
    run, mapped = tmp_path / "run", ("--map", "source=t1", "target=t2")
    brains = ("--data", "brains:count=8,size=16", *mapped)
    command(
        "train", "ddpm-conversion", *brains, "--preset", "tiny", "--train.steps", 2, "--out", run
    )
    command("evaluate", run, "--samples", 1)
    record = json.loads((run / "metrics.json").read_text())
    assert "mean" in record["method"]["psnr"] and "features" not in record
    assert "needs 8 training images, there are 5" in record["method"]["fid"]["refused"]


def assert_sums(out, entries, summed):
    """Mean and deviation are those of the draws written beside them, up to 8 bit rounding."""
    draws = [
        read_image(out / entry["files"]["target"]).data.double()
        for entry in entries
        if entry["case"] == summed["case"] and "target" in entry["files"]
    ]
    several = torch.stack(draws)
    mean = read_image(out / summed["files"]["target-mean"]).data.double()
    std = read_image(out / summed["files"]["target-std"]).data.double()
    assert len(draws) == 3 and float((mean - several.mean(0)).abs().max()) <= 1
    assert float((std.reshape(several[0].shape) - several.std(0)).abs().max()) <= 1.5


def test_a_ct_made_of_an_mr_image_is_in_hounsfield_units(tmp_path):
    """The target's stored values are those of training, not those of the source that it is made of."""
    draw = np.random.default_rng(0)
    mr = draw.uniform(0, 1800, (12, SIDE, SIDE)).astype(np.float32)
    np.savez(tmp_path / "both.npz", mr=mr, ct=mr / 1800 * 2000 - 1000)
    np.savez(tmp_path / "mr.npz", mr=mr[:2])
    run, mapped = tmp_path / "run", ("--map", "source=mr", "target=ct")
    command("train", "ddpm-conversion", "--data", tmp_path / "both.npz", *mapped, "--preset", "tiny",
            "--train.steps", 1, "--out", run)  # fmt: skip
    out = tmp_path / "out"
    command(
        "predict",
        run,
        "--data",
        tmp_path / "mr.npz",
        "--map",
        "source=mr",
        "--steps",
        1,
        "--out",
        out,
    )
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    made = [read_image(out / entry["files"]["target"]).data for entry in entries]
    assert len(made) == 2 and min(float(image.min()) for image in made) < -500


def test_syndiff_goes_back_where_only_the_target_is_there(data, tmp_path):
    run = tmp_path / "run"
    command("train", "syndiff", "--data", data, "--map", "source=t1", "target=flair",
            "--preset", "tiny", "--train.steps", 1, "--train.batch", 4, "--out", run)  # fmt: skip
    command("predict", run, "--out", tmp_path / "back", "--map", "target=flair")
    entries = json.loads((tmp_path / "back" / "predictions.json").read_text())["predictions"]
    assert all(list(entry["files"]) == ["source"] for entry in entries)


# ------------------------------------------------------------------------------------- bad input
def saved(path, t1, t2, **more):
    n = len(t1)
    split = np.array([*(["train"] * n)[: n - 2], "val", "test"])
    np.savez(path, t1=t1, t2=t2, split=split, **more)
    return path


def test_bad_pairs_are_one_clear_line(tmp_path, refused):
    def train(path, method="ddpm-conversion"):
        return refused("train", method, "--data", path, "--map", "source=t1", "target=t2",
                       "--preset", "tiny", "--out", tmp_path / "run")  # fmt: skip

    draw = np.random.default_rng(0)

    def images(n, side):
        return draw.integers(0, 256, (n, side, side), dtype=np.uint8)

    for method in ("ddpm-conversion", "syndiff"):
        small = saved(tmp_path / "size.npz", images(8, 16), images(8, 8))
        assert "source is 16 x 16 and target is 8 x 8" in train(small, method)
        tiny = saved(tmp_path / "tiny.npz", images(8, 3), images(8, 3))
        assert "smaller than this network's stride" in train(tiny, method)
    count = saved(tmp_path / "count.npz", images(8, 16), images(6, 16))
    assert "t2" in train(count) and "8" in train(count)
    people = {
        "source_patient": np.array(list("abcdefgh")),
        "target_patient": np.array(list("abcdXfgh")),
    }
    mixed = saved(tmp_path / "mixed.npz", images(8, 16), images(8, 16), **people)
    assert "pairs e and X: ddpm-conversion needs source and target of the same person" in train(
        mixed
    )
    command("train", "syndiff", "--data", mixed, "--map", "source=t1", "target=t2", "--preset",
            "tiny", "--train.steps", 1, "--train.batch", 2, "--out", tmp_path / "ok")  # fmt: skip


# ---------------------------------------------------------------------------------- the paper's chains
@pytest.mark.parametrize("sampler", ["paper", "euler-maruyama", "predictor-corrector"])
@pytest.mark.parametrize("stop", [-1.0, 0.0])
def test_no_noise_is_left_in_an_image_of_the_sde(sampler, stop):
    """Targets that follow from their source: what differs from them is left over from the chain."""
    recipe = Conversion(formulation="sde", sampler=sampler, stop=stop, steps=100, corrections=2)
    c = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    denoiser, noise = Linear(c, tau=1e-6), Seeded(range(4))
    x = prior(denoiser.schedule, torch.zeros_like(c), noise)
    x = recipe.make_sampler(denoiser, noise)(x, recipe.make_grid(denoiser.schedule))
    assert float((x - denoiser.mean).abs().max()) < 1e-4


def test_each_formulation_has_the_sampler_and_the_end_of_the_paper():
    noise = Seeded([0])
    for formulation, stop in (("ddpm", 0.0), ("sde", 1e-3)):
        recipe = Conversion(formulation=formulation)
        denoiser = Linear(torch.zeros(1, 1, 4, 4))
        sampler, times = recipe.make_sampler(denoiser, noise), recipe.make_grid(recipe.schedule())
        assert (len(times), float(times[0]), float(times[-1])) == (1001, 1.0, stop)
        if formulation == "ddpm":
            assert type(sampler) is DDPM
        else:
            assert type(sampler) is CorrectFirst and type(sampler.predictor) is EulerMaruyama
            assert sampler.corrector.count == 10
        chosen = dataclasses.replace(recipe, sampler="heun", stop=0.02)
        assert type(chosen.make_sampler(denoiser, noise)) is Heun
        assert float(chosen.make_grid(recipe.schedule())[-1]) == 0.02


def test_a_run_of_the_time_before_keeps_the_sampler_it_was_made_with(data):
    """Its configuration names both: ddpm, to no noise."""
    old = {"formulation": "sde", "sampler": "ddpm", "stop": 0.0, "steps": 7}
    recipe = dataclasses.replace(Conversion.tiny(), **old).fitted(pairs(data).facts())
    assert (recipe.sampler, recipe.stop) == ("ddpm", 0.0)
    assert float(recipe.make_grid(recipe.schedule())[-1]) == 0
    assert type(recipe.make_sampler(recipe.network(), Seeded([0]))) is DDPM


class Erring(Denoiser):
    """Known up to a twentieth: pixels that are about 0.3."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        _, sigma = self.schedule(t, x_t)
        return 0.3 + 0.05 * torch.sin(7 * x_t) + 0.04 / (0.04 + sigma**2) * (x_t - 0.3)


def authors_loop(denoiser, x, times, noise, corrections):
    """Langevin steps, each of its own size, then Euler's; at the end the mean, without noise."""
    for t, s in pairwise(times):
        sigma = denoiser.schedule.sigma(t)
        for _ in range(corrections):
            score, z = (denoiser(x, t) - x) / sigma**2, noise(x)
            quotient = z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1)
            size = (2 * (0.16 * quotient) ** 2).reshape(-1, 1, 1, 1)
            x = x + size * score + (2 * size).sqrt() * z
        g = 2 * 25**t  # of images in [-1, 1]
        x = x + g**2 * (t - s) * (denoiser(x, t) - x) / sigma**2 + g * (t - s).sqrt() * noise(x)
    return denoiser(x, times[-1])


def test_the_predictor_corrector_is_the_authors_loop():
    recipe = Conversion(formulation="sde", steps=8, corrections=3)
    denoiser = Erring(recipe.schedule())
    start = prior(denoiser.schedule, torch.zeros(3, 1, 4, 4).double(), Seeded(range(3)))
    x = recipe.make_sampler(denoiser, Seeded([5, 6, 7]))(start, recipe.make_grid(denoiser.schedule))
    times = torch.linspace(1, 1e-3, 9).double()
    wanted = authors_loop(denoiser, start, times, Seeded([5, 6, 7]), 3)
    assert torch.allclose(x, wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("formulation", ["ddpm", "sde"])
def test_the_estimate_of_the_chain_is_clipped_and_that_of_the_sde_is_not(formulation, data):
    cases = pairs(data)
    tiny = dataclasses.replace(
        Conversion.tiny(), formulation=formulation, predicts="noise", preconditioned=False
    )
    recipe = tiny.fitted(cases.facts())
    objective, batch = recipe.objective(), cases.batch(range(4))
    for parameter in objective.players["network"].parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x_t, t = 5 * torch.randn(4, 1, SIDE, SIDE), torch.tensor(0.9)
    largest = float(recipe.denoiser(objective, batch)(x_t, t).detach().abs().max())
    assert largest == 1 if formulation == "ddpm" else largest > 1


def test_the_network_is_told_the_clean_source_at_every_noise_level(data):
    """Its input is the state with the source behind it, whatever t."""
    cases = pairs(data)
    recipe = Conversion.tiny().fitted(cases.facts())
    objective, batch = recipe.objective(), cases.batch(range(4))
    seen = []
    network = objective.players["network"]
    network.register_forward_pre_hook(
        lambda _, args, told: seen.append(told["image"]), with_kwargs=True
    )
    for _ in objective.losses(batch):
        pass
    recipe.predict(objective, {**batch, "seed": torch.arange(4)})
    assert len(seen) > recipe.steps and all(torch.equal(image, batch["source"]) for image in seen)


def test_noise_levels_are_trained_uniformly_by_default():
    for formulation, first in (("ddpm", 1e-3), ("sde", 1e-5)):
        recipe = Conversion(formulation=formulation)
        t = recipe.times(recipe.schedule())(1000).sort().values
        assert torch.allclose(t, torch.linspace(first, 1, 1000).double(), atol=2e-3)


def test_a_mask_of_another_size_is_named_before_anything_is_trained(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    mask = np.zeros((16, 64, 64), np.uint8)
    mask[:, 20:40, 20:40] = 1
    np.savez(tmp_path / "t.npz", source=x, target=x + 1, mask=mask)
    cases = open_cases(tmp_path / "t.npz")
    recipe = Conversion.tiny().fitted(cases.facts())
    told = (recipe, None, cases.split("train"), cases.held_out(), Asked())
    with pytest.raises(UserError, match="target is 32 x 32 and mask is 64 x 64"):
        evaluate_translation(*told)
