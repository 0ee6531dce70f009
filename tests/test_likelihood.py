"""Likelihoods against closed form."""

import math

import numpy
import pytest
import torch
from scipy.stats import norm

from radiffuse.diffusion.guidance import Steered
from radiffuse.diffusion.integrate import dormand_prince
from radiffuse.diffusion.likelihood import (
    bits_per_dimension,
    discretised_nll,
    log_likelihood,
    normal_kl,
    variational_bound,
)
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.schedule import EDM, VE, VP, Discrete, SubVP
from radiffuse.testing import GaussianDenoiser, MixtureDenoiser


def gaussian_log_density(x, mean, std):
    return torch.distributions.Normal(mean, std).log_prob(x).flatten(1).sum(1)


@pytest.mark.parametrize(
    "schedule", [VP(), SubVP(), VE(0.001, 50), EDM()], ids=lambda s: type(s).__name__
)
def test_flow_likelihood_of_gaussian_data(schedule):
    x = torch.tensor([[-0.2, 0.1], [0.0, -0.4], [0.7, 0.0]]).double()
    exact = gaussian_log_density(x, 0.0, 0.2)
    got = log_likelihood(GaussianDenoiser(schedule, 0.0), x, None, rtol=1e-7, atol=1e-7)
    assert torch.allclose(got, exact, atol=0.01)


def test_flow_likelihood_of_a_mixture():
    schedule = VP()
    denoiser = MixtureDenoiser(
        schedule,
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-0.6, 0.2], [0.5, 0.0]]).double(),
        torch.tensor([0.15, 0.3]).double(),
    )
    x = torch.tensor([[-0.5, 0.1], [0.4, -0.2], [0.0, 0.0]]).double()
    exact = denoiser.log_density(x, torch.tensor(1e-5).double())
    got = log_likelihood(denoiser, x, None, rtol=1e-6, atol=1e-6)
    assert torch.allclose(got, exact, atol=0.01)


def test_hutchinson_is_unbiased_and_exact_for_isotropic_data():
    """For isotropic Gaussians the Jacobian is a multiple of 1: every probe gives the trace."""
    x = torch.tensor([[0.3, 0.6, 0.4]]).double()
    probed = log_likelihood(GaussianDenoiser(VP()), x, Seeded([3]), rtol=1e-7, atol=1e-7)
    assert torch.allclose(probed, gaussian_log_density(x, 0.5, 0.2), atol=0.01)


def test_a_wrong_flow_is_found_out():
    """The classic mistake, g^2 where the flow has g^2 / 2, is far off."""
    x = torch.tensor([[0.3, 0.6]]).double()

    class Doubled(GaussianDenoiser):
        def forward(self, x_t, t):
            alpha, _ = self.schedule(t, x_t)
            return 2 * super().forward(x_t, t) - x_t / alpha

    got = log_likelihood(Doubled(VP()), x, None, smallest=1e-3)
    assert abs(float(got - gaussian_log_density(x, 0.5, 0.2))) > 0.5


@pytest.mark.parametrize("exactly", [True, False])
def test_flow_likelihood_under_a_classifier_is_the_conditional_density(exactly):
    """x ~ N(m, s^2), told y = a x + noise: p(x | y) is Gaussian, and log p(y | x_t) quadratic."""
    schedule, mean, std, y, tau = VP(), 0.3, 0.4, 0.9, 0.3
    a = torch.tensor([1.0, -0.5, 0.8]).double()

    def log_probability(x_t, t):
        alpha, sigma = schedule(t, x_t)
        left = std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)
        expected = GaussianDenoiser(schedule, mean, std)(x_t, t) @ a
        deviation = torch.sqrt(tau**2 + left * a.square().sum()).reshape(-1)
        return torch.distributions.Normal(expected, deviation).log_prob(torch.tensor(y).double())

    precision = torch.eye(3).double() / std**2 + torch.outer(a, a) / tau**2
    covariance = torch.linalg.inv(precision)
    conditional = torch.distributions.MultivariateNormal(
        covariance @ (mean / std**2 + a * y / tau**2), covariance
    )
    x = conditional.sample((4,))
    steered = Steered(GaussianDenoiser(schedule, mean, std), log_probability)
    if exactly:
        got = log_likelihood(steered, x, None, rtol=1e-7, atol=1e-7)
        assert torch.allclose(got, conditional.log_prob(x), atol=0.01)
    else:
        probes = Seeded(range(400))
        got = log_likelihood(steered, x[:1].expand(400, 3), probes, rtol=1e-4, atol=1e-4)
        assert float(got.mean()) == pytest.approx(float(conditional.log_prob(x[0])), abs=0.15)


def test_bits_per_dimension_of_eight_bit_data():
    """8-bit N(0, 0.3^2): the discretised code length, to which dequantisation adds little."""
    torch.manual_seed(0)
    grid = torch.linspace(-1, 1, 256, dtype=torch.float64)
    x = grid[((0.3 * torch.randn(64, 1, 8, 8).double() + 1) * 127.5).round().clamp(0, 255).long()]
    exact = -norm.logpdf(x.numpy(), 0, 0.3).mean() / math.log(2) - math.log2(2 / 255)
    got = bits_per_dimension(GaussianDenoiser(VP(), 0.0, 0.3), x, rtol=1e-5, atol=1e-5)
    assert float(got.mean()) == pytest.approx(exact, abs=0.02)


UNEVEN = Discrete(torch.tensor([0.3, 0.01, 0.5, 0.9]))
"""A chain whose first beta is far from the posterior's variance of its second step."""


def eight_bit(cases, std):
    """Pixels of N(0, std^2) on the grid of 256 values, (cases, 1, 8, 8)."""
    grid = torch.linspace(-1, 1, 256, dtype=torch.float64)
    x = std * torch.randn(cases, 1, 8, 8, dtype=torch.float64)
    return grid[((x + 1) * 127.5).round().clamp(0, 255).long()]


def bound_in_closed_form(schedule, x, std, large):
    """Bits a dimension of the chain with the exact denoiser of N(0, std^2), expected over x_t.

    The estimate is k x_t, k = alpha std^2 / v, v = alpha^2 std^2 + sigma^2, so its error given x_0 has
    mean -sigma^2 / v x_0 and deviation k sigma. The true step has variance b~, the model's b = b~ or beta:
    2 KL = log b / b~ + (b~ + (weight of x_0 in the step's mean)^2 E[error^2]) / b - 1. The decoder, integrated
    on a grid, has the b~ of the step before (Ho et al. 2020) either way.
    """
    t = torch.linspace(0, 1, schedule.steps + 1, dtype=torch.float64)
    kept, noise = schedule.alpha(t) ** 2, schedule.sigma(t) ** 2
    square = float(x.square().mean())
    total = 0.5 * (noise[-1] + kept[-1] * square - 1 - noise[-1].log())  # prior
    v = kept * std**2 + noise
    gain = kept.sqrt() * std**2 / v
    error = (noise / v) ** 2 * square + gain**2 * noise
    beta = 1 - kept[2:] / kept[1:-1]
    place = kept[1:-1].sqrt() * beta / noise[2:]
    true = beta * noise[1:-1] / noise[2:]
    own = beta if large else true
    total += 0.5 * ((own / true).log() + (true + place**2 * error[2:]) / own - 1).sum()
    last = math.sqrt(float(true[0]))
    draws = torch.tensor(norm.ppf((numpy.arange(2000) + 0.5) / 2000))
    for value, count in zip(*torch.unique(x, return_counts=True), strict=True):
        estimate = gain[1] * (kept[1].sqrt() * value + noise[1].sqrt() * draws)
        nll = discretised_nll(value, estimate, torch.tensor(last).log())
        total += float(count) / x.numel() * nll.mean()
    return float(total) / math.log(2)


@pytest.mark.parametrize(
    "schedule",
    [Discrete.linear(100), Discrete.cosine(50), Discrete.cosine(2), UNEVEN],
    ids=["linear-100", "cosine-50", "cosine-2", "uneven"],
)
@pytest.mark.parametrize("w", [0.0, 1.0])
def test_variational_bound_is_prior_plus_steps_plus_decoder(schedule, w):
    x = eight_bit(400, 0.3)
    noise = Seeded(range(len(x)))
    got = variational_bound(GaussianDenoiser(schedule, 0.0, 0.3), x, schedule, noise, w)
    closed = bound_in_closed_form(schedule, x, 0.3, large=w == 1)
    assert float(got.mean()) == pytest.approx(closed, rel=0.01)


def test_variational_bound_where_a_peer_reads_five_times_too_much():
    """8-bit N(0, 0.3^2), exact denoiser: a bound above the exact code length, nearer for longer chains.

    Clamping the last variance, a peer's mistake, gives 23.8 nats (34 bits) instead of 5.1 (7.3).
    """
    x = eight_bit(16, 0.3)
    edges = (x.numpy() - 1 / 255, x.numpy() + 1 / 255)
    exact = -math.log2(math.e) * float(
        torch.tensor(norm.cdf(edges[1], 0, 0.3) - norm.cdf(edges[0], 0, 0.3)).log().mean()
    )
    bounds = []
    for steps in (100, 1000):
        schedule = Discrete.linear(steps)
        denoiser = GaussianDenoiser(schedule, 0.0, 0.3)
        bounds.append(float(variational_bound(denoiser, x, schedule, Seeded(range(16))).mean()))
    assert exact < bounds[1] < bounds[0]
    assert bounds[1] < exact + 0.8


def test_variational_bound_of_one_step_is_refused():
    schedule = Discrete.linear(1, 1e-4, 5e-4)
    with pytest.raises(ValueError, match="at least 2 steps"):
        variational_bound(GaussianDenoiser(schedule), torch.zeros(1, 1, 4, 4), schedule)


def test_discretised_decoder_sums_to_one_and_keeps_its_tails():
    grid = torch.linspace(-1, 1, 256, dtype=torch.float64)
    mean, log_std = torch.tensor(0.2).double(), torch.tensor(-2.0).double()
    total = torch.exp(-discretised_nll(grid, mean, log_std)).sum()
    assert float(total) == pytest.approx(1, abs=1e-9)
    far = discretised_nll(grid[:2], torch.tensor(0.9).double(), torch.tensor(-4.0).double())
    z = (0.9 + 1 - 1 / 255) / math.exp(-4)
    assert float(far[0]) == pytest.approx(-norm.logcdf(-z), rel=1e-6)


def test_gaussian_kl():
    p, q = torch.distributions.Normal(0.3, 0.5), torch.distributions.Normal(-0.1, 0.8)
    want = torch.distributions.kl_divergence(p, q)
    got = normal_kl(p.mean, 2 * p.stddev.log(), q.mean, 2 * q.stddev.log())
    assert torch.allclose(got, want)


def test_integrator_has_order_five_and_reports_stiffness():
    def spin(state, t):
        return (torch.stack([state[0][:, 1], -state[0][:, 0]], dim=1),)

    start = torch.tensor([[1.0, 0.0]]).double()
    for tolerance in (1e-4, 1e-8):
        (end,) = dormand_prince(spin, (start,), 0.0, 2.0, tolerance, tolerance)
        exact = torch.tensor([[math.cos(2), -math.sin(2)]]).double()
        assert (end - exact).abs().max() < 10 * tolerance
    with pytest.raises(ArithmeticError, match="more than 5"):
        dormand_prince(spin, (start,), 0.0, 2.0, 1e-8, 1e-8, most_steps=5)
