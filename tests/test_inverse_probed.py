"""The covariance found by one finite difference: exact for stationary data, near for others."""

import math

import pytest
import torch

from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.schedule import EDM, VP
from radiffuse.diffusion.spectrum import radius
from radiffuse.inverse import Measurement, MomentMatching, Probed, Proximal
from radiffuse.inverse.probed import probed_covariance
from radiffuse.operators import Mask
from radiffuse.operators.base import Matrix
from radiffuse.testing import CorrelatedDenoiser

SIZE = (4, 6)
D = math.prod(SIZE)


def stationary():
    """Covariance of images on a torus whose power falls with the radius of frequency."""
    power = torch.exp(-8 * radius(SIZE, half=False)) + 0.01
    impulses = torch.eye(D, dtype=torch.float64).reshape(D, *SIZE)
    rows = torch.fft.ifft2(torch.fft.fft2(impulses) * power).real
    return 0.3 * rows.reshape(D, D)


def denoiser(schedule, covariance):
    return CorrelatedDenoiser(schedule, torch.zeros(D, dtype=torch.float64), covariance)


def measured(rows=2, std=0.1):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, D, generator=generator, dtype=torch.float64) / 5
    y = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    return Measurement(y, Matrix(matrix, (1, *SIZE)), std)


def noisy(schedule, t, rows=2):
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(rows, 1, *SIZE, generator=generator, dtype=torch.float64)
    return (schedule.alpha(t) * 0.5 + schedule.sigma(t)) * z


@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
@pytest.mark.parametrize("t", [0.2, 0.5, 0.8])
def test_it_is_the_posterior_s_denoiser_of_stationary_data(schedule, t):
    at = torch.tensor(t, dtype=torch.float64)
    prior, x_t = denoiser(schedule, stationary()), noisy(schedule, at)
    exact = MomentMatching(prior, measured())(x_t, at)
    probed = Probed(prior, measured(), Seeded([3, 4]), data_std=0.6, fwhm=math.inf)(x_t, at)
    white = Proximal(prior, measured(), data_std=0.6)(x_t, at)
    scale = float((exact - prior(x_t, at)).abs().max())
    assert float((probed - exact).abs().max()) < 1e-6 * scale
    assert float((white - exact).abs().max()) > 1e-2 * scale, "a white covariance is another one"


def test_both_parts_of_complex_images_have_their_own_covariance():
    """Real parts of the one law, imaginary ones of a tenth of its deviation."""
    at, schedule, covariance = torch.tensor(0.4).double(), EDM(), stationary()
    laws = [covariance, 0.01 * covariance]
    priors = [CorrelatedDenoiser(schedule, torch.zeros(D, dtype=torch.float64), c) for c in laws]

    class Both(Denoiser):
        def forward(self, x_t, t):
            return torch.complex(priors[0](x_t.real, t), priors[1](x_t.imag, t))

    prior = Both()
    prior.schedule = schedule
    x_t = torch.complex(noisy(schedule, at), noisy(schedule, at).flip(-1))
    most = torch.ones(2, 1, 1, 1, dtype=torch.float64)
    _, V = probed_covariance(prior, x_t, at, Seeded([0, 1]), most, math.inf)
    sigma2 = float(schedule.sigma(at)) ** 2

    def exact(v, c):
        left = c @ torch.linalg.inv(c + sigma2 * torch.eye(D)) * sigma2
        return (v.flatten(1) @ left).reshape(v.shape)

    v = torch.complex(x_t.imag, x_t.real)
    told = torch.complex(exact(v.real, laws[0]), exact(v.imag, laws[1]))
    assert torch.allclose(V(v), told, rtol=1e-6, atol=1e-8)


def test_it_knows_where_images_do_not_differ():
    """Data that vary in one half only: half the pixels are known beforehand, and are left alone."""
    size = (32, 32)
    deviation = torch.full(size, 0.01, dtype=torch.float64)
    deviation[:, :16] = 0.5
    covariance = torch.diag(deviation.flatten() ** 2)
    prior = CorrelatedDenoiser(EDM(), torch.zeros(32 * 32, dtype=torch.float64), covariance)
    at = torch.tensor(0.5, dtype=torch.float64)
    x_t = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0)).double()
    most = torch.full((1, 1, 1, 1), 0.25, dtype=torch.float64)
    _, V = probed_covariance(prior, x_t, at, Seeded([0]), most, 3.5)
    v = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1)).double()
    there, not_there = V(v)[..., 2:14].std(), V(v)[..., 18:30].std()
    assert float(there / not_there) > 20


class Smooth(Denoiser):
    """Exact for stationary images of a steep spectrum, `power` on the grid of `fft2`."""

    schedule = EDM()

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, x_t, t):
        share = self.power / (self.power + self.schedule.sigma(t) ** 2)
        return torch.fft.ifft2(torch.fft.fft2(x_t) * share).real


def test_where_the_covariance_reaches_far_voxels_are_averaged_as_far():
    """Smooth stationary data: all voxels vary alike, and one probe must not say otherwise."""
    size, at = (64, 64), torch.tensor(0.8, dtype=torch.float64)
    power = 0.1 + 1e3 * torch.exp(-60 * radius(size, half=False))
    x_t = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0)).double()
    most = torch.full((1, 1, 1, 1), 1e3, dtype=torch.float64)
    _, V = probed_covariance(Smooth(power), x_t, at, Seeded([0, 1]), most, 3.5)
    assert float((V.s.flatten(1).std(1) / V.s.flatten(1).mean(1)).max()) < 0.2
    told = V.v.flatten(1).mean(1) * V.s.square().flatten(1).mean(1)
    sigma2 = float(Smooth.schedule.sigma(at)) ** 2
    true = float((power * sigma2 / (power + sigma2)).mean())
    assert torch.allclose(told, torch.full_like(told, true), rtol=0.3)


def test_few_iterations_go_far_where_the_spectrum_is_steep():
    """Half the pixels of a smooth image: ten iterations are within 0.15 of its deviation; ten on the
    measurement's side, which `Conditioned.corrected` takes, are not within 0.25."""
    size, at = (32, 32), torch.tensor(0.8, dtype=torch.float64)
    power = 1e-3 + 1e3 * torch.exp(-40 * radius(size, half=False))
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(1, 1, *size, generator=generator).double()
    image = torch.fft.ifft2(torch.fft.fft2(white) * power.sqrt()).real
    mask = (torch.rand(1, 1, *size, generator=generator) < 0.5).double()
    x_t = image + EDM().sigma(at) * torch.randn(1, 1, *size, generator=generator).double()
    m = Measurement(mask * image, Mask(mask), 0.05)
    probed = Probed(Smooth(power), m, Seeded([3]), 5.0, iterations=10, fwhm=math.inf)
    _, V = probed_covariance(Smooth(power), x_t, at, Seeded([3]), probed.spread(x_t, at), math.inf)

    def error(x):
        return float((x - image).square().mean().sqrt() / image.std())

    assert error(probed(x_t, at)) < 0.15
    assert error(probed.corrected(Smooth(power)(x_t, at), V, V)) > 0.25


def test_a_case_is_the_same_alone_and_in_a_batch():
    at, schedule = torch.tensor(0.4).double(), EDM()
    prior, x_t, m = denoiser(schedule, stationary()), noisy(schedule, at), measured()
    together = Probed(prior, m, Seeded([3, 4]))(x_t, at)
    one = Measurement(m.y[1:], m.A, m.std)
    assert torch.allclose(Probed(prior, one, Seeded([4]))(x_t[1:], at), together[1:], atol=1e-12)


def test_noise_may_differ_from_case_to_case():
    """Two cases of one y, the second measured worse: each is solved with its own noise."""
    at, schedule = torch.tensor(0.4).double(), EDM()
    prior, x_t = denoiser(schedule, stationary()), noisy(schedule, at)[:1].expand(2, -1, -1, -1)
    y = torch.randn(1, 1, *SIZE, generator=torch.Generator().manual_seed(0)).double()
    mask = Mask((torch.rand(SIZE, generator=torch.Generator().manual_seed(1)) > 0.4).double())
    stds = torch.tensor([0.05, 0.4]).double()
    both = Measurement(y.expand(2, -1, -1, -1), mask, stds.reshape(2, 1, 1, 1))
    assert torch.equal(both.deviations, stds)
    for make in (Proximal, MomentMatching):
        x = make(prior, both)(x_t, at)
        for row, std in enumerate(stds):
            alone = make(prior, Measurement(y, mask, float(std)))(x_t[:1], at)
            assert torch.allclose(x[row], alone[0], atol=1e-9)
    likelihood = both.log_likelihood(x_t)
    assert float(likelihood[0] / likelihood[1]) == pytest.approx(64)
