"""Projections between steps, warm starts, and real priors on complex images."""

import math

import pytest
import torch

from radiffuse.diffusion.complex_images import Parts, TwoChannels
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDIM, DDPM, Langevin, Then, grids, prior
from radiffuse.diffusion.schedule import EDM, VE, VP
from radiffuse.errors import UserError
from radiffuse.inverse import Constrained, Measurement, data_consistency, low_pass, warm_start
from radiffuse.operators import BlockMean, Coils, Fourier, Mask, Matrix
from radiffuse.testing import Counted, GaussianDenoiser

ONE, ZERO = torch.ones(()).double(), torch.zeros(()).double()


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mri(batch=2, std=0.0):
    mask = Mask((drawn(6, 6, seed=3) > 0).double())
    truth = torch.complex(drawn(batch, 1, 6, 6, seed=1), drawn(batch, 1, 6, 6, seed=2))
    A = mask @ Fourier(2)
    return Measurement(A(truth), A, std), truth


class Watched(DDPM):
    """DDPM that keeps what it is given."""

    seen: list

    def step(self, x_t, t, s, state):
        self.seen.append(x_t)
        return super().step(x_t, t, s, state)


@pytest.mark.parametrize("schedule", [VP(), VE()], ids=["vp", "ve"])
def test_every_step_and_the_result_agree_with_the_measurement(schedule):
    measurement, truth = mri()
    sampler = Constrained(
        DDPM(Parts(GaussianDenoiser(schedule, 0.0, 0.5))), data_consistency(measurement)
    )
    torch.manual_seed(0)
    times = grids.uniform(5)
    trajectory = list(sampler.trajectory(prior(schedule, truth), times))
    assert len(trajectory) == 6
    for x, t in zip(trajectory, times[1:], strict=False):
        assert torch.allclose(measurement.A(x), schedule.alpha(t) * measurement.y, atol=1e-9)
    assert torch.allclose(measurement.A(trajectory[-1]), measurement.y, atol=1e-9)
    free = trajectory[-1] - truth
    assert free.abs().max() > 1e-3, "what is not measured is drawn"


def test_predictor_and_corrector_are_constrained_each():
    measurement, truth = mri()
    denoiser, project = GaussianDenoiser(VE(), 0.0, 0.5), data_consistency(measurement)
    counted = []

    def counting(x, alpha, sigma, noise):
        counted.append(float(sigma))
        return project(x, alpha, sigma, noise)

    sampler = Then(Constrained(DDPM(denoiser), counting), Constrained(Langevin(denoiser), counting))
    torch.manual_seed(0)
    x = sampler(prior(VE(), truth), grids.uniform(4))
    assert len(counted) == 2 * 4 + 1 and counted[-1] == 0
    assert torch.allclose(measurement.A(x), measurement.y, atol=1e-9)


def test_the_noise_of_the_measured_path_is_noise_of_the_image_seen_by_the_operator():
    """Cov(y_s - alpha y) = sigma^2 A A^T, not sigma^2 I (Song et al. 2022)."""
    A, count = Matrix(drawn(3, 5)), 20000
    measurement = Measurement(drawn(1, 3, seed=1).expand(count, 3), A, 0.0)
    torch.manual_seed(0)
    x = data_consistency(measurement, noised=True)(
        torch.zeros(count, 5).double(), 0.8 * ONE, 0.5 * ONE, gaussian
    )
    seen = A(x)
    cov = 0.25 * A.matrix @ A.matrix.mT
    assert torch.allclose(seen.mean(0), 0.8 * measurement.y[0], atol=0.05)
    assert torch.allclose(seen.mT.cov(), cov, atol=0.03 * float(cov.norm()))


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_partial_strength_is_the_proximal_blend(strength):
    """u = argmin (1 - l) ||u - x||^2 + l min_{Av = y} ||u - v||^2, found by solving its normal equations."""
    A = Matrix(drawn(3, 5))
    x, y = drawn(1, 5, seed=1), drawn(1, 3, seed=2)
    out = data_consistency(Measurement(y, A, 0.0), strength=strength)(x, ONE, ZERO, gaussian)
    # the inner minimum is ||P (u - A^+ y)||^2 with P the projector onto the row space
    inverse = torch.linalg.pinv(A.matrix)
    P = inverse @ A.matrix
    normal = (1 - strength) * torch.eye(5).double() + strength * P
    right = (1 - strength) * x[0] + strength * inverse @ y[0]
    # strength 1 leaves the null space free: x's own part is the nearest
    expected = torch.linalg.lstsq(normal, right, driver="gelsd").solution
    if strength == 1:
        expected = expected + x[0] - P @ x[0]
    assert torch.allclose(out[0], expected, atol=1e-6)
    if strength == 1:
        assert torch.allclose(A(out), y, atol=1e-6)


def test_a_real_image_stays_real_under_a_complex_operator():
    mask = Mask(torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]).double())
    A, truth = mask @ Fourier(2), drawn(1, 1, 6, 6)
    measurement = Measurement(A(truth), A, 0.0)
    x = drawn(1, 1, 6, 6, seed=1)
    for inverse in (None, A.adjoint):
        out = data_consistency(measurement, inverse=inverse)(x, ONE, ZERO, gaussian)
        assert not out.is_complex()
        assert measurement.residual(out).norm() < measurement.residual(x).norm()
    out = data_consistency(measurement)(x, ONE, ZERO, gaussian)
    assert measurement.residual(out).abs().max() < 1e-5


def test_low_pass_keeps_the_reference_s_means_and_the_sample_s_detail():
    A = BlockMean((2, 2))

    def keep(x):
        return 4 * A.adjoint(A(x))

    reference, x = drawn(1, 1, 4, 4), drawn(1, 1, 4, 4, seed=1)
    out = low_pass(reference, keep)(x, 0.6 * ONE, ZERO, gaussian)
    assert torch.allclose(A(out), 0.6 * A(reference))
    assert torch.allclose(out - keep(out), x - keep(x))
    torch.manual_seed(0)
    many = low_pass(reference, keep)(x.expand(9000, -1, -1, -1), ONE, 0.5 * ONE, gaussian)
    assert torch.allclose(A(many).std(0), torch.tensor(0.25).double(), atol=0.01)


def test_a_case_of_a_constrained_chain_does_not_depend_on_its_batch():
    measurement, truth = mri(batch=3)

    def run(rows):
        m = Measurement(measurement.y[rows], measurement.A, 0.0)
        noise = Seeded(range(3)[rows])
        denoiser = Parts(GaussianDenoiser(VP(), 0.1, 0.5))
        chain = Constrained(DDPM(denoiser, noise), data_consistency(m, noised=True))
        return chain(prior(VP(), truth[rows], noise), grids.uniform(6))

    assert torch.allclose(run(slice(0, 3))[1:2], run(slice(1, 2)), atol=1e-9)


def test_a_warm_start_asks_the_network_only_below_t0():
    denoiser = Counted(GaussianDenoiser(VP(), 0.1, 0.5))
    initial = drawn(2, 1, 4, 4)
    for t0 in (0.3, 0.25, 1.0):
        denoiser.calls = 0
        torch.manual_seed(0)
        x, times = warm_start(VP(), initial, grids.uniform(20), t0)
        DDIM(denoiser)(x, times)
        assert denoiser.calls == math.ceil(20 * t0)
        assert float(times[0]) == t0 and float(times[-1]) == 0 and bool((times.diff() < 0).all())


def test_a_warm_start_is_the_initial_image_noised_to_t0():
    initial = torch.full((20000, 1), 0.7).double()
    torch.manual_seed(0)
    x, _ = warm_start(VP(), initial, grids.uniform(10), 0.4)
    t = torch.tensor(0.4).double()
    assert abs(float(x.mean() - 0.7 * VP().alpha(t))) < 0.02
    assert abs(float(x.std() - VP().sigma(t))) < 0.02


def test_two_warm_starts_come_closer_at_every_step():
    """The reverse steps contract: on Gaussian data by the product of known factors."""
    schedule, denoiser = EDM(0.002, 10), GaussianDenoiser(EDM(0.002, 10), 0.0, 0.5)
    starts = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    x, times = warm_start(schedule, starts, grids.uniform(10), 0.5, torch.zeros_like)
    end = DDPM(denoiser, torch.zeros_like)(x, times)
    variances = schedule.sigma(times) ** 2
    factors = (variances[1:] + 0.25) / (variances[:-1] + 0.25)
    last = 0.25 / (0.25 + variances[-1])  # the finishing estimate
    expected = factors.prod() * last
    assert abs(float(end[1, 0] - end[0, 0] - expected)) < 1e-9


@pytest.mark.parametrize("t0", [0.0, 1.2])
def test_a_warm_start_outside_the_grid_is_refused(t0):
    with pytest.raises(UserError, match="not within the grid"):
        warm_start(VP(), torch.zeros(1, 1), grids.uniform(4), t0)


class Spy(Denoiser):
    """A real prior of one width that notes what it sees; its answer depends on channel, t and place."""

    def __init__(self):
        super().__init__()
        self.schedule, self.shapes, self.complex = VP(), [], False

    def forward(self, x_t, t):
        self.shapes.append(tuple(x_t.shape))
        self.complex |= x_t.is_complex()
        times = torch.as_tensor(t).reshape(-1, *[1] * (x_t.ndim - 1))
        return x_t * (1 + times.to(x_t)) + x_t.cumsum(-1) ** 2


@pytest.mark.parametrize("space", [(4, 4), (2, 4, 4)])
@pytest.mark.parametrize("rows", [False, True])
def test_parts_denoise_real_and_imaginary_images_by_one_real_prior(space, rows):
    spy = Spy()
    x = torch.complex(drawn(2, 3, *space), drawn(2, 3, *space, seed=1))
    t = torch.tensor([0.2, 0.7]) if rows else torch.tensor(0.4)
    out = Parts(spy)(x, t)
    assert not spy.complex and spy.shapes == [(12, 1, *space)]
    for k in range(3):
        real, imag = (Spy()(part[:, k : k + 1], t) for part in (x.real, x.imag))
        assert torch.allclose(out[:, k : k + 1], torch.complex(real, imag))
    assert torch.allclose(Parts(spy)(x.real, t), out.real)


def test_parts_carry_gradients():
    x = torch.complex(drawn(1, 1, 3, 3), drawn(1, 1, 3, 3, seed=1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: Parts(Spy())(x, torch.tensor(0.3)), x)


def test_two_channels_are_real_then_imaginary():
    spy = Spy()
    x = torch.complex(drawn(2, 1, 4, 4), drawn(2, 1, 4, 4, seed=1))
    out = TwoChannels(spy)(x, torch.tensor([0.2, 0.7]))
    assert spy.shapes == [(2, 2, 4, 4)] and not spy.complex
    both = Spy()(torch.cat([x.real, x.imag], 1), torch.tensor([0.2, 0.7]))
    assert torch.allclose(out, torch.complex(both[:, :1], both[:, 1:]))


def test_multi_coil_consistency_uses_the_pseudo_inverse():
    maps = torch.complex(drawn(1, 4, 6, 6, seed=5), drawn(1, 4, 6, 6, seed=6))
    A = Mask((drawn(6, 6, seed=3) > 0).double()) @ Fourier(2) @ Coils(maps)
    truth = torch.complex(drawn(1, 1, 6, 6, seed=1), drawn(1, 1, 6, 6, seed=2))
    measurement = Measurement(A(truth), A, 0.0)
    back = measurement.pseudo_inverse(measurement.y, truth, iterations=200)
    assert torch.allclose(A(back), measurement.y, atol=1e-4)


@pytest.mark.parametrize("std", [0.3, torch.tensor([[0.0], [0.2], [0.5]]).double()])
def test_the_damped_inverse_is_its_formula_case_by_case(std):
    """(A^H A + s^2 / r^2)^-1 A^H v: A^+ v without noise, and 0 where nothing may move."""
    matrix = drawn(3, 5)
    like, v, r2 = drawn(3, 5, seed=1), drawn(3, 3, seed=2), torch.tensor(0.7).double()
    measurement = Measurement(v, Matrix(matrix), std)
    for row, s in enumerate(measurement.deviations):
        found = measurement.damped_inverse(v, like, r2)[row]
        weight = s**2 / r2
        expected = (
            torch.linalg.pinv(matrix) @ v[row]
            if s == 0
            else torch.linalg.solve(
                matrix.mT @ matrix + weight * torch.eye(5).double(), matrix.mT @ v[row]
            )
        )
        assert torch.allclose(found, expected, atol=1e-8)
    still = measurement.damped_inverse(v, like, ZERO)
    assert float(still[measurement.deviations > 0].abs().max()) < 1e-6
