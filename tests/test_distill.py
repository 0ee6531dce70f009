"""Distilled runs: maps along the flow, whose exact form is known for Gaussian images, and what teaches them."""

import json
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from radiffuse import cli
from radiffuse.applications.generation.distilled import distilled, student_of
from radiffuse.applications.generation.sde import SDE
from radiffuse.commands.distill import MINUTES, _defaults
from radiffuse.diffusion.filtered import Filtered, wiener_of
from radiffuse.diffusion.flow_map import FlowMap, MovedMap, TwoTimes, joined_mean, nested
from radiffuse.diffusion.losses import output, uniform_times
from radiffuse.diffusion.network import Network, elapsed
from radiffuse.diffusion.parametrization import CLEAN
from radiffuse.diffusion.sample import DDIM, Consistent, FlowODE, Jumps, last, prior
from radiffuse.diffusion.schedule import EDM, VP, Cosine, Rectified, Stretched
from radiffuse.nn.embed import Conditioning
from radiffuse.runs.run import open_run
from radiffuse.testing import GaussianDenoiser, MixtureDenoiser
from radiffuse.training.distilling import Distilling, halves, second_order, two_steps
from radiffuse.training.objective import Denoising
from schedules import anywhere

MEAN, STD = 0.5, 0.2


def times(*values):
    return torch.tensor(values, dtype=torch.float64)


class Exact(FlowMap):
    """The map of the flow of Gaussian images: x / alpha - m in proportion to its deviation."""

    def __init__(self, schedule, mean=MEAN, std=STD):
        super().__init__()
        self.schedule, self.m, self.std = schedule, mean, std

    def mean(self, x_t, t, s):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.schedule(t, x_t), self.schedule(s, x_t)
        wide = [
            (a**2 * self.std**2 + b**2).sqrt() for a, b in ((alpha_t, sigma_t), (alpha_s, sigma_s))
        ]
        x_s = alpha_s * self.m + wide[1] / wide[0] * (x_t - alpha_t * self.m)
        way = alpha_s * sigma_t - alpha_t * sigma_s
        at = GaussianDenoiser(self.schedule, self.m, self.std)(x_t, t)
        return torch.where(way == 0, at, (sigma_t * x_s - sigma_s * x_t) / way)


class Told(nn.Module):
    """The exact map as a backbone: told x_t and (t, s)."""

    def __init__(self, exact, wrong=0.0):
        super().__init__()
        self.exact, self.factor = exact, nn.Parameter(torch.tensor(1.0 + wrong))

    def forward(self, x, clock):
        t, s = (clock, torch.zeros_like(clock)) if clock.ndim == 1 else clock.unbind(1)
        return self.factor * self.exact.mean(x, t.cpu(), s.cpu())


def objective(way, exact, steps, coarsest, wrong=0.0, start=0.95):
    network = Network(Told(exact, wrong), exact.schedule, CLEAN, clock=elapsed)
    denoising = Denoising(network, uniform_times(), output)
    teacher = GaussianDenoiser(exact.schedule, MEAN, STD)
    grid = nested(exact.schedule, steps, start)
    return Distilling(denoising, way, grid, coarsest, lambda condition: teacher)


# --------------------------------------------------------------------------------------- the maps
@pytest.mark.parametrize(
    "schedule", [VP(), Rectified(), EDM(0.002, 80.0)], ids=["vp", "rectified", "edm"]
)
def test_a_jump_of_the_exact_map_is_the_flow(schedule):
    t, s = torch.tensor(0.8).double(), torch.tensor(0.3).double()
    x_t = prior(schedule, torch.zeros(5, 3, dtype=torch.float64), t=0.8)
    flow = FlowODE(GaussianDenoiser(schedule, MEAN, STD), rtol=1e-7, atol=1e-7)
    steps = flow.trajectory(x_t, torch.stack([t, s]))
    assert torch.allclose(Exact(schedule).jump(x_t, t, s), next(steps), atol=1e-5)


@anywhere
def test_a_map_is_at_its_boundary_what_it_must_be(schedule):
    exact, t = Exact(schedule), torch.tensor(0.6).double()
    x_t = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(exact.jump(x_t, t, t), x_t)
    assert torch.equal(exact(x_t, t), GaussianDenoiser(schedule, MEAN, STD)(x_t, t))


@anywhere
def test_one_two_and_four_calls_of_an_exact_map_agree(schedule):
    x = prior(schedule, torch.zeros(6, 3, dtype=torch.float64), t=0.95)
    results = [Jumps(Exact(schedule))(x, nested(schedule, calls, 0.95)) for calls in (1, 2, 4)]
    assert torch.allclose(results[0], results[1], atol=1e-9)
    assert torch.allclose(results[0], results[2], atol=1e-9)


def test_a_map_is_moved_between_schedules_exactly():
    exact = Exact(VP())
    for other in (Rectified(), EDM(0.002, 80.0), Stretched(Cosine(), 1.0)):
        moved, same = MovedMap(exact, other), Exact(other)
        t, s = times(0.7, 0.4), times(0.5, 0.0)
        x_t = torch.randn(2, 3, dtype=torch.float64)
        assert torch.allclose(moved.mean(x_t, t, s), same.mean(x_t, t, s), atol=1e-9)
        assert torch.allclose(moved.jump(x_t, t, s), same.jump(x_t, t, s), atol=1e-9)


@anywhere
def test_every_second_time_of_a_grid_is_the_grid_of_half_as_many_steps(schedule):
    fine = nested(schedule, 8, 0.95)
    assert float(fine[0]) == 0.95 and float(fine[-1]) == 0 and bool((fine.diff() < 0).all())
    assert torch.allclose(fine[::2], nested(schedule, 4, 0.95), atol=1e-9)


@anywhere
def test_the_mean_over_a_way_is_that_of_its_parts(schedule):
    exact, (t, r, s) = Exact(schedule), (times(0.9, 0.5), times(0.6, 0.3), times(0.2, 0.0))
    x_t = torch.randn(2, 3, dtype=torch.float64)
    assert torch.allclose(halves(exact, x_t, t, r, s), exact.mean(x_t, t, s), atol=1e-9)
    wrong = joined_mean(schedule, exact.mean(x_t, t, r), exact.mean(x_t, r, s), t, r, s)
    assert not torch.allclose(wrong, exact.mean(x_t, t, s), atol=1e-3)  # x_t is not at r


def test_the_map_of_a_mixture_joins_too():
    law = (times(0.3, 0.7), times(-1.0, 1.0)[:, None], times(0.2, 0.3))
    denoiser = MixtureDenoiser(VP(), *law)

    class OfMixture(FlowMap):
        schedule = VP()

        def mean(self, x_t, t, s):
            flow = FlowODE(denoiser, rtol=1e-8, atol=1e-8)
            x_s, _ = flow.step(x_t, t[0], s[0], None)
            (alpha_t, sigma_t), (alpha_s, sigma_s) = self.schedule(t, x_t), self.schedule(s, x_t)
            return (sigma_t * x_s - sigma_s * x_t) / (alpha_s * sigma_t - alpha_t * sigma_s)

    x_t = torch.randn(8, 1, dtype=torch.float64)
    t, r, s = (torch.full((8,), value, dtype=torch.float64) for value in (0.9, 0.5, 0.2))
    exact = OfMixture()
    assert torch.allclose(halves(exact, x_t, t, r, s), exact.mean(x_t, t, s), atol=1e-6)


def test_consistency_sampling_of_an_exact_map_keeps_the_law():
    exact, many = Exact(VP()), torch.zeros(4000, 1, dtype=torch.float64)
    made = Consistent(exact)(prior(VP(), many), nested(VP(), 4))
    assert abs(float(made.mean()) - MEAN) < 0.02 and abs(float(made.std()) - STD) < 0.01
    once = Jumps(exact)(prior(VP(), many), nested(VP(), 1))
    assert not torch.equal(made, once)


def test_a_map_of_gaussian_images_of_a_known_spectrum_is_exact_before_it_learns():
    schedule, size, values = VP(), (16, 16), tuple(torch.linspace(4, 0.01, 9).tolist())
    wiener = wiener_of(values, size)
    network = Filtered(Silent(), schedule, values, 0.5)
    made = TwoTimes(network)
    z = torch.randn(3, 1, *size, dtype=torch.float64)
    t, s = times(0.9, 0.6, 0.3), times(0.4, 0.0, 0.2)
    levels = [torch.exp(-schedule.log_ratio(each)).reshape(-1, 1, 1, 1) for each in (t, s)]
    wide = [(wiener.power + level**2).sqrt() for level in levels]
    y_t, y_s = (
        torch.fft.irfftn(torch.fft.rfftn(z, dim=(2, 3)) * w, s=size, dim=(2, 3)) for w in wide
    )
    (alpha_t, _), (alpha_s, _) = schedule(t, z), schedule(s, z)
    assert torch.allclose(made.jump(alpha_t * y_t, t, s), alpha_s * y_s, atol=1e-5)
    plain = TwoTimes(network, leaps=False)
    assert not torch.allclose(plain.jump(alpha_t * y_t, t, s), alpha_s * y_s, atol=1e-2)
    assert torch.allclose(made(alpha_t * y_t, t), network(alpha_t * y_t, t).double(), atol=1e-5)


class Silent(nn.Module):
    """A backbone that adds nothing to the Wiener filter."""

    def forward(self, x, clock, image=None):
        return torch.zeros_like(x)


# ------------------------------------------------------------------------------------ the teaching
def test_the_target_of_progressive_distillation_is_two_steps_of_ddim():
    teacher = GaussianDenoiser(VP(), MEAN, STD)
    grid = nested(VP(), 8)
    for t, r, s in ((grid[0], grid[1], grid[2]), (grid[6], grid[7], grid[8])):
        x_t = torch.randn(3, 2, dtype=torch.float64)
        target = two_steps(teacher, x_t, *(each.expand(3) for each in (t, r, s)))
        walked = x_t
        for begin, end in pairwise((t, r, s)):
            walked, _ = DDIM(teacher).step(walked, begin, end, None)

        class Answered(FlowMap):
            schedule = VP()

            def mean(self, x_t, t, s, target=target):
                return target

        assert torch.allclose(Answered().jump(x_t, t, s), walked, atol=1e-9)


@pytest.mark.parametrize("way", ["flow-map", "consistency"])
def test_losses_are_least_at_the_exact_map(way):
    def loss(wrong, shift=0.0):
        torch.manual_seed(1)
        made = objective(way, Exact(VP(), MEAN + shift), 256, 1, wrong)
        return float(made.matching(MEAN + STD * torch.randn(256, 4).double(), {}).detach())

    assert loss(0.0) < 1e-4 and loss(0.0) < loss(0.02) / 20
    assert loss(0.0) < loss(0.0, shift=0.05) / 3


@anywhere
def test_targets_of_second_order_come_nearer_than_two_steps(schedule):
    exact, teacher = Exact(schedule), GaussianDenoiser(schedule, MEAN, STD)
    x_t = torch.randn(1, 64, dtype=torch.float64)

    def errors(target, steps):
        grid = nested(schedule, 2 * steps, 0.9)
        place = 2 * (steps // 2)
        t, r, s = (grid[place + move : place + move + 1] for move in (0, 1, 2))
        alpha, sigma = schedule(t, x_t)
        x = alpha * MEAN + (alpha**2 * STD**2 + sigma**2).sqrt() * x_t
        return float((target(teacher, x, t, r, s) - exact.mean(x, t, s)).abs().max())

    assert errors(second_order, 16) < errors(two_steps, 16) / 3
    assert errors(second_order, 32) < errors(second_order, 16) / 3


def test_only_the_shortest_steps_ask_the_teacher():
    made = objective("flow-map", Exact(VP()), 16, 2)
    t, r, s, finest = made.drawn(400)
    places = [[int((made.times - each).abs().argmin()) for each in part] for part in (t, r, s)]
    lengths = {(c - a, b - a) for a, b, c in zip(*places, strict=True)}
    assert lengths == {(2, 1), (4, 2), (8, 4)}
    assert bool(
        (finest == torch.tensor([c - a == 2 for a, _, c in zip(*places, strict=True)])).all()
    )
    assert min(places[0]) == 0 and max(places[2]) == 16


def test_a_consistency_model_is_asked_nothing_without_noise():
    made = objective("consistency", Exact(VP()), 4, 1)
    t, r, s, end = made.drawn(100)
    assert bool((s == 0).all()) and bool(end.any()) and bool((r[end] == 0).all())
    x_t = torch.randn(100, 2, dtype=torch.float64)
    target = made.target(x_t, t, r, s, end, {})
    assert bool(target.isfinite().all())
    x_0 = GaussianDenoiser(VP(), MEAN, STD)(x_t, t)
    assert torch.allclose(target[end], x_0[end]) and not torch.allclose(target[~end], x_0[~end])


class Table(nn.Module):
    """a + b x with numbers of their own for each two times of a grid: what the map of Gaussian images is."""

    def __init__(self, grid):
        super().__init__()
        self.grid = grid
        self.a, self.b = (nn.Parameter(torch.zeros(len(grid), len(grid))) for _ in range(2))

    def forward(self, x, clock):
        t, s = (clock[:, None, :] - self.grid[:, None]).abs().argmin(1).unbind(1)
        return self.a[t, s][:, None] + self.b[t, s][:, None] * x


def test_a_trained_map_draws_the_law_in_one_call():
    schedule = VP()
    grid = nested(schedule, 16, 0.95)
    backbone = Table(grid)
    network = Network(backbone, schedule, CLEAN, clock=elapsed)
    teacher = GaussianDenoiser(schedule, MEAN, STD)
    denoising = Denoising(network, uniform_times(), output)
    made = Distilling(denoising, "flow-map", grid, 1, lambda _: teacher)
    optimizer = torch.optim.Adam(backbone.parameters(), 0.03)
    for _ in range(400):
        optimizer.zero_grad()
        made.matching(MEAN + STD * torch.randn(256, 1), {}).backward()
        optimizer.step()
    x = torch.randn(500, 1)
    for calls in (1, 2, 4):
        walk = nested(schedule, calls, 0.95)
        drawn, exact = Jumps(TwoTimes(network))(x, walk), Jumps(Exact(schedule))(x, walk)
        assert float((drawn - exact).square().mean().sqrt()) < 0.15 * STD, calls


def test_a_student_begins_as_its_teacher_and_tells_times_apart_by_their_difference():
    torch.manual_seed(0)
    told = Conditioning(16)
    clock = torch.tensor([0.1, 0.7])
    before = told(clock)
    told.told_until()
    both = torch.stack([clock, torch.tensor([0.0, 0.2])], 1)
    assert torch.equal(told(both), before)
    nn.init.normal_(told.until.weight)
    assert not torch.allclose(told(both), before)
    assert torch.equal(told(torch.stack([clock, clock], 1)), before)


# ----------------------------------------------------------------------------------------- the runs
DATA = ["--data", "brains:count=24,size=16", "--map", "image=t1"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    run = tmp_path_factory.mktemp("distilled") / "teacher"
    words = ["train", "ddpm", *DATA, "--preset", "tiny", "--train.steps", "10", "--out", str(run)]
    assert cli.main(words) == 0
    return run


@pytest.fixture(scope="module")
def student(teacher):
    run = teacher.parent / "student"
    words = ["distill", str(teacher), "--calls", "2", "--train.steps", "6", "--way", "flow-map"]
    assert cli.main([*words, "--out", str(run)]) == 0
    return run


def calls_of(opened, count=2):
    """Images drawn, and how often the network was called for them."""
    counted = []
    network = opened.objective.players["network"]
    hook = network.register_forward_hook(lambda *_: counted.append(1))
    try:
        return opened.recipe.predict(opened.objective, {"seed": torch.arange(count)})["image"], len(
            counted
        )
    finally:
        hook.remove()


def test_a_distilled_run_is_a_run_that_names_its_teacher(teacher, student):
    opened = open_run(student)
    assert opened.manifest["distilled"]["sha256"] == open_run(teacher).model_sha256
    assert opened.config.distilled["teacher"] == str(teacher)
    assert "flow-map to 2" in opened.config.name
    assert (opened.recipe.way, opened.recipe.calls, opened.recipe.steps) == ("flow-map", 2, 2)
    images, calls = calls_of(opened)
    assert calls == 2 and images.shape == (2, 1, 16, 16)
    assert [calls_of(opened.with_steps(n))[1] for n in (2, 4, 8)] == [2, 4, 8]


def test_a_student_that_has_not_learned_is_its_teacher(teacher):
    taught = open_run(teacher)
    recipe = student_of(taught.recipe, "flow-map", 1)
    made = recipe.objective()
    network = made.players["network"]
    network.load_state_dict(taught.objective.players["network"].state_dict(), strict=False)
    x_t, t = torch.randn(3, 1, 16, 16), times(0.2, 0.5, 0.9)
    with torch.no_grad():
        expected = taught.recipe.denoiser(taught.objective)(x_t, t)
        student = recipe.denoiser(made).eval()
        assert torch.allclose(student(x_t, t), expected, atol=1e-5)
        plain = TwoTimes(made.network, leaps=False)
        assert torch.equal(plain.mean(x_t, t, torch.zeros_like(t)), expected)


@pytest.mark.parametrize("way", ["consistency", "progressive"])
def test_the_other_ways_make_runs_too(way, teacher, tmp_path):
    run = tmp_path / way
    words = ["distill", teacher, "--calls", 4, "--way", way, "--train.steps", 3, "--out", run]
    assert cli.main([str(word) for word in words]) == 0
    opened = open_run(run)
    assert calls_of(opened)[1] == 4
    if way == "progressive":
        stages = [open_run(run / "stages" / name) for name in ("16", "08")]
        assert [stage.recipe.calls for stage in stages] == [16, 8]
        assert opened.manifest["distilled"]["before"] == stages[-1].model_sha256
        assert stages[1].manifest["distilled"]["before"] == stages[0].model_sha256


def test_samples_evaluation_and_report_of_a_distilled_run(student, tmp_path, hasty_judge):
    out = tmp_path / "drawn"
    assert cli.main(["sample", str(student), "--count", "2", "--out", str(out)]) == 0
    assert json.loads((out / "predictions.json").read_text())["settings"]["steps"] == 2
    assert cli.main(["evaluate", str(student), "--count", "4"]) == 0
    record = json.loads((student / "metrics.json").read_text())
    assert "density is not computed" in record["method"]["bits_per_dimension"]["refused"]
    assert math.isfinite(record["method"]["nearest_pixels"]["mean"])
    assert cli.main(["report", str(student)]) == 0
    assert "flow-map" in (student / "report.html").read_text()


def test_an_interrupted_distillation_goes_on_to_the_same_weights(teacher, student, tmp_path):
    run = tmp_path / "again"
    words = ["distill", str(teacher), "--calls", "2", "--way", "flow-map", "--out", str(run)]
    assert cli.main([*words, "--train.steps", "3"]) == 0
    assert cli.main([*words, "--train.steps", "6", "--resume"]) == 0
    ours, theirs = (
        open_run(each).objective.players["network"].state_dict() for each in (run, student)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_student_of_a_shipped_model_learns_as_its_teacher_did(tmp_path):
    """The first word that was a path was taken for the teacher: --data, --out."""
    words = ["brains-t1", "--calls", "4", "--data", str(tmp_path), "--out", str(tmp_path / "s")]
    options = _defaults(words)
    assert options.batch == 32 and options.minutes == MINUTES and options.steps is None
    assert _defaults(["--data", str(tmp_path), *words[:3], *words[5:]]) == options


def test_what_cannot_be_distilled_is_refused_in_one_line(teacher, student, refused, tmp_path):
    out = ["--calls", 2, "--train.steps", 2, "--out", tmp_path / "out"]
    assert "distill its teacher" in refused("distill", student, *out)
    mri = tmp_path / "mri"
    words = ["train", "score-mri", "--data", "brains:count=24,size=16", "--preset", "tiny"]
    assert cli.main([*words, "--train.steps", "1", "--out", str(mri)]) == 0
    assert "is not generative" in refused("distill", mri, *out)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.toml").write_bytes((teacher / "config.toml").read_bytes())
    assert "training has not finished" in refused("distill", unfinished, *out)
    assert "must be 1, 2 or 4" in refused(
        "distill", teacher, "--calls", 3, "--way", "flow-map", "--out", tmp_path / "o", code=2
    )
    assert not (tmp_path / "out" / "config.toml").exists()


def test_calls_that_a_way_did_not_learn_are_refused(student, refused, tmp_path):
    said = refused("sample", student, "--count", 1, "--steps", 1, "--out", tmp_path / "a", code=2)
    assert "learned 2, 4, 8 or 16 calls" in said
    said = refused("sample", student, "--count", 1, "--steps", 3, "--out", tmp_path / "b", code=2)
    assert "--steps 3" in said
    with pytest.raises(cli.UserError, match="4 calls only"):
        distilled(SDE)(way="progressive", calls=4, steps=8)


def test_a_distilled_run_is_no_prior_and_is_not_trained_anew(teacher, student, refused, tmp_path):
    words = ["train", "score-mri", "--prior", student, "--preset", "tiny", "--out", tmp_path / "p"]
    assert "take its teacher" in refused(*words)
    said = refused("train", "--config", student / "config.toml", "--out", tmp_path / "q", code=2)
    assert "radiffuse distill" in said
    assert "export its teacher" in refused("export", student, "--out", tmp_path / "e")
    words = ["--way", "flow-map", "--train.steps", 6, "--out", student]
    assert "holds a run already" in refused("distill", teacher, "--calls", 2, *words)
    other = ["distill", teacher, "--calls", 4, *words, "--resume"]
    assert "recipe.calls = 2" in refused(*other)


def test_the_chain_of_a_student_ends_in_its_images(student):
    opened = open_run(student)
    states = opened.recipe.trajectory(opened.objective, {"seed": torch.arange(2)})
    assert torch.equal(last(states).clamp(-1, 1), calls_of(opened)[0])
