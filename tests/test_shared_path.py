"""Known values inside a chain: exact against Gaussians; weights, resampling and the shared path by closed forms."""

import math

import numpy as np
import pytest
import torch

from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import grids, prior
from radiffuse.diffusion.schedule import Discrete
from radiffuse.errors import UserError
from radiffuse.inverse.shared_path import Replacement, SMCDiff, residual
from radiffuse.testing import CorrelatedDenoiser

RHO, GIVEN = 0.9, 1.5
COVARIANCE = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)
Y, KNOWN = torch.tensor([[GIVEN, 0.0]], dtype=torch.float64), torch.tensor([[1, 0]])


def linear(steps):
    return Discrete(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * 1024 / steps)


def exact(steps):
    return CorrelatedDenoiser(linear(steps), torch.zeros(2, dtype=torch.float64), COVARIANCE)


def replaced_mean(steps):
    """E[x_2] of the replacement method, step by step: the chain is affine in its state and in the mean path."""
    betas = linear(steps).betas.numpy()
    bars, mean = np.cumprod(1 - betas), 0.0
    for beta, bar in zip(betas[::-1], bars[::-1], strict=True):
        noisy = bar * COVARIANCE.numpy() + (1 - bar) * np.eye(2)
        score = -np.linalg.solve(noisy, [math.sqrt(bar) * GIVEN, mean])[1]
        mean = (mean + beta * score) / math.sqrt(1 - beta)
    return mean


def drawn(sampler, rows, steps=64):
    torch.manual_seed(1)
    start = prior(linear(steps), torch.zeros(rows, 2, dtype=torch.float64))
    return sampler(start, grids.uniform(steps))


def test_weighed_particles_are_the_posterior():
    """x_2 given x_1 = 1.5 is N(1.35, 0.19)."""
    x = drawn(SMCDiff(exact(96), Y, KNOWN, particles=4096), 4096, 96)
    assert float(x[:, 1].mean()) == pytest.approx(RHO * GIVEN, abs=0.06)
    assert float(x[:, 1].var()) == pytest.approx(1 - RHO**2, abs=0.04)


def test_replacement_is_biased_as_its_recursion_says():
    assert replaced_mean(1024) == pytest.approx(0.938, abs=5e-4)
    x = drawn(Replacement(exact(64), Y.expand(4096, 2), KNOWN), 4096)
    assert float(x[:, 1].mean()) == pytest.approx(replaced_mean(64), abs=0.04)


def test_a_fixed_motif_is_biased_too():
    x = drawn(Replacement(exact(64), Y.expand(2048, 2), KNOWN, fixed=True), 2048)
    assert 0.95 < float(x[:, 1].mean()) < 1.25


def test_the_schedule_of_the_card():
    assert float(linear(1024).alpha(torch.tensor(1.0)) ** 2) == pytest.approx(3.166e-5, rel=1e-3)


class Still(Denoiser):
    """Answers what it is told; keeps what it was asked."""

    def __init__(self, answer):
        super().__init__()
        self.schedule, self.answer, self.asked = linear(1024), answer, []

    def forward(self, x_t, t):
        self.asked.append(x_t.clone())
        return self.answer.expand_as(x_t)


def one_step(sampler, x, t=0.5, s=0.25):
    times = torch.tensor([t, s], dtype=torch.float64)
    state = sampler.init(x, times[0])
    x_s, after = sampler.step(x, *times, state)
    return x_s, state, after


def test_all_particles_of_a_case_see_one_path():
    denoiser = Still(torch.zeros(1, 2))
    one_step(SMCDiff(denoiser, Y.float(), KNOWN, particles=3), torch.randn(3, 2))
    seen = denoiser.asked[0][:, 0]
    assert torch.equal(seen, seen[:1].expand(3))


def test_equal_particles_have_equal_weights():
    x = torch.randn(1, 2).expand(4, 2)
    sampler = SMCDiff(Still(torch.zeros(1, 2)), Y.float(), KNOWN, particles=4, trigger=2.0)
    _, _, after = one_step(sampler, x)
    assert torch.allclose(after.log_weight.exp(), torch.full((1, 4), 0.25))


def test_a_weight_is_the_likelihood_of_where_the_path_goes():
    """N(y_s; mu, beta) over known entries alone, beta that of the step; y_s and not y_t."""
    sampler = SMCDiff(Still(torch.zeros(1, 2)), Y.float(), KNOWN, particles=2, trigger=2.0)
    mean, path = torch.tensor([[0.3, 9.0], [0.8, -5.0]]), torch.tensor([[0.5, 0.0]])
    _, log_weight = sampler.weighed(mean, torch.tensor(0.02), path, torch.zeros(1, 2))
    expected = torch.tensor([-(0.2**2), -(0.3**2)]) / 0.04
    assert torch.allclose(log_weight[0], torch.log_softmax(expected, 0), atol=1e-5)
    asked = []
    sampler.weighed = lambda mean, variance, path, w: (asked.append((path, variance)), (mean, w))[1]
    _, before, after = one_step(sampler, torch.randn(2, 2))
    (path, variance), schedule = asked[0], sampler.schedule
    assert torch.equal(path, after.path) and not torch.equal(path, before.path)
    ratio = schedule.alpha(torch.tensor(0.5)) / schedule.alpha(torch.tensor(0.25))
    added = (
        schedule.sigma(torch.tensor(0.5)) ** 2 - ratio**2 * schedule.sigma(torch.tensor(0.25)) ** 2
    )
    assert float(variance) == pytest.approx(float(added), rel=1e-4)


def test_many_known_values_do_not_underflow():
    sampler = SMCDiff(
        Still(torch.zeros(1, 500)), torch.ones(1, 500), torch.ones(1, 500), particles=2
    )
    mean = torch.stack([torch.zeros(500), torch.full((500,), 0.5)])
    _, log_weight = sampler.weighed(mean, torch.tensor(1e-4), torch.ones(1, 500), torch.zeros(1, 2))
    assert bool(log_weight.isfinite().all())


@pytest.mark.parametrize(("weights", "moves"), [((1, 0, 0, 0), True), ((0.25,) * 4, False)])
def test_unequal_weights_trigger(weights, moves):
    sampler = SMCDiff(Still(torch.zeros(1, 2)), Y.float(), KNOWN, particles=4)
    x = torch.arange(8.0).view(4, 2)
    log_weight = torch.tensor([weights]).clamp(min=1e-30).log()
    after, kept = sampler._resampled(x, log_weight, sampler.trigger)
    assert torch.equal(after, x[:1].expand(4, 2)) if moves else torch.equal(after, x)
    assert torch.allclose(kept.softmax(1), torch.full((1, 4), 0.25))


def test_the_trigger_is_a_share_of_the_particles():
    """Weights (.5, .5, 0, 0) lie 4 = K from equal ones, (.4, .3, .2, .1) lie 1.6 = 0.4 K."""
    sampler = SMCDiff(Still(torch.zeros(1, 2)), Y.float(), KNOWN, particles=4)
    x = torch.arange(8.0).view(4, 2)
    for weights, stays in (((0.5, 0.5, 1e-30, 1e-30), False), ((0.4, 0.3, 0.2, 0.1), True)):
        _, kept = sampler._resampled(x, torch.tensor([weights]).log(), 0.75)
        assert (not torch.equal(kept, torch.zeros(1, 4))) == stays


def test_residual_resampling_copies_what_is_certain():
    halves = torch.tensor([[0.5, 0.5, 1e-30, 1e-30]]).log()
    for _ in range(3):
        chosen = residual(halves, torch.rand(1, 4))
        assert torch.bincount(chosen[0], minlength=4).tolist() == [2, 2, 0, 0]


def test_residual_resampling_is_unbiased():
    weights = torch.tensor([0.45, 0.3, 0.2, 0.05])
    log_weight = weights.log().expand(4000, 4)
    torch.manual_seed(0)
    chosen = residual(log_weight, torch.rand(4000, 4))
    counts = torch.stack([(chosen == k).sum(1) for k in range(4)], 1).float()
    assert torch.allclose(counts.mean(0), 4 * weights, atol=0.04)
    assert bool((counts >= (4 * weights).floor()).all())


def test_the_path_walked_backwards_has_the_law_of_the_forward_walk():
    """Variance sigma_s^2 at s, and covariance alpha_t / alpha_s sigma_s^2 between s and t."""
    rows = 20_000
    y = torch.tensor([[GIVEN, 0.0]]).expand(rows, 2)
    sampler = Replacement(Still(torch.zeros(1, 2)), y, KNOWN)
    torch.manual_seed(0)
    _, before, after = one_step(sampler, torch.randn(rows, 2))
    t, s = torch.tensor(0.5), torch.tensor(0.25)
    alpha, sigma = sampler.schedule.alpha, sampler.schedule.sigma
    found = torch.cov(torch.stack([after.path[:, 0], before.path[:, 0]]))
    assert float(found[0, 0]) == pytest.approx(float(sigma(s) ** 2), rel=0.05)
    assert float(found[0, 1]) == pytest.approx(float(alpha(t) / alpha(s) * sigma(s) ** 2), rel=0.05)
    assert float(after.path[:, 0].mean()) == pytest.approx(GIVEN * float(alpha(s)), abs=0.02)


def test_a_case_does_not_depend_on_the_others():
    y, steps = torch.randn(2, 5), 6
    known, x = torch.tensor([[1, 1, 0, 0, 0]]), torch.randn(6, 5)

    def walked(rows, cases):
        noise = Seeded(range(6)[rows])
        denoiser = CorrelatedDenoiser(linear(64), torch.zeros(5), torch.eye(5) + 0.5)
        return SMCDiff(denoiser, y[cases], known, noise, particles=3)(x[rows], grids.uniform(steps))

    both, second = walked(slice(0, 6), slice(0, 2)), walked(slice(3, 6), slice(1, 2))
    assert torch.allclose(both[3:], second, atol=1e-6)


def test_rows_that_are_no_particles_are_refused():
    with pytest.raises(UserError, match="3 particles a case and 1 cases need 3 rows, got 4"):
        SMCDiff(exact(64), Y, KNOWN, gaussian, particles=3)(torch.zeros(4, 2), grids.uniform(3))
