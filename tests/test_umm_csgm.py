"""umm-csgm: any missing contrast by one network, exact on Gaussians, with every part of its wiring needed."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from radiffuse import cli
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.translation.completion import baselines
from radiffuse.applications.translation.completion.baselines import Inpainting
from radiffuse.applications.translation.completion.codes import configurations
from radiffuse.applications.translation.completion.evaluate import evaluate_completion
from radiffuse.applications.translation.completion.guessed import GuessedCompletion
from radiffuse.applications.translation.umm_csgm import UMMCSGM
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.completion import Completion
from radiffuse.diffusion.network import elapsed
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.parametrization import NOISE
from radiffuse.errors import UserError
from radiffuse.testing import check_recipe

KEYS = ("t1", "t2", "flair", "t1gd")
MEAN = torch.tensor([0.1, -0.2, 0.05, -0.1]).double()
_ROOT = torch.tensor(
    [[0.20, 0, 0, 0], [0.10, 0.15, 0, 0], [-0.12, 0.05, 0.1, 0], [0.08, -0.1, 0.06, 0.12]]
).double()
COVARIANCE = _ROOT @ _ROOT.T
CODES = configurations(4)
EXACT = UMMCSGM(
    contrasts=KEYS, channels=4, size=(1, 1), data_std=0.2, preconditioned=False, sigma_min=0.01, sigma_max=50.0,
    width=8, multiples=(1,), blocks=1, attention=(),
)  # fmt: skip
"""The recipe of the paper for four contrasts of one pixel each (any number of pixels are as many draws)."""


@functools.cache
def schur(code):
    """Regression of what a code (a tuple) lacks on what it has, and the covariance that is left."""
    code = torch.tensor(code)
    gain = torch.linalg.solve(COVARIANCE[code][:, code], COVARIANCE[code][:, ~code]).T
    return gain, COVARIANCE[~code][:, ~code] - gain @ COVARIANCE[code][:, ~code]


def law(code, given):
    """Mean (missing, *S) and covariance of what `code` lacks, told `given` (M, *S): the Schur complement."""
    gain, left = schur(tuple(code.tolist()))
    shift = given.reshape(4, -1)[code] - MEAN[code, None]
    return (gain @ shift + MEAN[~code, None]).reshape(-1, *given.shape[1:]), left


class Exact(nn.Module):
    """The backbone that knows: E[z | x_t, what the code says is given] of the Gaussian, from what it sees alone."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x, clock, image):
        out = torch.zeros_like(x)
        for row, (case, code) in enumerate(zip(x, image.flatten(2)[:, :, 0] > 0.5, strict=True)):
            sigma = self.schedule.sigma(clock[row].double())
            if bool(code.all()):
                continue
            mean, left = law(code, case.double())
            noisy = left + sigma**2 * torch.eye(len(left), dtype=torch.float64)
            gap = case[~code].double() - mean
            z = sigma * torch.linalg.inv(noisy) @ gap.flatten(1)
            out[row, ~code] = z.reshape(gap.shape).to(x)
        return out


def exact(recipe=EXACT, kind=Completion):
    """An objective whose network is the exact one, read as `kind` reads it."""
    schedule = recipe.schedule()
    network = kind(Exact(schedule), schedule, NOISE, clock=elapsed)
    objective = dataclasses.make_dataclass("Objective", ["network"])
    return objective(network)


def drawn_law(recipe, objective, code, given):
    """Mean and covariance that the chain of a sampler without noise draws by: it is affine in its start."""
    count = int((~code).sum())
    basis = torch.cat([torch.eye(count), torch.zeros(count, 1)], 1).double()
    images = given.reshape(1, -1, 1, 1).expand(1, -1, 1, count + 1).clone()
    images[:, ~code] = 7.0  # what is missing must not be read
    x = recipe.drawn(objective, images, code, lambda like: basis[None, :, None])[0, :, 0]
    a = x[:, :-1] - x[:, -1:]
    return x[:, -1], a @ a.T


FLOW = dataclasses.replace(EXACT, sampler="dpm-solver", grid="karras", steps=40, stop=0.0)
GIVEN = torch.tensor([0.3, -0.1, 0.2, 0.05]).double()


@pytest.mark.parametrize("code", CODES, ids=lambda code: "".join(str(int(c)) for c in code))
def test_mean_and_covariance_are_the_schur_complement(code):
    mean, left = law(code, GIVEN)
    got, covariance = drawn_law(FLOW, exact(FLOW), code, GIVEN)
    assert torch.allclose(got, mean, atol=2e-3)
    assert torch.allclose(covariance, left, rtol=0.02, atol=2e-4)


class Swapped(Completion):
    def raw(self, x_t, t, **condition):
        return super().raw(x_t, t, known=~condition["known"].expand_as(x_t))


class Noised(Completion):
    def raw(self, x_t, t, **condition):
        noise = self.schedule(t, x_t)[1] * torch.ones_like(x_t)
        return super().raw(torch.where(condition["known"], x_t + noise, x_t), t, **condition)


class Blind(Completion):
    def raw(self, x_t, t, **condition):
        return super().raw(x_t, t, known=torch.zeros_like(condition["known"]))


@pytest.mark.parametrize("kind", [Swapped, Noised, Blind])
def test_wrong_wiring_shows_in_every_configuration(kind):
    """A code that is swapped or left out, or given contrasts with noise: the answer above would be another."""
    recipe = dataclasses.replace(FLOW, steps=20)
    for code in CODES:
        mean, left = law(code, GIVEN)
        got, covariance = drawn_law(recipe, exact(recipe, kind), code, GIVEN)
        off = float((got - mean).abs().max()) > 0.02
        assert off or not torch.allclose(covariance, left, rtol=0.1)


def every_configuration(side):
    """A batch of 14 cases, each of another configuration, and their draws from the Gaussian."""
    torch.manual_seed(0)
    white = torch.randn(len(CODES), 4, side, side).double()
    x = (MEAN[:, None, None] + torch.einsum("ij,bjhw->bihw", _ROOT, white)).float()
    batch = {key: x[:, [k]].clone() for k, key in enumerate(KEYS)}
    flags = {f"{key}_given": CODES[:, k].float() for k, key in enumerate(KEYS)}
    for k, key in enumerate(KEYS):
        batch[key][~CODES[:, k]] = 0.9  # what is missing must not be read
    return x, {**batch, **flags, "seed": torch.arange(len(CODES))}


def test_the_papers_sampler_draws_all_configurations_in_one_batch():
    """Predictor and corrector: draws of the right law, and what is given comes back bit for bit."""
    recipe = dataclasses.replace(EXACT, steps=60, sigma_min=0.02, sigma_max=1.0)
    x, batch = every_configuration(48)
    made = recipe.predict(exact(recipe), batch)
    for row, code in enumerate(CODES):
        whole = torch.cat([made[key][row] for key in KEYS])
        assert torch.equal(whole[code], x[row][code])
        mean, left = law(code, x[row].double())
        gap = (whole[~code].double() - mean).flatten(1)
        assert float(gap.mean(1).abs().max()) < 0.012
        off = (torch.cov(gap).reshape(left.shape) - left).abs()
        std = left.diagonal().sqrt()
        assert float((off / (std[:, None] * std)).max()) < 0.12


def test_fewer_given_contrasts_leave_more_doubt():
    """Of nested configurations the deviation of a draw shrinks with every contrast given."""
    flair = []
    for given in ([0], [0, 1], [0, 1, 3]):
        code = torch.zeros(4, dtype=torch.bool)
        code[given] = True
        covariance = drawn_law(FLOW, exact(FLOW), code, GIVEN)[1]
        place = (~code).nonzero()[:, 0].tolist().index(2)
        flair.append(float(covariance[place, place]))
    assert flair[0] > 1.05 * flair[1] > 1.1 * flair[2] > 0


def test_inpainting_by_replacement_is_another_law():
    """The exact unconditional prior: given contrasts put in with noise miss the Schur complement, moments meet it."""
    fields = {f.name: getattr(EXACT, f.name) for f in dataclasses.fields(EXACT)}
    fields |= {
        "steps": 12,
        "sigma_max": 5.0,
        "sampler": "dpm-solver",
        "grid": "karras",
        "stop": 0.0,
    }
    recipe = Inpainting(**fields)
    code = torch.tensor([True, True, True, False])
    images = GIVEN.reshape(1, 4, 1, 1).expand(1, 4, 32, 32)
    mean, left = law(code, GIVEN)
    replaced = recipe.drawn(exact(recipe), images, code, Seeded([0]))
    assert float((replaced.mean() - mean[0]).abs()) > 0.5 * float(left[0, 0].sqrt())
    posterior = dataclasses.replace(recipe, posterior=True)
    near = posterior.drawn(exact(recipe), images, code, Seeded([0]))
    assert float((near.mean() - mean[0]).abs()) < 0.1 * float(left[0, 0].sqrt())


# -------------------------------------------------------------------------------------- what is learned
class Affine(nn.Module):
    """An affine map of the channels of a pixel, whose numbers a network makes of the code and the noise level."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 20)
        )

    def forward(self, x, clock, image):
        told = torch.cat([image[:, :, 0, 0], clock.reshape(-1, 1).expand(len(x), 1)], 1)
        gain, shift = self.layers(told).split([16, 4], 1)
        return torch.einsum("bij,bjhw->bihw", gain.reshape(-1, 4, 4), x) + shift[:, :, None, None]


def test_one_training_learns_the_answers_of_all_configurations():
    recipe = dataclasses.replace(
        EXACT, predicts="edm", preconditioned=True, loss="karras", sigma_min=0.05, sigma_max=2.0,
    )  # fmt: skip
    torch.manual_seed(0)
    objective = recipe.objective()
    network = objective.network = objective.network.around(Affine())
    objective.players = network.players
    optimiser = torch.optim.Adam(network.parameters(), 6e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.02, 450)
    for _ in range(450):
        white = torch.randn(56, 4, 4, 4)
        x = MEAN.float()[:, None, None] + torch.einsum("ij,bjhw->bihw", _ROOT.float(), white)
        ((_, loss),) = objective.losses({key: x[:, [k]] for k, key in enumerate(KEYS)})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    x, _ = every_configuration(24)
    known, t = CODES[:, :, None, None], recipe.schedule().time(-torch.tensor(0.3).double().log())
    x_t = torch.where(known, x, x + 0.3 * torch.randn_like(x))
    with torch.no_grad():
        got = network.given(x_t, t, known=known)
    for row, code in enumerate(CODES):
        mean, left = law(code, x[row].double())
        gain = left @ torch.linalg.inv(left + 0.3**2 * torch.eye(len(left)).double())
        wanted = mean + torch.einsum("ij,jhw->ihw", gain, x_t[row, ~code].double() - mean)
        off = (got[row, ~code] - wanted).square().mean().sqrt()
        assert float(off) < 0.4 * float(left.diagonal().mean().sqrt()), code


class Recorder(nn.Module):
    """A backbone that keeps what it sees and answers 0, or what it is given as its parameter."""

    def __init__(self, count=14, channels=4, side=8):
        super().__init__()
        self.out = nn.Parameter(torch.zeros(count, channels, side, side))
        self.seen = []

    def forward(self, x, clock, image):
        self.seen.append((x, image))
        return self.out[: len(x)]


@pytest.fixture
def recorded():
    recipe = dataclasses.replace(EXACT, preconditioned=True)
    objective = recipe.objective()
    objective.network = objective.network.around(Recorder())
    objective.players = objective.network.players
    x, _ = every_configuration(8)
    torch.manual_seed(0)
    ((name, loss),) = objective.losses({key: x[:, [k]] for k, key in enumerate(KEYS)})
    assert name == "network"
    return x, objective.players["network"], loss


def test_training_shows_given_contrasts_clean_beside_the_code(recorded):
    x, backbone, _ = recorded
    ((seen, code),) = backbone.seen
    assert torch.equal(code, code.bool().float())
    assert torch.equal(code[:, :, 0, 0].sum(1).unique(), torch.tensor([1.0, 2.0, 3.0]))
    known = code.bool()
    assert len(code[:, :, 0, 0].unique(dim=0)) == 14  # stratified: a batch of 14 holds each once
    assert torch.allclose(seen[known], x[known], atol=1e-5)
    assert not torch.allclose(seen[~known], x[~known], atol=0.2)


def test_the_loss_does_not_touch_given_contrasts(recorded):
    _, backbone, loss = recorded
    loss.backward()
    known = backbone.seen[0][1].bool()
    assert not backbone.out.grad[known].any() and backbone.out.grad[~known].all()
    assert float(loss.detach()) == pytest.approx(1, rel=0.1)  # E z^2 of a network that answers 0


# ------------------------------------------------------------------------------------------ the recipe
@pytest.fixture(scope="module")
def brains():
    keys = ("t1", "t2", "flair")
    return open_cases("brains:count=12,size=16", mapping=dict(zip(keys, keys, strict=True)))


def test_conformance(brains):
    batch = brains.batch(range(8))
    flags = {"flair_given": torch.tensor([0.0, 1.0] * 4), "t1_given": torch.tensor([1.0, 0.0] * 4)}
    check_recipe(UMMCSGM, brains.facts(), {**batch, **flags})


def test_a_first_guess_reads_what_is_given_and_nothing_else(brains):
    recipe = dataclasses.replace(UMMCSGM.small(), multiples=(1, 2), attention=()).fitted(
        brains.facts()
    )
    network = recipe.objective().network
    assert isinstance(network, GuessedCompletion)
    for parameter in network.guess.parameters():
        nn.init.normal_(parameter, std=0.1)
    images = torch.cat([brains.batch(range(2))[key] for key in recipe.contrasts], 1)
    known = torch.tensor([True, False, True]).reshape(1, 3, 1, 1)
    told = network.bound(images=images, known=known)
    assert torch.equal(told["mean"][:, [0, 2]], images[:, [0, 2]])
    other = images.clone()
    other[:, 1] = 0.5
    assert torch.equal(network.bound(images=other, known=known)["mean"], told["mean"])
    other[:, 0] = 0.5
    assert not torch.allclose(
        network.bound(images=other, known=known)["mean"][:, 1], told["mean"][:, 1]
    )
    swapped = network.bound(
        images=images, known=torch.tensor([True, False, False]).reshape(1, 3, 1, 1)
    )
    assert not torch.allclose(swapped["mean"][:, 1], told["mean"][:, 1])
    x_t, t = images + 1.0, torch.tensor(0.5)
    assert torch.equal(network.given(x_t, t, **told)[:, [0, 2]], x_t[:, [0, 2]])


class Guessing(nn.Module):
    """A guess that is its parameters."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(8, 3, 16, 16))
        self.std = nn.Parameter(torch.full((8, 3, 16, 16), 0.3))

    def forward(self, image):
        return self.mean, self.std


def test_around_a_guess_no_loss_touches_given_contrasts(brains):
    small = dataclasses.replace(UMMCSGM.small(), multiples=(1, 2), attention=())
    objective = small.fitted(brains.facts()).objective()
    network, guess = Recorder(8, 3, 16), Guessing()
    objective.players |= {"network": network, "guess": guess}
    for _, loss in objective.losses(brains.batch(range(8))):
        loss.backward()
    ((seen, told),) = network.seen
    known = told[:, 3:6].bool()
    assert known.any() and not seen[known].any()  # a given contrast leaves nothing to denoise
    for parameter in (network.out, guess.mean, guess.std):
        assert not parameter.grad[known].any() and parameter.grad[~known].all()


def test_the_noise_reaches_as_far_as_the_data_lie_apart(brains):
    recipe = UMMCSGM().fitted(brains.facts())
    assert recipe.sigma_max == pytest.approx(2**0.5 * brains.facts().diameter + 1, abs=0.01)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"t1_given": 0.0, "t2_given": 0.0, "flair_given": 0.0}, "none of t1, t2, flair is given"),
        ({}, "none of t1, t2, flair is missing"),
    ],
)
def test_a_case_with_all_or_none_missing_is_refused(flags, said, brains):
    recipe = UMMCSGM.tiny().fitted(brains.facts())
    batch = {**brains.batch([0]), **{key: torch.tensor([value]) for key, value in flags.items()}}
    with pytest.raises(UserError, match=said):
        recipe.predict(None, {**batch, "seed": torch.arange(1)})


# ---------------------------------------------------------------------------------- by the command line
def saved(folder, rows, kind="png"):
    """cases.csv of 16 x 16 images; a cell is "" where a case lacks the contrast, else a grey offset."""
    folder.mkdir(exist_ok=True)
    lines = ["case,patient,split,t1,flair"]
    draw = np.random.default_rng(0)
    for row, cells in enumerate(rows):
        names = []
        for key, cell in zip(("t1", "flair"), cells, strict=True):
            name = "" if cell == "" else f"{row}-{key}.{kind}"
            if name:
                write(folder / name, draw.integers(0, 90, (16, 16)) * (cell >= 0) + abs(cell))
            names.append(name)
        split = "train" if row < len(rows) - 1 else "test"
        lines.append(f"c{row},p{row},{split},{','.join(names)}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n")
    return folder


def write(path, pixels):
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return
    import nibabel

    volume = np.stack([pixels + k for k in range(4)], 2)
    nibabel.Nifti1Image(volume.astype(np.int16), np.diag([2.0, 2, 3, 1])).to_filename(path)


def command(*words):
    assert cli.main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on pictures whose two contrasts have different stored values."""
    folder = tmp_path_factory.mktemp("completion")
    data = saved(folder / "data", [(10, 100)] * 8)
    command("train", "umm-csgm", "--data", data, "--preset", "tiny", "--train.steps", 2,
            "--train.batch", 4, "--guess", 8, "--out", folder / "run")  # fmt: skip
    return folder / "run"


def files(out):
    found = json.loads((out / "predictions.json").read_text())["predictions"]
    return {entry["case"]: entry["files"] for entry in found}


def test_cases_that_lack_different_contrasts(trained, tmp_path, capsys):
    data = saved(tmp_path / "data", [(10, ""), ("", 100), (10, 100), (10, 100)])
    command("predict", trained, "--data", data, "--split", "train", "--out", tmp_path / "out")
    said = capsys.readouterr().err
    assert "1 of 3 cases lack none of t1, flair and are left out (c2)" in said
    assert files(tmp_path / "out") == {"c0": {"flair": "c0-flair.png"}, "c1": {"t1": "c1-t1.png"}}
    command("predict", trained, "--data", data, "--split", "train", "--samples", 2,
            "--out", tmp_path / "several")  # fmt: skip
    entries = json.loads((tmp_path / "several" / "predictions.json").read_text())["predictions"]
    written = {name for entry in entries for name in entry["files"].values()}
    assert "c0-flair-mean.png" in written and not any("c0-t1" in name for name in written)


def test_a_missing_column_is_what_is_made_in_the_values_of_its_training(trained, tmp_path, capsys):
    """Volumes slice by slice, of which only t1 is there: flair on its grid, in flair's own stored values."""
    import nibabel

    data = saved(tmp_path / "data", [(10, ""), (10, "")], "nii.gz")
    text = (data / "cases.csv").read_text().replace(",flair", "").replace(",\n", "\n")
    (data / "cases.csv").write_text(text)
    words = ("predict", trained, "--data", data, "--split", "test", "--slices", "axial")
    command(*words, "--out", tmp_path / "out")
    assert "has no column flair" in capsys.readouterr().err
    made = nibabel.Nifti1Image.from_filename(tmp_path / "out" / "c1-flair.nii.gz")
    assert made.shape == (16, 16, 4) and made.header.get_zooms() == (2.0, 2.0, 3.0)
    low, high = json.loads((trained / "manifest.json").read_text())["data"]["range"]["flair"]
    values = made.get_fdata()
    assert values.min() >= low - 1 and values.max() <= high + 1 and values.max() > high - 60
    command(*words, "--range", 0, 900, "--out", tmp_path / "asked")
    made = nibabel.Nifti1Image.from_filename(tmp_path / "asked" / "c1-flair.nii.gz")
    assert made.get_fdata().max() > high + 200


@pytest.mark.parametrize(
    ("rows", "map_", "said"),
    [
        ([("", ""), (10, 100)], (), "case c0 has none of t1, flair; leave the case out"),
        ([(10, 100)] * 2, (), "none of t1, flair is missing, so that there is nothing to make"),
        ([(10, ""), (-50, "")], (), "case c1: t1 is constant (one grey value"),
        ([(10, "")] * 2, ("t2=t1",), "was trained on t1, flair, and the data have t2"),
        ([(10, "")] * 2, ("t1=t1", "flair=flare"), "no column 'flare' for 'flair'; did you mean"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(rows, map_, said, trained, tmp_path, capsys):
    data = saved(tmp_path / "data", rows)
    words = ("--map", *map_) if map_ else ()
    assert said in line_of(
        capsys, "predict", trained, "--data", data, "--out", tmp_path / "out", *words
    )


def line_of(capsys, *words):
    """The one line of error of a command, behind what it says of the data."""
    capsys.readouterr()
    assert cli.main([str(word) for word in words]) == 1
    lines = capsys.readouterr().err.splitlines()
    *before, last = lines
    assert last.startswith("radiffuse: error: ") and all(x.startswith("note: ") for x in before)
    return last


def test_training_takes_complete_cases_of_two_contrasts_or_more(tmp_path, capsys):
    def line(rows, *words):
        data = saved(tmp_path / "data", rows)
        return line_of(capsys, "train", "umm-csgm", "--data", data, "--preset", "tiny", "--out",
                       tmp_path / "run", *words)  # fmt: skip

    assert "column flair: case c1 names no file" in line([(10, 100), (10, ""), (10, 100)])
    said = line([(10, 100), (10, -9), (10, 100)])
    assert "1 of 2 training cases are left out (c1): a contrast is constant" in said
    assert "two contrasts or more are needed" in line([(10, 100)] * 3, "--map", "t1=t1")


def test_evaluate_measures_every_configuration_beside_its_baselines(trained, tmp_path, monkeypatch):
    narrow = functools.partial(baselines.direct_unet, width=8, multiples=(1, 2))
    monkeypatch.setattr(baselines, "direct_unet", narrow)
    data = json.loads((trained / "manifest.json").read_text())["data"]["path"]
    pair = tmp_path / "pair"
    command("train", "ddpm-conversion", "--data", data, "--map", "source=t1", "target=flair",
            "--preset", "tiny", "--train.steps", 1, "--out", pair)  # fmt: skip
    command("evaluate", trained, "--samples", 2, "--beside", pair)
    record = json.loads((trained / "metrics.json").read_text())
    ends = {each["end"] for each in record["configurations"]}
    assert ends == {"_flair_from_t1", "_t1_from_flair"}
    for metric in ("psnr", "ssim", "crps", "coverage_90", "psnr_single"):
        assert all("mean" in record["method"][metric + end] for end in ("", *ends)), metric
    beside = record["baselines"]
    assert {*beside} == {
        "regression",
        "regression_each",
        "inpainting",
        "posterior",
        "ddpm-conversion",
    }
    assert (
        "psnr_flair_from_t1" in beside["ddpm-conversion"]
        and "psnr" not in beside["ddpm-conversion"]
    )
    assert (trained / "pictures" / "completion.png").is_file()
    command("report", trained)
    assert "Completed" in (trained / "report.html").read_text()


def test_other_runs_beside_are_of_the_same_columns(trained, tmp_path, refused):
    assert "one that makes one of t1, flair from another" in refused(
        "evaluate", trained, "--beside", trained, "--out", tmp_path / "metrics.json"
    )


def test_a_mask_of_another_size_is_named_before_anything_is_trained(tmp_path):
    x = np.random.default_rng(0).normal(size=(16, 32, 32)).astype(np.float32)
    mask = np.zeros((16, 64, 64), np.uint8)
    np.savez(tmp_path / "t.npz", a=x, b=x + 1, mask=mask)
    cases = open_cases(tmp_path / "t.npz")
    recipe = SimpleNamespace(contrasts=("a", "b"))
    with pytest.raises(UserError, match="a is 32 x 32 and mask is 64 x 64"):
        evaluate_completion(recipe, None, cases, cases, Asked())
