"""SSIM and MS-SSIM against scikit-image and torchmetrics, on [0, 1] whatever range images come in."""

import math

import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from radiffuse.applications.denoising.evaluate import measure as measure_denoised
from radiffuse.applications.evaluation.drawing import Drawn
from radiffuse.applications.translation.evaluate import measure as measure_translated
from radiffuse.applications.translation.shared import Eyes
from radiffuse.data.dataset import from_iterable
from radiffuse.metrics.diversity import ms_ssim, ms_ssim_per_patient, pair_similarity
from radiffuse.metrics.fidelity import similarity, ssim, ssim_per_patient
from radiffuse.metrics.regions import homogeneous_regions

SIZES = [(24, 17), (14, 12, 16)]


def pair(*size, channels=1, seed=0):
    """Two cases of images in [0, 1] with flat, bright and textured parts, and their noisy versions."""
    draw = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, channels, *size, generator=draw)
    clean[:, :, : size[0] // 3] = 0.0
    clean[:, :, -size[0] // 4 :] = 0.9
    noise = torch.randn(clean.shape, generator=draw)
    return (clean + 0.05 * noise).clamp(0, 1), clean


def scikit_image(image, reference):
    """The published settings of Wang et al., borders cropped as by default."""
    published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return [
        structural_similarity(
            x.double().numpy(), y.double().numpy(), data_range=1.0, channel_axis=0, **published
        )
        for x, y in zip(image, reference, strict=True)
    ]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("size", SIZES)
def test_ssim_is_that_of_scikit_image(size, channels):
    image, reference = pair(*size, channels=channels)
    found = ssim(image, reference, span=1.0)
    assert found.tolist() == pytest.approx(scikit_image(image, reference), abs=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_ssim_does_not_depend_on_the_range_images_come_in(size):
    image, reference = pair(*size)
    expected = scikit_image(image, reference)
    centred = ssim(2 * image - 1, 2 * reference - 1, span=2.0, lowest=-1.0)
    hounsfield = ssim(2000 * image - 1000, 2000 * reference - 1000, span=2000.0, lowest=-1000.0)
    assert centred.tolist() == pytest.approx(expected, abs=1e-5)
    assert hounsfield.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("grey", [-0.5, 0.0, 0.5])
def test_a_plateau_wrong_by_one_percent_is_nearly_right(grey):
    """Also at the middle of [-1, 1], where the means of both lie next to 0."""
    wrong, right = (torch.full((1, 1, 16, 16), grey + off) for off in (-0.01, 0.01))
    assert float(ssim(wrong, right, span=2.0, lowest=-1.0)) > 0.998


@pytest.mark.parametrize("size", SIZES)
def test_contrast_alone_is_that_of_torchmetrics(size):
    image, reference = (x.double() for x in pair(*size))
    _, expected = structural_similarity_index_measure(
        image, reference, data_range=1.0, reduction="none", return_contrast_sensitivity=True
    )
    assert torch.allclose(similarity(image, reference, 1.5, 11)[1], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(37, 41), (18, 19, 20)])
def test_ms_ssim_is_the_product_of_its_scales(size):
    """Each scale by torchmetrics on [0, 1], its reflected borders cropped, from images in [-1, 1]."""
    image, reference = (x.double() for x in pair(*size, seed=1))
    settings = {"sigma": 1.0, "kernel_size": 9, "data_range": 1.0, "reduction": "none"}
    betas = torch.tensor([0.0448, 0.2856, 0.3001][: 3 if min(size) >= 36 else 2])
    pool = torch.nn.functional.avg_pool2d if len(size) == 2 else torch.nn.functional.avg_pool3d
    x, y, expected = image, reference, torch.ones(2)
    for scale, beta in enumerate(betas / betas.sum(), start=1):
        _, factor = structural_similarity_index_measure(
            x, y, **settings, return_contrast_sensitivity=True
        )
        if scale == len(betas):
            _, whole = structural_similarity_index_measure(x, y, **settings, return_full_image=True)
            factor = whole[(..., *[slice(4, -4)] * len(size))].flatten(1).mean(1)
        expected = expected * factor**beta
        x, y = pool(x, 2), pool(y, 2)
    assert torch.allclose(ms_ssim(2 * image - 1, 2 * reference - 1), expected, atol=1e-6)


@pytest.mark.parametrize("side", [9, 17, 18, 35, 36])
def test_ms_ssim_has_a_value_at_every_size_its_window_fits(side):
    image, reference = pair(side, side)
    found = ms_ssim(2 * image - 1, 2 * reference - 1)
    assert bool(torch.isfinite(found).all()) and float(found.max()) < 1


@pytest.mark.parametrize("size", [(10, 40), (40, 40, 8)])
def test_an_axis_shorter_than_the_window_is_refused_with_the_reason(size):
    image, reference = pair(*size)
    assert all(math.isnan(value) for value in ssim(image, reference, 1.0))
    found = ssim_per_patient(image, reference, 1.0, 0.0, ("a", "b"))
    shape = " x ".join(map(str, size))
    assert found == {
        "refused": f"SSIM needs 11 voxels along every axis, images are {shape}",
        "n": 2,
    }


def test_ms_ssim_of_an_axis_shorter_than_its_window_is_refused_with_the_reason():
    image, reference = pair(8, 40)
    assert all(math.isnan(value) for value in ms_ssim(image, reference))
    reason = "MS-SSIM needs 9 voxels along every axis, images are 8 x 40"
    assert ms_ssim_per_patient(image, reference, ("a", "b"))["refused"] == reason
    assert pair_similarity(image.repeat(20, 1, 1, 1))["refused"] == reason


@pytest.mark.parametrize("size", [(4, 40), (40, 40)])
def test_evaluations_hand_in_the_range_and_refuse_what_is_too_small(size):
    """Translation and denoising hold images in [-1, 1]; PSNR is given where SSIM is not."""
    image, reference = pair(*size)
    made, target = Drawn.of_one(2 * image - 1), 2 * reference - 1
    cases = from_iterable(
        [{"image": x, "patient": k} for x, k in zip(reference, "ab", strict=True)]
    )
    translated = measure_translated(made, {"target": target}, cases, Eyes(None))
    regions = [homogeneous_regions(each) for each in target]
    denoised = measure_denoised(made, target, regions, cases)
    for found in (translated, denoised):
        assert "mean" in found["psnr"]
        if min(size) < 11:
            assert "11 voxels" in found["ssim"]["refused"]
        else:
            expected = sum(scikit_image(image, reference)) / 2
            assert found["ssim"]["mean"] == pytest.approx(expected, abs=1e-5)
    if min(size) < 9:
        assert "9 voxels" in translated["ms_ssim_to_target"]["refused"]


def test_similarity_is_the_mean_over_patients_not_over_images():
    image, reference = pair(16, 16)
    image, reference = image[[0, 0, 1]], reference[[0, 0, 1]]
    one, _, other = ssim(image, reference, 1.0).tolist()
    found = ssim_per_patient(image, reference, 1.0, 0.0, ("a", "a", "b"))
    assert found["mean"] == pytest.approx((one + other) / 2) and found["n"] == 2
