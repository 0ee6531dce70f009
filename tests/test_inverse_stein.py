"""The covariance that a chain's own noise shows: exact about zero, in expectation elsewhere, one call a step."""

import math

import pytest
import torch

from radiffuse.diffusion.complex_images import Parts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import DDIM, Renoised
from radiffuse.diffusion.schedule import EDM, VP
from radiffuse.diffusion.spectrum import rings
from radiffuse.inverse import Measurement, Proximal, Stein
from radiffuse.inverse.probed import RINGS
from radiffuse.operators import Mask
from radiffuse.operators.base import conjugate_gradient

SIZE = (32, 32)
POWER = 0.05 + 3 * torch.exp(-0.5 * rings(SIZE, RINGS).double())


def filtered(x, gain):
    """Every frequency of x times its gain."""
    return torch.fft.ifft2(torch.fft.fft2(x) * gain).real


class Stationary(Denoiser):
    """The exact denoiser of Gaussian images on a torus whose spectrum is POWER, equal on rings; counts its calls."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.calls = schedule, 0

    def forward(self, x_t, t):
        self.calls += 1
        alpha, sigma = self.schedule(t, x_t)
        return filtered(x_t, alpha * POWER / (alpha**2 * POWER + sigma**2))


def drawn(rows=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 1, *SIZE, generator=generator, dtype=torch.float64)


def covariance(schedule, at):
    """The spectrum of Cov[x_0 given x_t]."""
    return 1 / (1 / POWER + (schedule.alpha(at) / schedule.sigma(at)) ** 2)


def near(found, exact):
    return float((found - exact).norm() / exact.norm())


def scan(rows=1):
    image = filtered(drawn(rows, 7), POWER.sqrt())
    mask = (torch.rand(SIZE, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    return Measurement(mask * image, Mask(mask), 0.05), image


@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
@pytest.mark.parametrize("t", [0.3, 0.6])
def test_about_zero_it_is_the_covariance_of_stationary_data(schedule, t):
    """In one call."""
    at, prior = torch.tensor(t, dtype=torch.float64), Stationary(schedule)
    m, _ = scan()
    solver = Stein(prior, m, torch.zeros(1, 1, *SIZE).double(), 5.0, fwhm=math.inf)
    _, V = solver.known(schedule.sigma(at) * drawn(), at)
    assert prior.calls == 1
    x = drawn(seed=3)
    assert near(V(x), filtered(x, covariance(schedule, at))) < 1e-6


def level(schedule, sigma):
    """The time at which sigma / alpha is so much."""
    return schedule.time(-torch.tensor(sigma, dtype=torch.float64).log())


@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
def test_about_any_image_it_is_so_in_expectation(schedule):
    """The mean over 200 draws of the noise, about an image that the prior does not know, to 5 % on every ring
    but that of the mean, one frequency, which no average steadies."""
    at = level(schedule, 0.8)
    m, image = scan(200)
    about = image[:1].expand(200, -1, -1, -1) + 0.3
    solver = Stein(Stationary(schedule), m, about, 50.0, fwhm=math.inf)
    _, V = solver.known(schedule.alpha(at) * about + schedule.sigma(at) * drawn(200), at)
    spectrum = (V.v * V.s.square()).mean(0)[0] / covariance(schedule, at)
    ring = rings(SIZE, RINGS)
    found = torch.tensor([float(spectrum[ring == k].mean()) for k in range(1, 20)])
    assert float((found - 1).abs().max()) < 0.05
    white = covariance(schedule, at).mean() / covariance(schedule, at)
    assert float((white - 1).abs().max()) > 0.3


def test_each_step_is_about_the_estimate_before_and_a_new_chain_about_the_first():
    m, _ = scan()
    prior, first = Stationary(EDM()), torch.full((1, 1, *SIZE), 0.2, dtype=torch.float64)
    solver = Stein(prior, m, first, 5.0)
    high, low = torch.tensor(0.7).double(), torch.tensor(0.4).double()
    start = first + EDM().sigma(high) * drawn()
    one = solver(start, high)
    then = one + EDM().sigma(low) * drawn(seed=2)
    second, known = solver(then, low), Stein(prior, m, one, 5.0)
    assert torch.equal(second, known(then, low))
    assert not torch.allclose(second, Stein(prior, m, first, 5.0)(then, low))
    assert torch.equal(solver(start, high), one), "more noise than before: another chain"


def test_a_case_is_the_same_alone_and_in_a_batch_and_complex_parts_have_their_own():
    m, image = scan(2)
    first, grid = torch.complex(image * 0.5, image.flip(-1)), torch.tensor([0.6, 0.4, 0.2]).double()
    y = m.A(torch.complex(image, image.flip(-1)))

    def ends(rows):
        known = Measurement(y[rows], m.A, m.std)
        solver = Stein(Parts(Stationary(EDM())), known, first[rows], 5.0)
        noise = Seeded([3 + row for row in rows])
        start = first[rows] + EDM().sigma(grid[0]) * noise(first[rows])
        return DDIM(solver, noise, eta=1.0)(start, grid)

    assert torch.allclose(ends([0, 1])[1:], ends([1]), atol=1e-10)


def test_five_calls_are_nearer_to_the_posterior_s_mean_than_a_white_covariance_comes():
    """Eight scans of Gaussian images, whose spectrum nobody but the denoiser knows."""
    m, _ = scan(8)
    grid = level(EDM(), [1.0, 0.6, 0.35, 0.2, 0.1])

    def normal(u):
        return filtered(u, 1 / POWER) + m.A.mask * u / m.std**2

    exact = conjugate_gradient(normal, m.A.mask * m.y / m.std**2, iterations=1000)
    found = {}
    for name in ("stein", "white"):
        prior, noise = Stationary(EDM()), Seeded(range(8))
        law = Stein(prior, m, m.y, 5.0) if name == "stein" else Proximal(prior, m, 5.0)
        start = m.y + EDM().sigma(grid[0]) * noise(m.y)
        found[name] = near(Renoised(law, noise)(start, grid), exact)
        assert prior.calls == 5
    assert found["stein"] < 0.85 * found["white"], found
