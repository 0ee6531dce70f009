"""Every prediction says the same thing: conversions are exact."""

import itertools

import pytest
import torch

from radiffuse.diffusion.network import Network, unit_variance
from radiffuse.diffusion.parametrization import (
    CLEAN,
    FLOW,
    NOISE,
    SCALED_SCORE,
    SCORE,
    VELOCITY,
    convert,
    edm,
)
from radiffuse.diffusion.schedule import EDM, VE, VP, Cosine, Discrete, Rectified, SubVP
from radiffuse.diffusion.units import Rescheduled
from radiffuse.testing import GaussianDenoiser, check_denoiser

ALL = [NOISE, CLEAN, VELOCITY, FLOW, SCORE, SCALED_SCORE, edm(0.5)]
PAIRS = list(itertools.permutations(ALL, 2))


def _case(dtype):
    torch.manual_seed(0)
    x_0, z = torch.randn(6, 1, 5, dtype=dtype), torch.randn(6, 1, 5, dtype=dtype)
    t = torch.linspace(0.2, 0.7, 6, dtype=torch.float64)
    alpha, sigma = Cosine()(t, x_0)
    return x_0, z, alpha, sigma, alpha * x_0 + sigma * z


@pytest.mark.parametrize(("have", "want"), PAIRS, ids=lambda p: p.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_conversion_is_exact(have, want, dtype, tolerance):
    x_0, z, alpha, sigma, x_t = _case(dtype)
    out = have.target(x_0, z, alpha, sigma)
    got = convert(out, x_t, alpha, sigma, have, want)
    exact = want.target(x_0, z, alpha, sigma)
    assert (got - exact).abs().max() <= tolerance * (1 + exact.abs().max())


@pytest.mark.parametrize("predicts", ALL, ids=lambda p: p.name)
def test_clean_and_noise_are_recovered(predicts):
    x_0, z, alpha, sigma, x_t = _case(torch.float64)
    out = predicts.target(x_0, z, alpha, sigma)
    assert torch.allclose(predicts.clean(out, x_t, alpha, sigma), x_0, atol=1e-10)
    assert torch.allclose(predicts.noise(out, x_t, alpha, sigma), z, atol=1e-10)


@pytest.mark.parametrize("predicts", ALL, ids=lambda p: p.name)
def test_without_noise_an_image_is_its_own_estimate(predicts):
    x_t, out = torch.randn(2, 1, 5), torch.randn(2, 1, 5)
    alpha = torch.tensor([0.5, 1.0]).view(2, 1, 1)
    assert torch.equal(predicts.clean(out, x_t, alpha, torch.zeros_like(alpha)), x_t / alpha)


@pytest.mark.parametrize("predicts", [VELOCITY, FLOW, edm(0.5), CLEAN], ids=lambda p: p.name)
@pytest.mark.parametrize(("a", "s"), [(0.0, 1.0), (1.0, 0.0)], ids=["no image", "no noise"])
def test_gradients_at_both_ends_are_numbers(predicts, a, s):
    x_t, out = torch.randn(1, 1, 5, requires_grad=True), torch.randn(1, 1, 5, requires_grad=True)
    alpha, sigma = torch.full((1, 1, 1), a), torch.full((1, 1, 1), s)
    found = torch.autograd.grad(predicts.clean(out, x_t, alpha, sigma).sum(), (x_t, out))
    assert all(bool(each.isfinite().all()) for each in found)


def test_edm_is_karras_for_alpha_one():
    sigma, s = torch.tensor([0.1, 1.0, 10.0]).double(), 0.5
    x_0, z = torch.tensor([0.3, -0.2, 0.7]).double(), torch.tensor([1.0, -1.0, 0.5]).double()
    x = x_0 + sigma * z
    c_skip, c_out = s**2 / (sigma**2 + s**2), sigma * s / (sigma**2 + s**2).sqrt()
    want = (x_0 - c_skip * x) / c_out
    assert torch.allclose(edm(s).target(x_0, z, torch.ones(3).double(), sigma), want)


def test_edm_input_and_target_have_unit_variance():
    torch.manual_seed(0)
    x_0, z = 0.5 * torch.randn(200_000).double(), torch.randn(200_000).double()
    for sigma in (0.01, 0.5, 30.0):
        a, s = torch.tensor(1.0).double(), torch.tensor(sigma).double()
        scaled = unit_variance(0.5)(a, s) * (a * x_0 + s * z)
        assert float(scaled.var()) == pytest.approx(1, abs=0.02)
        assert float(edm(0.5).target(x_0, z, a, s).var()) == pytest.approx(1, abs=0.02)


class Linear(torch.nn.Module):
    """A stand-in network whose output depends on input and clock."""

    def forward(self, x, clock):
        return 0.3 * x + 0.1 * clock.reshape(-1, *[1] * (x.ndim - 1))


SCHEDULES = [VP(), SubVP(), VE(0.01, 50), EDM(), Cosine(), Rectified(), Discrete.linear()]


@pytest.mark.parametrize("new", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("old", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_one_denoiser_under_another_schedule(old, new, dtype, tolerance):
    """Gaussian data: the denoiser of the new schedule is known, and is what rescheduling gives."""
    torch.manual_seed(0)
    log_ratio = torch.linspace(2, -2, 7, dtype=torch.float64)
    t = new.time(log_ratio)
    x = torch.randn(7, 3, dtype=torch.float64) * new.sigma(t)[:, None] * 2
    moved = Rescheduled(GaussianDenoiser(old), new)(x.to(dtype), t)
    exact = GaussianDenoiser(new)(x, t)
    assert (moved - exact).abs().max() <= tolerance


def test_rescheduling_a_network_and_back_changes_nothing():
    network = Network(Linear(), VP(), NOISE)
    there = Rescheduled(network, VE(0.01, 50))
    back = Rescheduled(there, VP())
    x, t = torch.randn(4, 1, 6, dtype=torch.float64), torch.tensor([0.2, 0.4, 0.6, 0.8])
    assert torch.allclose(back(x, t), network(x, t), atol=1e-10)


@pytest.mark.parametrize("predicts", ALL, ids=lambda p: p.name)
@pytest.mark.parametrize(
    "schedule", [VP(), VE(0.01, 50), Rectified()], ids=lambda s: type(s).__name__
)
def test_networks_conform(predicts, schedule):
    torch.manual_seed(0)
    check_denoiser(Network(Linear(), schedule, predicts), torch.randn(3, 2, 4, dtype=torch.float64))


def test_complex_images_keep_real_schedules():
    x = torch.randn(2, 1, 8, dtype=torch.complex64)
    out = GaussianDenoiser(VP(), 0.0, 0.3)(x, torch.tensor(0.3))
    parts = [GaussianDenoiser(VP(), 0.0, 0.3)(p, torch.tensor(0.3)) for p in (x.real, x.imag)]
    assert torch.allclose(out, torch.complex(*parts))
