"""Calibration and consistency against Gaussian posteriors, whose answers are exact."""

import math

import pytest
import scoringrules
import torch
from scipy.stats import chisquare, norm

from radiffuse.errors import UserError
from radiffuse.inverse.consistency import null_space, null_space_energy, residual, residual_std
from radiffuse.metrics.calibration import (
    conformal_factor,
    coverage,
    crps,
    half_width,
    rank_histogram,
)
from radiffuse.metrics.fidelity import nmse
from radiffuse.operators import Coils, Fourier, Mask, Matrix, RealPart


def draws(*shape, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


# -------------------------------------------------------------------------- coverage and widths
@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_samples_of_the_truths_own_law_cover_it_for_every_number_of_samples(count, level):
    samples, truth = 3 + draws(count, 4, 1, 120, 120), 3 + draws(4, 1, 120, 120, seed=1)
    got = coverage(samples, truth, level)
    assert got.shape == (4,)
    assert float(got.mean()) == pytest.approx(level, abs=0.006)


def test_intervals_of_half_the_spread_cover_what_the_normal_law_says():
    samples, truth = draws(400, 1, 1, 200, 200, scale=0.5), draws(1, 1, 200, 200, seed=1)
    expected = 2 * norm.cdf(1.6449 / 2) - 1
    assert float(coverage(samples, truth)) == pytest.approx(expected, abs=0.01)
    assert float(coverage(samples, truth, factor=2.0)) == pytest.approx(0.9, abs=0.01)


def test_only_the_pixels_asked_for_count():
    samples, truth = draws(5, 1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    truth[..., 0, 0] = 100
    where = torch.tensor([[True, False], [False, False]])
    assert float(coverage(samples, truth, where=where)) == 0
    assert float(coverage(samples, truth, where=~where, factor=100)) == 1
    assert int(rank_histogram(samples, truth, where=where)[5]) == 1


def test_the_width_for_two_samples_is_known():
    """t with one degree of freedom is Cauchy: its 95 % point is tan(0.45 pi)."""
    samples = torch.tensor([1.0, 3.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    expected = math.tan(0.45 * math.pi) * math.sqrt(1.5) * math.sqrt(2)
    assert float(half_width(samples)) == pytest.approx(expected)


# ----------------------------------------------------------------------------------------- CRPS
def test_crps_is_the_fair_one_of_scoringrules():
    samples, truth = draws(7, 3, 1, 8, 8), draws(3, 1, 8, 8, seed=1)
    expected = scoringrules.crps_ensemble(
        truth.numpy(), samples.numpy(), m_axis=0, estimator="fair"
    )
    assert torch.allclose(crps(samples, truth), torch.from_numpy(expected.mean((1, 2, 3))))


def test_crps_of_a_gaussian_is_known_without_bias_of_the_number_of_samples():
    """At the mean of N(0, 1) it is (sqrt(2) - 1) / sqrt(pi)."""
    truth = torch.zeros(1, 1, 300, 300, dtype=torch.float64)
    expected = (math.sqrt(2) - 1) / math.sqrt(math.pi)
    for count in (2, 8):
        got = float(crps(draws(count, 1, 1, 300, 300, seed=count), truth))
        assert got == pytest.approx(expected, abs=0.01)
    sure = torch.full((3, 1, 1, 4, 4), 2.0)
    assert float(crps(sure, torch.zeros(1, 1, 4, 4))) == 2


# ---------------------------------------------------------------------------------------- ranks
def test_ranks_are_flat_for_one_law_and_a_bowl_for_too_narrow_samples():
    truth = draws(1, 1, 200, 200, seed=1)
    flat = rank_histogram(draws(9, 1, 1, 200, 200), truth)
    assert flat.shape == (10,) and int(flat.sum()) == truth.numel()
    assert chisquare(flat.numpy()).pvalue > 0.01
    bowl = rank_histogram(draws(9, 1, 1, 200, 200, scale=0.5), truth)
    assert bowl[[0, -1]].min() > 2 * bowl[3:7].max()


def test_ties_are_broken_at_random_and_seeded():
    samples, truth = torch.zeros(4, 1, 1, 100, 100), torch.zeros(1, 1, 100, 100)
    counts = rank_histogram(samples, truth, seed=3)
    assert chisquare(counts.numpy()).pvalue > 0.01
    assert torch.equal(counts, rank_histogram(samples, truth, seed=3))
    assert not torch.equal(counts, rank_histogram(samples, truth, seed=4))


# ------------------------------------------------------------------------------------ conformal
def fitted(scale, patients=20, guaranteed=True, sizes=(4000,), level=0.9):
    """Gaussian errors of standard deviation 1 against intervals for one of `scale`."""
    errors, widths, names = [], [], []
    for k in range(patients):
        for size in sizes:
            errors.append(draws(size, seed=k * 10 + size))
            widths.append(torch.full((size,), 1.6448536 * scale, dtype=torch.float64))
            names.append(f"patient {k}")
    return conformal_factor(errors, widths, names, level, guaranteed)


def test_a_standard_deviation_two_times_too_small_gives_the_factor_two():
    made = fitted(0.5, guaranteed=False)
    assert made.factor == pytest.approx(2.0, abs=0.02)
    assert made.before == pytest.approx(2 * norm.cdf(1.6448536 / 2) - 1, abs=0.01)
    assert made.after == pytest.approx(0.9, abs=1e-4) and made.patients == 20
    assert fitted(1.0, guaranteed=False).factor == pytest.approx(1.0, abs=0.01)


def test_the_guarantee_asks_for_the_finite_sample_quantile_of_patients():
    made = fitted(1.0, patients=20)
    assert made.after == pytest.approx(0.9 * 21 / 20, abs=1e-4)
    assert made.factor == pytest.approx(norm.ppf(0.9725) / norm.ppf(0.95), abs=0.02)
    with pytest.raises(UserError, match=r"8 patients are too few .* 9 or more"):
        fitted(1.0, patients=8)
    assert fitted(1.0, patients=9).after == pytest.approx(1.0)


def test_a_patient_with_one_pixel_is_split_conformal_prediction():
    """The (n + 1) l-th smallest of n scores: of 1 ... 19 at 90 % the 18th."""
    errors = [torch.tensor([float(k)]) for k in range(1, 20)]
    widths = [torch.ones(1)] * 19
    made = conformal_factor(errors, widths, [str(k) for k in range(19)])
    assert made.factor == 18


def test_a_new_patient_is_covered_as_promised_on_average():
    """Patients differ in how wrong their intervals are; 1000 fits on 12 of them."""
    generator = torch.Generator().manual_seed(0)
    covered = []
    for _ in range(1000):
        levels = torch.randn(13, 1, generator=generator).exp()
        errors = (levels * torch.randn(13, 25, generator=generator)).abs()
        made = conformal_factor(list(errors[:12]), [torch.ones(25)] * 12, "abcdefghijkl")
        covered.append(float((errors[12] <= made.factor).float().mean()))
    mean = sum(covered) / len(covered)
    assert 0.89 < mean < 0.9 + 1 / 13 + 0.01


def test_every_patient_weighs_the_same():
    many, few = torch.ones(9000), 3 * torch.ones(10)
    made = conformal_factor([many, few], [many, few / 3], ["a", "b"], 0.6, guaranteed=False)
    assert made.factor == 3, "by pixels it would be 1"
    split = conformal_factor(
        [many[:10], many[10:], few], [many[:10], many[10:], few / 3], ["a", "a", "b"], 0.5, False
    )
    assert split.factor == 1


def test_widths_of_zero_are_said():
    zero = torch.zeros(5)
    with pytest.raises(UserError, match="width 0"):
        conformal_factor([torch.ones(5)], [zero], ["a"], guaranteed=False)
    assert conformal_factor([zero], [zero], ["a"], guaranteed=False).factor == 0


@pytest.mark.parametrize("measure", [coverage, crps, rank_histogram])
def test_samples_of_another_shape_are_said(measure):
    for samples in (torch.zeros(3, 1, 1, 4, 5), torch.zeros(1, 1, 1, 4, 4)):
        with pytest.raises(UserError, match="two samples or more"):
            measure(samples, torch.zeros(1, 1, 4, 4))


# ------------------------------------------------------------------- consistency and null space
def test_nmse_is_known_for_real_and_complex_images():
    x = torch.tensor([[[3.0, 4.0]]])
    assert nmse(x * 1.1, x).tolist() == pytest.approx([0.01])
    assert nmse(x * 1j, x * 1j * 0.5).tolist() == pytest.approx([1.0])


def mri(mask):
    return Mask(mask) @ Fourier(2) @ Coils(torch.ones(1, 1, *mask.shape, dtype=torch.complex128))


def test_the_residual_of_the_truth_is_the_noise():
    mask = torch.zeros(128, 128)
    mask[:, ::3] = 1
    A, x = mri(mask), draws(2, 1, 128, 128).to(torch.complex128)
    noise = torch.complex(draws(2, 1, 128, 128, seed=1), draws(2, 1, 128, 128, seed=2))
    y = A(x) + 0.2 * Mask(mask)(noise)
    assert torch.allclose(residual_std(A, x, y), torch.tensor(0.2).double(), rtol=0.02)
    assert torch.allclose(residual(A, 0 * x, y), torch.ones(2).double())
    assert torch.allclose(residual(A, x, A(x)), torch.zeros(2).double())


@pytest.mark.parametrize("real", [False, True])
def test_the_null_space_is_the_dense_projection(real):
    M = torch.complex(draws(2, 6), draws(2, 6, seed=1))
    A, x = Matrix(M, (1, 2, 3)), torch.complex(draws(3, 1, 2, 3, seed=2), draws(3, 1, 2, 3, seed=3))
    if real:
        A, x, M = A @ RealPart(), x.real, torch.cat([M.real, M.imag])
    dense = x.flatten(1) - x.flatten(1) @ (torch.linalg.pinv(M) @ M).mT
    got = null_space(A, x, tolerance=1e-12)
    assert torch.allclose(got.flatten(1), dense, atol=1e-9)
    assert float(A(got).abs().max()) < 1e-9, "it is not measured"


def test_the_energy_map_shows_the_pixels_nothing_was_measured_of():
    seen = torch.zeros(8, 8)
    seen[:, :4] = 1
    samples = draws(200, 2, 1, 8, 8, scale=0.3)
    energy = null_space_energy(Mask(seen), samples)
    assert energy.shape == (2, 1, 8, 8)
    assert float(energy[..., :4].max()) < 1e-12
    assert torch.allclose(energy[..., 4:], samples.var(0)[..., 4:])
