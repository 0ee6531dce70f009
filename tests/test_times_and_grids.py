"""Times, grids and images that make no sense are one clear line, never numbers or errors of torch."""

import pytest
import torch

from radiffuse.diffusion.network import Network
from radiffuse.diffusion.parametrization import NOISE
from radiffuse.diffusion.sample import DDIM, DDPM, DPMSolver, EulerMaruyama, FlowODE, Heun, grids
from radiffuse.diffusion.schedule import VE, VP
from radiffuse.nn.transformer import DiT
from radiffuse.nn.unet import UNet
from radiffuse.testing import GaussianDenoiser


@pytest.mark.parametrize(
    "t", [torch.tensor(500), torch.tensor([0.5, 7.0]), torch.tensor(torch.nan)]
)
@pytest.mark.parametrize("schedule", [VP(), VE()])
def test_the_number_of_a_step_is_no_time(schedule, t):
    with pytest.raises(ValueError, match=r"times lie in \[0, 1\]"):
        schedule(t, torch.zeros(2, 1))


@pytest.mark.parametrize("sampler", [DDPM, EulerMaruyama, DPMSolver])
def test_a_rising_grid_is_refused_by_samplers_that_go_down(sampler):
    rising = grids.ascending(grids.uniform(8, 1.0, 0.01))
    with pytest.raises(ValueError, match="goes down only"):
        sampler(GaussianDenoiser(VP()))(torch.zeros(2, 1), rising)


def test_noise_goes_with_no_rising_grid():
    rising = grids.ascending(grids.uniform(8, 1.0, 0.01))
    for sampler in (DDIM(GaussianDenoiser(VP()), eta=1.0), Heun(GaussianDenoiser(VP()), churn=0.1)):
        with pytest.raises(ValueError, match="goes down only"):
            sampler(torch.zeros(2, 1), rising)


@pytest.mark.parametrize("sampler", [DDIM, Heun, FlowODE])
def test_what_encodes_takes_a_gaussian_to_noise_and_begins_above_zero(sampler):
    denoiser = GaussianDenoiser(VP(), 0.0, 0.5)
    x = torch.tensor([[-0.5], [0.5]]).double()
    coded = list(sampler(denoiser).trajectory(x, torch.linspace(1e-3, 1, 200)))[-2]
    assert torch.allclose(coded, 2 * x, atol=0.05)
    with pytest.raises(ValueError, match="begins above zero noise"):
        sampler(denoiser)(x, torch.linspace(0, 1, 20))
    with pytest.raises(ValueError, match="begins above zero noise"):
        DDIM(denoiser).encode(x, torch.linspace(0, 1, 20))


@pytest.mark.parametrize("times", [[0.9, 0.1, 0.5], [[0.9, 0.1]], [], [1.0, torch.nan]])
def test_a_grid_that_is_none_is_refused(times):
    with pytest.raises(ValueError, match="grid"):
        DDIM(GaussianDenoiser(VP()))(torch.zeros(2, 1), torch.tensor(times))


@pytest.mark.parametrize("made", [UNet, DiT])
@pytest.mark.parametrize(
    ("shape", "dtype", "why"),
    [
        ((2, 1, 8, 8), torch.complex64, "complex images"),
        ((2, 1, 8, 8, 8), torch.float32, "3 axes for a network of 2"),
        ((2, 3, 8, 8), torch.float32, "3 channels"),
        ((2, 1, 1, 8), torch.float32, "1 x 8 (do not divide|are smaller)"),
    ],
)
def test_images_a_network_is_not_made_for_are_one_line(made, shape, dtype, why):
    network = made(axes=2, channels=1, width=16, **({"patch": 2} if made is DiT else {}))
    with pytest.raises(ValueError, match=why):
        Network(network, VP(), NOISE)(torch.zeros(shape, dtype=dtype), torch.tensor(0.5))


def test_a_missing_condition_is_one_line():
    network = UNet(axes=2, channels=1, condition=1, width=16)
    with pytest.raises(ValueError, match="1 channels of image and condition for a network of 2"):
        network(torch.zeros(2, 1, 8, 8), torch.zeros(2))
