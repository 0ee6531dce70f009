"""The Wiener filter is the exact denoiser of stationary Gaussian images, and a network learns the rest."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.generation.ncsn import NCSN
from radiffuse.applications.generation.sde import SDE
from radiffuse.applications.reconstruction.bayes_mri import BayesMRI
from radiffuse.data.dataset import Facts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.filtered import Filtered, Wiener, wiener_of
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.network import Network, unit_variance
from radiffuse.diffusion.parametrization import edm
from radiffuse.diffusion.sample import DDIM, DPMSolver, First, FlowODE, GaussianFlow
from radiffuse.diffusion.schedule import EDM, VE, VP, Discrete
from radiffuse.diffusion.spectrum import power, power_on
from radiffuse.errors import UsageError, UserError
from radiffuse.training.objective import Denoising

SIZES = [(9,), (6, 5), (5, 8), (4, 3, 6)]
PINK = (0.1, *(float(1 / (1 + k) ** 2) for k in range(32)))
SCHEDULES = [VE(0.01, 50.0), VP(), EDM(), Discrete.cosine(1000)]


class Silent(nn.Module):
    """F = 0."""

    def forward(self, x, clock, image):
        return torch.zeros_like(x)


def covariance(values, size):
    """The matrix of voxels whose eigenvalues, in the basis of waves, are the power."""
    grid = np.indices(size).reshape(len(size), -1)
    half = power_on(values, size).numpy()
    whole = np.empty(size)
    for place in np.ndindex(*size):
        other = tuple(-k % side for k, side in zip(place, size, strict=True))
        whole[place] = half[place] if place[-1] < half.shape[-1] else half[other]
    kernel = np.fft.ifftn(whole).real
    apart = (grid[:, :, None] - grid[:, None, :]) % np.array(size)[:, None, None]
    return torch.from_numpy(kernel[tuple(apart)])


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_without_a_network_it_is_the_posterior_mean_of_gaussian_images(size, schedule):
    sigma_0 = covariance(PINK, size)
    torch.manual_seed(0)
    for level in (0.1, 0.6, 0.95):
        t = torch.full((3,), level).double()
        alpha, sigma = float(schedule.alpha(t)[0]), float(schedule.sigma(t)[0])
        x_t = torch.randn(3, 2, *size).double()
        noisy = alpha**2 * sigma_0 + sigma**2 * torch.eye(len(sigma_0)).double()
        exact = alpha * x_t.flatten(2) @ torch.linalg.solve(noisy, sigma_0)
        found = Filtered(Silent(), schedule, PINK, 0.5)(x_t, t)
        assert torch.allclose(found, exact.reshape(x_t.shape), atol=1e-10)
        left = sigma_0 - alpha**2 * sigma_0 @ torch.linalg.solve(noisy, sigma_0)
        error = Wiener(PINK, size).left(schedule.alpha(t), schedule.sigma(t))
        assert float(error[1]) == pytest.approx(float(left.trace()) / len(left), rel=1e-6)


def test_a_spectrum_is_measured_as_it_is():
    torch.manual_seed(0)
    white = 0.3 * torch.randn(400, 1, 16, 16)
    assert power(white)[1:] == pytest.approx([0.09] * 32, rel=0.15)
    assert power(white + 2)[0] == pytest.approx(4, rel=0.01)
    waves = torch.fft.rfftn(white / 0.3, dim=(2, 3)) * power_on(PINK, (16, 16)).sqrt().float()
    measured = power(torch.fft.irfftn(waves, s=(16, 16), dim=(2, 3)))
    on = power_on(measured, (16, 16))
    assert torch.allclose(on.log(), power_on(PINK, (16, 16)).log(), atol=0.5)


@pytest.mark.parametrize("size", [(1, 16), (2, 2), (16,), (3, 4, 5)])
def test_small_and_flat_images_have_a_spectrum(size):
    for images in (torch.randn(4, 1, *size), torch.zeros(4, 2, *size)):
        values = power(images)
        assert len(values) == 33 and all(math.isfinite(v) and v >= 0 for v in values)
        assert bool((power_on(values, size) > 0).all())


def test_a_flat_spectrum_is_the_preconditioning_of_karras():
    class Body(nn.Module):
        def forward(self, x, clock, image=None):
            return torch.tanh(3 * x + clock.reshape(-1, 1, 1, 1))

    size, std = (8, 6), 0.4
    flat = (std**2 / math.prod(size), *[std**2] * 32)
    schedule = EDM()
    known = Network(Body(), schedule, edm(std), unit_variance(std))
    ours = Filtered(Body(), schedule, flat, std)
    for t in (0.1, 0.5, 0.9):
        t = torch.full((2,), t).double()
        x_t = diffuse(schedule, torch.randn(2, 1, *size).double(), t, torch.randn(2, 1, *size))
        assert torch.allclose(ours(x_t, t), known(x_t, t), atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_the_loss_is_one_where_the_filter_is_all_there_is_to_know(schedule):
    size = (8, 8)
    torch.manual_seed(0)
    waves = torch.fft.rfftn(torch.randn(3000, 1, *size), dim=(2, 3))
    x_0 = torch.fft.irfftn(waves * power_on(PINK, size).sqrt().float(), s=size, dim=(2, 3))
    network = Filtered(Silent(), schedule, PINK, 0.5)
    for level in (0.2, 0.5, 0.9):
        objective = Denoising(
            network, lambda n, level=level: torch.full((n,), level).double(),
            wiener_of(PINK, size).weight(),
        )  # fmt: skip
        ((_, loss),) = objective.losses({"image": x_0})
        assert float(loss) == pytest.approx(1, rel=0.03)


def facts(spectrum=PINK):
    return Facts(
        ("image",),
        {"image": 1},
        {"image": (8, 8)},
        3,
        (),
        0.5,
        0.0,
        9.0,
        8,
        {},
        {"image": spectrum},
    )


@pytest.mark.parametrize("kind", [DDPM, NCSN, SDE])
@pytest.mark.parametrize("more", [{}, {"backbone": "dit"}, {"conditional": True}], ids=str)
def test_the_generic_recipes_take_the_spectrum_of_their_data(kind, more):
    recipe = dataclasses.replace(kind.tiny(), **more).fitted(facts())
    assert recipe.spectrum == PINK and recipe == recipe.fitted(facts())
    objective = recipe.objective()
    assert isinstance(objective.network, Filtered)
    batch = {"image": torch.randn(4, 1, 8, 8), "label": torch.zeros(4, dtype=torch.int64)}
    ((_, loss),) = objective.losses(batch)
    loss.backward()
    out = recipe.predict(objective, {"seed": torch.arange(2)})["image"]
    assert out.shape == (2, 1, 8, 8) and bool(torch.isfinite(out).all())
    plain = dataclasses.replace(kind.tiny(), filtered=False).fitted(facts())
    assert plain.spectrum == () and not isinstance(plain.objective().network, Filtered)


def test_learned_variances_pass_the_filter():
    recipe = dataclasses.replace(DDPM.tiny(), learned_variance=True).fitted(facts())
    objective = recipe.objective()
    ((_, loss),) = objective.losses({"image": torch.randn(4, 1, 8, 8).clamp(-1, 1)})
    mean, w = objective.network.with_variance(torch.randn(2, 1, 8, 8), torch.tensor(0.5))
    assert bool(torch.isfinite(loss)) and mean.shape == w.shape == (2, 1, 8, 8)


def test_complex_images_have_no_such_spectrum():
    recipe = dataclasses.replace(BayesMRI.tiny(), filtered=True)
    with pytest.raises(UserError, match="complex"):
        recipe.fitted(facts())


class Gaussian(Denoiser):
    """The exact denoiser of Gaussian images of mean 0.3 and the spectrum PINK."""

    def __init__(self, schedule, size):
        super().__init__()
        self.schedule = schedule
        self.wiener = Wiener(PINK, size)

    def forward(self, x_t, t):
        alpha, sigma = (
            f(t.double()).expand(len(x_t)) for f in (self.schedule.alpha, self.schedule.sigma)
        )
        mean = torch.full_like(x_t, 0.3)
        scale = alpha.reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t)
        return mean + self.wiener.filter(x_t - scale * mean, alpha, sigma)


@pytest.mark.parametrize("schedule", SCHEDULES[:3], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("size", [(9,), (5, 8), (4, 3, 6)], ids=str)
def test_one_leap_is_the_whole_flow_of_gaussian_images(size, schedule):
    denoiser = Gaussian(schedule, size)
    t, s = torch.tensor(0.95).double(), torch.tensor(0.3).double()
    x = float(schedule.sigma(t)) * torch.randn(3, 2, *size).double()
    exact = FlowODE(denoiser, rtol=1e-9, atol=1e-9).step(x, t, s, None)[0]
    leapt, _ = GaussianFlow(denoiser, denoiser.wiener.power).step(x, t, s, None)
    assert torch.allclose(leapt, exact, atol=1e-6 * float(exact.abs().max()))
    ddim, _ = DDIM(denoiser).step(x, t, s, None)
    assert float((ddim - exact).abs().max()) > 1e-2
    flat, _ = GaussianFlow(denoiser, torch.zeros_like(denoiser.wiener.power)).step(x, t, s, None)
    assert torch.allclose(flat, ddim, atol=1e-9 * float(exact.abs().max()))


def test_of_another_spectrum_leaps_are_of_order_one():
    denoiser = Gaussian(EDM(), (5, 8))
    other = GaussianFlow(denoiser, 0.3 * denoiser.wiener.power)
    x = 5 * torch.randn(2, 1, 5, 8).double()
    ends = (0.7, 0.3)
    exact, _ = GaussianFlow(denoiser, denoiser.wiener.power).step(
        x, *(torch.tensor(t).double() for t in ends), None
    )

    def error(steps):
        *_, at_end, _ = other.trajectory(x, torch.linspace(*ends, steps + 1).double())
        return float((at_end - exact).norm())

    assert math.log2(error(64) / error(128)) == pytest.approx(1, abs=0.1)


def test_the_first_step_leaps_and_the_sampler_goes_on_from_there():
    denoiser = Gaussian(EDM(), (5, 8))
    leap, inner = GaussianFlow(denoiser, denoiser.wiener.power), DPMSolver(denoiser)
    times = torch.tensor([0.9, 0.5, 0.3, 0.2, 0.1], dtype=torch.float64)
    x = 30 * torch.randn(2, 1, 5, 8)
    whole = First(leap, inner)(x, times)
    landed, _ = leap.step(x, times[0], times[1], None)
    assert torch.equal(whole, inner(landed, times[1:]))


@pytest.mark.parametrize("recipe", [DDPM, SDE, NCSN], ids=lambda r: r.__name__)
def test_a_leap_lands_at_the_noise_of_the_strongest_frequency(recipe):
    fitted = dataclasses.replace(recipe.tiny(), steps=6).fitted(facts())
    fitted = dataclasses.replace(fitted, start=0.99, leap=0.5)
    schedule = fitted.schedule()
    times = fitted.make_grid(schedule)
    assert len(times) == 7 and float(times[0]) == 0.99
    level = float(torch.exp(-schedule.log_ratio(times[1])))
    assert level == pytest.approx(0.5 * float(power_on(PINK, (8, 8)).max()) ** 0.5, rel=1e-3)
    drawn = fitted.predict(fitted.objective(), {"seed": torch.tensor([0, 1])})["image"]
    plain = dataclasses.replace(fitted, leap=0.0)
    assert not torch.equal(
        drawn, plain.predict(plain.objective(), {"seed": torch.tensor([0, 1])})["image"]
    )


def test_a_leap_that_cannot_be_is_refused():
    fitted = DDPM.tiny().fitted(facts())
    with pytest.raises(UsageError, match="--leap needs the spectrum"):
        dataclasses.replace(fitted, filtered=False, leap=1.0)
    with pytest.raises(UsageError, match="--leap is a step"):
        dataclasses.replace(NCSN.tiny(), sampler="langevin", leap=1.0)
    for changes, said in (
        ({"leap": 1e6}, "does not pass"),
        ({"leap": 1.0, "steps": 1}, "--steps must be at least 2"),
        ({"leap": 1.0, "start": 1.0, "zero_terminal": True, "predicts": "clean"}, "--leap .take 0"),
    ):
        changed = dataclasses.replace(fitted, **changes)
        with pytest.raises(UsageError, match=said):
            changed.make_grid(changed.schedule())
