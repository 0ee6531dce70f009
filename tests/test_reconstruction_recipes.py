"""score-inverse, score-mri, mcg, r2d2: what makes each that method, against exact answers."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch

from radiffuse.acquisition import CT, MASKS, Acquired, LowResolution
from radiffuse.applications.other import r2d2
from radiffuse.applications.other.r2d2 import R2D2, estimate_noise, low_frequencies
from radiffuse.applications.reconstruction import mcg, posterior, score_mri
from radiffuse.applications.reconstruction.bayes_mri import BayesMRI
from radiffuse.applications.reconstruction.diffuse_recon import DiffuseRecon
from radiffuse.applications.reconstruction.maps import maps_of, unmeasured_part
from radiffuse.applications.reconstruction.mcg import MCG, Manifold
from radiffuse.applications.reconstruction.score_inverse import ScoreInverse
from radiffuse.applications.reconstruction.score_mri import ScoreMRI, Sense
from radiffuse.applications.reconstruction.solvers import DATA_STD, SOLVERS
from radiffuse.applications.sizes import halvings
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.complex_images import Parts
from radiffuse.diffusion.denoiser import Denoiser
from radiffuse.diffusion.noise import Seeded, gaussian
from radiffuse.diffusion.sample import DDPM, Langevin, grids, signal_to_noise
from radiffuse.diffusion.schedule import VE
from radiffuse.diffusion.units import Affine
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement, data_consistency, residual_gradient
from radiffuse.inverse.classical import misfit
from radiffuse.inverse.consistency import residual_std
from radiffuse.operators import BlockMean, Coils, Fourier, Identity, LinearOperator, Mask, Matrix
from radiffuse.operators.coils import birdcage, root_sum_of_squares
from radiffuse.testing import CorrelatedDenoiser, Counted, GaussianDenoiser


def acquired_by(A, y, like, maps=None, mask=None, std=0.0):
    ones = torch.ones(len(like))
    return Acquired(Measurement(y, A, std), A.adjoint(y), ones, ones, A.adjoint, maps, mask)


def columns(size, step=2):
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., ::step] = True
    return mask


class Symmetric(LinearOperator):
    """Fourier samples of real images at places symmetric about the centre."""

    def __init__(self, mask):
        self.inner = Mask(mask) @ Fourier(2)

    def __call__(self, x):
        return self.inner(x)

    def adjoint(self, y):
        return self.inner.adjoint(y).real


# --- levels -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [ScoreMRI, ScoreInverse, MCG, R2D2, BayesMRI])
@pytest.mark.parametrize("preset", ["small", "tiny"])
def test_small_priors_learn_the_levels_that_a_measurement_leaves_open(kind, preset):
    """Most of them below the contrast of an image, few above it; half as high where magnitudes reach 1."""
    recipe = getattr(kind, preset)()
    torch.manual_seed(0)
    recipe = dataclasses.replace(recipe, channels=1, size=(16, 16), data_std=0.5)
    schedule = recipe.schedule()
    t = recipe.times(schedule)(4000)
    sigma = schedule.sigma(t) / schedule.alpha(t) * (2 if kind is BayesMRI else 1)
    assert 0.55 < float((sigma < 0.2).double().mean()) < 0.7
    assert float((sigma > 1.0).double().mean()) < 0.1


# --- score-inverse ----------------------------------------------------------------------------------


def decomposed(seed=0, n=6):
    """A = P(Lambda) T with T orthogonal: its rows of known coefficients."""
    generator = torch.Generator().manual_seed(seed)
    T, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return T[: n // 2]


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_projection_is_the_minimiser_of_equation_8(strength):
    """(1 - l) |u - x|^2 + l min_{Av = y} |u - v|^2 over u and v, by solving its normal equations."""
    matrix = decomposed()
    torch.manual_seed(0)
    x, y = torch.randn(1, 6).double(), torch.randn(1, 3).double()
    project = data_consistency(Measurement(y, Matrix(matrix), 0.1), noised=False, strength=strength)
    one, zero = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    u = project(x, one, zero, gaussian)
    # v runs over v_0 + N w with A v_0 = y and N the null space of A: quadratic in (u, w)
    null = torch.linalg.svd(matrix)[2][3:].mT
    v_0 = (torch.linalg.pinv(matrix) @ y[0])[:, None]
    eye = torch.eye(6).double()
    top = torch.cat([eye, -strength * null], 1)
    bottom = torch.cat([-strength * null.mT, strength * null.mT @ null + 1e-12 * eye[:3, :3]], 1)
    right = torch.cat(
        [(1 - strength) * x.mT + strength * v_0, -strength * null.mT @ v_0],
    )
    best = torch.linalg.lstsq(torch.cat([top, bottom]), right).solution[:6, 0]
    if strength == 0:
        best = x[0]
    if strength == 1:  # any u with A u = y is a minimiser; this one is nearest to x
        assert torch.allclose(matrix @ u[0], y[0], atol=1e-8)
        best = x[0] + torch.linalg.pinv(matrix) @ (y[0] - matrix @ x[0])
    assert torch.allclose(u[0], best, atol=1e-8)


def test_the_measurement_is_noised_through_the_operator():
    """Cov(y_t - alpha y) = sigma^2 A A^T, not sigma^2 I: A here is far from orthonormal."""
    torch.manual_seed(0)
    matrix = torch.tensor([[2.0, 0.0, 0.5], [1.0, 1.0, 0.0]]).double()
    y = torch.randn(1, 2).double().expand(20000, 2)
    project = data_consistency(Measurement(y, Matrix(matrix), 0.0), noised=True)
    x = torch.zeros(20000, 3).double()
    moved = project(x, torch.tensor(0.8).double(), torch.tensor(0.7).double(), gaussian)
    gap = moved @ matrix.mT - 0.8 * y
    expected = 0.49 * matrix @ matrix.mT
    assert torch.allclose(gap.T.cov(), expected, atol=0.08)
    assert not torch.allclose(expected, 0.49 * torch.eye(2).double(), atol=0.5)


def score_inverse_of(steps=12, **changed):
    return dataclasses.replace(ScoreInverse(), steps=steps, highest=5.0, **changed)


def test_the_result_agrees_with_the_measurement_and_one_prior_serves_two_masks():
    image = torch.rand(2, 1, 8, 8)
    recipe = score_inverse_of()
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.3)
    for mask in (columns(8, 2), torch.ones(1, 1, 8, 8)):
        even = mask.bool() & torch.roll(mask.bool().flip(-1), 1, -1)
        A = Symmetric(even)
        acquired = acquired_by(A, A(image), image, mask=even)
        x = recipe.chain(prior, acquired, Seeded([1, 2]))
        assert float((A(x) - A(image)).norm() / A(image).norm()) < 1e-5


def test_unmeasured_coefficients_are_distributed_as_the_prior():
    """Independent coefficients: y tells nothing of the rest, whose mean and variance are the prior's."""
    torch.manual_seed(0)
    recipe = score_inverse_of(steps=100, ratio=0.16)
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.0, 0.5)
    A = Matrix(decomposed(n=64))
    y = torch.randn(60, 32).double()
    x = recipe.chain(prior, acquired_by(A, y, y), gaussian)
    null = torch.linalg.svd(A.matrix)[2][32:]
    free = x @ null.mT
    assert torch.allclose(x @ A.matrix.mT, y, atol=1e-6)
    assert float(free.mean().abs()) < 0.04
    assert float(free.std()) == pytest.approx(0.5, rel=0.1)


def half_hardly_seen(recipe):
    """Draws, truth and measurement of 64 coefficients, of which the second half is damped by 0.01."""
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.0, 0.5)
    seen = torch.tensor([1.0, 0.01]).double().repeat_interleave(32)
    torch.manual_seed(0)
    truth = 0.5 * torch.randn(60, 64).double()
    y = seen * truth + 0.05 * torch.randn(60, 64).double()
    x = recipe.chain(prior, acquired_by(Matrix(torch.diag(seen)), y, y, std=0.05), gaussian)
    return x, truth, y


def test_noise_of_an_ill_conditioned_measurement_is_not_blown_up():
    """A^+ would give the badly seen coefficients a deviation of 0.05 / 0.01 = 5, their prior's is 0.5."""
    recipe = score_inverse_of(steps=40, ratio=0.02)
    x, truth, _ = half_hardly_seen(recipe)
    assert float(x[:, 32:].std()) == pytest.approx(0.5, rel=0.25)
    assert float((x - truth)[:, :32].std()) == pytest.approx(2**0.5 * 0.05, rel=0.4)


def test_tomography_has_constants_of_its_own(monkeypatch):
    given = []
    monkeypatch.setattr(
        "radiffuse.applications.reconstruction.score_inverse.Projected",
        lambda *words: (
            given.append((words[1].size, words[1].count, words[3])) or (lambda x, times: x)
        ),
    )
    monkeypatch.setattr(
        "radiffuse.applications.reconstruction.score_inverse.Langevin",
        lambda denoiser, noise, size, count: type("Fake", (), {"size": size, "count": count}),
    )
    monkeypatch.setattr(
        "radiffuse.applications.reconstruction.score_inverse.signal_to_noise", lambda r: r
    )
    image = torch.rand(1, 1, 4, 4)
    for changed in (
        {"measurement": "mri", "implants": 1},
        {"measurement": "ct", "views": 3},
        {"measurement": "ct", "views": 3, "implants": 1},
        {"measurement": "ct", "views": 4, "metal": 0.9},
        {"measurement": "ct", "views": 4, "metal": 0.9, "ratio": 0.2, "strength": 0.5},
    ):
        recipe = dataclasses.replace(ScoreInverse(), steps=2, **changed)
        prior = GaussianDenoiser(recipe.chain_schedule())
        recipe.chain(prior, acquired_by(Identity(), image, image), Seeded([1]))
    appendix_c = [(0.517, 1, 1.0), (0.246, 1, 0.841), (0.261, 1, 0.865), (0.0, 0, 0.355)]
    assert given == [*appendix_c, (0.2, 1, 0.5)]


def test_projection_comes_before_corrector_and_predictor(monkeypatch):
    """Project, correct, project, predict; once more at the end: 2 N + 1 projections, 2 N + 1 calls."""
    told = []

    def watched(measurement, noised=False, strength=1.0, inverse=None):
        plain = data_consistency(measurement, noised, strength, inverse)

        def project(x, alpha, sigma, noise):
            told.append(("project", noised, strength))
            return plain(x, alpha, sigma, noise)

        return project

    monkeypatch.setattr(
        "radiffuse.applications.reconstruction.score_inverse.data_consistency", watched
    )
    for kind in (DDPM, Langevin):
        step = kind.step
        monkeypatch.setattr(
            kind,
            "step",
            lambda self, *args, name=kind.__name__, step=step: (
                told.append(name),
                step(self, *args),
            )[1],
        )
    recipe = score_inverse_of(steps=3, strength=0.84)
    A = Matrix(decomposed())
    y = torch.zeros(1, 3).double()
    counted = Counted(GaussianDenoiser(recipe.chain_schedule()))
    recipe.chain(counted, acquired_by(A, y, y), gaussian)
    assert counted.calls == 2 * 3 + 1, "the end is denoised"
    noised = ("project", True, 0.84)
    assert told == [noised, "Langevin", noised, "DDPM"] * 3 + [("project", False, 1.0)]


# --- score-mri --------------------------------------------------------------------------------------


class Spy(Denoiser):
    """A real prior that keeps the shapes it is asked at, and refuses complex images."""

    def __init__(self, schedule, std=0.5):
        super().__init__()
        self.inner, self.schedule = GaussianDenoiser(schedule, 0.0, std), schedule
        self.shapes = []

    def forward(self, x_t, t):
        assert not x_t.is_complex(), "the magnitude prior was asked of a complex image"
        self.shapes.append(tuple(x_t.shape))
        return self.inner(x_t, t)


def single_coil(count=1, size=8):
    generator = torch.Generator().manual_seed(1)
    image = torch.complex(*torch.randn(2, count, 1, size, size, generator=generator))
    mask = columns(size)
    A = Mask(mask) @ Fourier(2)
    maps = torch.ones(1, 1, size, size, dtype=torch.complex64)
    return acquired_by(A, A(image), image, maps, mask), mask


def test_kspace_is_the_measured_one_after_every_predictor_and_every_corrector(monkeypatch):
    """Hard, without noise: also in between, where Song et al. 2022 would put a noised one."""
    acquired, mask = single_coil()
    gaps = []

    def watched(measurement, **options):
        plain = data_consistency(measurement, **options)

        def project(x, alpha, sigma, noise):
            out = plain(x, alpha, sigma, noise)
            gaps.append(float((mask * Fourier(2)(out) - measurement.y).abs().max()))
            return out

        return project

    monkeypatch.setattr(score_mri, "data_consistency", watched)
    recipe = dataclasses.replace(ScoreMRI(), steps=5, combine="sense", highest=5.0)
    recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
    assert len(gaps) == 2 * 5 + 1, "after predictor and corrector of each step, and at the end"
    assert max(gaps) < 1e-5


@pytest.mark.parametrize(("coils", "combine"), [(1, "sense"), (4, "coils"), (4, "hybrid")])
def test_parts_and_coils_are_asked_as_real_images_twice_a_step(coils, combine):
    size = 8
    acquired, mask = single_coil()
    if coils > 1:
        maps = birdcage((size, size), coils, [1])
        A = Mask(mask) @ Fourier(2) @ Coils(maps)
        image = torch.rand(1, 1, size, size)
        acquired = acquired_by(A, A(image), image, maps, mask)
    recipe = dataclasses.replace(ScoreMRI(), steps=6, combine=combine, highest=5.0)
    spy = Spy(recipe.chain_schedule())
    recipe.chain(Parts(spy), acquired, Seeded([1]))
    assert spy.shapes == [(2 * coils, 1, size, size)] * (2 * 6 + 1), "and one to finish"


def test_unmeasured_kspace_is_the_prior_s_and_measured_is_y():
    torch.manual_seed(0)
    acquired, mask = single_coil()
    many = dataclasses.replace(
        acquired.measurement, y=acquired.measurement.y.expand(60, -1, -1, -1)
    )
    acquired = dataclasses.replace(acquired, measurement=many, first=many.A.adjoint(many.y))
    recipe = dataclasses.replace(ScoreMRI(), steps=100, combine="sense", highest=5.0)
    x = recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, gaussian)
    k = Fourier(2)(x)
    assert torch.allclose(mask * k, many.y, atol=1e-5)
    free = torch.view_as_real(k[..., ~mask[0, 0]])
    assert float(free.std()) == pytest.approx(0.5, rel=0.1)


def test_the_sense_step_falls_from_one_to_a_fifth_and_lowers_the_residual(monkeypatch):
    maps = birdcage((8, 8), 4, [1])
    A = Mask(columns(8)) @ Fourier(2) @ Coils(maps)
    image = torch.rand(1, 1, 8, 8)
    acquired = acquired_by(A, A(image), image, maps, columns(8))
    measurement = acquired.measurement
    seen = []
    plain = Sense.agree

    def watched(self, x, strength):
        out = plain(self, x, strength)
        before, after = (
            float(measurement.residual(Coils(maps).adjoint(coils)).norm()) for coils in (x, out)
        )
        seen.append((strength, after / before))
        return out

    monkeypatch.setattr(Sense, "agree", watched)
    recipe = dataclasses.replace(ScoreMRI(), steps=11, every=2, highest=5.0, combine="hybrid")
    recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
    strengths, ratios = zip(*seen, strict=True)
    assert strengths == pytest.approx([1.0, 0.84, 0.68, 0.52, 0.36, 0.2])
    assert max(ratios) < 1


def test_coils_of_the_hybrid_form_agree_behind_a_sense_step():
    """They are one image seen by all maps then; walking on each alone they are not."""
    maps = birdcage((8, 8), 3, [1])
    A = Mask(columns(8)) @ Fourier(2) @ Coils(maps)
    acquired = acquired_by(A, A(torch.rand(1, 1, 8, 8)), torch.rand(1, 1, 8, 8), maps, columns(8))
    recipe, apart = dataclasses.replace(ScoreMRI(), steps=3, every=1, highest=5.0), {}
    for combine in ("hybrid", "coils"):
        one = dataclasses.replace(recipe, combine=combine)
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                score_mri, "root_sum_of_squares", lambda x, seen=seen: seen.append(x) or x
            )
            patch.setattr(Sense, "finish", lambda self, x, t, state: x)
            one.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
        z = Coils(maps)(Coils(maps).adjoint(seen[0]))
        apart[combine] = float((seen[0] - z).norm() / z.norm())
    assert apart["hybrid"] < 1e-5 < 0.1 < apart["coils"]


def test_coils_are_combined_by_the_root_of_the_sum_of_squares():
    coils = torch.randn(2, 3, 4, 4, dtype=torch.complex64)
    assert torch.allclose(root_sum_of_squares(coils), (coils.abs() ** 2).sum(1, True).sqrt())
    maps = birdcage((8, 8), 3, [1])
    full = torch.ones(1, 1, 8, 8)
    A = Mask(full) @ Fourier(2) @ Coils(maps)
    image = torch.rand(1, 1, 8, 8)
    recipe = dataclasses.replace(ScoreMRI(), steps=3, combine="coils", highest=5.0)
    acquired = acquired_by(A, A(image), image, maps, full)
    x = recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
    assert torch.allclose(x.abs(), image, atol=1e-5), "fully measured: the image itself"
    half, seen = Mask(columns(8)) @ Fourier(2) @ Coils(maps), []
    acquired = acquired_by(half, half(image), image, maps, columns(8))
    keep = seen.append
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            score_mri, "root_sum_of_squares", lambda x: (keep(x), root_sum_of_squares(x))[1]
        )
        x = recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
    assert torch.allclose(x.abs(), (seen[0].abs() ** 2).sum(1, True).sqrt())


def test_combined_coils_explain_a_scan_whose_phase_jumps():
    maps = birdcage((8, 8), 3, [1])
    full = torch.ones(1, 1, 8, 8)
    image = torch.rand(1, 1, 8, 8) * torch.sgn(torch.randn(1, 1, 8, 8)).to(torch.complex64) * 1j
    A = Mask(full) @ Fourier(2) @ Coils(maps)
    recipe = dataclasses.replace(ScoreMRI(), steps=3, combine="coils", highest=5.0)
    acquired = acquired_by(A, A(image), image, maps, full)
    x = recipe.chain(Parts(Spy(recipe.chain_schedule())), acquired, Seeded([1]))
    assert float(acquired.measurement.residual(x).norm()) < 1e-4 * float(A(image).norm())


class Silent(Denoiser):
    """Expects nothing but black, and remembers what it was asked."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.asked = schedule, []

    def forward(self, x_t, t):
        self.asked.append((x_t.clone(), self.schedule.sigma(torch.as_tensor(t))))
        return 0 * x_t


@pytest.mark.parametrize(
    ("kind", "changed", "corrections"),
    [(ScoreMRI, {"combine": "sense"}, 0), (R2D2, {"keep": 0.0}, 0), (ScoreInverse, {}, 1)],
)
def test_the_reverse_step_injects_all_the_variance_between_two_levels(kind, changed, corrections):
    """sqrt(sigma_i^2 - sigma_(i-1)^2) z, not the smaller one of the posterior of a known image."""
    recipe = dataclasses.replace(kind(), steps=4, stop=0.1, highest=5.0, **changed)
    spy, image = Silent(recipe.chain_schedule()), 3 * torch.randn(1, 1, 64, 64)
    nothing = Symmetric(torch.zeros(1, 1, 64, 64))
    A = Identity() if kind is R2D2 else nothing
    recipe.chain(spy, acquired_by(A, A(image), image), Seeded([1]))
    (x_t, above), (x_s, below) = spy.asked[corrections:][:2]
    variance = float((x_s - x_t * below**2 / above**2).var())
    assert variance == pytest.approx(float(above**2 - below**2), rel=0.08)


def test_two_masks_with_one_prior_both_improve_on_zero_filling():
    covariance = _smooth_covariance(8)
    torch.manual_seed(0)
    root = torch.linalg.cholesky(covariance)
    image = (root @ torch.randn(64, 1)).reshape(1, 1, 8, 8)
    recipe = dataclasses.replace(ScoreMRI(), steps=60, combine="sense", values="real", highest=10.0)
    prior = _Flat(CorrelatedDenoiser(recipe.chain_schedule(), torch.zeros(64), covariance))
    for mask in (columns(8), columns(8).mT):
        A = Symmetric(mask & torch.roll(mask.flip((-1, -2)), (1, 1), (-1, -2)))
        acquired = acquired_by(A, A(image), image)
        many = acquired_by(A, A(image).expand(16, -1, -1, -1), image.expand(16, -1, -1, -1))
        x = recipe.chain(prior, many, gaussian).mean(0, keepdim=True)
        assert float((x - image).norm()) < 0.9 * float((acquired.first - image).norm())


class _Flat(Denoiser):
    """A denoiser of flat vectors for images."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.schedule = inner, inner.schedule

    def forward(self, x_t, t):
        return self.inner(x_t.flatten(1), t).reshape(x_t.shape)


def _smooth_covariance(size, length=2.0):
    at = torch.cartesian_prod(*[torch.arange(float(size))] * 2)
    return torch.exp(-torch.cdist(at, at).square() / (2 * length**2)) + 1e-3 * torch.eye(
        size * size
    )


# --- mcg --------------------------------------------------------------------------------------------


def subspace(n=8, k=3):
    """Data in the span of U: prior, U, an operator, a measurement (float64)."""
    generator = torch.Generator().manual_seed(0)
    U, _ = torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64))
    prior = CorrelatedDenoiser(VE(0.01, 5.0), torch.zeros(n).double(), U @ U.mT)
    H = torch.randn(4, n, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    return prior, U, Measurement(y, Matrix(H), 0.0)


def test_the_gradient_lies_in_the_span_of_the_data_and_has_its_closed_form():
    """-2 / (1 + sigma^2) U U^T H^T (y - H x_0): only through the network does it keep to the manifold."""
    prior, U, m = subspace()
    x, t = torch.randn(2, 8).double(), torch.tensor(0.6).double()
    x_0, size, g = residual_gradient(prior, m, x, t)
    outside = g - g @ U @ U.mT
    assert float(outside.norm()) < 1e-6 * float(g.norm())
    sigma2 = float(prior.schedule.sigma(t)) ** 2
    back = m.residual(x_0) @ m.A.matrix
    expected = -back @ U @ U.mT / (1 + sigma2) / size[:, None]
    assert torch.allclose(g, expected, atol=1e-8)
    direct = -m.residual(x) @ m.A.matrix
    assert float((direct - direct @ U @ U.mT).norm()) > 0.1 * float(direct.norm()), (
        "without the network the direction leaves it: the check can fail"
    )


def test_norm_and_squared_norm_differ_by_twice_the_norm_and_agree_with_finite_differences():
    prior, _, m = subspace()
    x, t = torch.randn(2, 8).double(), torch.tensor(0.5).double()
    weights = torch.randn(4, 4).double()
    for metric in (None, lambda r: r @ weights):
        _, size, g = residual_gradient(prior, m, x, t, metric)
        _, _, squared = residual_gradient(prior, m, x, t, metric, squared=True)
        assert torch.allclose(squared, 2 * size[:, None] * g)

        def norm(x, metric=metric):
            r = m.residual(prior(x, t))
            return (r if metric is None else metric(r)).norm(dim=1)

        for axis in range(3):
            e = torch.zeros(2, 8).double()
            e[:, axis] = 1e-5
            slope = (norm(x + e) - norm(x - e)) / 2e-5
            assert torch.allclose(g[:, axis], slope, atol=1e-7)


def manifold(gradient=0.1, steps=4):
    prior, _, m = subspace()
    ones = torch.ones(2)
    acquired = Acquired(m, m.A.adjoint(m.y), ones, ones, m.A.adjoint)
    return Manifold(prior, acquired, Seeded([1, 2]), gradient, 0.16, steps), m


def test_the_correction_stays_out_of_what_is_measured():
    sampler, m = manifold()
    g = torch.randn(2, 8).double()
    assert float(m.A(sampler.unseen(g)).norm()) < 1e-6 * float(m.A(g).norm())
    null = torch.linalg.svd(m.A.matrix)[2][4:]
    assert torch.allclose(sampler.unseen(g) @ null.mT, g @ null.mT, atol=1e-8), "the rest is kept"


def test_a_step_is_consistency_and_the_weighted_gradient_in_the_null_space():
    r"""x' + A^H (y - A x') / n - (I - A^+ A) alpha grad ||W (y - A x_0(x))||, by hand; x of one prediction
    and one correction, the gradient at the one before the correction."""
    prior, _, m = subspace()
    H, ones = m.A.matrix, torch.ones(2)
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(4, 8, generator=generator).double()
    n = torch.rand(8, generator=generator).double() + 1
    acquired = Acquired(m, m.A.adjoint(m.y), ones, ones, lambda r: r @ weight)
    sampler = Manifold(prior, acquired, Seeded([1, 2]), 0.3, 0.16, 4, n)
    x_t, (t, s) = torch.randn(2, 8).double(), torch.tensor([0.6, 0.5]).double()
    found, _ = sampler.step(x_t, t, s, 0)
    noise = Seeded([1, 2])
    x, _ = DDPM(prior, noise, w=1.0).step(x_t, t, s, None)
    asked = x.clone().requires_grad_()
    norm = ((m.y - prior(asked, s) @ H.mT) @ weight).norm(dim=1).sum()
    (g,) = torch.autograd.grad(norm, asked)
    x, _ = Langevin(prior, noise, signal_to_noise(0.16)).step(x, s, s, None)
    x = x + (m.y - x @ H.mT) @ H / n
    expected = x - 0.3 * g @ (torch.eye(8).double() - torch.linalg.pinv(H) @ H)
    assert torch.allclose(found, expected, atol=1e-6)


def test_tomography_is_weighted_by_the_lengths_of_its_rays(monkeypatch):
    image = (open_cases("brains:count=2,size=32").batch([0])["image"] + 1) / 2
    acquired = CT(views=8).simulate(image, [1])
    given = []
    monkeypatch.setattr(mcg, "Manifold", lambda *words: given.append(words) or (lambda *_: image))
    dataclasses.replace(MCG(), highest=5.0, steps=3).chain(Spy(VE()), acquired, Seeded([1]))
    ones = torch.ones_like(image)
    A = acquired.measurement.A
    assert torch.allclose(given[0][-1], A.adjoint(A(ones)).clamp(min=1e-6))


@pytest.mark.parametrize(("asked", "weight"), [(-1.0, 0.1), (0.0, 0.0), (0.7, 0.7)])
def test_the_weight_of_the_paper_s_gradient_is_a_tenth_unless_told(monkeypatch, asked, weight):
    given = []
    monkeypatch.setattr(mcg, "Manifold", lambda *words: given.append(words) or (lambda *_: None))
    recipe = dataclasses.replace(MCG(), measurement="mri", highest=5.0, steps=3, gradient=asked)
    recipe.chain(GaussianDenoiser(recipe.chain_schedule()), mcg_scan(), Seeded([1]))
    assert given[0][3:5] == (weight, 0.16)


def test_weight_zero_is_the_chain_with_consistency_alone_bit_for_bit():
    prior, _, m = subspace()
    times = grids.uniform(4)
    start = torch.randn(2, 8).double()
    without, _ = manifold(gradient=0.0)
    noise = Seeded([1, 2])
    predictor = DDPM(prior, noise, w=1.0)
    corrector = Langevin(prior, noise, signal_to_noise(0.16))
    x = start
    for number, (t, s) in enumerate(pairwise(times)):
        x, _ = predictor.step(x, t, s, None)
        x, _ = corrector.step(x, s, s, None)
        x = x + (1.0 - 0.4 * number / 3) * m.A.adjoint(m.residual(x))
    assert torch.equal(without(start, times), prior(x, times[-1]))
    with_, _ = manifold(gradient=0.1)
    assert not torch.allclose(with_(start, times), without(start, times), atol=1e-4)


def test_consistency_is_weighted_by_what_each_pixel_is_seen_by():
    """SIRT: A^H (y - A x) / (A^H A 1). One full step of it solves an operator that only scales pixels."""
    seen = torch.tensor([1.0, 2.0, 5.0, 0.5]).reshape(1, 1, 4)
    A = Mask(seen)
    image = torch.rand(1, 1, 4)
    acquired = acquired_by(A, A(image), image)
    normaliser = A.gram(torch.ones_like(image))
    sampler = Manifold(GaussianDenoiser(VE()), acquired, gaussian, normaliser=normaliser)
    assert torch.allclose(sampler.consistent(torch.zeros_like(image), 1.0), image, atol=1e-6)


def mcg_scan():
    A = Mask(columns(8).float()[:, :, 0])
    image = torch.rand(1, 1, 8)
    return acquired_by(A, A(image), image)


def test_a_warm_start_walks_only_the_last_steps():
    """CCDF: ceil(N t0) steps of two calls each, and one at the end."""
    for warm, steps in ((0.0, 20), (0.2, 4), (0.33, 7)):
        recipe = dataclasses.replace(
            MCG(), steps=20, stop=0.0, warm=warm, measurement="mri", highest=5.0
        )
        counted = Counted(GaussianDenoiser(recipe.chain_schedule()))
        recipe.chain(counted, mcg_scan(), Seeded([1]))
        assert counted.calls == 2 * steps + 1, warm


def test_the_error_of_a_warm_start_shrinks_by_the_prior_s_contraction():
    """Two starts after the same steps with the same noise: (c + sigma_end^2) / (c + sigma_start^2)."""
    schedule, variance = VE(0.01, 5.0), 0.25
    prior = GaussianDenoiser(schedule, 0.0, variance**0.5)
    times = grids.uniform(6, 0.5)
    first, second = torch.zeros(1, 4).double(), torch.ones(1, 4).double()
    ends = []
    for start in (first, second):
        sampler = DDPM(prior, Seeded([1]), w=1.0)
        sampler.finish = lambda x, t, state: x
        ends.append(sampler(start, times))
    sigma2 = schedule.sigma(times[[0, -1]]) ** 2
    expected = float((variance + sigma2[1]) / (variance + sigma2[0]))
    assert torch.allclose(ends[1] - ends[0], torch.full((1, 4), expected).double())


# --- r2d2 -------------------------------------------------------------------------------------------


def texture(size=96):
    """Stripes of several directions in a disc with a soft edge, on a slope; in [0, 1]."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    stripes = 0.15 * torch.sin(20 * x + 7 * y) + 0.1 * torch.sin(31 * y)
    disc = 0.3 * torch.sigmoid(30 * (0.5 - x**2 - y**2))
    return (0.3 + stripes * disc / 0.3 + disc + 0.1 * x)[None, None].clamp(0, 1)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_the_noise_of_a_textured_image_is_found_within_a_tenth(sigma):
    image = texture()
    noisy = image + sigma * Seeded([1])(image)
    assert float(estimate_noise(noisy)) == pytest.approx(sigma, rel=0.1)


def test_noise_is_found_case_by_case_in_volumes_and_not_in_specks():
    image = torch.zeros(2, 1, 20, 20, 20)
    z = Seeded([1, 2])(image)
    found = estimate_noise(torch.stack([0.02 * z[0], 0.2 * z[1]]))
    assert found.tolist() == pytest.approx([0.02, 0.2], rel=0.1)
    with pytest.raises(UserError, match="12 x 40 is too small to estimate its noise: 16"):
        estimate_noise(torch.zeros(1, 1, 12, 40))


def denoised(sigma, recipe=None, monkeypatch=None, image=None, **changed):
    """The result on a noisy texture, and the number of calls."""
    recipe = dataclasses.replace(R2D2() if recipe is None else recipe, **changed)
    image = texture(48) if image is None else image
    y = image + sigma * Seeded([1])(image)
    counted = Counted(GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2))
    acquired = acquired_by(Identity(), y, y, std=sigma)
    return recipe.chain(counted, acquired, Seeded([2])), y, counted.calls


def test_the_chain_starts_at_the_level_of_the_noise_and_makes_that_many_calls(monkeypatch):
    """sigma 0.05 on 0.01 .. 378 with N = 2000 is t' = 0.1527, N' = 305; alpha halves it."""
    for sigma, count in ((0.02, 132), (0.05, 305), (0.1, 437)):
        given = torch.tensor([sigma]).double()
        monkeypatch.setattr(r2d2, "estimate_noise", lambda y, given=given: given)
        _, _, calls = denoised(sigma)
        # the last level is sigma_min, not 0: one call more to finish
        assert calls - 1 == pytest.approx(count, abs=1)
    _, _, calls = denoised(0.1, extent=0.5)
    assert calls - 1 == pytest.approx(437 / 2, abs=1)


def test_its_own_noise_is_what_counts_not_what_is_said_of_it():
    y = texture(96) + 0.05 * Seeded([1])(texture(96))
    recipe = R2D2()
    counted = Counted(GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2))
    recipe.chain(counted, acquired_by(Identity(), y, y, std=0.3), Seeded([2]))
    assert counted.calls == pytest.approx(305, rel=0.05)


def test_the_start_is_the_noisy_image_itself_and_less_extent_changes_less():
    changes = []
    for extent in (0.25, 0.5, 1.0):
        x, y, _ = denoised(0.1, steps=200, extent=extent)
        changes.append(float((x - y).norm()))
    assert changes[0] < changes[1] < changes[2]
    x, y, calls = denoised(0.02, steps=4)
    assert calls <= 2
    x, y, calls = denoised(0.02, steps=4, extent=0.01)
    assert calls == 0
    assert torch.equal(x, y), "nothing to do: the image is left alone"


def test_low_frequencies_of_the_image_are_kept_and_nothing_else():
    y, x = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    kept = low_frequencies(y, 0.2, 1.0)(x, one, zero, gaussian)
    index = torch.arange(16) - 8
    inside = (index[:, None] ** 2 + index**2).sqrt() <= 3.2
    k = Fourier(2)
    assert torch.allclose(k(kept)[..., inside], k(y)[..., inside], atol=1e-5)
    assert torch.allclose(k(kept)[..., ~inside], k(x)[..., ~inside], atol=1e-5)
    half = low_frequencies(y, 0.2, 0.5)(x, one, zero, gaussian)
    assert torch.allclose(half, (x + kept) / 2, atol=1e-6)


def test_brightness_stays_where_a_wrong_prior_would_move_it():
    """The regulariser keeps an offset that this prior (mean 0.5) has not seen; without it, it drifts."""
    image = texture(48) * 0.2 + 1.0
    kept, y, _ = denoised(0.2, steps=100, image=image)
    free, _, _ = denoised(0.2, steps=100, image=image, keep=0.0)
    assert float(kept.mean()) == pytest.approx(float(y.mean()), rel=0.005)
    assert abs(float(free.mean() / y.mean()) - 1) > 0.03


def test_denoising_gains_five_decibels_at_a_tenth(monkeypatch):
    """The mean of draws with the exact prior of smooth Gaussian images."""
    size, sigma = 12, 0.1
    torch.manual_seed(0)
    covariance = 0.04 * _smooth_covariance(size, 4.0)
    image = 0.5 + (torch.linalg.cholesky(covariance) @ torch.randn(size**2, 1)).reshape(
        1, 1, size, size
    )
    y = image + sigma * torch.randn_like(image)
    monkeypatch.setattr(r2d2, "estimate_noise", lambda y: torch.full((1,), sigma).double())
    recipe = dataclasses.replace(R2D2(), steps=300)
    prior = _Flat(CorrelatedDenoiser(recipe.chain_schedule(), torch.full((144,), 0.5), covariance))
    acquired = acquired_by(Identity(), y, y, std=sigma)
    drawn = [recipe.chain(prior, acquired, Seeded([k])) for k in range(4)]
    error = (torch.stack(drawn).mean(0) - image).square().mean()
    gain = 10 * torch.log10((y - image).square().mean() / error)
    assert float(gain) > 5


def test_super_resolution_keeps_the_low_resolution_image():
    image = texture(32)
    A = BlockMean((2, 2))
    small = A(image)
    first = 4 * A.adjoint(small)
    ones = torch.ones(1)
    acquired = Acquired(Measurement(small, A, 0.0), first, ones, ones, A.adjoint)
    recipe = dataclasses.replace(R2D2(), measurement="super-resolution", steps=300)
    counted = Counted(GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2))
    x = recipe.chain(counted, acquired, Seeded([1]))
    assert torch.allclose(A(x), small, atol=1e-5)
    assert counted.calls - 1 == pytest.approx(0.1527 * 300, abs=1)
    assert not torch.allclose(x, first, atol=1e-2)


def test_super_resolution_begins_with_the_enlarged_image_diffused_a_little():
    """Noise of `renoise`, as much as the level that its chain begins at."""
    image = texture(32)
    A = BlockMean((2, 2))
    first = 4 * A.adjoint(A(image))
    acquired = Acquired(
        Measurement(A(image), A, 0.0), first, torch.ones(1), torch.ones(1), lambda y: first
    )
    recipe = dataclasses.replace(R2D2(), measurement="super-resolution", steps=100, renoise=0.2)
    spy = Silent(recipe.chain_schedule())
    recipe.chain(spy, acquired, Seeded([1]))
    x, sigma = spy.asked[0]
    assert float((x - first).std()) == pytest.approx(0.2, rel=0.06)
    assert float(sigma) == pytest.approx(0.2, rel=0.06)


def test_super_resolution_denoises_the_small_image_first():
    A, image = BlockMean((2, 2)), texture(32)
    y = A(image) + 0.1 * torch.randn(1, 1, 16, 16)
    acquired = LowResolution(2, 0.1).read(y)
    recipe = dataclasses.replace(R2D2(), measurement="super-resolution", steps=100)
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2)
    x = recipe.chain(prior, acquired, Seeded([1]))
    denoised = recipe.denoised(prior, y, torch.tensor([0.1]), Seeded([1]))
    assert torch.allclose(A(x), denoised, atol=1e-4)
    assert float((denoised - y).norm()) > 0.02 * float(y.norm())


@pytest.mark.parametrize("measurement", ["noise", "super-resolution"])
def test_images_that_are_restored_as_they_are_tell_their_own_noise(measurement):
    """What `noise` says is of simulated images: a default of 0.1 set all darker than 0.125 to 0."""
    image = texture(32)
    y = torch.hypot(image + 0.02 * torch.randn_like(image), 0.02 * torch.randn_like(image))
    recipe = R2D2(measurement=measurement, simulated=False, noise_law="rician", steps=60)
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2)
    restored = []
    for noise in (0.1, 0.02):
        one = dataclasses.replace(recipe, noise=noise)
        restored.append(one.chain(prior, one.acquire({"image": 2 * y - 1}), Seeded([1])))
    assert torch.equal(*restored)


@pytest.mark.parametrize("factor", [2, 8])
def test_mcg_hears_what_a_small_image_says(factor):
    """A block mean weighs a voxel by 1 / n: without n each step heard a 64th of the measurement."""
    image = texture(32)
    recipe = dataclasses.replace(
        MCG.small(), measurement="super-resolution", factor=factor, noise=0.01
    )
    acquired = LowResolution(factor, 0.01).simulate(image, [1])
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2)
    assert float(acquired.misses(recipe.chain(prior, acquired, Seeded([5])))[0]) < 1.5


@pytest.mark.parametrize("kind", [BayesMRI, DiffuseRecon])
def test_a_prior_of_complex_images_serves_no_real_ones(kind):
    recipe = kind.tiny().fitted(open_cases("brains:count=8,size=32").facts())
    batch = {**open_cases("brains:count=2,size=32").batch([0]), "seed": torch.tensor([1])}
    real = dataclasses.replace(recipe, values="real")
    with pytest.raises(UserError, match="cannot serve values=real"):
        real.predict(recipe.objective(), batch)


def test_a_chain_whose_estimates_are_all_too_early_says_its_end():
    cases = open_cases("brains:count=8,size=32")
    recipe = DiffuseRecon.tiny().fitted(cases.facts())
    few = dataclasses.replace(recipe, solver="probed", steps=5)
    objective, batch = recipe.objective(), cases.batch([0, 1])
    x, expected = few.drawn(objective, few.acquire(batch), [1, 2])
    assert expected.shape == x.shape


@pytest.mark.parametrize(
    ("kind", "measurement", "said"),
    [
        (ScoreMRI, "ct", "score-mri solves mri, not ct"),
        (BayesMRI, "super-resolution", "bayes-mri solves mri"),
        (DiffuseRecon, "ct", "diffuse-recon solves mri"),
        (R2D2, "mri", "r2d2 solves noise and super-resolution, not mri"),
        (MCG, "noise", "mcg solves ct and mri and super-resolution and inpainting, not noise"),
    ],
)
def test_a_paper_is_not_asked_what_it_does_not_solve(kind, measurement, said):
    recipe = dataclasses.replace(kind.tiny(), channels=1, values="real", measurement=measurement)
    recipe = recipe.fitted(open_cases("brains:count=8,size=32").facts())
    batch = {**open_cases("brains:count=2,size=32").batch([0]), "seed": torch.tensor([1])}
    with pytest.raises(UserError, match=said):
        recipe.predict(recipe.objective(), batch)


# --- volumes by a prior of slices ---------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 2])
def test_a_prior_of_slices_reconstructs_a_volume(axis):
    volume = open_cases("brains3d:count=4,size=16").batch([0])["image"]
    recipe = ScoreMRI.tiny().fitted(open_cases("brains:count=8,size=16").facts())
    recipe = dataclasses.replace(
        recipe, solver="dds", mask="poisson-disc", calibration=8, slice_axis=axis
    )
    objective, batch = recipe.objective(), {"image": volume, "seed": torch.tensor([1])}
    found = recipe.predict(objective, batch)
    assert found["image"].shape == volume.shape
    assert float(found["residual"][0]) < 3, "the volume explains its k-space"
    tied = dataclasses.replace(recipe, through_plane=30.0).predict(objective, batch)
    jumps = [float(x["image"].diff(dim=2 + axis).abs().mean()) for x in (found, tied)]
    assert jumps[1] < 0.8 * jumps[0]
    with pytest.raises(UserError, match="--set solver=dds"):
        dataclasses.replace(recipe, through_plane=1.0, solver="daps").predict(objective, batch)


@pytest.mark.parametrize(
    ("solver", "calls"), [("stein", 5), ("stein-mean", 5), ("dds", 5), ("probed", 10)]
)
def test_a_chain_of_four_steps_asks_its_network_so_often(solver, calls):
    cases = open_cases("brains:count=8,size=16")
    recipe = ScoreMRI.tiny().fitted(cases.facts())
    more = {"solver": solver, "steps": 4, "highest": 1.0, "lowest": 0.06}
    recipe = dataclasses.replace(recipe, acceleration=1.5, **more)
    objective, seen = recipe.objective(), []
    objective.network.backbone.register_forward_hook(lambda *told: seen.append(len(told[1][0])))
    recipe.predict(objective, {**cases.batch([0]), "seed": torch.tensor([1])})
    assert sum(seen) == calls * 2, "two parts of one image"


def test_the_chain_of_stein_begins_about_the_plain_reconstruction():
    """What is added to it at the start is what the first covariance is found from."""
    cases = open_cases("brains:count=8,size=16")
    recipe = ScoreMRI.tiny().fitted(cases.facts())
    recipe = dataclasses.replace(recipe, acceleration=1.5, steps=4, highest=1.0)
    acquired, noise = recipe.acquire({**cases.batch([0]), "seed": torch.tensor([1])}), Seeded([0])
    prior = posterior.prior_denoiser(recipe, recipe.objective(), acquired.first)
    solver = SOLVERS["stein"](prior, acquired.measurement, noise, acquired.first).denoiser
    times = grids.karras(prior.schedule, 4, start=recipe.trained_to(prior), stop=0.0)
    x_t, times = recipe.begin(prior.schedule, times, acquired.first, Seeded([0]))
    alpha, sigma = prior.schedule(times[0], x_t)
    assert torch.allclose((x_t - alpha * solver.first) / sigma, noise(x_t), atol=1e-4)


def test_what_a_sample_misses_is_its_residual_brought_back():
    recipe = dataclasses.replace(ScoreMRI.tiny(), solver="dds", measurement="noise", noise=0.2)
    cases = open_cases("brains:count=8,size=16")
    recipe = recipe.fitted(cases.facts())
    batch = {**cases.batch([0]), "seed": torch.tensor([1])}
    found = recipe.predict(recipe.objective(), batch)
    gap = recipe.acquire(batch).measurement.y - (found["image"] + 1) / 2
    inside = (found["image"] > -1) & (found["image"] < 1)  # what is not cut to the grey range
    assert torch.allclose(found["unexplained"][inside], gap.abs()[inside], atol=1e-5)
    assert float(found["residual"]) == pytest.approx(float(gap.std() / 0.2), rel=0.3)


def test_what_the_scan_does_not_tell_is_shrunk_by_what_it_does():
    """(1 + (a d / s)^2)^-1 x for a diagonal operator, d the deviation of images."""
    seen, s = torch.tensor([0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 4), 0.1
    image = torch.rand(1, 1, 4) + 0.5
    found = unmeasured_part(acquired_by(Mask(seen), Mask(seen)(image), image, std=s), image)
    assert torch.allclose(found, image / (1 + (seen * DATA_STD / s) ** 2), atol=1e-5)
    assert float(found[0, 0, 0]) == pytest.approx(float(image[0, 0, 0])), "all of it: never seen"


def test_a_prior_of_volumes_cannot_take_a_slice():
    recipe = ScoreMRI.tiny().fitted(open_cases("brains3d:count=8,size=16").facts())
    batch = {"image": torch.rand(1, 1, 32, 32), "seed": torch.tensor([1])}
    with pytest.raises(UserError, match="images of 3 axes, these have 2"):
        recipe.predict(recipe.objective(), batch)


# --- what a scan is worth -----------------------------------------------------------------------------


@pytest.mark.parametrize("model_error", [0.0, 0.05])
def test_the_residual_shows_what_the_noise_does_not_explain(model_error):
    """However little a scan is believed: noise is what its noise is."""
    image = open_cases("brains:count=6,size=32").batch([0, 3])["image"]
    recipe = dataclasses.replace(
        ScoreMRI.tiny(), channels=1, size=(32, 32), noise=0.01, values="real"
    )
    acquired = dataclasses.replace(recipe, model_error=model_error).acquire({"image": image})
    m = acquired.measurement
    x = torch.zeros_like(image)
    told = maps_of(acquired, x, {}, measured=False)["residual"]
    assert torch.allclose(told, residual_std(m.A, x, m.y) / 0.01, rtol=1e-5)
    assert float(told.min()) > 5


def test_a_scan_is_weighed_by_what_its_model_leaves_unexplained():
    """Maps from eight lines: each scan has its own deviation, well above the noise of 0.001."""
    image = open_cases("brains:count=6,size=32").batch([0, 3])["image"]
    recipe = dataclasses.replace(
        ScoreMRI.tiny(), channels=1, size=(32, 32), noise=1e-3, values="real"
    )
    believed = dataclasses.replace(recipe, model_error=0.0).acquire({"image": image}).measurement
    told = dataclasses.replace(recipe, model_error=0.02).acquire({"image": image}).measurement
    found = recipe.acquire({"image": image}).measurement
    assert believed.std == 1e-3
    assert told.deviations.tolist() == pytest.approx([math.hypot(1e-3, 0.02)] * 2)
    assert torch.allclose(found.deviations, misfit(believed, image), rtol=1e-6)
    unknown = (image + 1) / 2
    true = residual_std(believed.A, unknown, believed.y)
    assert bool((true > 1.4e-3).all()) and bool(((found.deviations / true).log().abs() < 0.3).all())
    solved = [m.nearest(0 * unknown, torch.tensor(0.1), 20) for m in (believed, found)]
    errors = [float((x - unknown).square().mean()) for x in solved]
    assert errors[1] < errors[0], "to believe the noise alone is to fit the model's error"


def test_a_measured_scan_is_complex_and_a_simulated_one_real_unless_told():
    """A block out of phase with its surround, as fat is: no smooth phase makes it real."""
    image = (open_cases("brains:count=2,size=32").batch([0])["image"] + 1) / 2
    phase = torch.ones(1, 1, 32, 32, dtype=torch.complex64)
    phase[..., 12:18, 12:18] = 1j
    mask = MASKS["gaussian-columns"]((32, 32), 2.0, 8, [0]).mask
    kspace = Mask(mask)(Fourier(2)(Coils(birdcage((32, 32), 8, [0]))(image * phase)))
    recipe = dataclasses.replace(ScoreMRI.tiny(), channels=1, size=(32, 32), values="auto")
    assert not recipe.acquire({"image": 2 * image - 1}).first.is_complex()
    errors = {}
    for values in ("auto", "real"):
        scan = dataclasses.replace(recipe, values=values).acquire({"kspace": kspace})
        assert scan.first.is_complex() == (values == "auto")
        x = scan.measurement.nearest(0 * scan.first, torch.tensor(10.0), 30).abs() * scan.scale
        errors[values] = float((x - image)[..., 12:18, 12:18].norm() / image.norm())
    assert errors["auto"] < 0.5 * errors["real"], errors


def test_what_a_chain_tells_is_nearer_to_the_mean_of_the_posterior_than_its_end(monkeypatch):
    """Exact prior of smooth Gaussian images, a noisy image with holes; the mean in closed form."""
    size, s = 12, 0.1
    covariance = 0.04 * _smooth_covariance(size, 4.0)
    generator = torch.Generator().manual_seed(0)
    draw = torch.linalg.cholesky(covariance) @ torch.randn(size**2, 1, generator=generator)
    kept = (torch.rand(1, 1, size, size, generator=generator) < 0.5).float()
    image = 0.5 + draw.reshape(1, 1, size, size)
    y = kept * (image + s * torch.randn(image.shape, generator=generator))
    rows = kept.flatten() > 0
    gain = covariance[:, rows] @ torch.linalg.inv(
        covariance[rows][:, rows] + s**2 * torch.eye(int(rows.sum()))
    )
    mean = (0.5 + gain @ (y.flatten()[rows] - 0.5)).reshape(image.shape)
    recipe = dataclasses.replace(ScoreMRI.small(), solver="probed", steps=25, highest=5.0)
    prior = _Flat(CorrelatedDenoiser(recipe.chain_schedule(), torch.full((144,), 0.5), covariance))
    monkeypatch.setattr(posterior, "prior_denoiser", lambda *_: prior)
    acquired = acquired_by(Mask(kept), y, y, std=s)
    pairs = [recipe.drawn(None, acquired, [k]) for k in range(6)]
    ends, told = (torch.stack([pair[k] - mean for pair in pairs]) for k in (0, 1))
    assert float(told.var(0).mean()) < 0.8 * float(ends.var(0).mean())
    assert float(told.square().mean()) < 0.85 * float(ends.square().mean())


@pytest.mark.parametrize("solver", ["paper", "dds", "pigdm", "ddnm", "moment-matching"])
def test_a_solver_without_a_mean_of_its_own_tells_its_sample(solver):
    """The estimates of a white covariance, or of equations half solved, are far from the mean while there is
    noise."""
    recipe = dataclasses.replace(R2D2(), steps=20, solver=solver, highest=5.0)
    y = texture(16)
    prior = GaussianDenoiser(recipe.chain_schedule(), 0.5, 0.2)
    x, told = _drawn_by(recipe, prior, acquired_by(Identity(), y, y, std=0.1))
    assert told is x


def _drawn_by(recipe, prior, acquired):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(posterior, "prior_denoiser", lambda *_: prior)
        return recipe.drawn(None, acquired, [0])


# --- chains of the papers' own constants --------------------------------------------------------------


def measured_with_noise(coils, std, size=8):
    """Half of the k-space columns of images N(0.4, 0.2^2), by one or more coils, under noise."""
    draw = torch.Generator().manual_seed(0)
    image = 0.4 + 0.2 * torch.randn(4, 1, size, size, generator=draw)
    mask = columns(size)
    A = Mask(mask) @ Fourier(2)
    if coils > 1:
        A = A @ Coils(birdcage((size, size), coils, [1]))
    clean = A(image)
    noise = torch.complex(*torch.randn(2, *clean.shape, generator=draw))
    y = clean + std * mask * noise
    first = Measurement(y, A, std).adjoint(y, image)
    return dataclasses.replace(acquired_by(A, y, image, mask=mask, std=std), first=first)


@pytest.mark.parametrize(("coils", "warm"), [(1, 0.3), (8, 0.1)])
def test_a_chain_of_the_paper_misses_the_measurement_by_no_more_than_its_noise(coils, warm):
    """The corrector's r = 0.517 lays down as much as all noise of a level, the predictor a fiftieth of it."""
    recipe = dataclasses.replace(ScoreInverse(), warm=warm)
    assert (recipe.steps, recipe.ratio, recipe.highest) == (1000, 0.0, 128.0)
    acquired = measured_with_noise(coils, 0.01)
    x = recipe.chain(
        GaussianDenoiser(recipe.chain_schedule(), 0.4, 0.2), acquired, Seeded(range(4))
    )
    measurement = acquired.measurement
    missed = residual_std(measurement.A, x, measurement.y) / 0.01
    assert float(missed.min()) > 0.7 and float(missed.max()) < 1.5


@pytest.mark.parametrize("ratio", [0.16, 0.517])
def test_noise_of_what_is_hardly_seen_is_not_taken_for_the_image_at_any_ratio(ratio):
    """A^+ would give those coefficients a deviation of 5; the seen ones keep to their measurement."""
    recipe = score_inverse_of(steps=60, ratio=ratio)
    x, _, y = half_hardly_seen(recipe)
    assert float(x[:, 32:].std()) == pytest.approx(0.5, rel=0.25)
    assert float((x - y)[:, :32].std()) < 1.5 * 0.05


def levels_asked(recipe, acquired):
    """sigma / alpha, in the units of the network, of every call that a chain makes of it."""
    fitted_recipe = dataclasses.replace(recipe, channels=1, size=(8, 8), data_std=0.5)
    objective = fitted_recipe.objective()
    asked = []
    objective.network.backbone.register_forward_pre_hook(
        lambda module, given: asked.append(float((4 * given[1]).exp().max()))
    )
    denoiser = posterior.prior_denoiser(fitted_recipe, objective, acquired.first)
    fitted_recipe.chain(denoiser, acquired, Seeded([1]))
    return asked


@pytest.mark.parametrize("kind", [ScoreInverse, ScoreMRI, MCG])
def test_the_levels_of_a_chain_lie_where_the_network_was_trained(kind):
    """Images in [0, 1] under noise of 4 are a network's images in [-1, 1] under noise of 8."""
    tiny = {"width": 16, "multiples": (1, 2), "blocks": 1, "attention": (), "patch": 2}
    paper = kind(**tiny, measurement="mri", steps=20, sigma_max=8.0, coils=1)
    assert paper.highest >= 128
    acquired, _ = single_coil()
    if kind is ScoreMRI:
        paper = dataclasses.replace(paper, combine="sense")
    else:
        acquired = dataclasses.replace(acquired, first=acquired.first.real)
    asked = levels_asked(paper, acquired)
    assert max(asked) == pytest.approx(8.0, rel=1e-3)
    assert sum(level > 7.9 for level in asked) <= 2, "one level, asked by predictor and corrector"
    assert len({round(level, 6) for level in asked}) > 20, "the N levels, from there down"
    lower = dataclasses.replace(paper, highest=1.0)
    assert max(levels_asked(lower, acquired)) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize("solver", ["dds", "diffpir"])
def test_a_general_solver_begins_where_the_network_was_trained(solver):
    """`highest` is the paper's 128, and the network knows 8."""
    tiny = {"width": 16, "multiples": (1, 2), "blocks": 1, "attention": (), "patch": 2}
    shape = {"channels": 1, "size": (8, 8), "data_std": 0.5}
    recipe = ScoreInverse(**tiny, **shape, measurement="noise", sigma_max=8.0, solver=solver)
    objective, asked = recipe.objective(), []
    objective.network.backbone.register_forward_pre_hook(
        lambda module, given: asked.append(float((4 * given[1]).exp().max()))
    )
    recipe = dataclasses.replace(recipe, steps=20)
    acquired = recipe.acquire({"image": torch.rand(1, 1, 8, 8)})
    posterior.walk(recipe, objective, acquired, [1])
    assert max(asked) == pytest.approx(8.0, rel=1e-3)
    assert sum(level > 7.9 for level in asked) == 1


def test_a_chain_within_what_was_trained_is_walked_from_its_top():
    recipe = dataclasses.replace(ScoreInverse.small(), channels=1, size=(16, 16), data_std=0.5)
    like = torch.zeros(1, 1, 16, 16)
    for highest, reach in (
        (10.0, 1.0),
        (40.0, 1.0),
        (80.0, math.log(40 / 0.005) / math.log(16000)),
    ):
        one = dataclasses.replace(recipe, highest=highest)
        denoiser = posterior.prior_denoiser(one, one.objective(), like)
        assert ScoreInverse.trained_to(denoiser) == pytest.approx(reach, abs=1e-9), (
            "of edm, 80 over 2"
        )
    assert ScoreInverse.trained_to(GaussianDenoiser(VE(0.01, 378.0))) == 1.0


def test_an_image_noisier_than_the_network_has_seen_is_refused():
    """Noise of 0.9 in [0, 1] is 1.8 of the network, which was trained up to 1."""
    tiny = {"width": 16, "multiples": (1, 2), "blocks": 1, "attention": (), "patch": 2}
    recipe = R2D2(**tiny, channels=1, size=(16, 16), data_std=0.5, sigma_max=1.0, steps=10)
    y = 0.5 + 0.9 * torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    denoiser = posterior.prior_denoiser(recipe, recipe.objective(), y)
    with pytest.raises(
        UserError, match=r"begin at noise of 0\.9.* trained up to 0\.5: lower extent"
    ):
        recipe.denoised(denoiser, y, torch.tensor([0.9]), Seeded([1]))
    calm = recipe.denoised(denoiser, y, torch.tensor([0.4]), Seeded([1]))
    assert torch.isfinite(calm).all()


def test_a_warm_start_is_refused_where_the_chain_has_a_start_of_its_own():
    with pytest.raises(UserError, match="--warm has no meaning for the chain of r2d2"):
        R2D2(warm=0.2)
    with pytest.raises(UserError, match="--warm has no meaning for the chain of diffuse-recon"):
        DiffuseRecon(warm=0.2)
    assert R2D2(warm=0.2, solver="probed", highest=5.0).warm == 0.2


@pytest.mark.parametrize("size", [(12, 64, 64), (8, 64, 64)])
def test_a_chain_of_thick_volumes_asks_the_network_that_was_trained(size):
    """Axes that the network halves less often were continued to its largest stride."""
    torch.manual_seed(0)
    recipe = dataclasses.replace(
        ScoreMRI.small(), size=size, channels=1, data_std=0.5, filtered=False, sigma_max=80.0, width=8,
        halved=halvings(size, (), 4, 2),
    )  # fmt: skip
    objective = recipe.objective()
    for parameter in objective.network.backbone.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.1)
    x, t = torch.rand(1, 1, *size), torch.tensor(0.5)
    with torch.no_grad():
        found = posterior.prior_denoiser(recipe, objective, x)(x, t)
        expected = Affine(objective.network.eval(), recipe.chain_schedule())(x, t)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("std", [0.02, 0.3])
def test_what_an_image_that_is_restored_as_it_is_leaves_is_told_by_its_own_noise(std):
    torch.manual_seed(0)
    recipe = dataclasses.replace(
        R2D2.tiny(),
        size=(32, 32),
        channels=1,
        data_std=0.5,
        spectrum=(0.25,) + (1.0,) * 32,
        simulated=False,
    )
    clean = torch.zeros(1, 1, 32, 32)
    clean[..., 8:24, 8:24] = 1
    y = clean + std * torch.randn_like(clean)
    acquired = recipe.acquire({"image": 2 * y - 1})
    assert 0.6 < float(maps_of(acquired, clean, {}, False)["residual"]) < 1.5


def test_a_scan_shorter_than_the_stride_is_continued():
    recipe = dataclasses.replace(
        ScoreMRI.small(),
        size=(64, 64),
        channels=1,
        data_std=0.5,
        filtered=False,
        sigma_max=80.0,
        width=8,
    )
    prior = posterior.prior_denoiser(recipe, recipe.objective(), torch.rand(1, 1, 12, 64))
    with torch.no_grad():
        assert prior(torch.rand(1, 1, 12, 64), torch.tensor(0.5)).shape == (1, 1, 12, 64)
