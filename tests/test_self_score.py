"""self-score: nothing but undersampled scans in training, draws of weights as targets, Langevin with both noises."""

import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from radiffuse.acquisition import Acquired
from radiffuse.acquisition.splitting import resampled
from radiffuse.applications.evaluation.asked import Asked
from radiffuse.applications.reconstruction import measuring
from radiffuse.applications.reconstruction.adadiff import AdaDiff
from radiffuse.applications.reconstruction.bayes_mri import BayesMRI
from radiffuse.applications.reconstruction.mc_ddpm import MCDDPM
from radiffuse.applications.reconstruction.score_mri import ScoreMRI
from radiffuse.applications.reconstruction.self_score import SelfScore
from radiffuse.applications.reconstruction.unreferenced.evaluate import (
    Supervised,
    evaluate_without_references,
)
from radiffuse.applications.reconstruction.unreferenced.interpolator import (
    Interpolation,
    Interpolator,
)
from radiffuse.applications.reconstruction.unreferenced.splitting import Splitting
from radiffuse.applications.reconstruction.unreferenced.undersampled import Undersampled
from radiffuse.data.dataset import open_cases
from radiffuse.data.facts import Facts
from radiffuse.diffusion.noise import gaussian
from radiffuse.diffusion.sample import annealed
from radiffuse.diffusion.schedule import VE
from radiffuse.errors import UserError
from radiffuse.inverse import AnnealedLangevin, Measurement
from radiffuse.nn.bayes import MeanField, drawn, kl_to_prior
from radiffuse.nn.blocks import conv
from radiffuse.operators import Fourier, Mask
from radiffuse.testing import Counted, GaussianDenoiser
from radiffuse.training.options import TrainOptions

AXES = 2


@pytest.fixture(scope="module")
def cases():
    return open_cases("brains:count=12,size=32", mapping={"image": "t1"})


@pytest.fixture(scope="module")
def recipe(cases):
    return SelfScore.tiny().fitted(cases.facts())


@pytest.fixture(scope="module")
def scans(recipe, cases):
    return recipe.measured(cases)


@pytest.fixture(scope="module")
def batch(scans):
    return scans.batch([0, 1, 2, 3])


# --------------------------------------------------------------------------- what training is given
def test_training_is_given_the_scan_alone(recipe, scans, batch):
    """y, its mask, calibration region and coil maps, the noise and a count: there is no image to ask for."""
    assert set(batch) == {"kspace", "mask", "centre", "maps", "noise", "share"}
    assert bool((batch["kspace"][~batch["mask"].expand_as(batch["kspace"])] == 0).all())
    assert float(batch["share"][0]) == pytest.approx(1 / len(scans))
    with pytest.raises(UserError, match="was asked for a fully sampled image"):
        _ = scans.images
    objective = recipe.objective()
    assert isinstance(objective.learns_from(scans._cases), Undersampled)
    with pytest.raises(UserError, match="a fully sampled image was given"):
        next(objective.losses({**batch, "image": torch.zeros(4, 1, 32, 32)}))


def test_scans_that_are_left_out_are_told(recipe, cases):
    fewer = dataclasses.replace(recipe, scans=5).measured(cases)
    assert fewer.told == f"5 of {len(cases)} training scans are measured and learned from (--scans)"
    assert recipe.measured(cases).told == "" and len(cases) <= recipe.scans


class Stored:
    """Complex images as two channels."""

    def __init__(self, images):
        self.images, self.looks = images, 0

    def __len__(self):
        return len(self.images)

    def batch(self, rows):
        self.looks += 1
        return {"image": self.images[rows]}


def test_what_the_scan_did_not_sample_of_an_image_has_no_part_in_training(monkeypatch):
    """Two images that differ in unsampled k-space alone are one scan; and each is measured once."""
    monkeypatch.setattr(measuring, "content_seeds", lambda images: [7] * len(images))
    recipe = dataclasses.replace(SelfScore.tiny(), size=(32, 32), coils=1, channels=2)
    torch.manual_seed(0)
    image = 0.3 * torch.randn(1, 2, 32, 32)
    one = Stored(image)
    seen = recipe.measured(one)
    scan = seen.batch([0])
    hidden = torch.randn(1, 1, 32, 32, dtype=torch.complex64) * ~scan["mask"]
    more = Fourier(AXES).adjoint(hidden)
    other = recipe.measured(Stored(image + torch.cat([more.real, more.imag], 1))).batch([0])
    assert float(more.abs().max()) > 0.5
    assert all(torch.allclose(scan[key].cfloat(), other[key].cfloat(), atol=1e-5) for key in scan)
    seen.batch([0, 0])
    assert one.looks == 1


def columns(count=3, side=24):
    mask = torch.zeros(count, 1, side, side, dtype=torch.bool)
    mask[..., ::2] = True
    mask[..., 9:15] = True
    centre = torch.zeros_like(mask)
    centre[..., 9:15] = True
    return mask, centre


def points(count=3, side=24):
    torch.manual_seed(3)
    mask = torch.rand(count, 1, side, side) < 0.4
    centre = torch.zeros_like(mask)
    centre[..., 9:15, 9:15] = True
    return mask | centre, centre


@pytest.mark.parametrize("made", [columns, points])
def test_a_pair_is_a_scan_and_a_part_strictly_within_it(made):
    mask, centre = made()
    torch.manual_seed(0)
    fewer, again = resampled(mask, centre, 0.5), resampled(mask, centre, 0.5)
    assert bool((fewer & ~mask).sum() == 0) and bool((fewer & centre == centre).all())
    for one, given, inner in zip(fewer, mask, centre, strict=True):
        share = (one & ~inner).sum() / (given & ~inner).sum()
        assert float(share) == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(fewer, again) and not torch.equal(fewer[0], fewer[1])
    if made is columns:
        assert torch.equal(fewer.all(-2), fewer.any(-2)), "whole lines"
    nearly = resampled(mask, centre, 0.999)
    assert bool(((mask & ~nearly).flatten(1).sum(1) > 0).all()), "one goes at least"
    with pytest.raises(UserError, match="no sample outside of its calibration region"):
        resampled(centre, centre, 0.5)


# --------------------------------------------------------------------------------- a law of weights
def test_outputs_by_local_reparameterisation_have_the_moments_of_drawn_weights():
    torch.manual_seed(0)
    layer = MeanField(conv(1, 2, 3), std=0.3)
    x = torch.randn(1, 2, 5)
    with torch.no_grad():
        local = layer(x.expand(20_000, -1, -1))
        weights = torch.stack([layer.draw() for _ in range(4000)])
        exact = layer.mean(x)[0]
        variance = nn.functional.conv1d(x**2, layer.std**2, padding=1)[0]
    assert torch.allclose(local.mean(0), exact, atol=5 * float(variance.max() / 20_000) ** 0.5)
    assert torch.allclose(local.var(0) / variance, torch.ones(3, 5), atol=0.06)
    assert torch.allclose(weights.mean(0), layer.mean.weight, atol=0.03)
    assert torch.allclose(weights.std(0), layer.std, rtol=0.08)


def test_two_draws_differ_a_draw_is_one_function_and_no_spread_is_deterministic(recipe, batch):
    torch.manual_seed(0)
    f = recipe.objective().players["interpolator"]
    given = (batch["kspace"], batch["mask"], batch["maps"])
    with torch.no_grad():
        answers = []
        for _ in range(2):
            with drawn(f):
                answers.append(f(*given))
                assert torch.equal(answers[-1], f(*given)), "one function of all it is given"
        assert not torch.equal(*answers)
        assert all(
            bool((layer.std > 0).all()) for layer in f.modules() if isinstance(layer, MeanField)
        )
        for layer in f.modules():
            if isinstance(layer, MeanField):
                layer.rho.fill_(-200.0)
        with drawn(f):
            first = f(*given)
        with drawn(f):
            assert torch.equal(first, f(*given)), "sigma = 0: one weight, one answer"


def test_kl_is_that_of_gaussians_and_falls_where_nothing_else_is_asked():
    torch.manual_seed(0)
    f = Interpolator(AXES, 1, 4, 2, 1)
    layers = [layer for layer in f.modules() if isinstance(layer, MeanField)]
    expected = sum(
        kl_divergence(Normal(layer.mean.weight, layer.std), Normal(0.0, 2.0)).sum()
        for layer in layers
    )
    assert torch.allclose(kl_to_prior(f, 2.0), expected)
    mask, centre = columns(2)
    y = mask * torch.randn(2, 1, 24, 24, dtype=torch.complex64)
    told = {"kspace": y, "mask": mask, "centre": centre, "maps": torch.ones_like(y)}
    told["share"] = torch.full((2,), 1.0)
    how, optimiser = Interpolation(0.5, 1.0, "left-out"), torch.optim.Adam(f.parameters(), 0.2)
    before = float(kl_to_prior(f).detach())
    for _ in range(12):
        optimiser.zero_grad()
        how.loss(f, told).backward()
        optimiser.step()
    assert math.isfinite(before) and float(kl_to_prior(f).detach()) < 0.9 * before


def test_what_it_is_given_stands_in_the_answer():
    """The projection is the last thing done, and does something: elsewhere the answer is not 0."""
    torch.manual_seed(0)
    f = Interpolator(AXES, 2, 8, 2, 2)
    for layer in f.modules():
        if isinstance(layer, MeanField):
            nn.init.normal_(layer.mean.weight, std=0.2)
    mask, centre = columns(2)
    fewer = resampled(mask, centre, 0.5)
    y = fewer * torch.randn(2, 2, 24, 24, dtype=torch.complex64)
    maps = torch.full((2, 2, 24, 24), 0.5**0.5, dtype=torch.complex64)
    with torch.no_grad():
        k = f(y, fewer, maps)
    assert float((fewer * (k - y)).abs().max()) < 1e-6
    assert float((~fewer * k).abs().mean()) > 0.01


def test_both_networks_have_a_say():
    """What a change of one alone does to the answer, the other one's answer being 0."""
    mask, _ = columns(1)
    y = mask * torch.randn(1, 1, 24, 24, dtype=torch.complex64)
    maps = torch.ones_like(y)
    for name in ("of_image", "of_kspace"):
        torch.manual_seed(0)
        f = Interpolator(AXES, 1, 4, 2, 1)
        last = getattr(f, name)[0][-2].mean
        with torch.no_grad():
            nn.init.normal_(last.weight, std=0.3)
            with drawn(f):
                k = f(y, mask, maps)
        assert float(k[~mask].abs().mean()) > 0.05, name


def test_targets_are_draws_of_the_weights_from_all_that_was_sampled(recipe, batch):
    torch.manual_seed(0)
    objective = recipe.objective()
    for layer in objective.players["interpolator"].modules():
        if isinstance(layer, MeanField):
            nn.init.constant_(layer.rho, math.log(math.expm1(0.05)))
    learned = []
    objective.matching = lambda x_0, told: learned.append((x_0, told)) or x_0.sum()
    asked = []
    objective.players["interpolator"].register_forward_hook(
        lambda _, given, out: asked.append(given)
    )
    for _ in range(2):
        assert [name for name, _ in objective.losses(batch)] == ["interpolator", "network"]
    (first, told), (second, _) = learned
    assert told == {} and first.shape == (4, 2, 32, 32) and not first.requires_grad
    assert float((first - second).abs().max()) > 1e-3, "another draw of the weights"
    fewer, every = asked[0], asked[1]
    assert bool((fewer[1] & ~batch["mask"]).sum() == 0) and int(fewer[1].sum()) < int(
        every[1].sum()
    )
    assert torch.equal(every[0], batch["kspace"]) and torch.equal(every[1], batch["mask"])


def test_few_of_a_batch_may_teach_the_interpolators(recipe, batch):
    f, seen = recipe.objective().players["interpolator"], []
    f.register_forward_hook(lambda _, given, out: seen.append(len(given[0])))
    for most in (0, 3):
        Interpolation(0.5, 0.1, "left-out", most).loss(f, batch)
    assert seen == [4, 3]


@pytest.mark.parametrize("compared", ["zero-filled", "left-out"])
def test_the_loss_is_the_squared_miss_over_the_noise_and_the_weights_share(compared):
    """Half the mean of squares over gamma_2^2, and KL over cases and numbers, from their definitions."""
    torch.manual_seed(0)
    f = Interpolator(AXES, 1, 4, 2, 1)
    for layer in f.modules():
        if isinstance(layer, MeanField):
            nn.init.constant_(layer.rho, -18.0)  # a function, so that the loss is a number
            nn.init.normal_(layer.mean.weight, std=0.1)
    mask, centre = columns(2)
    y = mask * torch.randn(2, 1, 24, 24, dtype=torch.complex64)
    maps = torch.ones_like(y)
    told = {"kspace": y, "mask": mask, "centre": centre, "maps": maps, "share": torch.zeros(2)}
    torch.manual_seed(5)
    found = Interpolation(0.5, 0.1, compared).loss(f, told)
    torch.manual_seed(5)
    fewer = resampled(mask, centre, 0.5)
    k = f(y * fewer, fewer, maps)
    if compared == "zero-filled":
        gap = Fourier(AXES).adjoint(k - y)
        count = 2 * gap.numel()
    else:
        gap = (mask & ~fewer) * (k - y)
        count = 2 * int((mask & ~fewer).sum())
    expected = gap.abs().square().sum() / count / (2 * 0.1**2)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_a_law_learned_from_parts_of_scans_is_nearer_to_the_truth_than_zero_filled_images():
    """k-space an autoregression along a line, of which random 3 of 4 entries are seen. The score of the draws,
    -(S + e^2)^-1 x by their covariance S, against -(C + e^2)^-1 x of the true one, which training never saw."""
    torch.manual_seed(0)
    side, count, rho = 24, 64, 0.97
    place = torch.arange(side)
    covariance = rho ** (place[:, None] - place).abs().float()
    root = torch.linalg.cholesky(covariance)
    truth = torch.complex(*(torch.randn(2, count, side) @ root.mT)).reshape(count, 1, side)
    centre = torch.zeros(count, 1, side, dtype=torch.bool)
    centre[..., 10:14] = True
    mask = centre | (torch.rand(count, 1, side) < 0.75)
    told = {
        "kspace": mask * truth,
        "mask": mask,
        "centre": centre,
        "maps": torch.ones(1, 1, side).cfloat(),
    }
    told["maps"], told["share"] = told["maps"].expand(count, -1, -1), torch.full((count,), 1e-3)
    f = Interpolator(1, 1, 8, 2, 1)
    how, optimiser = Interpolation(0.7, 0.1, "left-out"), torch.optim.Adam(f.parameters(), 0.02)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = how.loss(f, told)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad(), drawn(f):
        made = f(told["kspace"], mask, told["maps"])

    def off(x):
        """Of scores at two levels, relative."""
        flat = torch.cat([x.real, x.imag]).reshape(-1, side)
        found = flat.mT @ flat / len(flat)
        gaps = []
        for level in (0.5, 2.0):
            noise = level**2 * torch.eye(side)
            score, exact = (torch.linalg.inv(c + noise) for c in (found, covariance))
            gaps.append(float((score - exact).norm() / exact.norm()))
        return max(gaps)

    errors = [float((x - truth).abs().square().mean()) for x in (made, told["kspace"])]
    assert errors[0] < 0.25 * errors[1]
    assert off(made) < 0.2 and off(made) < 0.6 * off(told["kspace"])


# ------------------------------------------------------------------------------ Langevin dynamics
GAMMA, C = 0.1, 0.25


def one_level(sigma):
    """A prior N(0, C I), half the entries of x seen with noise GAMMA."""
    torch.manual_seed(0)
    seen = torch.zeros(1, 1, 8, 1, dtype=torch.float64)
    seen[:, :, ::2] = 1
    y = seen * (1 + torch.rand(1, 1, 8, 1, dtype=torch.float64))
    schedule = VE(sigma, 2 * sigma)
    return Measurement(y, Mask(seen), GAMMA), GaussianDenoiser(schedule, 0.0, C**0.5), seen


@pytest.mark.parametrize("sigma", [0.1, 3.0])
def test_the_stationary_mean_at_a_level_weighs_the_data_by_both_noises(sigma):
    """(A^H A / (g^2 + e^2) + C_e^-1)^-1 A^H y / (g^2 + e^2): the drift is 0 there, and by 1 / g^2 far from 0."""
    measurement, denoiser, seen = one_level(sigma)
    none = torch.zeros_like
    walk = AnnealedLangevin(denoiser, measurement, none, count=400, size=annealed(0.4 * sigma**2))
    t, x = torch.zeros(()).double(), torch.zeros_like(seen)
    found, _ = walk.step(x, t, t, walk.init(x, t))

    def closed(noise):
        return (1 / (seen / noise + 1 / (C + sigma**2))) * measurement.y / noise

    assert torch.allclose(found, closed(GAMMA**2 + sigma**2), rtol=1e-4, atol=1e-6)
    if sigma == 3.0:
        assert float((found - closed(GAMMA**2)).abs().max()) > 0.5


def test_a_chain_draws_from_the_posterior_of_a_gaussian():
    """Mean and deviation over draws, complex, half of k-space measured."""
    recipe = dataclasses.replace(SelfScore.tiny(), size=(4, 4), channels=2, steps=60, repeats=5)
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    mask[..., 1:3] = True
    torch.manual_seed(1)
    y = mask * torch.randn(1, 1, 4, 4, dtype=torch.complex128)
    A, count = Mask(mask) @ Fourier(AXES), 800
    every = y.expand(count, -1, -1, -1)
    ones = torch.ones(count)
    acquired = Acquired(Measurement(every, A, GAMMA), A.adjoint(every), ones, ones, A.adjoint)
    denoiser = Counted(GaussianDenoiser(recipe.chain_schedule(), 0.0, C**0.5))
    k = Fourier(AXES)(recipe.chain(denoiser, acquired, gaussian))
    mean = y * C / (C + GAMMA**2)
    assert float((k.mean(0) - mean).abs().max()) < 0.08
    seen, unseen = (k.real.std(0)[0][where[0, 0]] for where in (mask, ~mask))
    assert float(seen.mean()) == pytest.approx((1 / (1 / C + 1 / GAMMA**2)) ** 0.5, rel=0.15)
    assert float(unseen.mean()) == pytest.approx(C**0.5, rel=0.1)
    assert denoiser.calls == 60 * 5 + 1, "K steps a level, and a last denoising"


def test_ladder_and_steps_are_those_of_the_paper_and_of_technique_4():
    recipe = dataclasses.replace(SelfScore(), size=(64, 64), channels=2, scanned_coils=8)
    schedule = recipe.schedule()
    assert (recipe.steps, recipe.levels) == (266, 266)
    t = recipe.times(schedule)(2000)
    assert torch.allclose((t * 265).round(), t * 265) and float(t.max()) == 1
    ends = schedule.sigma(torch.tensor([0.0, 1.0]).double())
    assert ends.tolist() == pytest.approx([0.0066, 50.0])
    assert recipe.step_size() == pytest.approx(0.0573, abs=1e-3)
    few = dataclasses.replace(recipe, steps=5)
    assert few.step_size() == few.rate == 0.5, "longer steps do not contract with the likelihood"


# ---------------------------------------------------------------------------------- as a method
def test_it_trains_on_scans_and_predicts(recipe, cases, batch):
    torch.manual_seed(0)
    objective = recipe.objective()
    optimisers = {n: torch.optim.Adam(p.parameters(), 3e-3) for n, p in objective.players.items()}
    seen = {name: [] for name in objective.players}
    for step in range(24):
        torch.manual_seed(step % 4)
        for name, loss in objective.losses(batch):
            optimisers[name].zero_grad()
            loss.backward()
            optimisers[name].step()
            seen[name].append(float(loss.detach()))
    assert all(sum(v[-4:]) < sum(v[:4]) for v in seen.values()), seen
    asked = {"image": cases.batch([0, 1])["image"], "seed": torch.arange(2)}
    first, second = (recipe.predict(objective, asked) for _ in range(2))
    assert set(first) >= set(recipe.task.writes)
    assert all(torch.equal(v, second[k]) and bool(v.isfinite().all()) for k, v in first.items())
    alone = recipe.predict(objective, {k: v[1:] for k, v in asked.items()})
    assert torch.allclose(alone["image"], first["image"][1:], atol=1e-3)


def known(**more):
    return Facts(("kspace",), {}, {}, 0, (), 0.0, 0.0, 0.0, 2, **more)


def test_k_space_says_its_coils_and_size_and_statistics_of_images_are_not_looked_at(cases):
    fitted = SelfScore.tiny().fitted(known(raw={"kspace": (5, 40, 36)}))
    assert (fitted.scanned_coils, fitted.size, fitted.channels) == (5, (40, 36), 2)
    assert fitted == fitted.fitted(known(raw={"kspace": (5, 40, 36)}))
    facts = cases.facts()
    other = dataclasses.replace(facts, std=9.0, mean=7.0, diameter=1e3, spectrum={"image": (1.0,)})
    assert SelfScore.tiny().fitted(facts) == SelfScore.tiny().fitted(other)
    assert SelfScore.tiny().fitted(facts).scanned_coils == SelfScore.tiny().coils


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"values": "real"}, "--values must be channels"),
        ({"measurement": "ct"}, "--measurement must be mri"),
        ({"channels": 1}, "--channels must be 0 or 2"),
        ({"kept": 1.0}, "--kept"),
        ({"rate": 1.0}, "--rate"),
        ({"miss": 0.0}, "--miss"),
        ({"levels": 1}, "--levels"),
        ({"steps": 1}, "--steps"),
    ],
)
def test_what_it_cannot_do_is_refused(changed, said):
    with pytest.raises(UserError, match=said):
        dataclasses.replace(SelfScore.tiny(), **changed)


def test_data_without_scans_are_refused(recipe):
    class Labels(Stored):
        def batch(self, rows):
            return {"label": torch.zeros(len(rows))}

    with pytest.raises(UserError, match="neither k-space nor images"):
        recipe.measured(Labels(torch.zeros(2, 1))).batch([0])


# ------------------------------------------------------------------------------------- baselines
def test_the_self_supervised_network_is_compared_with_what_it_was_not_given(batch):
    torch.manual_seed(0)
    network = Splitting.of((32, 32), steps=1)
    given = []
    reconstruct = network.reconstruct
    network.reconstruct = lambda m, first: given.append(m) or reconstruct(m, first)
    optimiser = torch.optim.Adam(network.players["network"].parameters(), 2e-3)
    losses = []
    for step in range(8):
        torch.manual_seed(step % 2)
        ((_, loss),) = network.losses(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-2:]) < sum(losses[:2])
    seen = given[0].y.abs().sum(1, keepdim=True) > 0
    assert bool((seen & ~batch["mask"]).sum() == 0) and int(seen.sum()) < int(batch["mask"].sum())


def test_it_is_measured_beside_a_network_without_references_and_a_prior_with_them(
    recipe, cases, tmp_path, monkeypatch
):
    # the wavelets have tests of their own
    monkeypatch.setattr(
        f"{evaluate_without_references.__module__}.classical",
        lambda recipe, train: {"l1_wavelet": lambda m, x: x},
    )
    prior = dataclasses.replace(BayesMRI.tiny(), coils=3).fitted(cases.facts())
    asked = Asked(count=2, cache=tmp_path / "features", options=TrainOptions(steps=1, batch=2))
    two = dataclasses.replace(recipe, samples=2)
    half = cases.take(range(4))
    record = evaluate_without_references(
        *(two, two.objective(), half, half, asked),
        beside={"bayes-mri": (prior, prior.objective())},
    )
    found = record["baselines"]
    assert {"first", "l1_wavelet", "self_supervised", "bayes-mri"} <= set(found)
    assert all(math.isfinite(table["psnr"]["mean"]) for table in found.values())
    for other in (MCDDPM.tiny(), AdaDiff.tiny()):
        with pytest.raises(UserError, match="--beside: other is no prior of complex images"):
            Supervised("other", other, None, recipe, 0)
    grey = ScoreMRI.tiny()
    with pytest.raises(UserError, match="--beside: score-mri is no prior of complex images"):
        Supervised("score-mri", grey, None, recipe, 0)
