"""MC-DDPM: k-space that was sampled is never touched, and what was not is drawn given it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from radiffuse.acquisition import MRI, Acquired
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.reconstruction.evaluate import evaluate_reconstruction
from radiffuse.applications.reconstruction.mc_ddpm import MCDDPM
from radiffuse.applications.reconstruction.scans import combined, undersampled
from radiffuse.applications.reconstruction.unsampled import Unsampled, as_parts, from_parts
from radiffuse.data.dataset import Facts, open_cases
from radiffuse.diffusion.kernels import diffuse
from radiffuse.diffusion.parametrization import NOISE
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement
from radiffuse.operators import Coils, Fourier, Mask
from radiffuse.operators.coils import birdcage

SIDE = 4
UNKNOWNS = 2 * SIDE**2
CASES = 1200


def the_mask(side=SIDE, columns=(1, 2)):
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., list(columns)] = True
    return mask


def scan(kspace, mask):
    """Complex k-space (B, 1, *S) under a mask, as a recipe is given it."""
    y = mask * kspace
    A = Mask(mask) @ Fourier(2)
    ones = torch.ones(len(y))
    return Acquired(Measurement(y, A, 0.0), A.adjoint(y), ones, ones, A.adjoint, None, mask)


class Jointly(nn.Module):
    """The best network of images where k-space is Gaussian with a covariance, told what was sampled.

    It sees images alone, F^-1(y_t + y_M) and F^-1 y_M, and says the noise as an image.
    """

    def __init__(self, covariance, mask, schedule):
        super().__init__()
        self.schedule = schedule
        known = torch.cat([mask, mask], 1).reshape(-1)
        self.known, self.free = known.nonzero()[:, 0], (~known).nonzero()[:, 0]
        s = covariance[self.known][:, self.known]
        cross = covariance[self.free][:, self.known]
        self.map = cross @ torch.linalg.inv(s)
        self.schur = covariance[self.free][:, self.free] - self.map @ cross.mT

    def forward(self, seen, clock, image):
        inside = [as_parts(Fourier(2)(from_parts(x))).flatten(1).double() for x in (seen, image)]
        y_t, y_m = inside[0][:, self.free], inside[1][:, self.known]
        alpha, sigma = (f(clock.double()[:1]) for f in (self.schedule.alpha, self.schedule.sigma))
        mean = y_m @ self.map.mT
        noisy = alpha**2 * self.schur + sigma**2 * torch.eye(len(self.free)).double()
        z = sigma * (y_t - alpha * mean) @ torch.linalg.inv(noisy)
        out = torch.zeros(len(seen), UNKNOWNS, dtype=torch.float64)
        out[:, self.free] = z
        picture = Fourier(2).adjoint(from_parts(out.reshape(-1, 2, SIDE, SIDE)))
        return as_parts(picture)


class Objective:
    def __init__(self, network):
        self.network = network


def toy(**more):
    torch.manual_seed(0)
    root = torch.randn(UNKNOWNS, UNKNOWNS).double() / math.sqrt(UNKNOWNS)
    covariance = 0.3 * root @ root.mT + 0.01 * torch.eye(UNKNOWNS)
    recipe = MCDDPM(size=(SIDE, SIDE), channels=2, timesteps=120, steps=120, **more)
    network = Unsampled(Jointly(covariance, the_mask(), recipe.schedule()), recipe.schedule(), NOISE,
                        clock=lambda t, alpha, sigma: t)  # fmt: skip
    return recipe, network, torch.linalg.cholesky(covariance)


def test_draws_have_the_mean_and_the_covariance_of_the_schur_complement():
    """k-space jointly Gaussian, its noise known: mean S_us S_ss^-1 y_M, covariance of what that leaves."""
    recipe, network, root = toy()
    truth = (root @ torch.randn(UNKNOWNS).double()).reshape(1, 2, SIDE, SIDE)
    acquired = scan(
        from_parts(truth).expand(CASES, -1, -1, -1), the_mask().expand(CASES, -1, -1, -1)
    )
    x, same = recipe.drawn(Objective(network), acquired, range(CASES))
    assert same is x
    found = as_parts(Fourier(2)(x)).flatten(1).double()
    exact = network.backbone
    y = truth.flatten(1)[0, exact.known]
    assert float((found[:, exact.known] - y).abs().max()) < 1e-6
    drawn = found[:, exact.free]
    mean = exact.map @ y
    assert float(mean.norm()) > 0.3  # the measurement does tell something
    assert float((drawn.mean(0) - mean).norm() / mean.norm()) < 0.1
    off = drawn.mT.cov() - exact.schur
    assert float(off.norm() / exact.schur.norm()) < 0.2


def test_the_noise_is_half_as_large_and_its_one_step_posterior_composes_with_the_chain():
    schedule = MCDDPM().schedule()
    t = torch.linspace(0, 1, 11).double()
    assert torch.allclose(schedule.sigma(t) ** 2, 0.25 * (1 - schedule.alpha(t) ** 2))
    assert float(schedule.sigma(t)[-1]) == pytest.approx(0.5, abs=1e-4)
    # ancestral steps of the chain's own variance: beta_t = 0.5 sqrt(b_t)
    a = schedule.alpha(torch.tensor([0.5, 0.501]).double())
    b = 1 - (a[1] / a[0]) ** 2
    s = schedule.sigma(torch.tensor([0.5, 0.501]).double())
    assert float(s[1] ** 2 - (a[1] / a[0]) ** 2 * s[0] ** 2) == pytest.approx(
        0.25 * float(b), rel=1e-6
    )
    assert MCDDPM().sampler == "ddpm-large" and MCDDPM().shrink == 0.5


@torch.no_grad()
def test_what_was_sampled_is_untouched_at_every_time():
    """To the last bit, whatever the network says and whatever stands there in its input."""
    recipe = dataclasses.replace(MCDDPM.tiny(), size=(16, 16), channels=2)
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.network.parameters():  # a new network answers nothing
        parameter += 0.1 * torch.randn_like(parameter)
    mask = the_mask(16, (3, 7, 8, 9))
    free = (~mask).float()
    measured = mask * torch.randn(2, 2, 16, 16)
    x_t = torch.randn(2, 2, 16, 16)
    for t in (0.01, 0.3, 0.9):
        told = {"measured": measured, "free": free}
        out = objective.network.raw(x_t, torch.tensor(t), **told)
        assert bool((out[:, :, mask[0, 0]] == 0).all()) and float(out.abs().max()) > 0
        other = objective.network.raw(x_t + mask * 7.0, torch.tensor(t), **told)
        assert torch.equal(out, other)
        assert not torch.equal(
            out, objective.network.raw(x_t, torch.tensor(t), measured=0 * measured, free=free)
        )
    acquired = scan(from_parts(measured), mask.expand(2, -1, -1, -1))
    kept = []
    steps = dataclasses.replace(recipe, steps=4)
    given = objective.network.given

    def watched(x, t, **told):
        kept.append(x)
        return given(x, t, **told)

    objective.network.given = watched
    x, _ = steps.drawn(objective, acquired, [1, 2])
    assert kept and all(bool((state[:, :, mask[0, 0]] == 0).all()) for state in kept)
    assert torch.allclose(mask * Fourier(2)(x), acquired.measurement.y, atol=1e-5)


def test_a_full_scan_is_given_back():
    recipe = dataclasses.replace(MCDDPM.tiny(), size=(16, 16), channels=2)
    x = torch.randn(1, 1, 16, 16, dtype=torch.complex64)
    every = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    found, _ = recipe.drawn(recipe.objective(), scan(Fourier(2)(x), every), [1])
    assert torch.allclose(found, x, atol=1e-5)


def test_masks_and_accelerations_are_new_at_every_look():
    recipe = dataclasses.replace(
        MCDDPM.tiny(), size=(64, 64), channels=2, accelerations=(2.0, 4.0), noise=0.0
    )
    torch.manual_seed(0)
    image = torch.rand(12, 1, 64, 64) * 2 - 1
    x_0, told = recipe.example({"image": image})
    mask = 1 - told["free"]
    shares = mask.mean((1, 2, 3))
    assert {round(1 / float(s)) for s in shares} == {2, 4}
    assert not torch.equal(mask[0], mask[1])
    assert bool((mask * x_0 == 0).all()) and bool((told["free"] * told["measured"] == 0).all())
    whole = Fourier(2).adjoint(from_parts(x_0 + told["measured"]))
    assert torch.allclose(whole.abs(), (image + 1) / 2, atol=1e-5)  # its phase is synthetic
    assert float(whole.imag.abs().max()) > 0.05
    z = recipe.objective().noise_for(x_0, told)
    assert bool((mask * z == 0).all())


@torch.no_grad()
def test_the_loss_of_what_was_sampled_is_nothing():
    """Mean over all entries of errors that are 0 where k-space was sampled."""
    recipe = dataclasses.replace(
        MCDDPM(), size=(16, 16), channels=2, width=16, multiples=(1, 2), attention=(), calibration=2
    )
    torch.manual_seed(0)
    objective = recipe.objective()
    for parameter in objective.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x_0, told = recipe.example({"image": torch.rand(4, 1, 16, 16)})
    z = objective.noise_for(x_0, told)
    t = torch.full((4,), 0.4)
    x_t = diffuse(objective.network.schedule, x_0, t, z)
    out = objective.network.raw(x_t, t, **told)
    found = objective.loss(out, x_0, z, x_t, t)
    free = told["free"].expand_as(z).bool()
    assert float(found) == pytest.approx(float(((out - z)[free] ** 2).sum() / z.numel()), rel=1e-5)


def full_scan(coils=6, side=32):
    y, x = np.mgrid[:side, :side] / side - 0.5
    image = torch.from_numpy(
        (np.hypot(x / 0.35, y / 0.42) < 1) * (0.6 + 0.4 * np.cos(9 * x))
    ).float()
    maps = birdcage((side, side), coils, [3])
    phase = torch.exp(1j * torch.from_numpy(2 * x + 3 * y**2).float())
    return Fourier(2)(Coils(maps)((image * phase)[None, None].to(torch.complex64))), image


def test_coils_of_full_scans_are_combined_and_others_are_refused():
    kspace, image = full_scan()
    one = combined(kspace)
    assert one.shape == (1, 1, 32, 32)
    x = Fourier(2).adjoint(one).abs()[0, 0]
    shape = x / x.mean() - image / image.mean()
    assert float(shape[image > 0].abs().mean()) < 0.05
    assert torch.equal(combined(one), one)
    recipe = dataclasses.replace(MCDDPM.tiny(), size=(32, 32), channels=2)
    acquired, truth = undersampled(recipe, kspace, "a scan")
    assert acquired.measurement.y.shape == (1, 1, 32, 32) and truth.shape == (1, 1, 32, 32)
    assert float(acquired.acceleration) == pytest.approx(4, rel=0.1)
    with pytest.raises(
        UserError, match=r"mc-ddpm knows one coil, and these scans have 6: take a method"
    ):
        recipe.acquire({"kspace": kspace})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"coils": 4}, "--coils must be 1"),
        ({"values": "real"}, "--values must be channels"),
        ({"measurement": "ct"}, "--measurement must be mri"),
        ({"accelerations": (0.5,)}, "--accelerations"),
        ({"shrink": 0.0}, "--shrink"),
    ],
)
def test_what_it_cannot_do_is_refused(changed, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(MCDDPM.tiny(), **changed)


def test_a_mask_that_cannot_be_is_refused_before_training():
    known = Facts(("image",), {"image": 1}, {"image": (64, 64)}, 0, (), 0.5, 0.0, 100.0, 8)
    with pytest.raises(UserError, match=r"calibration region of 26 .*--calibration"):
        MCDDPM(calibration=26).fitted(known)
    several = dataclasses.replace(known, channels={"image": 3})
    with pytest.raises(UserError, match="neither grey nor complex"):
        MCDDPM.tiny().fitted(several)


@pytest.mark.parametrize(("acceleration", "share"), [(4.0, 0.08), (8.0, 0.04)])
def test_the_papers_masks_sample_their_share_of_the_centre_at_every_width(acceleration, share):
    for width in (320, 128):
        known = Facts(
            ("image",), {"image": 1}, {"image": (width, width)}, 0, (), 0.5, 0.0, 100.0, 8
        )
        recipe = MCDDPM(acceleration=acceleration).fitted(known)
        assert recipe.centre(acceleration) == round(share * width)


def test_the_centre_follows_the_acceleration_that_a_mask_is_drawn_at():
    """Of masks of training at 4 and 8 in one network, and of scans at 8 after a training at 4."""
    recipe = MCDDPM(size=(200, 200), channels=2, accelerations=(4.0, 8.0))
    masks = recipe.masks(12)[:, 0, 0]
    for mask in masks:
        middle = mask[96:104] if int(mask.sum()) == 25 else mask[92:108]
        assert int(mask.sum()) in (25, 50) and bool(middle.all())
    later = dataclasses.replace(recipe, acceleration=8.0)
    assert (recipe.acquisition().centre, later.acquisition().centre) == (16, 8)
    rare = [int(mask[92:108].sum()) for mask in masks if int(mask.sum()) == 25]
    assert rare and min(rare) < 16


def test_the_measurement_is_noised_where_it_is_sampled():
    recipe = dataclasses.replace(MCDDPM.tiny(), size=(64, 64), channels=2, noise=0.1)
    torch.manual_seed(0)
    _, told = recipe.example({"image": -torch.ones(4, 1, 64, 64)})
    mask = (1 - told["free"]).expand_as(told["measured"]).bool()
    assert float(told["measured"][mask].std()) == pytest.approx(0.1, rel=0.05)
    simulated = MRI("gaussian-columns", 4.0, coils=1, noise=0.1, real=False, demodulated=False)
    y = simulated.simulate(torch.zeros(1, 1, 64, 64), [1])
    assert float(y.measurement.y.real[y.mask].std()) == pytest.approx(0.1, rel=0.1)


def test_a_measurement_without_noise_leaves_a_finite_residual():
    """Rounding over no noise was a residual of tens of thousands."""
    cases = open_cases("brains:count=4,size=32")
    recipe = dataclasses.replace(MCDDPM.tiny(), samples=1, noise=0.0).fitted(cases.facts())
    asked = Asked(count=2)
    record = evaluate_reconstruction(recipe, recipe.objective(), cases, cases, asked, baselines={})
    assert record["method"]["residual"]["mean"] < 1
