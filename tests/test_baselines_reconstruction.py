"""Reconstructions without a prior against closed forms, dense solutions and brute force."""

import dataclasses
import math

import pytest
import pywt
import torch
from scipy.optimize import lsq_linear, minimize

from radiffuse import papers
from radiffuse.applications.reconstruction.baselines import classical, tuning_of
from radiffuse.applications.reconstruction.measuring import reference
from radiffuse.applications.tuning import TRIALS, choose, search, tune
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.inverse import Measurement
from radiffuse.inverse.classical import (
    cg_sense,
    cubic_upsampling,
    filtered_back_projection,
    non_local_means,
    zero_filled,
)
from radiffuse.inverse.compressed import Gradient, l1_wavelet, total_variation, wavelet_shrink
from radiffuse.metrics.fidelity import nmse
from radiffuse.operators import (
    BlockMean,
    Coils,
    Fan,
    Fourier,
    Identity,
    KSpaceCrop,
    Mask,
    Matrix,
    Parallel,
    Radon,
    RealPart,
    fbp,
    norm,
    views,
)
from radiffuse.operators.coils import birdcage
from radiffuse.operators.masks import gaussian_columns, gaussian_points
from radiffuse.operators.tomography import hann, ramp
from radiffuse.testing import check_operator


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def disc(size, dtype=torch.float64):
    """An ellipsoid of value 1 with a brighter and a darker part in it."""
    axes = [(torch.arange(n, dtype=dtype) - n // 2) / (n / 2) for n in size]
    *_, y, x = grid = torch.meshgrid(*axes, indexing="ij")
    radius = sum(g**2 for g in grid).sqrt()
    parts = 0.5 * ((x - 0.2) ** 2 + y**2 < 0.1) - 0.4 * ((x + 0.3) ** 2 + y**2 < 0.04)
    return ((radius < 0.8) * (1 + parts))[None, None].to(dtype)


def mri(x, seeds=(0,), rate=3.0, std=0.01, coils=4, mask=gaussian_columns):
    """Two-dimensional multi-coil measurements of x (B, 1, *S)."""
    size = tuple(x.shape[2:])
    maps = birdcage(size, coils, seeds).to(x.dtype.to_complex())
    A = Mask(mask(size, rate, 4, seeds).mask) @ Fourier(len(size)) @ Coils(maps)
    clean = A(x)
    draws = [noise(2, *clean.shape[1:], seed=seed, dtype=x.real.dtype) for seed in seeds]
    added = torch.stack([torch.complex(*draw) for draw in draws])
    return Measurement(clean + std * Mask(A.left.left.mask)(added), A, std)


# ------------------------------------------------------------------------------ linear baselines
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_cg_sense_is_the_dense_solution(dtype):
    M, y = noise(7, 6, dtype=torch.complex128), noise(2, 7, seed=1, dtype=torch.complex128)
    like = torch.zeros(2, 1, 2, 3, dtype=dtype)
    A = Matrix(M, (1, 2, 3))
    A = A if dtype.is_complex else A @ RealPart()
    got = cg_sense(Measurement(y, A, 0.1), like, 0.3, 50, 1e-12)
    if dtype == torch.float64:  # a real unknown sees real and imaginary parts as so many rows
        M, y = torch.cat([M.real, M.imag]), torch.cat([y.real, y.imag], 1)
    expected = torch.linalg.solve(M.mH @ M + 0.3 * torch.eye(6, dtype=M.dtype), (y @ M.conj()).mT)
    assert got.dtype == dtype
    assert torch.allclose(got.flatten(1), expected.mT, atol=1e-10)


def test_zero_filled_and_cg_sense_of_full_noiseless_data_give_the_image():
    x = torch.polar(disc((16, 12)), 0.3 * noise(1, 1, 16, 12))
    measurement = mri(x, rate=1.0, std=0.0)
    for got in (zero_filled(measurement, x), cg_sense(measurement, x, 0.0)):
        assert torch.allclose(got, x, atol=1e-6)
    real = zero_filled(measurement, x.real)
    assert real.dtype == torch.float64 and torch.allclose(real, x.real, atol=1e-6)


# ------------------------------------------------------------------------------- total variation
@pytest.mark.parametrize("size", [(7,), (4, 5), (3, 4, 5)], ids=str)
def test_the_gradient_proves_its_adjoint_and_norm(size):
    x, y = noise(2, 1, *size), noise(2, len(size), 1, *size, seed=1)
    check_operator(Gradient(), x, y)
    assert (norm(Gradient(), x) <= math.sqrt(4 * len(size))).all()


def objective(x, A, y, weight):
    lengths = torch.linalg.vector_norm(Gradient()(x), dim=1).sum()
    return float(0.5 * (A(x) - y).abs().square().sum() + weight * lengths)


def test_total_variation_on_a_line_solves_the_box_constrained_dual():
    """x = y - D^T v with the v in [-w, w] that minimises ||D^T v - y||, by active sets."""
    y, weight = noise(1, 1, 12) * 2, 0.7
    D = torch.stack([Gradient()(row.reshape(1, 1, 12)).flatten() for row in torch.eye(12)], 1)
    dual = lsq_linear(D.double().mT.numpy()[:, :-1], y.flatten().numpy(), (-weight, weight))
    expected = y.flatten() - D.double().mT[:, :-1] @ torch.from_numpy(dual.x)
    got = total_variation(Measurement(y, Identity(), 0.1), y, weight, tolerance=1e-9)
    assert torch.allclose(got.flatten(), expected, atol=1e-6)
    assert (got.flatten().diff().abs() < 1e-6).sum() >= 4, "flat pieces"


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_total_variation_is_the_brute_force_minimum(dtype):
    M = noise(5, 4, seed=3, dtype=dtype) * 4
    y, weight = noise(1, 5, seed=4, dtype=dtype) * 4, 2.0
    A, like = Matrix(M, (1, 2, 2)), torch.zeros(1, 1, 2, 2, dtype=dtype)
    got = total_variation(Measurement(y, A, 0.1), like, weight, tolerance=1e-8, iterations=5000)
    parts = 2 if dtype.is_complex else 1

    def value(v):
        v = torch.from_numpy(v).reshape(parts, 1, 1, 2, 2)
        return objective(torch.complex(v[0], v[1]) if parts == 2 else v[0], A, y, weight)

    start = torch.zeros(4 * parts, dtype=torch.float64).numpy()
    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000, "adaptive": True}
    for _ in range(2):
        best = minimize(value, start, method="Nelder-Mead", options=options)
        start = best.x
    assert objective(got, A, y, weight) <= best.fun * (1 + 1e-9)
    flat = torch.view_as_real(got).movedim(-1, 0) if parts == 2 else got
    assert torch.allclose(flat.flatten(), torch.from_numpy(best.x), atol=2e-3)


def test_total_variation_does_not_depend_on_units_and_keeps_the_bound():
    y = noise(1, 1, 6, 5)
    got = total_variation(Measurement(y, Identity(), 0.1), y, 0.3, tolerance=1e-8)
    large = Measurement(250 * y, 50 * Identity(), 0.1)
    scaled = total_variation(large, y, 0.3 * 250 * 50, tolerance=1e-8)
    assert torch.allclose(scaled, 5 * got, atol=1e-5)
    # of the identity's solution the bounded one is the solution cut off (both flat below it)
    bounded = total_variation(Measurement(y, Identity(), 0.1), y, 1e-9, lowest=0.2, tolerance=1e-8)
    assert torch.allclose(bounded, y.clamp(min=0.2), atol=1e-5)


@pytest.mark.parametrize(("method", "tolerance"), [(total_variation, 0.01), (l1_wavelet, 0.03)])
def test_a_case_does_not_see_its_batch(method, tolerance):
    """Nor does it go on after its own stop: the two cases stop at different steps."""
    x = torch.cat([disc((16, 16)), 0.02 * disc((16, 16)).flip(-1)]).to(torch.complex128)
    settings = {"weight": 0.005, "iterations": 200, "tolerance": tolerance}
    got = method(mri(x, seeds=(0, 1)), x, **settings)
    for k in range(2):
        alone = method(mri(x[k : k + 1], seeds=(k,)), x[k : k + 1], **settings)
        assert torch.allclose(got[k : k + 1], alone, atol=1e-10)


@pytest.mark.parametrize("method", [total_variation, l1_wavelet])
@pytest.mark.parametrize("size", [(40, 36), (8, 16, 20)], ids=str)
def test_compressed_sensing_beats_the_linear_methods_in_two_and_three_dimensions(method, size):
    x = disc(size).to(torch.complex128)
    measurement = mri(x, mask=gaussian_points)
    linear = float(nmse(cg_sense(measurement, x, 0.01), x))
    flat = {"wavelet": "haar"} if method is l1_wavelet else {}
    got = float(nmse(method(measurement, x, 0.01, iterations=80, **flat), x))
    assert got < 0.5 * linear


# ------------------------------------------------------------------------------------ L1-wavelet
def test_haar_wavelets_on_a_pair_are_known():
    """(a, b) -> mean +- half the difference, which shrinks by sqrt(2) w."""
    y = torch.tensor([[[3.0, 1.0, -1.0, -1.2]]], dtype=torch.float64)
    settings = {"wavelet": "haar", "levels": 1, "shifts": False, "tolerance": 1e-12}
    got = l1_wavelet(Measurement(y, Identity(), 0.1), y, 0.3, **settings)
    gap = 2 - 2 * 0.3 / math.sqrt(2)
    expected = [2 + gap / 2, 2 - gap / 2, -1.1, -1.1]
    assert torch.allclose(got.flatten(), torch.tensor(expected, dtype=torch.float64), atol=1e-9)


def test_the_margin_of_an_odd_size_is_free():
    y = torch.tensor([[[3.0, 1.0, 7.0]]], dtype=torch.float64)
    settings = {"wavelet": "haar", "levels": 1, "shifts": False, "tolerance": 1e-12}
    got = l1_wavelet(Measurement(y, Identity(), 0.1), y, 0.3, **settings, iterations=2000)
    gap = 2 - 2 * 0.3 / math.sqrt(2)
    expected = torch.tensor([2 + gap / 2, 2 - gap / 2, 7.0], dtype=torch.float64)
    assert torch.allclose(got.flatten(), expected, atol=1e-6), "a lone pixel has no differences"


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_of_the_identity_l1_wavelet_is_soft_thresholding(dtype):
    y = noise(2, 1, 16, 16, dtype=dtype)
    settings = {"wavelet": "db2", "levels": 2, "shifts": False, "tolerance": 1e-8}
    got = l1_wavelet(Measurement(y, Identity(), 0.1), y, 0.5, **settings)
    coefficients = pywt.wavedecn(y[1, 0].numpy(), "db2", "periodization", 2)
    for level in coefficients[1:]:
        for key, d in level.items():
            size = abs(d)
            level[key] = d / size * (size - 0.5).clip(min=0)
    expected = torch.from_numpy(pywt.waverecn(coefficients, "db2", "periodization"))
    assert got.dtype == dtype
    assert torch.allclose(got[1, 0], expected, atol=1e-5)


def test_fista_ends_where_plain_steps_stand_still_and_below_them():
    x = disc((16, 16)).to(torch.complex128)
    measurement, weight = mri(x), 0.01
    A, y = measurement.A, measurement.y

    def value(z):
        details = pywt.wavedecn(z[0, 0].numpy(), "db2", "periodization", 2)[1:]
        size = sum(float(abs(d).sum()) for level in details for d in level.values())
        return float(0.5 * (A(z) - y).abs().square().sum()) + weight * size

    def plain(z):  # ISTA, step 1 of an operator of norm 1 at most
        return wavelet_shrink(z - A.adjoint(A(z) - y), torch.tensor([weight]), "db2", 2)

    z = torch.zeros_like(x)
    for _ in range(300):
        z = plain(z)
    settings = {"wavelet": "db2", "levels": 2, "shifts": False, "tolerance": 1e-9}
    got = l1_wavelet(measurement, x, weight, **settings, iterations=500)
    assert float((plain(got) - got).norm() / got.norm()) < 1e-7
    assert value(got) <= value(z) <= 1.01 * value(got)
    assert value(l1_wavelet(measurement, x, weight, **settings, iterations=5)) > 1.001 * value(got)


def test_random_shifts_help_where_the_grid_of_blocks_shows():
    x = disc((32, 32)).to(torch.complex128)
    measurement = mri(x, rate=3.0, coils=1)
    errors = [
        float(nmse(l1_wavelet(measurement, x, 0.01, wavelet="haar", shifts=shifts), x))
        for shifts in (False, True)
    ]
    assert errors[1] < 0.8 * errors[0]
    again = l1_wavelet(measurement, x, 0.01, wavelet="haar", iterations=5)
    assert torch.equal(again, l1_wavelet(measurement, x, 0.01, wavelet="haar", iterations=5))


# ----------------------------------------------------------------------- tomography and filters
@pytest.mark.parametrize(
    "geometry",
    [Parallel((33, 33), views(24)), Fan((33, 33), views(48, 2 * math.pi), distance=70.0)],
    ids=["parallel", "fan"],
)
def test_filtered_back_projection_undoes_the_weights(geometry):
    x = disc((33, 33))
    sinogram = Radon(geometry)(x)
    weights = 0.5 + noise(*sinogram.shape, seed=2).abs()
    weighted = Measurement(weights * sinogram, Mask(weights) @ Radon(geometry), 0.1)
    for window in (ramp, hann):
        got = filtered_back_projection(weighted, x, window)
        assert torch.allclose(got, fbp(sinogram, geometry, window), atol=1e-9)


def test_total_variation_beats_filtered_back_projection_of_few_views():
    x = disc((48, 48))
    A = Radon(Parallel((48, 48), views(12)))
    measurement = Measurement(A(x), A, 0.0)
    tv = total_variation(measurement, x, 1.0, lowest=0.0, iterations=400)
    plain = filtered_back_projection(measurement, x)
    assert float(nmse(tv, x)) < 0.2 * float(nmse(plain, x))


@pytest.mark.parametrize("size", [(32, 32), (12, 16, 16)], ids=str)
def test_non_local_means_removes_noise_at_the_given_level(size):
    x = disc(size, torch.float32)
    measured = Measurement(x + 0.1 * noise(*x.shape, dtype=torch.float32), Identity(), 0.1)
    got = non_local_means(measured, x)
    assert got.dtype == x.dtype and got.shape == x.shape
    assert float(nmse(got, x)) < 0.5 * float(nmse(measured.y, x))
    both = Measurement(torch.complex(measured.y, measured.y), Identity(), 0.1)
    parts = non_local_means(both, torch.complex(x, x))
    assert torch.allclose(parts.real, got) and torch.allclose(parts.imag, got)


@pytest.mark.parametrize("size", [(16, 24), (16, 12, 24)], ids=str)
def test_cubic_upsampling_of_block_means_keeps_a_plane(size):
    grid = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in size], indexing="ij")
    x = sum((k + 1) * g for k, g in enumerate(grid))[None, None]
    A = BlockMean((2,) * len(size))
    got = cubic_upsampling(Measurement(A(x), A, 0.0), x)
    inside = (0, 0, *[slice(n // 2 - 1, n // 2 + 1) for n in size])
    assert torch.allclose(got[inside], x[inside], atol=0.1)
    through = BlockMean((4, *[1] * (len(size) - 1)))  # one axis alone
    got = cubic_upsampling(Measurement(through(x), through, 0.0), x)
    assert torch.allclose(got[0, 0, 6:10], x[0, 0, 6:10], atol=0.5)


def test_cubic_upsampling_knows_the_grid_of_cropped_k_space():
    n = torch.arange(64, dtype=torch.float64)
    x = torch.sin(2 * math.pi * n / 32)[None, None, :, None] * torch.ones(64, dtype=torch.float64)
    A = KSpaceCrop((64, 64), (32, 32))
    got = cubic_upsampling(Measurement(A(x), A, 0.0), x)
    assert float((got - x)[:, :, 8:56, 8:56].abs().max()) < 2e-3, "half a pixel off would be 0.1"


# --------------------------------------------------------------------------------------- weights
def test_tuning_finds_the_best_ridge_weight_and_leaves_the_grid_for_it():
    """For x ~ N(0, I) and noise s the best weight of ridge regression is s^2."""
    x = noise(40, 1, 4, 4)
    M = noise(16, 16, seed=1)
    A = Matrix(M, (1, 4, 4))
    y = A(x) + 0.5 * noise(40, 16, seed=2)
    tuned = tune(cg_sense, [(Measurement(y, A, 0.5), x)], [1.0, 2.0, 4.0])
    assert tuned.weight == pytest.approx(0.25, rel=0.5)
    assert min(tuned.errors) < tuned.weight < max(tuned.errors)
    assert tuned.trials == len(tuned.errors) == TRIALS
    assert tuned.errors[tuned.weight] == min(tuned.errors.values())
    with pytest.raises(UserError, match="validation"):
        tune(cg_sense, [], [1.0])


@pytest.mark.parametrize(
    ("best", "first", "tried"),
    [
        (40.0, (1.0, 2.0), [1, 2, 4, 8, 16, 32]),
        (0.1, (1.0, 4.0), [1, 4, 1 / 4, 1 / 16, 1 / 64, 1 / 8]),
        (3.0, (1.0, 4.0, 16.0), [1, 4, 16, 2, 8, 2 * math.sqrt(2)]),
        (5.0, (2.0,), [2, 4, 8, 4 * math.sqrt(2), 2**2.25, 2**2.375]),
    ],
)
def test_a_search_takes_its_trials_and_no_more_wherever_the_best_lies(best, first, tried):
    """Beyond an end by its own ratio, between others at their geometric mean."""
    asked = []

    def error(setting):
        asked.append(setting)
        return abs(math.log(setting / best))

    found = search(error, first)
    assert asked == pytest.approx(tried)
    assert found.trials == len(found.errors) == TRIALS
    assert found.weight == min(asked, key=lambda setting: abs(math.log(setting / best)))


def test_a_setting_without_a_finite_error_is_a_trial_and_never_the_best():
    found = search(lambda setting: math.nan if setting < 1 else setting, (0.5, 1.0, 2.0), 4)
    assert found.weight == 1 and found.trials == 4
    assert all(math.isfinite(error) for error in found.errors.values())
    with pytest.raises(ValueError, match="2 trials"):
        search(lambda setting: setting, (1.0, 2.0, 3.0), 2)


def test_every_tuned_method_has_as_many_trials_and_the_record_says_so():
    recipe = papers.by_id("score-mri").load().tiny()
    cases = open_cases("brains:count=8,size=16", mapping={"image": "t1"})
    recipe = dataclasses.replace(recipe.fitted(cases.facts()), calibration=6, acceleration=2)
    found = classical(recipe, cases, work=9)
    said = tuning_of(found)
    assert set(said) == {"method", "cg_sense", "l1_wavelet", "total_variation"}
    assert said["method"] == {"trials": 0}
    assert {said[name]["trials"] for name in said if name != "method"} == {TRIALS}
    assert all(found[name].tuned.weight == said[name]["weight"] for name in found)


def test_phases_of_the_scan_are_no_error_of_what_is_tuned():
    """A complex image has the phase of its scan, which the stored magnitude lacks."""
    recipe = papers.by_id("bayes-mri").load().tiny()
    cases = open_cases("brains:count=4,size=32", mapping={"image": "t1"})
    recipe = dataclasses.replace(recipe.fitted(cases.facts()), acceleration=2, refinements=0)
    acquired = recipe.acquire({"image": cases.batch([0])["image"]})
    truth = (cases.batch([0])["image"] + 1) / 2
    assert acquired.first.is_complex()
    plain = float(nmse(acquired.first.abs(), truth))
    for name, method in classical(recipe, cases, work=90).items():
        assert method.tuned.weight < 1, name
        found = method(acquired.measurement, acquired.first)
        assert float(nmse(found.abs(), truth)) < plain, name


def test_complex_images_are_compared_by_their_magnitudes():
    recipe = papers.by_id("bayes-mri").load().tiny()
    parts = torch.tensor([0.3, -0.4]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    assert torch.allclose(reference(recipe, parts), torch.full((1, 1, 4, 4), 0.5))
    assert torch.equal(reference(recipe, parts[:, :1]), (parts[:, :1] + 1) / 2)


def test_choosing_takes_any_setting():
    x, A = disc((33, 33)), Radon(Parallel((33, 33), views(60)))
    y = A(x) + 2.0 * noise(*A(x).shape)
    errors = choose(filtered_back_projection, [(Measurement(y, A, 2.0), x)], [ramp, hann])
    assert min(errors, key=errors.get) is hann, "noise asks for the smoother window"


# ------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("method", [zero_filled, cubic_upsampling, non_local_means])
@pytest.mark.parametrize(
    ("y", "words"),
    [(torch.full((1, 1, 4, 4), torch.nan), "NaN"), (torch.zeros(0, 1, 4, 4), "empty")],
)
def test_a_broken_measurement_is_said_in_one_line(method, y, words):
    with pytest.raises(UserError, match=words) as error:
        method(Measurement(y, Identity(), 0.1), torch.zeros(1, 1, 4, 4))
    assert "\n" not in str(error.value)


def test_a_method_says_what_it_is_not_for():
    x = torch.zeros(1, 1, 4, 4)
    masked = Measurement(x, Mask(torch.ones(4)), 0.1)
    with pytest.raises(UserError, match="cannot undo Mask"):
        non_local_means(masked, x)
    with pytest.raises(UserError, match="Radon"):
        filtered_back_projection(masked, x)
    with pytest.raises(UserError, match="interpolated"):
        cubic_upsampling(
            Measurement(torch.zeros(1, 2, 4, 4), Coils(torch.ones(1, 2, 4, 4)), 0.1), x
        )
    with pytest.raises(UserError, match="0 or more"):
        total_variation(masked, x, float("nan"))
