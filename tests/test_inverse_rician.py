"""The Rician law of magnitude images against scipy, quadrature and samples."""

import math

import pytest
import torch
from scipy.stats import rice

from radiffuse.acquisition import Noisy
from radiffuse.applications.other.r2d2 import R2D2
from radiffuse.applications.reconstruction.baselines import classical
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import grids, prior
from radiffuse.diffusion.schedule import EDM
from radiffuse.inverse import SMC, Measurement, RicianMeasurement
from radiffuse.operators import Identity
from radiffuse.testing import GaussianDenoiser


@pytest.mark.parametrize("s", [0.1, torch.tensor([[0.1], [0.3]]).double()])
def test_log_likelihood_and_its_slope_are_those_of_the_law(s):
    y = torch.tensor([[0.05, 0.4, 1.2], [0.2, 0.3, 0.02]]).double()
    x = torch.tensor([[0.0, 0.5, 1.1], [0.4, 0.01, 0.3]]).double().requires_grad_()
    measurement = RicianMeasurement(y, Identity(), s)
    std = torch.as_tensor(s).double().expand(2, 1)
    logs = torch.tensor(rice.logpdf(y, x.detach() / std, scale=std)).sum(1)
    constant = torch.log(y / std**2).sum(1)
    told = measurement.log_likelihood(x)
    assert torch.allclose(told + constant, logs, atol=1e-9)
    (slope,) = torch.autograd.grad(told.sum(), x)
    assert torch.allclose(measurement.residual(x.detach()) / std**2, slope, atol=1e-8)


def test_far_above_the_noise_it_is_gaussian_and_no_noise_is_no_trouble():
    y, x = torch.full((1, 4), 0.81), torch.full((1, 4), 0.8)
    for s in (1e-3, 0.0):
        told = RicianMeasurement(y, Identity(), s).residual(x)
        assert torch.allclose(told, y - x, atol=2e-5)


@pytest.mark.parametrize("x", [0.0, 0.07, 0.3, 2.0, 6.0])
def test_a_mean_of_magnitudes_is_brought_back_to_the_signal(x):
    s = 0.1
    exact = rice.mean(x / s, scale=s) if x < 3 else x + s**2 / (2 * x)
    mean = torch.full((1, 1, 2, 2), float(exact))
    told = RicianMeasurement(mean, Identity(), s).unbiased(mean)
    assert told.flatten().tolist() == pytest.approx([x] * 4, rel=1e-4, abs=1e-3)
    below = RicianMeasurement(mean, Identity(), s).unbiased(0.5 * s * torch.ones(1, 1, 2, 2))
    assert float(below.max()) == 0


def test_particles_sample_the_posterior_of_a_dark_voxel():
    """Exact mean and deviation by quadrature; a Gaussian law would be 0.3 deviations too bright."""
    s, y, count = 0.1, 0.15, 4000
    grid = torch.linspace(-1, 2, 30001).double()
    law = torch.tensor(rice.pdf(y, grid.abs() / s, scale=s))
    weight = law * torch.exp(-((grid - 0.2) ** 2) / (2 * 0.2**2))
    weight = weight / weight.sum()
    mean = float((weight * grid).sum())
    std = math.sqrt(float((weight * (grid - mean) ** 2).sum()))
    found = {}
    for kind in (RicianMeasurement, Measurement):
        torch.manual_seed(0)
        measurement = kind(torch.full((count, 1), y).double(), Identity(), s)
        denoiser = GaussianDenoiser(EDM(), 0.2, 0.2)
        like = torch.zeros(count, 1).double()
        x = SMC(denoiser, measurement, particles=count)(
            prior(EDM(), like, torch.randn_like), grids.uniform(60)
        )
        found[kind] = x
    close = found[RicianMeasurement]
    assert float(close.mean()) == pytest.approx(mean, abs=0.1 * std)
    assert float(close.std()) == pytest.approx(std, rel=0.1)
    assert float(found[Measurement].mean()) > mean + 0.25 * std


def test_air_is_black_in_every_baseline():
    class Cases:
        """Four images, a bright square in air."""

        def batch(self, rows):
            image = -torch.ones(len(rows), 1, 32, 32)
            image[..., 8:24, 8:24] = 0.6
            return {"image": image}

        def __len__(self):
            return 4

    recipe = ScoreMRI(measurement="noise", noise=0.1, noise_law="rician", channels=1, size=(32, 32))
    acquired = recipe.acquire(Cases().batch([0]))
    assert isinstance(acquired.measurement, RicianMeasurement)
    assert float(acquired.first[..., :6, :].mean()) > 0.12
    for name, method in classical(recipe, Cases()).items():
        image = method(acquired.measurement, acquired.first)
        assert float(image[..., :6, :].mean()) < 0.05, name
        assert float(image[..., 12:20, 12:20].mean()) == pytest.approx(0.8, abs=0.02), name
    assert isinstance(Noisy(0.1).read(acquired.first).measurement, Measurement)


def test_r2d2_brings_what_it_finds_back_to_the_signal():
    """Without a step (extent 0) it finds the magnitudes themselves."""
    y = Noisy(0.1, "rician").simulate(torch.zeros(1, 1, 16, 16), [0])
    recipe = R2D2(noise_law="rician", extent=0.0)
    x = recipe.chain(GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.3), y, Seeded([0]))
    assert torch.equal(x, y.measurement.unbiased(y.measurement.y))
    assert float(x.mean()) < 0.07 < 0.12 < float(y.measurement.y.mean())
