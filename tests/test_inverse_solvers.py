"""DiffPIR, RED-diff, the gradient through the network, volumes by a prior of slices."""

import math

import pytest
import torch

from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded
from radiffuse.diffusion.sample import DDIM, grids, prior
from radiffuse.diffusion.schedule import EDM, VE, VP
from radiffuse.errors import UserError
from radiffuse.inverse import (
    DPS,
    AnnealedLangevin,
    DiffPIR,
    Measurement,
    MomentMatching,
    Proximal,
    PseudoInverse,
    RangeNull,
    REDDiff,
    Slicewise,
    ThroughPlane,
    langevin_draw,
    residual_gradient,
)
from radiffuse.operators import BlockMean, Fourier, Identity, LinearOperator, Mask, Matrix
from radiffuse.testing import CorrelatedDenoiser, GaussianDenoiser


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def test_the_estimate_of_diffpir_minimises_its_objective():
    A, y, x_t, t, s = Matrix(drawn(3, 5)), drawn(2, 3, seed=1), drawn(2, 5, seed=2), at(0.5), 0.3
    denoiser = GaussianDenoiser(VP(), 0.2, 0.5)
    x_hat = denoiser(x_t, t)
    rho = 8 * s**2 * VP().alpha(t) ** 2 / VP().sigma(t) ** 2
    normal = A.matrix.mT @ A.matrix + rho * torch.eye(5)
    expected = torch.linalg.solve(normal, (A.matrix.mT @ y.mT + rho * x_hat.mT)).mT
    found = DiffPIR(denoiser, Measurement(y, A, s))._estimate(x_t, t)
    assert torch.allclose(found, expected, atol=1e-6)


def test_the_step_of_diffpir_noises_by_zeta():
    denoiser, A = GaussianDenoiser(VP(), 0.2, 0.5), Matrix(drawn(3, 5))
    measurement = Measurement(drawn(1, 3, seed=1), A, 0.3)
    x_t, t, s, zeta = drawn(1, 5, seed=2), at(0.5), at(0.4), 0.36
    sampler = DiffPIR(denoiser, measurement, torch.ones_like, zeta=zeta)
    x_0 = sampler._estimate(x_t, t)
    z = (x_t - VP().alpha(t) * x_0) / VP().sigma(t)
    expected = VP().alpha(s) * x_0 + VP().sigma(s) * (0.8 * z + 0.6)
    assert torch.allclose(sampler.step(x_t, t, s, None)[0], expected)


def test_diffpir_without_fresh_noise_is_ddim_on_the_proximal_denoiser_of_a_wide_prior():
    mean, covariance = torch.zeros(5).double(), torch.eye(5).double() * 0.25
    denoiser = CorrelatedDenoiser(VP(), mean, covariance)
    measurement = Measurement(drawn(2, 3, seed=1), Matrix(drawn(3, 5)), 0.3)
    start = prior(VP(), torch.zeros(2, 5).double(), lambda like: drawn(*like.shape))
    ours = DiffPIR(denoiser, measurement, weight=1.0, zeta=0.0)(start, grids.uniform(8))
    theirs = DDIM(Proximal(denoiser, measurement, data_std=1e4))(start, grids.uniform(8))
    assert torch.allclose(ours, theirs, atol=1e-4)
    narrow = DDIM(Proximal(denoiser, measurement, data_std=0.5))(start, grids.uniform(8))
    assert not torch.allclose(ours, narrow, atol=1e-2)


def test_a_step_of_red_diff_descends_its_objective():
    """The first step of Adam is `rate` times the sign of the gradient, worked out by hand."""
    mean, covariance = (
        torch.zeros(4).double(),
        torch.diag(torch.tensor([0.1, 0.2, 0.3, 0.4]).double()),
    )
    denoiser = CorrelatedDenoiser(VP(), mean, covariance)
    A, y, t = Matrix(drawn(2, 4)), drawn(1, 2, seed=3), at(0.6)
    sampler = REDDiff(denoiser, Measurement(y, A, 0.1), torch.ones_like, weight=0.7, rate=0.01)
    state = sampler.init(torch.zeros(1, 4).double(), t)
    start = state.mean.clone()
    assert torch.allclose(start, y @ torch.linalg.pinv(A.matrix).mT, atol=1e-6), "A^+ y"
    a, v = float(VP().alpha(t)), float(VP().sigma(t))
    noisy = a * start + v
    predicted = (noisy - a * denoiser(noisy, t)) / v
    gradient = 0.7 * v / a * (predicted - 1) - A.adjoint(y - A(start))
    moved, _ = sampler.step(start, t, at(0.5), state)
    assert torch.allclose(moved, start - 0.01 * gradient.sign(), atol=1e-6)


def test_red_diff_explains_the_measurement_and_pulls_the_rest_to_the_prior():
    prior_mean = torch.full((4,), 0.6).double()
    denoiser = CorrelatedDenoiser(VP(), prior_mean, 0.01 * torch.eye(4).double())
    mask = Mask(torch.tensor([1.0, 1.0, 0.0, 0.0]).double())
    y = torch.tensor([[0.4, 0.8, 0.0, 0.0]]).double()
    torch.manual_seed(0)
    sampler = REDDiff(denoiser, Measurement(y, mask, 0.1), rate=0.02)
    x = sampler(torch.zeros(1, 4).double(), grids.uniform(300))
    assert torch.allclose(x[:, :2], y[:, :2], atol=0.1)
    assert torch.allclose(x[:, 2:], prior_mean[2:], atol=0.1)


class Curved(Denoiser):
    """A small denoiser that is not linear."""

    def __init__(self):
        super().__init__()
        self.schedule, self.matrix = VP(), 0.5 * drawn(5, 5, seed=9)

    def forward(self, x_t, t):
        return torch.tanh(x_t @ self.matrix)


@pytest.mark.parametrize("squared", [False, True])
def test_the_gradient_goes_through_the_network(squared):
    measurement = Measurement(drawn(2, 3, seed=1), Matrix(drawn(3, 5)), 0.1)
    W, x, t = drawn(4, 3, seed=4), drawn(2, 5, seed=2), at(0.3)
    x_0, size, gradient = residual_gradient(
        Curved(), measurement, x, t, lambda r: r @ W.mT, squared
    )

    def objective(x):
        norm = (measurement.residual(Curved()(x, t)) @ W.mT).norm(dim=1)
        return norm**2 if squared else norm

    assert torch.equal(x_0, Curved()(x, t))
    assert torch.allclose(size, (measurement.residual(x_0) @ W.mT).norm(dim=1))
    h = 1e-6
    for k in range(5):
        e = torch.zeros(5).double()
        e[k] = h
        slope = (objective(x + e) - objective(x - e)) / (2 * h)
        assert torch.allclose(gradient[:, k], slope, atol=1e-6)


def test_the_two_forms_of_the_gradient_differ_by_twice_the_norm():
    measurement = Measurement(drawn(2, 3, seed=1), Matrix(drawn(3, 5)), 0.1)
    x, t = drawn(2, 5, seed=2), at(0.3)
    _, size, plain = residual_gradient(Curved(), measurement, x, t)
    _, _, squared = residual_gradient(Curved(), measurement, x, t, squared=True)
    assert torch.allclose(squared, 2 * size[:, None] * plain)


def test_on_a_linear_manifold_the_gradient_stays_on_it():
    """Data U a: the direction lies in span(U), which a gradient that skips the network does not."""
    U = torch.linalg.qr(drawn(6, 2)).Q
    denoiser = CorrelatedDenoiser(VE(), torch.zeros(6).double(), U @ U.mT)
    measurement = Measurement(drawn(1, 4, seed=1), Matrix(drawn(4, 6)), 0.1)
    x = drawn(1, 6, seed=2)
    x_0, _, g = residual_gradient(denoiser, measurement, x, at(0.5), squared=True)
    assert (g - g @ U @ U.mT).norm() < 1e-6 * g.norm()
    sigma2 = VE().sigma(at(0.5)) ** 2
    residual = measurement.adjoint(measurement.residual(x_0), x)
    assert torch.allclose(g, -2 / (1 + sigma2) * residual @ U @ U.mT, atol=1e-9)
    assert (residual - residual @ U @ U.mT).norm() > 0.1 * residual.norm()


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128])
def test_the_conditioned_denoisers_agree_on_white_data_seen_by_a_complex_operator(kind):
    A = Mask((drawn(4, 6, seed=5) > 0).double()) @ Fourier(2)
    x_t = torch.complex(drawn(2, 1, 4, 6), drawn(2, 1, 4, 6, seed=1))
    x_t = x_t if kind.is_complex else x_t.real
    y = A(x_t.flip(0)) + 0.01 * A(x_t)
    measurement = Measurement(y, A, 0.1)
    white = GaussianDenoiser(VP(), 0.0, 0.5)
    exact = MomentMatching(white, measurement)(x_t, at(0.4))
    assert exact.dtype == kind
    for other in (PseudoInverse, Proximal):
        assert torch.allclose(other(white, measurement, 0.5)(x_t, at(0.4)), exact, atol=1e-8)
    kept = RangeNull(white, Measurement(y, A, 0.0))(x_t, at(0.4))
    assert kept.dtype == kind and measurement.residual(kept).abs().max() < 1e-6
    moved, _ = DPS(white, measurement).step(x_t, at(0.4), at(0.3), None)
    assert moved.dtype == kind


def test_a_case_of_every_sampler_does_not_depend_on_its_batch():
    A, y = Matrix(drawn(3, 5)), drawn(3, 3, seed=1)
    denoiser = Curved()

    def run(make, rows):
        noise = Seeded(range(3)[rows])
        sampler = make(denoiser, Measurement(y[rows], A, 0.3), noise)
        x = prior(VP(), torch.zeros(len(y[rows]), 5).double(), noise)
        return sampler(x, grids.uniform(4))

    for make in (DiffPIR, REDDiff, DPS):
        together, alone = run(make, slice(0, 3)), run(make, slice(1, 2))
        assert torch.allclose(together[1:2], alone, atol=1e-9), make


class Watched(Denoiser):
    """A denoiser of slices that notes how many it is given at once."""

    def __init__(self):
        super().__init__()
        self.schedule, self.seen = EDM(), []

    def forward(self, x_t, t):
        self.seen.append(tuple(x_t.shape))
        times = torch.as_tensor(t).reshape(-1, *[1] * (x_t.ndim - 1)).to(x_t)
        return x_t * times + x_t.mean((-1, -2), keepdim=True)


@pytest.mark.parametrize("rows", [False, True])
def test_a_volume_is_denoised_slice_by_slice_in_bounded_memory(rows):
    prior_of_slices = Watched()
    x = drawn(2, 1, 5, 4, 6)
    t = torch.tensor([0.2, 0.7]) if rows else torch.tensor(0.4)
    out = Slicewise(prior_of_slices, chunk=3)(x, t)
    assert out.shape == x.shape
    assert all(shape[0] <= 3 and shape[1:] == (1, 4, 6) for shape in prior_of_slices.seen)
    for k in range(5):
        assert torch.allclose(out[:, :, k], Watched()(x[:, :, k], t))


def volume_problem(seed=0):
    A = BlockMean((1, 2, 2))
    truth = drawn(2, 1, 6, 4, 4, seed=seed)
    return truth, Measurement(A(truth) + 0.1 * drawn(2, 1, 6, 2, 2, seed=7), A, 0.2)


def test_without_total_variation_it_is_the_proximal_denoiser():
    x_t, measurement = volume_problem()
    prior_of_slices = GaussianDenoiser(EDM(), 0.0, 0.5)
    ours = ThroughPlane(prior_of_slices, measurement, weight=0.0)(x_t, at(0.3))
    assert torch.allclose(ours, Proximal(prior_of_slices, measurement)(x_t, at(0.3)), atol=1e-8)
    small = ThroughPlane(prior_of_slices, measurement, weight=1e-9, rounds=100)(x_t, at(0.3))
    assert torch.allclose(ours, small, atol=1e-5)


class Turned(LinearOperator):
    """An operator of volumes whose first axis has become the last."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x):
        return self.inner(x.movedim(-1, 2))

    def adjoint(self, y):
        return self.inner.adjoint(y).movedim(2, -1)


def test_slices_may_lie_along_any_axis():
    """A turned volume gives the turned result."""
    x_t, measurement = volume_problem()
    turned = Measurement(measurement.y, Turned(measurement.A), measurement.std)
    prior = GaussianDenoiser(EDM(), 0.1, 0.5)
    expected = ThroughPlane(Slicewise(prior), measurement, 2.0)(x_t, at(0.3))
    found = ThroughPlane(Slicewise(prior, axis=2), turned, 2.0, axis=2)(x_t.movedim(2, -1), at(0.3))
    assert torch.allclose(found.movedim(-1, 2), expected, atol=1e-6)
    watched = Watched()
    Slicewise(watched, axis=1)(x_t, at(0.3))
    assert {shape[1:] for shape in watched.seen} == {(1, 6, 4)}


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("weight", [0.3, 3.0])
def test_the_volume_minimises_data_prior_and_total_variation(weight, complex_):
    """Convex: no small change of the result may lower the objective."""
    x_t, measurement = volume_problem()
    if complex_:
        x_t = torch.complex(x_t, x_t.flip(2))
        measurement = Measurement(measurement.A(x_t.flip(-1)), measurement.A, 0.2)
    prior_of_slices, t = GaussianDenoiser(EDM(), 0.0, 0.5), at(0.3)
    solver = ThroughPlane(prior_of_slices, measurement, weight, rounds=400, iterations=30)
    x, x_0 = solver(x_t, t), prior_of_slices(x_t, t)
    r2 = EDM().sigma(t) ** 2 * 0.25 / (0.25 + EDM().sigma(t) ** 2)

    def objective(x):
        data = measurement.residual(x).abs().square().sum() / (2 * 0.04)
        near = (x - x_0).abs().square().sum() / (2 * r2)
        return float(data + near + weight * x.diff(dim=2).abs().sum())

    least = objective(x)
    assert least < objective(x_0) and least < objective(measurement.nearest(x_0, r2))
    for seed in range(20):
        for size in (1e-1, 1e-2, 1e-3):
            change = drawn(*x.shape, seed=seed)
            flat = change[:, :, :1].expand_as(change)  # also changes that keep the jumps
            assert objective(x + size * change) > least - 1e-7
            assert objective(x + size * flat) > least - 1e-7


def test_a_high_price_makes_all_slices_equal():
    x_t, measurement = volume_problem()
    prior_of_slices, t = GaussianDenoiser(EDM(), 0.0, 0.5), at(0.3)
    x = ThroughPlane(prior_of_slices, measurement, 1e4, rounds=300, iterations=30)(x_t, t)
    assert float(x.diff(dim=2).abs().max()) < 1e-3


def test_a_volume_s_noise_is_suppressed_through_the_plane():
    """A volume of equal slices, noisy: total variation along z brings the error down."""
    truth = drawn(1, 1, 1, 4, 4).expand(1, 1, 8, 4, 4)
    measurement = Measurement(truth + 0.3 * drawn(1, 1, 8, 4, 4, seed=2), Identity(), 0.3)
    prior_of_slices = Slicewise(GaussianDenoiser(EDM(), 0.0, 1.0), chunk=4)

    def error(weight):
        solver = ThroughPlane(prior_of_slices, measurement, weight, data_std=1.0, rounds=20)
        x = DDIM(solver)(prior(EDM(), truth, Seeded([0])), grids.uniform(15))
        return float((x - truth).square().mean())

    assert error(5.0) < 0.5 * error(0.0)


def test_a_volume_needs_a_measurement_with_noise():
    _, measurement = volume_problem()
    quiet = Measurement(measurement.y, measurement.A, 0.0)
    with pytest.raises(UserError, match="standard deviation above 0"):
        ThroughPlane(GaussianDenoiser(EDM(), 0.0, 0.5), quiet)


def test_the_likelihood_is_that_of_its_noise():
    measurement = Measurement(drawn(2, 3), Identity(), 0.5)
    x = drawn(2, 3, seed=1)
    normal = torch.distributions.Normal(x, 0.5).log_prob(measurement.y).sum(1)
    constant = 3 * math.log(0.5 * math.sqrt(2 * math.pi))
    assert torch.allclose(measurement.log_likelihood(x), normal + constant)


@pytest.mark.parametrize("cases", [4, 3])
@pytest.mark.parametrize("solver", ["draw", "annealed"])
def test_each_case_has_its_own_deviation_whatever_the_axes_of_y(solver, cases):
    torch.manual_seed(0)
    A, x = Matrix(torch.randn(10, 16), (1, 4, 4)), torch.randn(cases, 1, 4, 4)
    std, t = torch.linspace(0.1, 0.8, cases).reshape(cases, 1), torch.tensor(0.5).double()
    y, prior = A(x), GaussianDenoiser(VE(), 0.0, 0.5)

    def run(measurement, start, seeds):
        noise = Seeded(seeds)
        if solver == "draw":
            return langevin_draw(3)(prior, measurement, start, t, noise)
        chain = AnnealedLangevin(prior, measurement, noise)
        return chain.step(start, t, t - 0.1, chain.init(start, t))[0]

    both = run(Measurement(y, A, std), x, range(cases))
    alone = [
        run(Measurement(y[b : b + 1], A, float(std[b])), x[b : b + 1], [b]) for b in range(cases)
    ]
    torch.testing.assert_close(both, torch.cat(alone), atol=1e-4, rtol=1e-4)
