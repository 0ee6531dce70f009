"""Sampling masks and coil maps: what is promised of each, and maps of known truth recovered."""

import pytest
import torch

from radiffuse.errors import UserError
from radiffuse.operators import Coils, Fourier, Mask
from radiffuse.operators.coils import birdcage, espirit, root_sum_of_squares
from radiffuse.operators.masks import (
    equispaced_columns,
    gaussian_columns,
    gaussian_points,
    poisson_disc,
    radial,
    uniform_columns,
    uniform_points,
)

COLUMNS = (gaussian_columns, uniform_columns, equispaced_columns)
POINTS = (gaussian_points, poisson_disc, radial)
ALL = COLUMNS + POINTS


def named(function):
    return function.__name__


@pytest.mark.parametrize("make", ALL, ids=named)
@pytest.mark.parametrize("size", [(64, 48), (33, 47), (3, 32, 40)], ids=str)
def test_masks_reach_their_acceleration_and_hold_the_calibration_region(make, size):
    made = make(size, 4, 8, range(3))
    mask, rates = made.mask, made.acceleration
    assert mask.shape == (3, 1, *size) and mask.dtype == torch.bool
    counted = mask[0].numel() / mask.flatten(1).sum(1)
    assert torch.allclose(rates, counted.double())
    exact = make not in (equispaced_columns, radial)
    tolerance = 0.04 if exact and make in POINTS else (0.2 if exact else 0.6)
    assert (rates - 4).abs().max() <= tolerance
    rows, columns = size[-2] // 2, size[-1] // 2
    assert mask[..., columns - 4 : columns + 4].all() == (make in COLUMNS)
    assert mask[..., rows - 4 : rows + 4, columns - 4 : columns + 4].all()
    if make in COLUMNS:
        assert torch.equal(mask, mask[..., :1, :].expand_as(mask)), "whole lines"


@pytest.mark.parametrize("make", ALL, ids=named)
def test_a_mask_follows_from_its_own_seed_alone(make):
    many = make((32, 32), 3, 4, range(6)).mask
    assert torch.equal(many[1:2], make((32, 32), 3, 4, [1]).mask)
    assert not all(torch.equal(many[0], other) for other in many)


@pytest.mark.parametrize("make", [*COLUMNS, gaussian_points, poisson_disc], ids=named)
def test_acceleration_1_takes_everything(make):
    made = make((16, 20), 1, 4, [0])
    assert made.mask.all() and made.acceleration.tolist() == [1.0]


def sampling(kind):
    """Masks of all forms over (5, 6) or (3, 5, 6)."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"columns": (6,), "lines": (5, 1), "points of each case": (2, 1, 5, 6), "none": (1, 6)}
    shapes |= {"of volumes": (1, 1, 3, 5, 6), "planes": (3, 1, 1)}
    made = torch.rand(shapes[kind], generator=generator)
    return made * 0 + 1 if kind == "none" else (made > 0.4 if "s" in kind[-1:] else made)


@pytest.mark.parametrize(
    "kind", ["columns", "lines", "points of each case", "none", "of volumes", "planes"]
)
@pytest.mark.parametrize("coils", [0, 3])
def test_what_was_sampled_and_taken_back_is_a_convolution(kind, coils):
    axes = 3 if kind in ("of volumes", "planes") else 2
    size = (3, 5, 6)[-axes:]
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, *size, generator=generator, dtype=torch.complex128)
    A = Mask(sampling(kind)) @ Fourier(axes)
    if coils:
        A = A @ Coils(torch.randn(2, coils, *size, generator=generator, dtype=torch.complex128))
    assert torch.allclose(A.gram(x), A.adjoint(A(x)), atol=1e-12)
    back = A.gram(x.real)
    assert back.is_complex() and torch.allclose(back, A.adjoint(A(x.real)), atol=1e-12)


def test_a_convolution_takes_no_transform_along_whole_lines(monkeypatch):
    A, taken = Mask(gaussian_columns((8, 12), 2, 2, [0]).mask) @ Fourier(2), []
    fftn = torch.fft.fftn
    monkeypatch.setattr(
        torch.fft, "fftn", lambda x, dim, **more: taken.append(dim) or fftn(x, dim=dim, **more)
    )
    A.gram(torch.ones(1, 1, 8, 12))
    assert taken == [(-1,)]


def test_an_odd_region_lies_around_the_centre():
    mask = gaussian_columns((16,), 16 / 3, 3, [0]).mask[0, 0]
    assert mask.nonzero()[:, 0].tolist() == [7, 8, 9]


def test_equispaced_lines_are_equispaced():
    mask = equispaced_columns((64,), 4, 0, [1]).mask[0, 0]
    assert mask.nonzero()[:, 0].diff().tolist() == [4] * 15


@pytest.mark.parametrize("make", [gaussian_columns, gaussian_points, poisson_disc], ids=named)
def test_densities_fall_outwards_and_uniform_lines_do_not(make):
    def share(masks):
        """How many of the samples lie in the inner half of the last axis."""
        inner = masks[..., 16:48].double().sum()
        return float(inner / masks.double().sum())

    assert share(make((64, 64), 6, 0, range(8)).mask) > 0.6
    assert share(uniform_columns((64, 64), 6, 0, range(40)).mask) == pytest.approx(0.5, abs=0.08)


def test_poisson_disc_points_keep_their_distance():
    grid, slope = 48, 2.0

    def nearest(make):
        """Distance to the nearest point, and the smallest in units of what is to be kept."""
        at = make((grid, grid), 8, 0, [2]).mask[0, 0].nonzero().double()
        gap = torch.cdist(at, at) + 1e9 * torch.eye(len(at))
        out = (at - grid // 2).norm(dim=1) / (grid / 2)
        own = 1 + slope * out
        return gap.min(1).values, float((gap / torch.minimum(own[:, None], own)).min()), out

    near, kept, out = nearest(poisson_disc)
    assert kept > 0.9 > 0.7 > nearest(gaussian_points)[1]
    assert near[out > 0.5].mean() > 1.3 * near[out < 0.5].mean()


def test_spokes_run_through_the_centre_symmetrically():
    mask = radial((65, 65), 6, 0, [0]).mask[0, 0]
    assert mask[32, 32] and torch.equal(mask, mask.flip(0, 1))


@pytest.mark.parametrize("make", ALL, ids=named)
@pytest.mark.parametrize(
    ("rate", "region", "words"),
    [
        (0.5, 4, "below 1"),
        (float("nan"), 4, "below 1"),
        (3, 30, "lower one"),
        (2, 40, "does not fit into"),
        (1e6, 0, "leaves 0"),
    ],
)
def test_what_cannot_be_sampled_is_said_in_one_line(make, rate, region, words):
    with pytest.raises(UserError, match=words) as error:
        make((32, 32), rate, region, [0])
    assert "\n" not in str(error.value)


def test_a_mask_needs_a_seed_and_enough_axes():
    with pytest.raises(UserError, match="seed"):
        gaussian_columns((32, 32), 2, 4, [])
    with pytest.raises(UserError, match="too few axes"):
        radial((32,), 2, 4, [0])


def test_root_sum_of_squares():
    y = torch.tensor([3.0 + 0j, 4.0j]).reshape(1, 2, 1, 1)
    assert root_sum_of_squares(y).tolist() == [[[[5.0]]]]


def test_simulated_maps_are_normalised_smooth_and_seeded():
    maps = birdcage((32, 32), 6, [0, 1])
    assert torch.allclose(root_sum_of_squares(maps), torch.ones(2, 1, 32, 32), atol=1e-6)
    assert maps.diff(dim=-1).abs().max() < 0.15, "smooth"
    assert torch.equal(maps[1:], birdcage((32, 32), 6, [1]))
    assert not torch.allclose(maps[0], maps[1])
    assert maps[0].abs().flatten(1).argmax(1).unique().numel() == 6, "each coil sees its own side"
    assert birdcage((4, 8, 8), 4, [0]).shape == (1, 4, 4, 8, 8)


def object_in(size):
    """A smooth ellipsoid with texture, complex, and where it is."""
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2) for n in size]
    grid = torch.meshgrid(*axes, indexing="ij")
    radius = sum(g**2 for g in grid).sqrt()
    inside = radius < 0.7
    value = inside * (1 + 0.4 * torch.cos(7 * grid[0]) * torch.sin(5 * grid[1]))
    return torch.polar(value, 2 * grid[0] - grid[1])[None, None], inside


@pytest.mark.parametrize(
    ("size", "calibration", "kernel", "dtype"),
    [
        ((48, 40), 20, 6, torch.complex128),
        ((47, 40), 21, 5, torch.complex64),
        ((20, 18, 16), 12, 4, torch.complex128),
    ],
    ids=str,
)
def test_espirit_finds_the_maps_up_to_a_phase(size, calibration, kernel, dtype):
    truth = birdcage(size, 5, [3]).to(dtype)
    image, inside = object_in(size)
    kspace = Fourier(len(size))(Coils(truth)(image.to(dtype)))
    got = espirit(kspace, calibration, kernel)
    overlap = (truth.conj() * got).sum(1).abs()[0]
    assert got.dtype == dtype
    assert float(overlap[inside].min()) > 0.9995 and float(overlap[inside].mean()) > 0.9999
    power = got.abs().square().sum(1)
    assert ((power - 1).abs() < 1e-5).logical_or(power == 0).all()
    assert float((power[0] == 0)[~inside].double().mean()) > 0.2, "cropped where there is nothing"


def test_espirit_needs_only_the_calibration_region_and_keeps_cases_apart():
    size = (40, 40)
    image, _ = object_in(size)
    kspace = Fourier(2)(Coils(birdcage(size, 4, [1, 2]))(image.expand(2, 1, *size)))
    masked = Mask(gaussian_columns(size, 3, 12, [0]).mask)(kspace)
    whole = espirit(kspace, 12, 5)
    assert torch.allclose(espirit(masked, 12, 5), whole, atol=1e-5)
    assert torch.allclose(espirit(kspace[1:], 12, 5), whole[1:], atol=1e-5)


def test_the_phase_of_the_maps_is_smooth():
    size = (48, 48)
    image, inside = object_in(size)
    got = espirit(Fourier(2)(Coils(birdcage(size, 6, [0]))(image)), 20)[0]
    both = inside[:, 1:] & inside[:, :-1]
    assert float(got.diff(dim=-1).abs()[:, both].max()) < 0.3


@pytest.mark.parametrize(
    ("kspace", "width", "words"),
    [
        (torch.ones(1, 2, 16, 16), 8, "complex"),
        (torch.ones(1, 2, 16, 16) * 1j, 4, "kernel"),
        (torch.full((1, 2, 16, 16), torch.nan) * 1j, 8, "NaN"),
        (torch.ones(1, 2, 16, 16) * 1j, 20, "between"),
        (
            torch.nn.functional.pad(torch.ones(1, 2, 16, 5), (5, 6)) * 1j,
            8,
            "24 points .*not sampled",
        ),
    ],
)
def test_what_gives_no_maps_is_said_in_one_line(kspace, width, words):
    with pytest.raises(UserError, match=words) as error:
        espirit(kspace, width)
    assert "\n" not in str(error.value)


def test_maps_need_two_or_three_axes():
    with pytest.raises(UserError, match="2 or 3 axes"):
        birdcage((8,), 4, [0])


def test_uniform_points_are_as_dense_at_the_edge_as_near_the_centre():
    mask = uniform_points((64, 64), 4.0, 8, range(40)).mask.float().mean(0)[0]
    distance = torch.cartesian_prod(*[torch.arange(64) - 32] * 2).abs().amax(1).reshape(64, 64)
    near, far = mask[(distance > 6) & (distance < 16)].mean(), mask[distance > 26].mean()
    assert float(near) == pytest.approx(float(far), abs=0.02)
