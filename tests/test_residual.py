"""Diffusion around a first guess: exact without a network, and the guess learns by itself."""

import dataclasses

import pytest
import torch
from torch import nn

from radiffuse.applications.translation.conversion import GuessedImage
from radiffuse.applications.translation.ddpm_conversion import Conversion
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.filtered import Wiener
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.network import Given
from radiffuse.diffusion.residual import LEVELS, Residual
from radiffuse.diffusion.schedule import VE, VP, Discrete, SigmaPower
from radiffuse.diffusion.spectrum import power_on
from radiffuse.diffusion.tiling import Tiled
from radiffuse.nn import UNet
from radiffuse.nn.generator import Guess
from training_standins import steps_apart

SCHEDULES = [VE(0.01, 50.0), VP(), SigmaPower(25.0), Discrete.linear(1000)]


class Silent(nn.Module):
    """F = 0."""

    def forward(self, x, clock, image):
        return torch.zeros_like(x)


class Known(nn.Module):
    """Mean and deviation written in the image."""

    def forward(self, image):
        return image[:, :1], image[:, 1:]


SIZE = (8, 6)
PINK = (0.3, *(float(1 / (1 + k) ** 2) for k in range(32)))
FLAT = (1.0,) * 33


def waves(count, std, spectrum=PINK, seed=0):
    """Stationary Gaussian images of mean 0, deviation `std` and the spectrum's shape."""
    torch.manual_seed(seed)
    power = power_on((spectrum[1] / 48, *spectrum[1:]), SIZE)
    power = power / (Wiener(spectrum, SIZE).share * power).sum()
    white = torch.fft.rfftn(torch.randn(count, 1, *SIZE).double(), dim=(2, 3))
    return std * torch.fft.irfftn(white * power.sqrt(), s=SIZE, dim=(2, 3)), std**2 * power


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("level", [0, 2, 5])
def test_without_a_network_it_is_the_posterior_mean_around_the_guess(schedule, level):
    u, power = waves(3, LEVELS[level])
    mean = torch.rand_like(u)
    told = torch.cat([mean, torch.full_like(mean, LEVELS[level])], 1)
    for t in (0.05, 0.4, 0.95):
        t = torch.tensor(t).double()
        x_t = diffuse(schedule, mean + u, t, torch.randn_like(u))
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        filter_ = alpha * power.clamp_min(1e-6) / (alpha**2 * power.clamp_min(1e-6) + sigma**2)
        r = torch.fft.rfftn(x_t - alpha * mean, dim=(2, 3))
        exact = mean + torch.fft.irfftn(r * filter_, s=SIZE, dim=(2, 3))
        network = Residual(Silent(), Known(), schedule, PINK)
        assert torch.allclose(Given(network, image=told)(x_t, t), exact, atol=1e-5)


def test_every_voxel_has_the_filter_of_its_own_deviation():
    """Without correlation the posterior of each voxel is known; between two levels nearly so."""
    schedule, t = VE(0.01, 50.0), torch.tensor(0.4).double()
    std = torch.cat([torch.full((8, 3), LEVELS[1]), torch.linspace(0.1, 0.8, 24).reshape(8, 3)], 1)
    std = std[None, None].double()
    mean, sigma = torch.rand_like(std), schedule.sigma(t)
    x_t = mean + (std**2 + sigma**2).sqrt() * torch.randn_like(std)
    exact = mean + std**2 / (std**2 + sigma**2) * (x_t - mean)
    network = Residual(Silent(), Known(), schedule, FLAT)
    found = Given(network, image=torch.cat([mean, std], 1))(x_t, t)
    assert torch.allclose(found[..., :3], exact[..., :3], atol=1e-5)
    assert float((found - exact).abs().max()) < 0.1 * float((exact - mean).abs().max())
    tiles = Tiled(network, (4, 6), (2, 4), image=torch.cat([mean, std], 1))
    assert torch.allclose(tiles(x_t, t), found, atol=1e-5)


def test_the_gain_is_the_error_where_the_guess_is_all_there_is_to_know():
    schedule = VE(0.01, 50.0)
    u, _ = waves(4000, LEVELS[3])
    mean, std = torch.rand_like(u), torch.full_like(u, LEVELS[3])
    network = Residual(Silent(), Known(), schedule, PINK)
    for level in (0.1, 0.5, 0.9):
        t = torch.full((4000,), level).double()
        x_t = diffuse(schedule, mean + u, t, torch.randn_like(u))
        estimate, gain = network.with_gain(x_t, t, mean, mean, std)
        error = (estimate - mean - u).square().mean() / gain.square().mean()
        assert float(error) == pytest.approx(1, rel=0.03)


def test_the_guess_learns_mean_and_deviation_and_only_from_its_own_loss():
    recipe = facts_of(Conversion.tiny(), guess=8, multiples=(1,))
    objective = recipe.objective()
    assert isinstance(objective, GuessedImage) and set(objective.players) == {"network", "guess"}
    torch.manual_seed(0)
    source = torch.where(torch.arange(8) < 4, -1.0, 1.0).expand(16, 1, 8, 8)
    target = 0.3 * source + torch.where(source > 0, 0.4, 0.05) * torch.randn(len(source), 1, 8, 8)
    steps_apart(objective, {"source": source, "target": target}, 150)
    mean, std = objective.players["guess"](source[:1])
    right = source[0, 0, 0] > 0
    assert float(mean[0, 0][:, right].detach().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(mean[0, 0][:, ~right].detach().mean()) == pytest.approx(-0.3, abs=0.03)
    assert float(std[0, 0][:, right].detach().mean()) == pytest.approx(0.4, rel=0.15)
    assert float(std[0, 0][:, ~right].detach().mean()) == pytest.approx(0.05, rel=0.3)


def facts_of(recipe, **changes):
    keys = ("source", "target")
    sizes, spectra = dict.fromkeys(keys, (8, 8)), dict.fromkeys(keys, PINK)
    facts = Facts(keys, dict.fromkeys(keys, 1), sizes, 0, (), 0.5, 0.0, 9.0, 8, {}, spectra)
    return dataclasses.replace(recipe, **changes).fitted(facts)


def test_a_deviation_is_never_zero():
    guess = Guess(UNet(2, 2, 8, (1, 2), 1, (), 2, condition=1), 1)
    for parameter in guess.parameters():
        nn.init.normal_(parameter, std=3)
    mean, std = guess(torch.randn(4, 1, 8, 8))
    assert mean.shape == std.shape == (4, 1, 8, 8)
    assert 0.0099 < float(std.detach().min()) < 0.02 < float(std.detach().max())
