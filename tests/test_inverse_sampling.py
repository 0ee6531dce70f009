"""Solvers that claim the posterior converge to it: DAPS, annealed Langevin, particles."""

import pytest
import torch

from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import grids, prior
from radiffuse.diffusion.schedule import EDM, VE, VP
from radiffuse.errors import UserError
from radiffuse.inverse import (
    DAPS,
    SMC,
    AnnealedLangevin,
    Measurement,
    langevin_draw,
    matched_draw,
    white_draw,
)
from radiffuse.inverse.annealing import square_root
from radiffuse.inverse.particle import systematic
from radiffuse.operators import Fourier, Mask, Matrix
from radiffuse.testing import CorrelatedDenoiser, Counted, GaussianDenoiser, MixtureDenoiser

D, M = 4, 2


def problem(std=0.3, white=False):
    """A prior and a measurement, and the posterior's mean and covariance."""
    g = torch.Generator().manual_seed(0)
    root = 0.4 * torch.randn(D, D, generator=g, dtype=torch.float64)
    eye = torch.eye(D, dtype=torch.float64)
    covariance = 0.25 * eye if white else root @ root.mT + 0.05 * eye
    mean = torch.linspace(-0.3, 0.4, D, dtype=torch.float64)
    matrix = torch.randn(M, D, generator=g, dtype=torch.float64)
    y = torch.randn(1, M, generator=g, dtype=torch.float64)
    inner = matrix @ covariance @ matrix.mT + std**2 * torch.eye(M, dtype=torch.float64)
    gain = covariance @ matrix.mT @ torch.linalg.inv(inner)
    after = mean + gain @ (y[0] - matrix @ mean)
    return mean, covariance, y, Matrix(matrix), after, covariance - gain @ matrix @ covariance


def errors(make, steps, count=3000, white=False, schedule=None, grid=grids.uniform):
    """Distance of mean and covariance from the posterior's, in its own size."""
    schedule = schedule or EDM()
    mean, covariance, y, A, after, spread = problem(white=white)
    denoiser = CorrelatedDenoiser(schedule, mean, covariance)
    torch.manual_seed(0)
    like = torch.zeros(count, D, dtype=torch.float64)
    sampler = make(denoiser, Measurement(y.expand(count, M), A, 0.3))
    x = sampler(prior(schedule, like), grid(steps))
    scale = float(spread.trace() ** 0.5)
    return (
        float((x.mean(0) - after).norm()) / scale,
        float((x.mT.cov() - spread).norm() / spread.norm()),
    )


@pytest.mark.parametrize("steps", [3, 10])
def test_daps_with_the_exact_draw_is_exact_at_any_number_of_levels(steps):
    first, second = errors(lambda d, m: DAPS(d, m, draw=matched_draw()), steps)
    assert first < 0.05 and second < 0.08


def test_daps_with_the_white_draw_is_exact_for_white_data_and_only_there():
    first, second = errors(lambda d, m: DAPS(d, m, draw=white_draw(0.5)), 4, white=True)
    assert first < 0.05 and second < 0.08
    assert max(errors(lambda d, m: DAPS(d, m, draw=white_draw(0.5)), 4)) > 0.15


def test_daps_by_langevin_from_the_posterior_mean_comes_to_the_closed_form():
    """One flow step and many small Langevin steps draw what `white_draw` draws at once."""

    def make(d, m):
        return DAPS(d, m, draw=langevin_draw(count=100, rate=0.2, flow_steps=1))

    assert max(errors(make, 4, white=True)) < 0.1
    assert max(errors(make, 4)) > 0.15


@pytest.mark.parametrize("draw", [white_draw(0.5), matched_draw(), langevin_draw(200, 0.1, 1, 0.5)])
def test_a_draw_has_the_law_of_the_clean_image_given_both(draw):
    """One unknown: precisions of prior, x_t and y add up."""
    count, t = 20000, torch.tensor(0.4).double()
    alpha, sigma = float(VP().alpha(t)), float(VP().sigma(t))
    x_t, y = torch.full((count, 1), 0.6).double(), torch.full((count, 1), -0.2).double()
    A = Matrix(torch.tensor([[1.5]]).double())
    torch.manual_seed(0)
    x = draw(GaussianDenoiser(VP(), 0.0, 0.5), Measurement(y, A, 0.6), x_t, t, torch.randn_like)
    precision = 1 / 0.25 + alpha**2 / sigma**2 + 1.5**2 / 0.36
    expected = (alpha * 0.6 / sigma**2 - 1.5 * 0.2 / 0.36) / precision
    assert abs(float(x.mean()) - expected) < 0.01
    assert abs(float(x.var()) * precision - 1) < 0.08


def test_daps_asks_the_network_as_often_as_the_flow_has_steps():
    mean, covariance, y, A, _, _ = problem()
    denoiser = Counted(CorrelatedDenoiser(VP(), mean, covariance))
    sampler = DAPS(denoiser, Measurement(y, A, 0.3), draw=langevin_draw(count=2, flow_steps=4))
    sampler(prior(VP(), torch.zeros(1, D).double(), torch.randn_like), grids.uniform(5))
    assert denoiser.calls == 20


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_lanczos_gives_the_square_root_at_full_rank(kind):
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=g, dtype=kind)
    V = root @ root.mH
    values, vectors = torch.linalg.eigh(V)
    expected = (vectors * values.clamp(min=0).sqrt()) @ vectors.mH
    z = torch.randn(5, 2, 3, generator=g, dtype=kind)

    def apply(v):
        return (v.flatten(1) @ V.mT).view(v.shape)

    found = square_root(apply, z, 20)
    assert torch.allclose(found.flatten(1), z.flatten(1) @ expected.mT, atol=1e-8)
    assert torch.allclose(square_root(lambda v: 4 * v, z, 20), 2 * z), "a space of one dimension"


def test_annealed_langevin_converges_as_the_steps_multiply():
    schedule = VE(0.03, 5.0)

    def error(count, steps):
        return max(
            errors(
                lambda d, m: AnnealedLangevin(d, m, count=count, rate=0.3),
                steps,
                2000,
                schedule=schedule,
                grid=grids.ladder,
            )
        )

    coarse, fine = error(3, 20), error(30, 60)
    assert fine < 0.08 < coarse


def test_the_steps_of_annealed_langevin_follow_the_formula():
    schedule = VP()
    y, x = torch.tensor([[0.7, 0.0]]).double(), torch.tensor([[0.4, -0.2]]).double()
    A = Mask(torch.tensor([2.0, 0.0]).double())
    sampler = AnnealedLangevin(
        GaussianDenoiser(schedule, 0.0, 0.5), Measurement(y, A, 0.3), torch.ones_like, 1, 0.4, 0.5
    )
    t = s = torch.tensor(0.5).double()
    out, _ = sampler.step(x, t, s, sampler.init(x, t))
    a, v = float(schedule.alpha(s)), float(schedule.sigma(s) ** 2)
    precision = 1 / (0.25 * v / a**2 + 0.09)
    step = 0.4 / (1 / v + 4 * precision / a**2)
    score = -x / (a**2 * 0.25 + v)
    pull = torch.stack([2 * (y[:, 0] - 2 * x[:, 0] / a) * precision / a, torch.zeros(1)], 1)
    assert torch.allclose(out, x + step * (score + pull) + (2 * step) ** 0.5, atol=1e-8)


def test_particles_converge_to_the_posterior_as_they_multiply():
    def error(particles):
        return max(errors(lambda d, m: SMC(d, m, particles=particles, data_std=1.0), 100, 3072))

    few, many = error(2), error(3072)
    assert many < 0.08 and few > 1.5 * many


def test_the_weights_undo_a_wrong_twist():
    """A twist too sure of itself leaves a biased cloud; the weights take the bias out."""

    class Forgetful(SMC):
        def _resampled(self, x, cloud, threshold):
            return super()._resampled(x, cloud, -1.0)

    def error(kind):
        return max(errors(lambda d, m: kind(d, m, particles=3072, data_std=0.3), 100, 3072))

    assert error(SMC) < 0.12 and error(Forgetful) > 0.2


def test_particles_find_both_modes_where_conditioning_by_a_gaussian_cannot():
    """The second unknown is -1 or 1 (3 to 1); a y midway tells nothing of it, so it stays 3 to 1."""
    schedule = EDM(0.01, 20)
    means = torch.tensor([[0.5, -1.0], [0.5, 1.0]]).double()
    prior_denoiser = MixtureDenoiser(
        schedule, torch.tensor([0.75, 0.25]).double(), means, torch.tensor([0.2, 0.2]).double()
    )
    A, count = Matrix(torch.tensor([[1.0, 0.3]]).double()), 4000
    y = torch.full((count, 1), 0.5).double()
    torch.manual_seed(0)
    sampler = SMC(prior_denoiser, Measurement(y, A, 0.3), particles=count, data_std=1.0)
    x = sampler(prior(schedule, torch.zeros(count, 2).double()), grids.uniform(100))
    # p(y | mode) is normal with mean 0.5 -+ 0.3 and variance 0.04 * 1.09 + 0.09: equal, so 3 to 1
    assert abs(float((x[:, 1] < 0).double().mean()) - 0.75) < 0.06


def test_systematic_resampling_chooses_each_as_often_as_its_weight_says():
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]).double()
    for u in (0.01, 0.5, 0.99):
        chosen = systematic(weights.log(), torch.full((2, 1), u).double())
        for row, expected in zip(chosen, 4 * weights, strict=True):
            counts = torch.bincount(row, minlength=4)
            assert bool(((counts - expected).abs() < 1).all())
    many = torch.rand(4000, 1, generator=torch.Generator().manual_seed(0)).double()
    share = torch.bincount(systematic(weights[:1].log().expand(4000, 4), many).flatten())
    assert torch.allclose(share / 16000, weights[0].float(), atol=0.01)


def test_particles_of_a_case_do_not_depend_on_the_other_cases():
    mean, covariance, y, A, _, _ = problem()
    rows, K = torch.cat([y, y + 1, y - 1]).repeat_interleave(4, 0), 4

    def run(cases):
        rows_of = slice(K * cases.start, K * cases.stop)
        noise = Seeded(range(12)[rows_of])
        denoiser = CorrelatedDenoiser(EDM(), mean, covariance)
        m = Measurement(rows[rows_of], A, 0.3)
        like = torch.zeros(len(m.y), D).double()
        return SMC(denoiser, m, noise, particles=K)(prior(EDM(), like, noise), grids.uniform(15))

    assert torch.allclose(run(slice(0, 3))[4:8], run(slice(1, 2)), atol=1e-8)


def test_a_chain_that_ends_without_noise_ends_in_the_likelihood():
    schedule = VP()
    mean, covariance, y, A, after, spread = problem()
    count = 3000
    torch.manual_seed(0)
    sampler = SMC(
        CorrelatedDenoiser(schedule, mean, covariance),
        Measurement(y.expand(count, M), A, 0.3),
        particles=count,
    )
    like = torch.zeros(count, D, dtype=torch.float64)
    x = sampler(prior(schedule, like), grids.uniform(150))
    assert torch.allclose(x.mean(0), after, atol=0.05)
    assert torch.allclose(x.mT.cov(), spread, atol=0.05)


def test_at_the_end_the_weights_are_the_likelihood_of_the_clean_particles():
    mean, covariance, y, A, _, _ = problem()
    m = Measurement(y.expand(6, M), A, 0.3)
    sampler = SMC(CorrelatedDenoiser(EDM(), mean, covariance), m, particles=6)
    x, t = torch.randn(6, D, generator=torch.Generator().manual_seed(0)).double(), torch.tensor(0.5)
    cloud = sampler.init(x, t)
    ended = sampler._ended(cloud.x_0, cloud)
    assert torch.allclose(ended.log_weight[0], m.log_likelihood(sampler.denoiser(x, t)))
    assert not torch.allclose(ended.log_weight, cloud.log_weight, atol=0.1)


def test_particles_need_rows_and_noise():
    mean, covariance, y, A, _, _ = problem()
    denoiser = CorrelatedDenoiser(EDM(), mean, covariance)
    with pytest.raises(UserError, match="standard deviation > 0"):
        SMC(denoiser, Measurement(y, A, 0.0))
    sampler = SMC(denoiser, Measurement(y.expand(6, M), A, 0.3), particles=4)
    with pytest.raises(UserError, match="repeat each case K times"):
        sampler(torch.zeros(6, D).double(), grids.uniform(2))
    mixed = SMC(denoiser, Measurement(torch.cat([y, y + 1]), A, 0.3), particles=2)
    with pytest.raises(UserError, match="must share its measurement"):
        mixed(torch.zeros(2, D).double(), grids.uniform(2))


@pytest.mark.parametrize("real", [True, False])
def test_complex_measurements_of_real_and_complex_images(real):
    """Half of k-space of a white image: measured frequencies follow y, the others the prior."""
    count, schedule = 200, EDM()
    mask = Mask(torch.tensor([1.0, 0, 1, 0, 1, 0, 1, 0]).double())
    A = mask @ Fourier(1)
    kind = torch.float64 if real else torch.complex128
    g = torch.Generator().manual_seed(0)
    truth = 0.5 * torch.randn(1, 1, 8, generator=g, dtype=torch.float64).to(kind)
    y = A(truth).expand(count, 1, 8)
    m = Measurement(y, A, 0.1)
    like = torch.zeros(count, 1, 8, dtype=kind)
    samplers = (
        DAPS(GaussianDenoiser(schedule, 0.0, 0.5), m, draw=white_draw()),
        DAPS(GaussianDenoiser(schedule, 0.0, 0.5), m, draw=matched_draw()),
        DAPS(GaussianDenoiser(schedule, 0.0, 0.5), m, draw=langevin_draw(60)),
        SMC(GaussianDenoiser(schedule, 0.0, 0.5), m, particles=count),
        AnnealedLangevin(GaussianDenoiser(VE(0.02, 5), 0.0, 0.5), m, count=20),
    )
    gain = 0.25 / (0.25 + 0.01)
    for sampler in samplers:
        torch.manual_seed(0)
        grid = grids.ladder(30) if isinstance(sampler, AnnealedLangevin) else grids.uniform(15)
        x = sampler(prior(sampler.schedule, like), grid)
        assert x.is_complex() is not real
        k = Fourier(1)(x).mean(0)[0]
        assert float((k - gain * y[0, 0])[mask.mask > 0].abs().max()) < 0.12, type(sampler)
