"""Simulated and read measurements: what they say of their noise, maps, scale and acceleration is so."""

import dataclasses
import math

import pytest
import torch

from radiffuse.acquisition import CT, MASKS, MRI, LowResolution, Noisy, smooth_phase
from radiffuse.acquisition.kspace import calibration_widths, check_kspace, noise_level
from radiffuse.acquisition.refine import SmoothMaps
from radiffuse.data.dataset import open_cases
from radiffuse.diffusion.noise import Seeded
from radiffuse.errors import UserError
from radiffuse.inverse.classical import misfit
from radiffuse.inverse.consistency import residual_std
from radiffuse.operators import BlockMean, Coils, Fourier, Mask
from radiffuse.operators.blur import blurred
from radiffuse.operators.coils import birdcage
from radiffuse.operators.masks import gaussian_columns, poisson_disc


def relative_error(found, true):
    return float((found - true).norm() / true.norm())


@pytest.fixture(scope="module")
def brain():
    """Two brains (2, 1, 32, 32) in [0, 1]."""
    return (open_cases("brains:count=6,size=32").batch([0, 3])["image"] + 1) / 2


# --- MRI --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("coils", [1, 6])
@pytest.mark.parametrize("mask", ["gaussian-columns", "poisson-disc"])
def test_maps_and_phase_explain_the_data(brain, mask, coils, real):
    """The estimated operator applied to the truth gives y, but for a few percent."""
    scanner = MRI(mask, 2.0, 12, coils=coils, noise=0.0, real=real)
    m = scanner.simulate(brain, [1, 2]).measurement
    truth = brain if real else brain.to(torch.complex64)
    assert m.A.adjoint(m.y).is_complex() != real
    assert float(m.residual(truth).norm() / m.y.norm()) < 0.06


def test_without_the_phase_in_the_maps_a_real_image_does_not_explain_the_data(brain):
    scanner = MRI("poisson-disc", 4.0, 12, coils=8, noise=0.0, real=False, demodulated=False)
    m = scanner.simulate(brain, [1, 2]).measurement
    assert float(m.residual(brain.to(torch.complex64)).norm() / m.y.norm()) > 0.2
    full = MRI("poisson-disc", 1.0, 12, coils=1, noise=0.0, real=False, demodulated=False)
    own = brain * smooth_phase((32, 32), 1.0, [3, 4])
    acquired = full.simulate(own, [1, 2])
    assert torch.allclose(acquired.first, own, atol=1e-5), "a complex image keeps its own phase"


def test_noise_of_each_part_has_the_stated_deviation(brain):
    quiet = MRI(coils=4, noise=0.0).simulate(brain, [1, 2])
    noisy = MRI(coils=4, noise=0.05).simulate(brain, [1, 2])
    gap = (noisy.measurement.y - quiet.measurement.y)[noisy.mask.expand_as(noisy.measurement.y)]
    assert noisy.measurement.std == 0.05
    for part in (gap.real, gap.imag):
        assert float(part.std()) == pytest.approx(0.05, rel=0.04)
    assert not noisy.measurement.y[~noisy.mask.expand_as(noisy.measurement.y)].any()


@pytest.mark.parametrize("mask", MASKS)
def test_a_case_has_its_own_mask_coils_phase_and_noise(brain, mask):
    scanner = MRI(mask, 4.0, calibration=8, coils=4)
    together = scanner.simulate(brain, [5, 6])
    alone = scanner.simulate(brain[1:], [6])
    for name in ("mask", "maps", "first"):
        assert torch.allclose(getattr(together, name)[1:], getattr(alone, name), atol=1e-5), name
    assert torch.equal(together.measurement.y[1:], alone.measurement.y)
    other = scanner.simulate(brain[1:], [7])
    assert not torch.allclose(other.measurement.y, alone.measurement.y, atol=1e-2)
    assert float(together.acceleration[0]) == pytest.approx(4.0, rel=0.1)


def test_smooth_phase_has_its_deviation_and_no_size_of_its_own():
    field = smooth_phase((64, 64), 0.3, range(40)).angle()
    assert float(field.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-3)
    volume = smooth_phase((8, 8, 8), 0.3, range(40)).angle()
    assert float(volume.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-3)
    steps = smooth_phase((64, 64), 0.3, [1]).angle().diff(dim=-1)
    assert float(steps.abs().max()) < 0.1


def test_volumes_are_measured_alike():
    image = torch.nn.functional.interpolate(torch.rand(1, 1, 4, 4, 4), (16, 16, 16))
    m = MRI("gaussian-points", 2.0, 8, coils=4, noise=0.0).simulate(image, [1]).measurement
    assert m.y.shape == (1, 4, 16, 16, 16)
    assert float(m.residual(image).norm() / m.y.norm()) < 0.3


def test_colour_images_have_no_mri():
    with pytest.raises(UserError, match="grey images, not 3 channels"):
        MRI().simulate(torch.rand(1, 3, 32, 32), [1])


# --- measured k-space -------------------------------------------------------------------------------


def kspace(brain, **changed):
    scanner = MRI(**{"acceleration": 2.0, "coils": 4, "noise": 0.01, **changed})
    return scanner.simulate(brain[:1], [1]).measurement.y


def test_reading_gives_back_what_was_simulated_in_its_own_scale(brain):
    y = kspace(brain)
    small, large = (MRI(coils=4).read(factor * y) for factor in (1.0, 1e-4))
    assert float(large.scale / small.scale) == pytest.approx(1e-4, rel=1e-4)
    assert torch.allclose(small.measurement.y, large.measurement.y, atol=1e-4)
    assert torch.allclose(small.scale * small.measurement.y, y, atol=1e-5)
    magnitude = torch.quantile(small.first.abs().flatten(), 0.995)
    assert 0.7 < float(magnitude) < 1.2, "images reach about 1"
    assert torch.equal(small.mask, y.abs().sum(1, keepdim=True) > 0)


def test_a_read_scan_has_the_contrast_of_the_prior(brain):
    """In whatever units it comes, and however bright its brightest voxel."""
    y = kspace(brain)
    small, large = (MRI(coils=4, deviation=0.15).read(factor * y) for factor in (1.0, 1e3))
    assert torch.allclose(small.first, large.first, atol=1e-3)
    assert float(small.first.std()) == pytest.approx(0.15, rel=0.2)
    assert torch.allclose(small.scale * small.measurement.y, y, atol=1e-5)
    spot = brain.clone()
    spot[..., 10, 10] = 4.0
    assert float(MRI(coils=4, deviation=0.15).read(kspace(spot)).scale / small.scale) < 1.3


def scan(image, mask, coils, snr, seed=1):
    """K-space of an image at `snr` dB (its root mean square over the noise's), where, and the noise."""
    size, axes = tuple(image.shape[2:]), image.dim() - 2
    maps = torch.ones(1, 1, *size) if coils == 1 else birdcage(size, coils, [seed])
    full = Fourier(axes)(Coils(maps)(image * smooth_phase(size, 1.0, [seed + 1])))
    std = float(image[image > 0.05].square().mean().sqrt()) * 10 ** (-snr / 20)
    sampled = torch.ones(1, 1, *size, dtype=torch.bool)
    if mask != "everything":
        centre = 8 if mask.endswith("columns") else 16
        sampled = MASKS[mask](size, 3.0, centre, [seed + 2]).mask
    return Mask(sampled)(full + std * Seeded([seed + 3])(full)), sampled, std


@pytest.fixture(scope="module")
def heads():
    """A brain (1, 1, 64, 64) without noise of its own, with sharp edges and blurred."""
    cases = open_cases("brains:count=6,size=64,noise=0")
    sharp = (cases.batch([3])["image"] + 1) / 2
    return {"sharp": sharp, "smooth": blurred(sharp, 2.7)}


@pytest.mark.parametrize("coils", [4, 8, 16])
@pytest.mark.parametrize("edges", ["sharp", "smooth"])
@pytest.mark.parametrize("mask", ["everything", *MASKS])
def test_noise_is_known_within_a_tenth(heads, mask, edges, coils):
    for snr in (15, 30, 45):
        y, sampled, std = scan(heads[edges], mask, coils, snr)
        assert float(noise_level(y, sampled)) == pytest.approx(std, rel=0.1), snr


@pytest.mark.parametrize("mask", ["everything", "gaussian-columns"])
def test_one_coil_knows_its_noise_from_air(heads, mask):
    for snr in (15, 30, 45):
        y, sampled, std = scan(heads["sharp"], mask, 1, snr)
        assert float(noise_level(y, sampled)) == pytest.approx(std, rel=0.15), snr


@pytest.mark.parametrize("coils", [1, 2])
@pytest.mark.parametrize("shape", ["ellipse", "partial echo"])
def test_blanked_air_of_windowed_lines_is_not_taken_for_noise(shape, coils):
    """What is bright leaks a billionth of its power into air that holds nothing."""
    at = (torch.arange(96) - 48) / 48
    ellipse = at[:, None] ** 2 + at**2 <= 1
    sampled = ellipse if shape == "ellipse" else (at > -0.6).expand(96, 96)
    maps = birdcage((96, 96), coils, [0]) if coils > 1 else torch.ones(1, 1, 96, 96)
    body = hard_edged(96)
    seen = maps * body
    seen = (seen + 0.02 * Seeded([1])(seen)) * (body.real > 0)
    y = Fourier(2)(seen) * sampled
    std = 0.02 * float((body.real > 0).float().mean().sqrt())
    assert 0.8 * std < float(noise_level(y, sampled[None, None])) < 5 * std


@pytest.mark.parametrize("coils", [1, 4, 8])
@pytest.mark.parametrize("partial", [False, True], ids=["ellipse", "part of it"])
def test_noise_within_an_ellipse_is_known_from_the_middle_of_its_lines(partial, coils):
    """A scanner's elliptic shutter: no axis is sampled throughout, and hard edges reach its rim."""
    at = (torch.arange(96) - 48) / 48
    sampled = (at[:, None] ** 2 + at**2 <= 1)[None, None]
    sampled[..., :10] &= not partial
    maps = birdcage((96, 96), coils, [0]) if coils > 1 else torch.ones(1, 1, 96, 96)
    full = Fourier(2)(maps * hard_edged(96))
    for snr in (15, 30, 45):
        std = float(full.abs().square().mean().sqrt()) * 10 ** (-snr / 20)
        y = sampled * (full + std * Seeded([3])(full))
        assert float(noise_level(y, sampled)) == pytest.approx(std, rel=0.1), snr


def test_one_coil_without_a_whole_axis_says_too_much_and_never_too_little(heads):
    for snr in (15, 45):
        y, sampled, std = scan(heads["sharp"], "poisson-disc", 1, snr)
        assert 0.9 * std < float(noise_level(y, sampled)) < 8 * std


@pytest.mark.parametrize(("coils", "blanked"), [(1, "air"), (8, "air"), (8, "corners")])
def test_air_that_was_blanked_is_not_taken_for_noise(coils, blanked):
    """Where the corners were, every row and column holds less of it the farther out it lies."""
    at = (torch.arange(64) - 32) / 32
    kept = {"air": hard_edged(64).real > 0, "corners": (at[:, None] ** 2 + at**2 < 1.1)[None, None]}
    maps = birdcage((64, 64), coils, [0]) if coils > 1 else torch.ones(1, 1, 64, 64)
    seen = maps * hard_edged(64)
    seen = (seen + 0.02 * Seeded([1])(seen)) * kept[blanked]
    std = 0.02 * float(kept[blanked].float().mean().sqrt())
    found = float(noise_level(Fourier(2)(seen), torch.ones(1, 1, 64, 64, dtype=torch.bool)))
    # one coil has nothing but outer k-space then, which its edges reach
    assert 0.9 * std < found < (1.1 if coils > 1 else 3.0) * std


@pytest.mark.parametrize("mask", ["everything", "gaussian-points"])
def test_the_noise_of_a_volume_is_known(heads, mask):
    volume = torch.nn.functional.interpolate(heads["sharp"][:, :, None], (16, 32, 32))
    for snr in (15, 45):
        y, sampled, std = scan(volume, mask, 6, snr)
        assert float(noise_level(y, sampled)) == pytest.approx(std, rel=0.1), snr


@pytest.mark.parametrize("mask", ["everything", "gaussian-columns", "poisson-disc"])
def test_coils_that_differ_in_their_noise_and_share_it_have_its_root_mean_square(heads, mask):
    """Deviations of 0.6 to 1.4 and correlations of 0.3, as in a scan that was not whitened."""
    y, sampled, _ = scan(heads["sharp"], mask, 8, 200)
    each = torch.linspace(0.6, 1.4, 8)
    root = torch.linalg.cholesky((0.7 * torch.eye(8) + 0.3) * each[:, None] * each)
    noise = torch.einsum("kc,bc...->bk...", root.to(y.dtype), Seeded([5])(y))
    for snr in (15, 30):
        std = 10 ** (-snr / 20)
        found = float(noise_level(y + sampled * std * noise, sampled))
        assert found == pytest.approx(std * float(each.square().mean().sqrt()), rel=0.2), snr


def test_a_coil_that_is_switched_off_does_not_lower_the_noise(heads):
    y, sampled, std = scan(heads["sharp"], "poisson-disc", 8, 30)
    y = torch.cat([y, torch.zeros_like(y[:, :4])], 1)
    assert float(noise_level(y, sampled)) == pytest.approx(std, rel=0.1)


def hard_edged(side):
    """An ellipse with discs in it, whose spectrum falls slowly."""
    at = (torch.arange(side) - side // 2) / (side / 2)
    y, x = at[:, None], at[None]
    image = 0.6 * ((y / 0.85) ** 2 + (x / 0.7) ** 2 < 1)
    image[((y + 0.3) / 0.2) ** 2 + ((x - 0.25) / 0.15) ** 2 < 1] = 1.0
    image[((y - 0.1) / 0.05) ** 2 + ((x + 0.1) / 0.05) ** 2 < 1] = 1.0
    return image[None, None].to(torch.complex64)


@pytest.mark.parametrize("coils", [4, 8])
@pytest.mark.parametrize("std", [0.005, 0.02])
@pytest.mark.parametrize("columns", [1, 3])
def test_hard_edges_do_not_pass_for_noise_where_there_is_air(coils, std, columns):
    side = 64
    kept = (torch.arange(side) % columns == 0) | ((torch.arange(side) - side // 2).abs() < 8)
    sampled = kept.expand(1, 1, side, side)
    maps = birdcage((side, side), coils, [0])
    y = Fourier(2)(maps * hard_edged(side))
    noise = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    found = noise_level(sampled * (y + std * 2**0.5 * noise), sampled)
    assert float(found) == pytest.approx(std, rel=0.1)


def test_noise_is_estimated_from_few_points_too():
    mask = gaussian_columns((64, 64), 3.0, 8, [1]).mask
    z = torch.randn(1, 6, 64, 64, dtype=torch.complex64) * 0.02 * math.sqrt(2)
    middle = torch.zeros(64, 64)
    middle[28:36, 28:36] = 30.0
    assert float(noise_level(mask * (z + middle), mask)) == pytest.approx(0.02, rel=0.05)
    corner = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    corner[..., :8, :8] = True
    many = torch.cat([z, z.flip(2), z.flip(3)], 1)
    assert float(noise_level(corner * many, corner)) == pytest.approx(0.02, rel=0.2)


def test_a_read_scan_knows_its_noise(heads):
    for noise in (0.005, 0.02, 0.2):
        acquired = MRI(coils=4).read(kspace(heads["sharp"], noise=noise))
        told = float(acquired.scale) * acquired.measurement.std
        assert told == pytest.approx(noise, rel=0.1)


def test_what_cannot_be_kspace_is_refused_in_one_line(brain):
    y = kspace(brain)
    broken = y.clone()
    broken[0, 0, 3, 16] = complex("nan")
    column = torch.zeros_like(y)
    column[..., 16] = y[..., 16]
    cases = {
        "expected complex": y.real,
        "expected complex .coils": y[0],
        "NaN or infinite": broken,
        "zero everywhere": torch.zeros_like(y),
        "not in the middle: store it centred": torch.fft.ifftshift(y, dim=(-2, -1)),
        "64 coils of 64 x 4 points: check the order": torch.ones(1, 64, 64, 4) + 0j,
        "central 32 x 1 points; coil maps need 5": column,
    }
    for message, bad in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            MRI(coils=4).read(bad)
        assert "\n" not in str(caught.value)
    assert torch.equal(check_kspace(y), y.abs().sum(1, keepdim=True) > 0)


@pytest.mark.parametrize(
    ("rows", "columns", "widths"),
    [(range(0, 32), range(12, 20), (32, 8)), (range(11, 21), range(13, 19), (10, 6))],
)
def test_calibration_is_the_sampled_rectangle_about_the_centre(rows, columns, widths):
    mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    mask[..., list(rows), :] = True
    mask &= torch.zeros_like(mask).index_fill_(3, torch.tensor(list(columns)), True)
    mask[..., 0, 0] = True
    assert calibration_widths(mask) == widths
    two = torch.cat([mask, torch.ones_like(mask)])
    assert calibration_widths(two) == widths, "what all cases have sampled"


def test_calibration_without_coils_may_be_anything():
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    mask[..., 8, 8] = True
    assert calibration_widths(mask, coils=False) == (1, 1)
    assert calibration_widths(~mask, coils=False) == (0, 0)


# --- CT, resolution, noise --------------------------------------------------------------------------


@pytest.mark.parametrize("beam", ["parallel", "fan"])
@pytest.mark.parametrize("photons", [1e4, 1e5])
def test_weights_make_photon_noise_white_with_the_stated_deviation(brain, beam, photons):
    """The residual of the truth: one deviation for dark and bright rays, no correlation."""
    scanner = CT(40, beam, photons)
    acquired = scanner.simulate(brain, [1, 2])
    m = acquired.measurement
    rest = m.residual(brain)[:, 0]
    assert float(rest.std()) == pytest.approx(m.std, rel=0.04)
    line = m.A(brain)[:, 0]
    order = line.flatten().argsort()
    ordered = rest.flatten()[order]
    for part in ordered.chunk(4):
        assert float(part.std()) == pytest.approx(m.std, rel=0.08)
    neighbours = (rest[..., 1:] * rest[..., :-1]).mean() / rest.var()
    assert abs(float(neighbours)) < 0.04


def test_without_weights_the_noise_of_dark_rays_would_be_larger(brain):
    """What the whitening removes: the plain line integrals have a deviation that grows as e^(a p / 2)."""
    acquired = CT(40, photons=1e4, absorption=6.0).simulate(brain, [1, 2])
    weights = acquired.measurement.A.left.mask
    assert float(weights.max() / weights.min()) > 3


def test_ct_draws_a_case_from_its_seed_alone_and_starts_from_the_filtered_back_projection(brain):
    scanner = CT(60, photons=1e6)
    together, alone = scanner.simulate(brain, [5, 6]), scanner.simulate(brain[1:], [6])
    assert torch.allclose(together.measurement.y[1:], alone.measurement.y, atol=1e-4)
    inside = (slice(None), slice(None), slice(8, 24), slice(8, 24))
    error = (together.first - brain)[inside].square().mean().sqrt()
    assert float(error) < 0.15
    with pytest.raises(UserError, match="1 views are too few"):
        CT(1).simulate(brain, [1, 2])


def test_low_resolution_is_the_mean_of_blocks_and_enlarges_by_repetition(brain):
    acquired = LowResolution(2).simulate(brain, [1, 2])
    assert torch.allclose(acquired.measurement.y, BlockMean((2, 2))(brain))
    assert torch.allclose(acquired.first[..., ::2, ::2], acquired.measurement.y)
    assert torch.allclose(acquired.first[..., 1::2, ::2], acquired.measurement.y)
    assert acquired.acceleration.tolist() == [4.0, 4.0]


def test_gaussian_and_rician_noise_have_their_laws():
    dark, bright = torch.zeros(1, 1, 200, 200), torch.full((1, 1, 200, 200), 0.8)
    gaussian = Noisy(0.1).simulate(bright, [1]).measurement
    assert float(gaussian.y.std()) == pytest.approx(0.1, rel=0.02)
    rician = Noisy(0.1, "rician")
    background = rician.simulate(dark, [1]).measurement.y
    assert float(background.mean()) == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.02)
    lifted = rician.simulate(bright, [1]).measurement.y
    assert float(lifted.square().mean()) == pytest.approx(0.64 + 2 * 0.01, rel=0.01)


def test_an_acquisition_is_plain_configuration():
    for kind in (MRI, CT, LowResolution, Noisy):
        assert dataclasses.replace(kind()) == kind()
    assert Fourier(2) == Fourier(2)


@pytest.mark.parametrize("mask", ["gaussian-columns", "poisson-disc"])
def test_refined_maps_explain_the_whole_of_kspace_far_better_than_those_of_its_centre(brain, mask):
    """Against maps and phase that were simulated, with all of k-space of the true image."""
    scanner = MRI(mask, 4.0, noise=1e-3)
    true = dataclasses.replace(scanner, acceleration=1.0, noise=0.0).simulate(brain, [1, 2])

    def error(refine):
        found = dataclasses.replace(scanner, refinements=refine).simulate(brain, [1, 2])
        return relative_error(Fourier(2)(Coils(found.maps)(brain)), true.measurement.y)

    assert error(4) < 0.3 * error(0), (error(4), error(0))


@pytest.mark.parametrize("size", [(24, 20), (12, 10, 14)])
def test_smooth_maps_of_a_known_image_are_those_that_measured_it(size):
    """A quarter of k-space and little noise: the maps come out, with the phase of the image."""
    x = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0)) + 0.2
    maps = birdcage(size, 4, [1, 2]) * smooth_phase(size, 0.5, [3, 4])
    mask = poisson_disc(size, 2.0, 8, [5]).mask
    y = Mask(mask)(Fourier(len(size))(maps * x))
    assert relative_error(SmoothMaps(y, mask, 1e-3)(x, iterations=60), maps) < 0.03
    assert relative_error(SmoothMaps(y, mask, 1e-3)(x.flip(2), iterations=60), maps) > 0.1


def test_maps_need_not_be_alike_at_opposite_edges(brain):
    """The field that is periodic is wider than the image."""
    image = torch.ones_like(brain)
    ramp = torch.polar(torch.ones(32), torch.linspace(0, 1.5, 32))
    maps = ramp.expand(2, 1, 32, 32).to(torch.complex64)
    everything = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    found = SmoothMaps(Fourier(2)(maps * image), everything, 1e-3)(image)
    assert float((found - maps).abs().max()) < 0.05


@pytest.mark.parametrize("noise", [1e-3, 0.02])
@pytest.mark.parametrize(
    ("coils", "most"), [(1, 2.3), (2, 1.7), (4, 1.4), (8, 1.3), (16, 1.3), (32, 1.3)]
)
def test_misfit_measures_no_signal_whatever_the_coils(coils, most, noise):
    """A share of the regularisation's own would be 7 times the truth with one coil, 3 with four."""
    images = (open_cases("brains:count=4,size=48,noise=0").batch([1, 2])["image"] + 1) / 2
    for mask, acceleration in (("gaussian-columns", 1.0), ("poisson-disc", 4.0)):
        scanner = MRI(mask, acceleration, coils=coils, noise=noise)
        m = scanner.simulate(images, [1, 2]).measurement
        ratio = misfit(m, images) / residual_std(m.A, images, m.y)
        assert float(ratio.min()) > 0.8 and float(ratio.max()) < most, ratio


def test_one_coil_and_a_complex_image_explain_every_scan(brain):
    """Nothing is left to tell an error of the model by, so that a scan is worth what its noise says."""
    m = MRI(acceleration=2.4, coils=1, real=False).simulate(brain, [1, 2]).measurement
    assert misfit(m, brain.to(torch.complex64)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("acceleration", [2.0, 4.0])
@pytest.mark.parametrize("mask", ["gaussian-columns", "poisson-disc"])
def test_misfit_tells_how_wrong_coil_maps_and_phase_are(brain, mask, acceleration):
    """Near the deviation of y - A x at the true image, which no method knows; small where A is right."""
    acquired = MRI(mask, acceleration, noise=1e-3, refinements=0).simulate(brain, [1, 2])
    m = acquired.measurement
    true = residual_std(m.A, brain, m.y)
    told = misfit(m, brain)
    assert float(true.min()) > 3e-3, "the maps are wrong by more than the noise"
    assert bool(((told / true).log().abs() < 0.35).all()), (told, true)
    noise = Seeded([1, 2])(m.y)
    right = m.A(brain) + 0.01 * (m.y != 0) * noise
    told = misfit(dataclasses.replace(m, y=right), brain)
    assert torch.allclose(told, torch.tensor(0.01).double(), rtol=0.1), "the noise where A is right"
