"""Solvers of few calls whose times and weights are learned: how they begin, what they can learn, and their runs."""

import math

import pytest
import torch

from radiffuse import cli
from radiffuse.applications.generation.distilled import student_of, teacher_of
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.flow_map import nested
from radiffuse.diffusion.losses import uniform_times
from radiffuse.diffusion.network import Network, elapsed
from radiffuse.diffusion.parametrization import CLEAN
from radiffuse.diffusion.sample import DPMSolver, FewCalls, Learned, WithSolver, last, prior
from radiffuse.diffusion.schedule import VE, Rectified
from radiffuse.runs.run import open_run
from radiffuse.testing import GaussianDenoiser, MixtureDenoiser
from radiffuse.training.objective import Denoising
from radiffuse.training.solving import Solving
from schedules import anywhere

START = 0.95


def mixture(schedule):
    weights, means, stds = ([0.4, 0.6], [[-0.6], [0.7]], [0.2, 0.2])
    law = (torch.tensor(each, dtype=torch.float64) for each in (weights, means, stds))
    return MixtureDenoiser(schedule, *law)


def solver_of(denoiser, calls):
    few = FewCalls(denoiser.schedule, nested(denoiser.schedule, calls, START))
    return Learned(WithSolver(denoiser, few))


class Constant(Denoiser):
    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.asked = schedule, []

    def forward(self, x_t, t):
        self.asked.append(float(t))
        return torch.full_like(x_t, 0.3)


@anywhere
def test_before_it_learns_it_is_dpm_solver_on_its_grid(schedule):
    denoiser = mixture(schedule)
    x = prior(schedule, torch.zeros(20, 1, dtype=torch.float64), t=START)
    times = nested(schedule, 5, START)
    few = solver_of(denoiser, 5)
    assert torch.allclose(few.few.times(schedule), times, atol=1e-6)
    theirs = list(DPMSolver(denoiser).trajectory(x, times))[:4]
    ours = list(few.trajectory(x, times))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs, strict=False))
    # the last step goes to the end, also where the schedule keeps some noise there
    assert torch.allclose(ours[-1], denoiser(theirs[-1], times[4]), atol=1e-4)


@anywhere
def test_answers_that_do_not_change_are_the_end_whatever_was_learned(schedule):
    denoiser = Constant(schedule)
    few = solver_of(denoiser, 4)
    with torch.no_grad():
        for each in few.few.parameters():
            each.add_(0.1 * torch.randn_like(each))
    x = prior(schedule, torch.zeros(5, 2), t=START)
    assert torch.allclose(few(x, nested(schedule, 4, START)), torch.tensor(0.3))
    assert len(denoiser.asked) == 4


@anywhere
def test_what_is_learned_has_the_slope_of_the_end_of_the_chain(schedule):
    torch.manual_seed(0)
    denoiser = mixture(schedule)
    few = solver_of(denoiser, 4)
    with torch.no_grad():
        few.few.told.add_(0.05)
    x = prior(schedule, torch.zeros(40, 1, dtype=torch.float64), t=START)

    def ended():
        return few.end(x).square().mean()

    ended().backward()
    for name, parameter in few.few.named_parameters():
        flat = parameter.view(-1)
        for k in range(len(flat)):
            ends = []
            for move in (1e-2, -1e-2):
                with torch.no_grad():
                    flat[k] += move
                    ends.append(float(ended()))
                    flat[k] -= move
            slope = (ends[0] - ends[1]) / 2e-2
            ours = float(parameter.grad.view(-1)[k])
            assert ours == pytest.approx(slope, rel=0.03, abs=2e-4), (name, k)


def learn(made, like, steps):
    optimizer = torch.optim.Adam([p for p in made.few.parameters()], 0.03)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = 0.03 * math.cos(math.pi / 2 * k / steps)
        optimizer.zero_grad()
        made.matching(like, {}).backward()
        optimizer.step()


def solving(denoiser, calls):
    network = Network(torch.nn.Linear(1, 1), denoiser.schedule, CLEAN, clock=elapsed)
    few = FewCalls(denoiser.schedule, nested(denoiser.schedule, calls, START))
    fine = nested(denoiser.schedule, 32, START)
    told = (lambda _: denoiser,) * 2
    return Solving(Denoising(network, uniform_times()), few, fine, False, *told)


def misses(denoiser, sampler, calls):
    """Root mean square of how far the end of a chain is from that of the flow."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    x = prior(denoiser.schedule, z, lambda like: z, START)
    end = DPMSolver(denoiser)(x, nested(denoiser.schedule, 100, START).unique().flip(0))
    return float((sampler(x, nested(denoiser.schedule, calls, START)) - end).square().mean().sqrt())


@pytest.mark.parametrize("schedule", [Rectified(), VE(0.01, 50.0)], ids=["rectified", "ve"])
def test_two_calls_learn_the_whole_flow_of_a_gaussian(schedule):
    torch.manual_seed(0)
    denoiser = GaussianDenoiser(schedule, 0.5, 0.2)
    made = solving(denoiser, 2)
    learn(made, torch.zeros(16, 1, dtype=torch.float64), 80)
    few = Learned(WithSolver(denoiser, made.few))
    before = misses(denoiser, DPMSolver(denoiser), 2)
    assert before > 0.02
    assert misses(denoiser, few, 2) < before / 10


def test_four_calls_come_nearer_to_the_flow_of_a_mixture():
    torch.manual_seed(0)
    denoiser = mixture(Rectified())
    made = solving(denoiser, 4)
    learn(made, torch.zeros(32, 1, dtype=torch.float64), 60)
    few = Learned(WithSolver(denoiser, made.few))
    assert misses(denoiser, few, 4) < misses(denoiser, DPMSolver(denoiser), 4) / 2


# ----------------------------------------------------------------------------------------- the runs
@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    run = tmp_path_factory.mktemp("solved") / "teacher"
    data = ["--data", "brains:count=24,size=16", "--map", "image=t1"]
    words = ["train", "ddpm", *data, "--preset", "tiny", "--train.steps", "10"]
    assert cli.main([*words, "--train.batch", "12", "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def student(teacher):
    run = teacher.parent / "student"
    words = ["distill", str(teacher), "--calls", "3", "--way", "solver", "--train.steps", "3"]
    assert cli.main([*words, "--out", str(run)]) == 0
    return run


def test_a_run_holds_its_teacher_s_network_as_it_was_and_a_solver_that_learned(teacher, student):
    opened, taught = open_run(student), open_run(teacher)
    assert (opened.recipe.way, opened.recipe.calls) == ("solver", 3)
    assert opened.config.train["batch"] == 8
    ours = opened.objective.players["network"].state_dict()
    theirs = taught.objective.players["network"].state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    before = opened.recipe.objective().few
    assert all(
        not torch.equal(a, b)
        for a, b in zip(opened.objective.few.parameters(), before.parameters(), strict=True)
    )


def test_it_draws_in_its_calls_by_the_teacher_s_denoiser(teacher, student):
    opened, taught = open_run(student), open_run(teacher)
    counted = []
    opened.objective.players["network"].register_forward_hook(lambda *_: counted.append(1))
    batch = {"seed": torch.arange(2)}
    images = opened.recipe.predict(opened.objective, batch)["image"]
    assert len(counted) == 3 and images.shape == (2, 1, 16, 16)
    assert torch.equal(last(opened.recipe.trajectory(opened.objective, batch)).clamp(-1, 1), images)
    x_t, t = torch.randn(2, 1, 16, 16), torch.tensor(0.4, dtype=torch.float64)
    with torch.no_grad():
        expected = taught.recipe.denoiser(taught.objective)(x_t, t).clamp(-1, 1)
        assert torch.equal(opened.recipe.denoiser(opened.objective).eval()(x_t, t), expected)


def test_an_interrupted_solver_goes_on_to_the_same_numbers(teacher, student, tmp_path):
    run = tmp_path / "again"
    words = ["distill", str(teacher), "--calls", "3", "--way", "solver", "--out", str(run)]
    assert cli.main([*words, "--train.steps", "2"]) == 0
    assert cli.main([*words, "--train.steps", "3", "--resume"]) == 0
    ours, theirs = (open_run(each).objective.few.state_dict() for each in (run, student))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_network_learns_with_its_solver_in_a_chain(teacher, tmp_path):
    run = tmp_path / "chain"
    words = ["distill", str(teacher), "--calls", "2", "--way=chain", "--train.steps", "2"]
    assert cli.main([*words, "--out", str(run)]) == 0
    opened, taught = open_run(run), open_run(teacher)
    assert opened.recipe.way == "chain"
    pairs = zip(
        opened.objective.players["network"].parameters(),
        taught.objective.players["network"].parameters(),
        strict=True,
    )
    moved = [float((a - b).abs().max()) for a, b in pairs]
    assert sum(each > 0 for each in moved) > 0.9 * len(moved)


def test_the_gradient_of_a_chain_goes_through_all_its_calls(teacher):
    taught = open_run(teacher)
    made = student_of(taught.recipe, "chain", 3).objective(
        teacher_of(taught.recipe, taught.objective)
    )
    network = made.players["network"].train()
    network.load_state_dict(taught.objective.players["network"].state_dict())
    reached = []
    network.register_full_backward_hook(lambda *_: reached.append(1))
    made.matching(torch.zeros(2, 1, 16, 16), {}).backward()
    assert len(reached) == 3


def test_a_folder_called_chain_is_no_chain(teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["distill", str(teacher), "--calls", "1", "--train.steps", "1", "--out", "chain"]
    assert cli.main(words) == 0
    opened = open_run(tmp_path / "chain")
    assert (opened.recipe.way, opened.config.train["batch"]) == ("flow-map", 12)


def test_ways_and_calls_that_do_not_go_together_are_refused(teacher, refused, tmp_path):
    words = ("distill", teacher, "--train.steps", 1, "--out", tmp_path / "o")
    assert "2 to 8" in refused(*words, "--calls", 1, "--way", "solver", code=2)
    assert "2 to 8" in refused(*words, "--calls", 9, "--way", "chain", code=2)
    assert "must be 1, 2 or 4" in refused(*words, "--calls", 3, code=2)
