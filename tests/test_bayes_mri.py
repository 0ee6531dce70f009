"""bayes-mri: the chain against its closed form, its estimates, its limits of stability."""

import dataclasses
import math

import pytest
import torch

from radiffuse.acquisition import MRI, Acquired
from radiffuse.applications.reconstruction.bayes_mri import BayesMRI, PosteriorChain, uniform
from radiffuse.applications.reconstruction.complex_prior import random_phase
from radiffuse.applications.reconstruction.measuring import as_complex
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.schedule import VE
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement
from radiffuse.operators import Fourier, Mask
from radiffuse.testing import Counted, GaussianDenoiser

VARIANCE = 0.25


def inpainting(count, pixels=8):
    """Half the pixels of images N(0, VARIANCE I) seen without noise: y, A, and which."""
    seen = torch.zeros(1, 1, pixels, 1, dtype=torch.float64)
    seen[:, :, ::2] = 1
    truth = 0.5 * torch.randn(1, 1, pixels, 1, dtype=torch.float64).expand(count, 1, pixels, 1)
    return Measurement(seen * truth, Mask(seen), 0.0), seen, truth


def gaussian_prior(recipe):
    return GaussianDenoiser(recipe.chain_schedule(), 0.0, VARIANCE**0.5)


def recursion(recipe, seen, y):
    """Mean and variance of the chain after every level, from U[0, 1): the closed form of the card."""
    sigma = recipe.chain_schedule().sigma(recipe.levels(recipe.chain_schedule()))
    m, v = torch.full_like(seen, 0.5), torch.full_like(seen, 1 / 12)
    for high, low in zip(sigma[:-1].tolist(), sigma[1:].tolist(), strict=True):
        d = high**2 - low**2
        tau = math.sqrt(low**2 * d / high**2)
        pull = recipe.weight_of_data * tau
        keep = 1 - recipe.weight_of_score * d / (VARIANCE + high**2) - pull * seen
        for _ in range(recipe.repeats):
            m, v = keep * m + pull * seen * y, keep**2 * v + tau**2
    return m, v


NCSN = BayesMRI(
    ladder=10, lowest=0.01, highest=0.3, steps=10, repeats=50, skip=0.0,
    weight_of_data=13.0, weight_of_score=0.25,
)  # fmt: skip


@pytest.mark.parametrize(
    "recipe",
    [BayesMRI(steps=20, skip=0.0, repeats=1), BayesMRI(steps=20, skip=0.0), NCSN],
    ids=["once", "five times", "ncsn"],
)
def test_mean_and_variance_of_the_chain_are_those_of_the_recursion(recipe):
    torch.manual_seed(1)
    measurement, seen, truth = inpainting(4000)
    acquired = Acquired(
        measurement, measurement.y, torch.ones(1), torch.ones(1), measurement.adjoint
    )
    x = recipe.chain(gaussian_prior(recipe), acquired, gaussian)
    mean, variance = recursion(recipe, seen, truth[:1])
    assert torch.allclose(
        x.mean(0, keepdim=True), mean, atol=4.5 * float(variance.max() / 4000) ** 0.5
    )
    ratio = x.var(0, keepdim=True) / variance
    assert torch.allclose(ratio, torch.ones_like(ratio), atol=4.5 * (2 / 4000) ** 0.5)


def test_a_step_is_the_score_the_drift_to_the_data_and_the_ancestral_noise():
    """x + kappa d s - lambda tau (A^H A x - A^H y) + tau z, all of them at x."""
    measurement, _, _ = inpainting(3)
    prior, (t, s) = GaussianDenoiser(VE(0.01, 1.0), 0.3, 0.5), torch.tensor([0.9, 0.8]).double()
    chain = PosteriorChain(prior, measurement, gaussian, weight=7.0, kappa=0.4)
    x, z = torch.randn(2, 3, 1, 8, 1, dtype=torch.float64)
    high, low = prior.schedule.sigma(t), prior.schedule.sigma(s)
    d = high**2 - low**2
    tau = (low**2 * d / high**2).sqrt()
    score = (prior(x, t) - x) / high**2
    drift = measurement.A.adjoint(measurement.A(x)) - measurement.A.adjoint(measurement.y)
    expected = x + 0.4 * d * score - 7 * tau * drift + tau * z
    assert torch.allclose(chain.once(x, t, s, z), expected, atol=1e-9)
    assert torch.allclose(chain.once(x, t, s, None), expected - tau * z, atol=1e-9)


def test_uncertainty_is_small_where_measured_and_the_prior_s_elsewhere_if_k_is_one():
    """More steps a level keep the ancestral noise: what is unmeasured tends to half the variance."""
    once = dataclasses.replace(
        BayesMRI(), steps=2000, repeats=1, skip=0.0, highest=10.0, weight_of_data=0.5
    )
    for repeats, share in ((1, 1.0), (20, 0.5)):
        recipe = dataclasses.replace(once, repeats=repeats)
        _, seen, truth = inpainting(1)
        _, variance = recursion(recipe, seen, truth)
        assert float(variance[seen == 1].max()) < 0.05 * VARIANCE
        expected = torch.tensor(share * VARIANCE).double()
        assert torch.allclose(variance[seen == 0], expected, rtol=0.05)


def mri(count=1, size=16):
    """One simulated single-coil scan, `count` times."""
    scanner = MRI("gaussian-points", 3.0, 6, coils=1, noise=0.0, real=False, demodulated=False)
    one = scanner.simulate(
        torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(2)), [1]
    )
    y = one.measurement.y.expand(count, -1, -1, -1)
    measurement = dataclasses.replace(one.measurement, y=y)
    return dataclasses.replace(
        one, measurement=measurement, first=one.first.expand(count, -1, -1, -1)
    )


def test_the_mean_of_draws_is_better_than_a_draw_and_gains_with_their_number():
    """MSE(mean of n) = bias + variance / n: its fall from 1 to 32 draws is variance (1 - 1/32)."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(BayesMRI(), steps=40, repeats=2)
    acquired = mri(count=160)
    drawn = recipe.chain(gaussian_prior(recipe), acquired, gaussian)
    reference = drawn.mean(0)

    def error(n):
        groups = drawn.unflatten(0, (-1, n)).mean(1)
        return float((groups - reference).abs().square().sum((1, 2, 3)).mean())

    errors = [error(n) for n in (1, 4, 16)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] / errors[0] == pytest.approx(0.25, rel=0.1)
    assert errors[2] / errors[0] == pytest.approx(1 / 16, rel=0.35)


def test_the_extension_lowers_the_residual_and_the_posterior_s_score():
    recipe = dataclasses.replace(BayesMRI(), steps=40, repeats=2)
    acquired = mri(count=4)
    prior = gaussian_prior(recipe)
    sample = recipe.chain(prior, acquired, Seeded(range(4)))
    found = dataclasses.replace(recipe, extend=200).chain(prior, acquired, Seeded(range(4)))
    chain = PosteriorChain(prior, acquired.measurement, gaussian)
    last, s = recipe.levels(prior.schedule)[-2:]
    for size in (acquired.measurement.residual, lambda x: chain.once(x, last, s, None) - x):
        assert bool((_norm(size(found)) < 0.5 * _norm(size(sample))).all())
    for _ in range(200):
        sample = chain.once(sample, last, s, None)
    assert torch.allclose(found, sample, atol=1e-6), "without noise"


def _norm(x):
    return x.abs().square().flatten(1).sum(1)


def test_a_phase_of_the_data_turns_the_result_alike():
    """The analytic prior has no preferred phase, so the chain commutes with a turn of all it is given."""
    turn = torch.polar(torch.tensor(1.0), torch.tensor(0.7))
    acquired = mri(count=2)
    recipe = dataclasses.replace(BayesMRI(), steps=20, repeats=2)
    prior, m = gaussian_prior(recipe), acquired.measurement
    times = recipe.levels(prior.schedule)
    start = uniform(Seeded([3, 4]), acquired.first)
    noise, turned = Seeded([1, 2]), Seeded([1, 2])
    x = PosteriorChain(prior, m, noise)(start, times)
    other = Measurement(turn * m.y, m.A, m.std)
    x_turned = PosteriorChain(prior, other, lambda like: turn * turned(like))(turn * start, times)
    assert torch.allclose(x_turned, turn * x, atol=1e-5)


def test_levels_left_out_are_those_of_the_paper_and_more_where_unstable():
    """N = 100 begins at 0.123 with lambda tau = 1.03; the bound moves the start when N or lambda do."""
    schedule = VE(0.001, 1.0)

    def start(**changed):
        recipe = dataclasses.replace(BayesMRI(), **changed)
        sigma = schedule.sigma(recipe.levels(schedule))
        tau = sigma[1:] * (1 - (sigma[1:] / sigma[:-1]) ** 2).sqrt()
        return float(sigma[0]), float(recipe.weight_of_data * tau[0]), len(sigma)

    sigma, step, count = start()
    assert (sigma, step, count) == (
        pytest.approx(0.123, abs=1e-3),
        pytest.approx(1.03, abs=0.01),
        70,
    )
    for changed in ({"skip": 0.0}, {"steps": 1000, "skip": 0.0}, {"weight_of_data": 400.0}):
        _, step, _ = start(**changed)
        assert 1.5 < step < 2, "the first stable level"
    with pytest.raises(UserError, match="no level of 3 is stable"):
        start(steps=3, weight_of_data=1e5)


def test_a_chain_without_the_bound_diverges():
    """The check can fail: from sigma = 1 with lambda tau = 8.4 the same chain leaves every range."""
    recipe = BayesMRI()
    acquired = mri()
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.0, 0.5)
    chain = PosteriorChain(prior, acquired.measurement, Seeded([1]), 25.0, 5)
    free = chain(uniform(Seeded([2]), acquired.first), torch.linspace(1, 0, 100).double())
    kept = recipe.chain(prior, acquired, Seeded([1]))
    assert float(kept.abs().max()) < 10
    assert not float(free.abs().max()) < 10


def test_number_of_network_calls():
    recipe = dataclasses.replace(BayesMRI(), extend=7)
    acquired = mri()
    counted = Counted(gaussian_prior(recipe))
    recipe.chain(counted, acquired, Seeded([1]))
    assert counted.calls == (100 - 30 - 1) * 5 + 7


def test_the_start_is_uniform_in_both_parts():
    x = uniform(Seeded([1]), torch.zeros(1, 1, 100, 100, dtype=torch.complex64))
    for part in (x.real, x.imag):
        assert float(part.min()) >= 0
        assert float(part.max()) < 1
        assert float(part.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(part.var()) == pytest.approx(1 / 12, rel=0.03)


def test_the_ladder_of_ncsn_is_walked_and_trained_at_its_ten_levels_alone():
    schedule, steps = NCSN.schedule(), torch.arange(10) / 9
    ladder = torch.exp(torch.linspace(math.log(0.3), math.log(0.01), 10, dtype=torch.float64))
    walked = NCSN.chain_schedule().sigma(NCSN.levels(NCSN.chain_schedule()))
    assert torch.allclose(walked, ladder)
    trained = NCSN.times(schedule)(500)
    assert torch.allclose(trained, steps.double()[(9 * trained).round().long()])
    assert len(trained.unique()) == 10
    assert torch.allclose(schedule.sigma(trained).max(), ladder[0])
    between = BayesMRI().times(BayesMRI().schedule())(500)
    assert len(between.unique()) == 500


def states(recipe, seed, acquired):
    """The states of one chain after each level."""
    prior, told = gaussian_prior(recipe), []
    plain = PosteriorChain.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            PosteriorChain,
            "step",
            lambda self, *words: (told.append(plain(self, *words)), told[-1])[1],
        )
        x = recipe.chain(prior, acquired, Seeded([seed]))
    return [*(state[0] for state in told), x], recipe.levels(prior.schedule)


def test_draws_share_their_chain_until_the_burn_in_ends():
    recipe, acquired = BayesMRI(steps=20, repeats=2, burn_in=0.4, extend=3), mri()
    (one, times), (other, _) = (states(recipe, seed, acquired) for seed in (1, 2))
    same = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    shared = int((times > 0.4).sum())
    assert shared == 6 and len(times) == 14 and len(one) == 14
    assert same == [True] * shared + [False] * (len(one) - shared)
    apart = dataclasses.replace(recipe, burn_in=0.0)
    (one, _), (other, _) = (states(apart, seed, acquired) for seed in (1, 2))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_chain_that_is_split_is_one_chain_with_other_noise():
    """As many calls, the extension once; the last step is every draw's own however late the split."""
    recipe = BayesMRI(steps=20, repeats=2, burn_in=0.5, extend=7)
    counted = Counted(gaussian_prior(recipe))
    recipe.chain(counted, mri(), Seeded([1]))
    assert counted.calls == 13 * 2 + 7
    late = dataclasses.replace(recipe, burn_in=1e-6, extend=0)
    (one, _), (other, _) = (states(late, seed, mri()) for seed in (1, 2))
    assert [torch.equal(*pair) for pair in zip(one, other, strict=True)] == [True] * 12 + [
        False
    ] * 2


# --- the prior of complex images --------------------------------------------------------------------


def test_magnitudes_are_given_a_smooth_random_phase_and_keep_their_magnitude():
    torch.manual_seed(0)
    recipe = dataclasses.replace(BayesMRI.tiny(), channels=2)
    stored = 2 * torch.rand(6, 1, 16, 16) - 1
    first, second = (recipe.slices({"image": stored}) for _ in range(2))
    assert torch.allclose(first.abs(), (stored + 1) / 2, atol=1e-6)
    assert not torch.allclose(first, second, atol=0.1), "a new phase at every look"
    phase = random_phase((32, 32), 100, std=1.0)
    steps = (phase[..., 1:] * phase[..., :-1].conj()).angle().abs()
    assert float(steps.max()) < 1.5, "smooth"
    assert float(phase.mean((2, 3)).mean().abs()) < 0.15, "no phase is preferred"


def test_stored_real_and_imaginary_parts_are_used_as_they_are():
    recipe = dataclasses.replace(BayesMRI.tiny(), channels=2, coils=1, noise=0.0, calibration=4)
    stored = torch.rand(2, 2, 16, 16) - 0.5
    x = recipe.slices({"image": stored})
    assert torch.equal(x, torch.complex(stored[:, :1], stored[:, 1:]))
    assert torch.equal(as_complex(stored, 2), x)
    acquired = recipe.acquire({"image": stored})
    expected = acquired.mask * Fourier(2)(x)
    assert torch.allclose(acquired.measurement.y, expected, atol=1e-5)


def test_the_network_s_unit_is_that_of_complex_images():
    cases = open_cases("brains:count=12,size=32")
    facts = cases.facts()
    recipe = BayesMRI.tiny().fitted(facts)
    torch.manual_seed(0)
    x = recipe.slices(cases.batch(range(12)))
    parts = torch.cat([x.real, x.imag])
    assert recipe.channels == 2
    assert recipe.data_std == pytest.approx(float(parts.square().mean().sqrt()), rel=0.2)
    with pytest.raises(UserError, match="3 channels are neither grey nor complex"):
        BayesMRI.tiny().fitted(dataclasses.replace(facts, channels={"image": 3}))


def test_a_prior_of_grey_images_is_refused_where_channels_are_asked_and_serves_parts():
    cases = open_cases("brains:count=12,size=32")
    batch = {**cases.batch(range(2)), "seed": torch.arange(2)}
    grey = dataclasses.replace(BayesMRI.tiny(), values="parts").fitted(cases.facts())
    objective = grey.objective()
    assert grey.channels == 1
    assert grey.predict(objective, batch)["image"].shape == (2, 1, 32, 32)
    with pytest.raises(UserError, match="set values=parts"):
        dataclasses.replace(grey, values="channels").predict(objective, batch)
    with pytest.raises(UserError, match="set measurement=mri, not ct"):
        recipe = BayesMRI.tiny().fitted(cases.facts())
        dataclasses.replace(recipe, measurement="ct").predict(recipe.objective(), batch)
