"""Transition kernels against brute-force Gaussian conditioning."""

import pytest
import torch

from radiffuse.diffusion.kernels import ancestral, diffuse, posterior, reverse
from radiffuse.diffusion.noise import Seeded, derive, gaussian
from radiffuse.diffusion.schedule import VE, VP, Discrete, Rectified, SubVP

SCHEDULES = [VP(), VE(0.01, 50), Rectified(), Discrete.linear(), SubVP()]


def conditioned(schedule, x_t, x_0, t, s):
    """q(x_s | x_t, x_0) from the joint law of (x_s, x_t) given x_0."""
    a_t, s_t, a_s, s_s = (float(f(v)) for v in (t, s) for f in (schedule.alpha, schedule.sigma))
    cross = a_t / a_s * s_s**2
    mean = a_s * x_0 + cross / s_t**2 * (x_t - a_t * x_0)
    return mean, s_s**2 - cross**2 / s_t**2


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_posterior_is_gaussian_conditioning(schedule):
    x_t, x_0 = (
        torch.tensor([[0.7]], dtype=torch.float64),
        torch.tensor([[-0.3]], dtype=torch.float64),
    )
    t, s = torch.tensor(0.6).double(), torch.tensor(0.35).double()
    mean, variance, _ = posterior(schedule, x_t, x_0, t, s)
    want_mean, want_variance = conditioned(schedule, x_t, x_0, t, s)
    assert torch.allclose(mean, want_mean, atol=1e-12)
    assert float(variance) == pytest.approx(want_variance, rel=1e-9)


def test_ddpm_posterior_of_neighbouring_steps_is_hos():
    schedule, i = Discrete.linear(), 400
    beta = float(schedule.betas[i - 1])
    product, before = (
        float(schedule.alpha(torch.tensor(k / 1000, dtype=torch.float64)) ** 2) for k in (i, i - 1)
    )
    x_t, x_0 = (
        torch.tensor([[0.7]], dtype=torch.float64),
        torch.tensor([[-0.3]], dtype=torch.float64),
    )
    t, s = (torch.tensor(k / 1000, dtype=torch.float64) for k in (i, i - 1))
    mean, small, large = posterior(schedule, x_t, x_0, t, s)
    want = before**0.5 * beta / (1 - product) * -0.3
    want += (1 - beta) ** 0.5 * (1 - before) / (1 - product) * 0.7
    assert float(mean) == pytest.approx(want, rel=1e-9)
    assert float(small) == pytest.approx(beta * (1 - before) / (1 - product), rel=1e-9)
    assert float(large) == pytest.approx(beta, rel=1e-9)


def test_learned_range_runs_between_its_bounds():
    x = torch.zeros(1, 1).double()
    t, s = torch.tensor(0.5).double(), torch.tensor(0.4).double()
    _, small, large = posterior(VP(), x, x, t, s)
    for w, want in ((0.0, small), (1.0, large), (0.5, (small * large).sqrt())):
        for given in (w, torch.full((1, 1), w).double()):
            assert torch.allclose(ancestral(VP(), x, x, t, s, given)[1], want)


def test_a_chain_ends_without_noise():
    x, t = torch.ones(1, 1).double(), torch.tensor(0.001).double()
    for w in (0.0, 1.0, torch.full((1, 1), 0.3).double()):
        mean, variance = ancestral(Discrete.linear(), x, 0.25 * x, t, torch.zeros(()), w)
        assert float(variance) == 0
        assert float(mean) == pytest.approx(0.25)


def test_ddim_eta_one_has_the_law_of_ancestral():
    x_t, x_0 = (
        torch.tensor([[0.7]], dtype=torch.float64),
        torch.tensor([[-0.3]], dtype=torch.float64),
    )
    t, s = torch.tensor(0.6).double(), torch.tensor(0.35).double()
    mean, variance = ancestral(VP(), x_t, x_0, t, s)
    still = reverse(VP(), x_t, x_0, t, s, 1.0, torch.zeros_like)
    moved = reverse(VP(), x_t, x_0, t, s, 1.0, torch.ones_like)
    assert torch.allclose(still, mean, atol=1e-12)
    assert torch.allclose((moved - still) ** 2, variance, atol=1e-12)


def test_ddim_carries_the_marginal_exactly():
    """If the estimate is x_0 itself, x_s is alpha_s x_0 + sigma_s z with the same z."""
    x_0, z = torch.randn(2, 4, 5).double()[0], torch.randn(4, 5).double()
    t, s = torch.tensor(0.8).double(), torch.tensor(0.1).double()
    for schedule in SCHEDULES:
        x_t = diffuse(schedule, x_0, t, z)
        assert torch.allclose(
            reverse(schedule, x_t, x_0, t, s), diffuse(schedule, x_0, s, z), atol=1e-10
        )


def test_a_seeded_case_does_not_depend_on_its_batch():
    like = torch.zeros(5, 2, 3)
    seeds = [derive(3, k) for k in range(5)]
    together = Seeded(seeds)(like)
    assert torch.equal(together[3:4], Seeded(seeds[3:4])(like[:1]))
    assert together.std() > 0.5
    with pytest.raises(ValueError, match="5 seeds"):
        Seeded(seeds)(like[:2])


def test_seeds_are_the_same_on_every_machine():
    assert derive(0, 1) == derive(0, 1) != derive(0, 2)
    assert derive(1, "val", 7) == 4815897650958152509


def test_complex_noise_has_unit_variance_in_each_part():
    torch.manual_seed(0)
    z = gaussian(torch.zeros(100_000, dtype=torch.complex64))
    assert float(z.real.var()) == pytest.approx(1, abs=0.02)
    assert float(z.imag.var()) == pytest.approx(1, abs=0.02)
