"""Posterior denoisers and samplers against the closed form of linear-Gaussian problems."""

from functools import partial

import pytest
import torch

from radiffuse.diffusion.sample import DDPM, Heun, grids, prior
from radiffuse.diffusion.schedule import EDM, VP
from radiffuse.errors import UserError
from radiffuse.inverse import (
    DPS,
    Constrained,
    Measurement,
    MomentMatching,
    Proximal,
    PseudoInverse,
    RangeNull,
    REDDiff,
    RicianMeasurement,
    data_consistency,
)
from radiffuse.inverse.classical import biharmonic, cg_sense, zero_filled
from radiffuse.inverse.compressed import l1_wavelet, total_variation
from radiffuse.operators import Mask
from radiffuse.operators.base import Matrix
from radiffuse.testing import CorrelatedDenoiser, GaussianDenoiser

D, M = 4, 2


def problem(std=0.3, rows=3):
    """A prior, an operator, a measurement; and the posterior's mean and covariance."""
    generator = torch.Generator().manual_seed(0)
    root = 0.4 * torch.randn(D, D, generator=generator, dtype=torch.float64)
    covariance = root @ root.mT + 0.05 * torch.eye(D, dtype=torch.float64)
    mean = torch.linspace(-0.3, 0.4, D, dtype=torch.float64)
    matrix = torch.randn(M, D, generator=generator, dtype=torch.float64)
    y = torch.randn(1, M, generator=generator, dtype=torch.float64).expand(rows, M)
    gain = (
        covariance
        @ matrix.mT
        @ torch.linalg.inv(
            matrix @ covariance @ matrix.mT + std**2 * torch.eye(M, dtype=torch.float64)
        )
    )
    after = mean + gain @ (y[0] - matrix @ mean)
    spread = covariance - gain @ matrix @ covariance
    return mean, covariance, Measurement(y, Matrix(matrix), std), after, spread


@pytest.mark.parametrize("schedule", [VP(), EDM()], ids=["vp", "edm"])
@pytest.mark.parametrize("t", [0.1, 0.4, 0.8])
def test_moment_matching_is_the_posterior_s_own_denoiser(schedule, t):
    mean, covariance, measurement, after, spread = problem()
    at = torch.tensor(t, dtype=torch.float64)
    x_t = schedule.alpha(at) * mean + schedule.sigma(at) * torch.randn(3, D).double()
    conditioned = MomentMatching(CorrelatedDenoiser(schedule, mean, covariance), measurement)
    exact = CorrelatedDenoiser(schedule, after, spread)
    assert torch.allclose(conditioned(x_t, at), exact(x_t, at), atol=1e-8)


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_deviation_for_each_case_is_that_of_the_case_whatever_its_shape(shape):
    """Also where y has as many columns as there are cases."""
    mean, covariance, measurement, _, _ = problem(rows=2)
    std = torch.tensor([0.05, 1.0], dtype=torch.float64)
    both = Measurement(measurement.y, measurement.A, std.reshape(shape))
    x_t, t = torch.randn(2, D).double(), torch.tensor(0.4).double()
    x = torch.randn(2, D).double()
    for row in range(2):
        one = Measurement(measurement.y[:1], measurement.A, float(std[row]))
        for kind in (MomentMatching, Proximal, PseudoInverse):
            denoiser = CorrelatedDenoiser(VP(), mean, covariance)
            together = kind(denoiser, both)(x_t, t)[row : row + 1]
            assert torch.allclose(together, kind(denoiser, one)(x_t[row : row + 1], t), atol=1e-6)
        alone = one.log_likelihood(x[row : row + 1])
        assert torch.allclose(both.log_likelihood(x)[row : row + 1], alone)


@pytest.mark.parametrize(
    ("std", "said"),
    [(-0.1, "at least 0"), (float("nan"), "finite"), (torch.ones(2), "one for each of 3 cases"),
     (torch.ones(3, M), "one for each")],
)  # fmt: skip
def test_deviations_that_cannot_be_are_refused(std, said):
    _, _, measurement, _, _ = problem()
    with pytest.raises(UserError, match=said):
        Measurement(measurement.y, measurement.A, std)


@pytest.mark.parametrize("y", [torch.ones(3, M - 1), torch.ones(3, 1, M), torch.ones(2, M)])
def test_a_measurement_of_another_shape_than_the_operator_makes_is_refused(y):
    mean, covariance, measurement, _, _ = problem()
    wrong = Measurement(y.double(), measurement.A, 0.1)
    x_t, t = torch.randn(3, D).double(), torch.tensor(0.4).double()
    for kind in (Proximal, PseudoInverse):
        with pytest.raises(UserError, match="they must be equal"):
            kind(CorrelatedDenoiser(VP(), mean, covariance), wrong)(x_t, t)


@pytest.mark.parametrize("shape", [(1, 1, 1, 8), (1, 1, 8, 7), (1, 2, 8, 8)])
def test_classical_methods_refuse_another_shape_too(shape):
    """A row of a mask would be spread over all rows."""
    wrong = Measurement(torch.rand(shape), Mask(torch.ones(1, 1, 8, 8)), 0.1)
    like = torch.zeros(1, 1, 8, 8)
    for method in (
        zero_filled,
        partial(cg_sense, weight=0.1),
        partial(total_variation, weight=0.1),
        partial(l1_wavelet, weight=0.1),
        biharmonic,
    ):
        with pytest.raises(UserError, match="they must be equal"):
            method(wrong, like)


@pytest.mark.parametrize("shape", [(3, M - 1), (3, 1, M), (2, M)])
def test_solvers_that_use_y_itself_refuse_another_shape_too(shape):
    mean, covariance, measurement, _, _ = problem()
    y, A, denoiser = (
        torch.rand(shape).double(),
        measurement.A,
        CorrelatedDenoiser(VP(), mean, covariance),
    )
    x, times = torch.randn(3, D).double(), grids.uniform(3)
    wrong = Measurement(y, A, 0.1)
    project = data_consistency(wrong)
    for sampler in (REDDiff(denoiser, wrong), Constrained(DDPM(denoiser), project)):
        with pytest.raises(UserError, match="they must be equal"):
            sampler(x, times)
    for law in (Measurement, RicianMeasurement):
        with pytest.raises(UserError, match="they must be equal"):
            law(y, A, 0.1).log_likelihood(x)
    with pytest.raises(UserError, match="they must be equal"):
        RicianMeasurement(y, A, 0.1).residual(x)


def test_one_measurement_of_several_estimates_is_that_of_each():
    mean, covariance, measurement, _, _ = problem()
    one = Measurement(measurement.y[:1], measurement.A, 0.1)
    sampler = REDDiff(CorrelatedDenoiser(VP(), mean, covariance), one)
    assert sampler(torch.randn(3, D).double(), grids.uniform(3)).shape == (3, D)


def test_the_others_are_exact_for_white_data_and_only_there():
    """White prior: V = r^2 I is the truth, so all three agree with moment matching."""
    _, _, measurement, _, _ = problem()
    x_t, t = torch.randn(3, D).double(), torch.tensor(0.4).double()
    white = GaussianDenoiser(VP(), 0.0, 0.5)
    exact = MomentMatching(white, measurement)(x_t, t)
    for kind in (PseudoInverse, Proximal):
        assert torch.allclose(kind(white, measurement, data_std=0.5)(x_t, t), exact, atol=1e-8)
    mean, covariance, *_ = problem()
    correlated = CorrelatedDenoiser(VP(), mean, covariance)
    exact = MomentMatching(correlated, measurement)(x_t, t)
    for kind in (PseudoInverse, Proximal):
        assert not torch.allclose(kind(correlated, measurement)(x_t, t), exact, atol=1e-3)


def test_range_null_satisfies_the_measurement_and_keeps_the_null_space():
    mean, covariance, measurement, _, _ = problem(std=0.0)
    denoiser = CorrelatedDenoiser(VP(), mean, covariance)
    x_t, t = torch.randn(3, D).double(), torch.tensor(0.4).double()
    out = RangeNull(denoiser, measurement)(x_t, t)
    assert torch.allclose(measurement.A(out), measurement.y, atol=1e-6)
    change = out - denoiser(x_t, t)
    pseudo = torch.linalg.pinv(measurement.A.matrix) @ measurement.A.matrix
    assert torch.allclose(change @ pseudo.mT, change, atol=1e-6), "only the range changes"


def test_range_null_leaves_to_the_prior_what_y_tells_worse_than_the_chain():
    """Singular values 1 and 0.01 under noise 0.1: at the level 0.5 the first is known to 0.1, the second to 10."""
    t = torch.tensor(0.5).double()
    schedule = EDM()
    level = float(schedule.sigma(t))
    A = Matrix(torch.diag(torch.tensor([1.0, 0.01]).double()))
    y = torch.tensor([[0.6, 0.5]]).double()
    white = GaussianDenoiser(schedule, 0.0, 0.5)
    x_t = torch.zeros(1, 2).double()
    out = RangeNull(white, Measurement(y, A, 0.1 * level))(x_t, t)
    assert float(out[0, 0]) == pytest.approx(0.6, rel=0.02)
    assert abs(float(out[0, 1])) < 1.0, "A^+ y is 50"


def test_pigdm_does_not_overshoot_where_images_are_smoother_than_white():
    """One direction of variance 100 among 64 of mean variance 1: V inside is 1, outside 100 at high noise."""
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=torch.float64))
    variances = torch.full((64,), 0.01, dtype=torch.float64)
    variances[0] = 60.0
    prior_denoiser = CorrelatedDenoiser(
        EDM(), torch.zeros(64).double(), (basis * variances) @ basis.mT
    )
    A = Matrix(torch.eye(64, dtype=torch.float64)[::2])
    truth = 7.0 * basis[:, 0][None]
    measurement = Measurement(A(truth), A, 0.01)
    t = torch.tensor(0.9).double()
    x_t = truth + EDM().sigma(t) * torch.randn(1, 64, generator=generator, dtype=torch.float64)
    told = PseudoInverse(prior_denoiser, measurement, data_std=1.0)(x_t, t)
    before = float((prior_denoiser(x_t, t) - truth).norm())
    assert float((told - truth).norm()) < 0.5 * before


def drawn(sampler_of, count=4000, steps=60):
    mean, covariance, measurement, after, spread = problem(rows=count)
    torch.manual_seed(0)
    prior_denoiser = CorrelatedDenoiser(EDM(), mean, covariance)
    sampler, times = sampler_of(prior_denoiser, measurement, steps)
    like = torch.zeros(count, D, dtype=torch.float64)
    x = sampler(prior(sampler.schedule, like, torch.randn_like), times)
    return x, after, spread


def test_any_sampler_on_the_conditioned_denoiser_draws_from_the_posterior():
    def ancestral(denoiser, measurement, steps):
        return DDPM(MomentMatching(denoiser, measurement)), grids.uniform(steps)

    def flow(denoiser, measurement, steps):
        return Heun(MomentMatching(denoiser, measurement)), grids.uniform(steps // 2)

    for sampler_of, steps in ((ancestral, 400), (flow, 60)):
        x, after, spread = drawn(sampler_of, steps=steps)
        assert torch.allclose(x.mean(0), after, atol=0.05)
        assert torch.allclose(x.T.cov(), spread, atol=0.06)


def test_without_the_covariance_of_the_prior_the_posterior_is_missed():
    """The white approximation is not a posterior sampler for correlated data: the test can tell."""

    def white(denoiser, measurement, steps):
        return DDPM(Proximal(denoiser, measurement)), grids.uniform(steps)

    x, after, spread = drawn(white)
    missed = (x.mean(0) - after).abs().max() + (x.T.cov() - spread).abs().max()
    assert float(missed) > 0.1


def test_dps_moves_towards_the_measurement_by_the_gradient_of_the_residual():
    mean, covariance, measurement, _, _ = problem()
    denoiser = CorrelatedDenoiser(VP(), mean, covariance)
    x_t = torch.randn(3, D).double()
    t, s = torch.tensor(0.5).double(), torch.tensor(0.45).double()
    still = DPS(denoiser, measurement, torch.zeros_like, scale=0.0).step(x_t, t, s, None)[0]
    plain = DDPM(denoiser, torch.zeros_like).step(x_t, t, s, None)[0]
    assert torch.allclose(still, plain)
    moved = DPS(denoiser, measurement, torch.zeros_like, scale=0.1).step(x_t, t, s, None)[0]

    def residual(x):
        return (measurement.y - measurement.A(denoiser(x, t))).norm(dim=1)

    h = 1e-6
    for axis in range(D):
        e = torch.zeros(D).double()
        e[axis] = h
        slope = (residual(x_t + e) - residual(x_t - e)) / (2 * h)
        assert torch.allclose((still - moved)[:, axis], 0.1 * slope, atol=1e-6)


def test_a_case_does_not_depend_on_its_batch():
    mean, covariance, measurement, _, _ = problem()
    x_t, t = torch.randn(3, D).double(), torch.tensor(0.4).double()
    for kind in (MomentMatching, PseudoInverse, Proximal, RangeNull):
        together = kind(CorrelatedDenoiser(VP(), mean, covariance), measurement)(x_t, t)
        one = Measurement(measurement.y[1:2], measurement.A, measurement.std)
        alone = kind(CorrelatedDenoiser(VP(), mean, covariance), one)(x_t[1:2], t)
        assert torch.allclose(together[1:2], alone, atol=1e-9)
