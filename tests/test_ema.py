"""Averages of weights: exact on trajectories whose average is known."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.integrate import quad

from radiffuse.errors import UserError
from radiffuse.training.ema import (
    PowerAverage,
    beta,
    coefficients,
    gamma_of,
    overlap,
    posthoc,
    sigma_rel_of,
    snapshot_path,
    write_snapshot,
)


def profile(tau, t, gamma):
    return (gamma + 1) * tau**gamma / t ** (gamma + 1) if tau <= t else 0.0


def direct(trajectory, sigma_rel):
    """The average after the last row, from its weights in closed form."""
    steps = len(trajectory)
    edges = (np.arange(steps + 1) / steps) ** (gamma_of(sigma_rel) + 1)
    return torch.from_numpy(np.diff(edges)) @ trajectory


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.25])
def test_gamma_gives_a_profile_of_the_width_asked_for(sigma_rel):
    gamma = gamma_of(sigma_rel)
    mean = quad(lambda tau: tau * profile(tau, 1, gamma), 0, 1)[0]
    square = quad(lambda tau: tau**2 * profile(tau, 1, gamma), 0, 1)[0]
    assert np.sqrt(square - mean**2) == pytest.approx(sigma_rel, rel=1e-6)
    assert sigma_rel_of(gamma) == pytest.approx(sigma_rel, rel=1e-9)


def test_the_widths_of_the_paper_have_the_exponents_of_the_paper():
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.005)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.005)


@pytest.mark.parametrize(("t_a", "t_b"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_overlap_is_the_integral_of_the_product(t_a, t_b):
    a, b = 3.0, 7.5
    product = quad(lambda tau: profile(tau, t_a, a) * profile(tau, t_b, b), 0, min(t_a, t_b))[0]
    exact = overlap(np.array(t_a), np.array(a), np.array(t_b), np.array(b))
    assert exact == pytest.approx(product, rel=1e-7)


def test_first_update_takes_the_weights_as_they_are():
    assert beta(1, 6.94) == 0
    live = torch.full((3,), 5.0)
    average = PowerAverage({"w": torch.zeros(3)}, (0.1,))
    average._live = [live]
    average.update(1)
    assert torch.equal(average.averages[0.1]["w"], live)


def test_average_is_the_sum_with_the_weights_of_the_profile():
    trajectory = torch.randn(200, 3, dtype=torch.float64).cumsum(0)
    live = trajectory[0].clone()
    average = PowerAverage({"w": live}, (0.05, 0.2))
    for step, row in enumerate(trajectory, 1):
        live.copy_(row)
        average.update(step)
    for width in (0.05, 0.2):
        torch.testing.assert_close(average.averages[width]["w"], direct(trajectory, width))


def test_a_snapshot_of_the_wanted_profile_is_taken_alone():
    gammas = [gamma_of(width) for width in (0.05, 0.1)] * 3
    weights = coefficients([10, 10, 20, 20, 30, 30], gammas, 30, gamma_of(0.1))
    np.testing.assert_allclose(weights, [0, 0, 0, 0, 0, 1], atol=1e-6)


@pytest.fixture
def run(tmp_path):
    """A run folder with 16 snapshots of a known trajectory."""
    generator = torch.Generator().manual_seed(0)
    walk = torch.randn(1600, 2, generator=generator, dtype=torch.float64).cumsum(0)
    trajectory = torch.cat([walk, torch.ones(1600, 1, dtype=torch.float64)], dim=1)
    live = trajectory[0].clone()
    average = PowerAverage({"net.w": live}, (0.05, 0.10))
    for step, row in enumerate(trajectory, 1):
        live.copy_(row)
        average.update(step)
        if step % 100 == 0:
            write_snapshot(tmp_path, step, average.averages)
    return tmp_path, trajectory


@pytest.mark.parametrize("sigma_rel", [0.04, 0.05, 0.075, 0.1, 0.15, 0.2])
def test_any_width_is_made_from_snapshots_of_two(run, sigma_rel):
    folder, trajectory = run
    made = posthoc(folder, sigma_rel)["net.w"].double()
    exact = direct(trajectory, sigma_rel)
    spread = trajectory.std(0)[:2].max()
    assert (made - exact).abs().max() < 0.01 * spread
    # the neighbouring width kept is not the answer (unless it is the one asked for)
    if sigma_rel not in (0.05, 0.1):
        assert (direct(trajectory, 0.1) - exact).abs().max() > 0.03 * spread


def test_weights_that_stand_still_are_averaged_exactly(run):
    assert posthoc(run[0], 0.2)["net.w"][2] == pytest.approx(1.0, abs=1e-6)


def test_the_average_at_an_earlier_step_can_be_made(run):
    folder, trajectory = run
    made = posthoc(folder, 0.1, step=800)["net.w"].double()
    torch.testing.assert_close(made, direct(trajectory[:800], 0.1), rtol=1e-4, atol=1e-4)


def test_without_snapshots_one_line_says_how_to_get_them(tmp_path):
    with pytest.raises(UserError, match=r"train with --train\.snapshot-every"):
        posthoc(tmp_path, 0.1)


def test_an_impossible_width_is_refused(run):
    with pytest.raises(UserError, match=r"between 0 and 0\.28"):
        posthoc(run[0], 0.5)


def test_damaged_and_foreign_snapshots_are_named(run):
    path = snapshot_path(run[0], 300)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match=r"step-00000300.*truncated.*; remove it"):
        posthoc(run[0], 0.1)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"step-00000300.*not a snapshot of this version"):
        posthoc(run[0], 0.1)
