"""Diffusion around a first guess: exact without a network, and the guess learns by itself."""

import dataclasses

import pytest
import torch
from torch import nn

from radiffuse.data.cases import Facts
from radiffuse.denoise import Given, Tiled
from radiffuse.kernels import diffuse
from radiffuse.nn import UNet
from radiffuse.nn.generator import Guess
from radiffuse.recipes.ddpm_conversion import Conversion, ToldResidual
from radiffuse.residual import Residual
from radiffuse.schedule import VE, VP, Discrete, SigmaPower

SCHEDULES = [VE(0.01, 50.0), VP(), SigmaPower(25.0), Discrete.linear(1000)]


class Silent(nn.Module):
    """F = 0."""

    def forward(self, x, clock, image):
        return torch.zeros_like(x)


class Known(nn.Module):
    """Mean and deviation written in the image."""

    def forward(self, image):
        return image[:, :1], image[:, 1:]


def gaussian_of(count, seed=0):
    """Mean and deviation that change from voxel to voxel, and images drawn from them."""
    torch.manual_seed(seed)
    mean, std = torch.rand(count, 1, 6, 6).double(), 0.02 + torch.rand(count, 1, 6, 6).double()
    return mean, std, mean + std * torch.randn(count, 1, 6, 6).double()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("t", [0.01, 0.3, 1.0])
def test_without_a_network_it_is_the_posterior_mean_of_the_guess(schedule, t):
    mean, std, x_0 = gaussian_of(3)
    t = torch.tensor(t).double()
    x_t = diffuse(schedule, x_0, t, torch.randn_like(x_0))
    network = Residual(Silent(), Known(), schedule)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    precision = 1 / std**2 + alpha**2 / sigma**2
    exact = (mean / std**2 + alpha * x_t / sigma**2) / precision
    told = torch.cat([mean, std], 1)
    assert torch.allclose(Given(network, image=told)(x_t, t), exact, atol=1e-5)
    tiles = Tiled(network, (4, 4), (2, 2), image=told)
    assert torch.allclose(tiles(x_t, t), exact, atol=1e-5)


def test_the_loss_is_one_where_the_guess_is_all_there_is_to_know():
    schedule = VE(0.01, 50.0)
    mean, std, x_0 = gaussian_of(4000)
    for level in (0.1, 0.5, 0.9):
        t = torch.full((4000,), level).double()
        x_t = diffuse(schedule, x_0, t, torch.randn_like(x_0))
        network = Residual(Silent(), Known(), schedule)
        loss = network.squared_error(torch.zeros_like(x_0), x_0, x_t, t, mean, std)
        assert float(loss) == pytest.approx(1, rel=0.02)


def test_the_guess_learns_mean_and_deviation_and_only_from_its_own_loss():
    recipe = facts_of(Conversion.tiny(), guess=8)
    objective = recipe.objective()
    assert isinstance(objective, ToldResidual) and set(objective.players) == {"network", "guess"}
    torch.manual_seed(0)
    source = torch.where(torch.arange(8) < 4, -1.0, 1.0).expand(64, 1, 8, 8)
    target = 0.3 * source + torch.where(source > 0, 0.4, 0.05) * torch.randn(64, 1, 8, 8)
    optimisers = {k: torch.optim.Adam(p.parameters(), 5e-3) for k, p in objective.players.items()}
    for _ in range(150):
        for name, loss in objective.losses({"source": source, "target": target}):
            other = objective.players["guess" if name == "network" else "network"]
            for player in objective.players.values():
                player.zero_grad()
            loss.backward()
            assert all(p.grad is None or not p.grad.any() for p in other.parameters())
            optimisers[name].step()
    mean, std = objective.players["guess"](source[:1])
    right = source[0, 0, 0] > 0
    assert float(mean[0, 0][:, right].detach().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(mean[0, 0][:, ~right].detach().mean()) == pytest.approx(-0.3, abs=0.03)
    assert float(std[0, 0][:, right].detach().mean()) == pytest.approx(0.4, rel=0.15)
    assert float(std[0, 0][:, ~right].detach().mean()) == pytest.approx(0.05, rel=0.3)


def facts_of(recipe, **changes):
    keys = ("source", "target")
    facts = Facts(
        keys, dict.fromkeys(keys, 1), dict.fromkeys(keys, (8, 8)), 0, (), 0.5, 0.0, 9.0, 8
    )
    return dataclasses.replace(recipe, **changes).fitted(facts)


def test_a_deviation_is_never_zero():
    guess = Guess(UNet(2, 2, 8, (1, 2), 1, (), 2, condition=1), 1)
    for parameter in guess.parameters():
        nn.init.normal_(parameter, std=3)
    mean, std = guess(torch.randn(4, 1, 8, 8))
    assert mean.shape == std.shape == (4, 1, 8, 8)
    assert 0.0099 < float(std.detach().min()) < 0.02 < float(std.detach().max())
