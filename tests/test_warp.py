"""Warping, composition, the exponential, folding, local correlation; displacements as ITK reads them."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import map_coordinates

from radiffuse.applications.registration.losses import local_correlation, misfit, smoothness
from radiffuse.data.formats.nifti import read_nifti, write_displacement, write_nifti
from radiffuse.data.image import Image
from radiffuse.metrics.deformation import end_point_error
from radiffuse.metrics.overlap import dice, dice_of_patients, labels_in
from radiffuse.nn.field import FieldUNet
from radiffuse.nn.warp import compose, enlarged, exponential, folded, jacobian, places, warp

SIZES = ((12, 15), (9, 10, 11))


def smooth_field(size, amplitude, seed=0, waves=1.0):
    """A smooth displacement of at most about `amplitude` voxels that vanishes at the border."""
    draw = torch.Generator().manual_seed(seed)
    at = places(size, torch.zeros(1))
    unit = [at[axis] / (side - 1) for axis, side in enumerate(size)]
    window = torch.stack([torch.sin(torch.pi * u) for u in unit]).prod(0)
    channels = []
    for _ in size:
        phase = torch.rand(len(size), generator=draw) * 2 * torch.pi
        wave = sum(
            torch.sin(waves * 2 * torch.pi * u + p) for u, p in zip(unit, phase, strict=True)
        )
        channels.append(amplitude * window * wave / len(size))
    return torch.stack(channels)[None]


def blobs(size, seed=0):
    """A smooth image in [0, 1] with structure everywhere, (1, 1, *S)."""
    draw = torch.Generator().manual_seed(seed)
    at = places(size, torch.zeros(1))
    image = torch.zeros(size)
    for _ in range(40):
        centre = torch.rand(len(size), generator=draw) * torch.tensor(size)
        width = 1.5 + 2.5 * torch.rand(1, generator=draw)
        away = sum((at[a] - centre[a]) ** 2 for a in range(len(size)))
        image = image + torch.exp(-away / (2 * width**2))
    return (image / image.max())[None, None]


@pytest.mark.parametrize("size", SIZES)
def test_a_whole_shift_is_a_roll(size):
    image = torch.rand(2, 3, *size)
    shift = [2, -1, 3][: len(size)]
    field = torch.tensor(shift).float().reshape(1, -1, *[1] * len(size)).expand(2, -1, *size)
    rolled = torch.roll(image, [-s for s in shift], dims=list(range(2, image.ndim)))
    inner = (..., *[slice(4, -4)] * len(size))
    assert torch.allclose(warp(image, field)[inner], rolled[inner], atol=1e-5)
    labels = (image * 5).long()
    assert torch.equal(warp(labels, field, nearest=True)[inner], torch.roll(
        labels, [-s for s in shift], dims=list(range(2, image.ndim)))[inner])  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_any_field_is_linear_interpolation_as_scipy_does_it(size, padding):
    image, field = torch.rand(1, 1, *size), 3 * torch.randn(1, len(size), *size)
    at = (places(size, field) + field[0]).double().numpy()
    mode = "nearest" if padding == "border" else "grid-constant"
    expected = map_coordinates(image[0, 0].double().numpy(), at, order=1, mode=mode, cval=0.0)
    assert np.allclose(warp(image, field, padding=padding)[0, 0].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("size", [(40, 44), (24, 26, 28)])
def test_composition_is_warping_twice(size):
    """Exactly, on an image that is linear in space, as interpolation is."""
    first, then = smooth_field(size, 3.0, 1), smooth_field(size, 3.0, 2)
    image = places(size, first)[None]
    twice, once = warp(warp(image, first), then), warp(image, compose(first, then))
    inner = (..., *[slice(4, -4)] * len(size))
    assert torch.allclose(twice[inner], once[inner], atol=1e-4)
    assert (warp(image, first + then) - once)[inner].abs().max() > 0.05


@pytest.mark.parametrize("size", [(40, 44), (24, 26, 28)])
def test_the_exponential_is_inverted_by_its_negative_and_does_not_fold(size):
    velocity = smooth_field(size, 6.0, 3)
    forth, back = exponential(velocity), exponential(-velocity)
    assert end_point_error(compose(forth, back), torch.zeros_like(forth)) < 0.05
    assert forth.norm(dim=1).max() > 2
    assert float(folded(forth)) == 0


def test_the_exponential_of_a_linear_velocity_is_the_matrix_exponential():
    size = (41, 41)
    matrix = torch.tensor([[0.10, -0.25], [0.20, -0.05]])
    x = places(size, torch.zeros(1)) - 20
    velocity = torch.einsum("ij,jkl->ikl", matrix, x)[None]
    expected = torch.einsum("ij,jkl->ikl", torch.linalg.matrix_exp(matrix), x)[None] - x
    inner = (..., slice(14, 27), slice(14, 27))
    assert torch.allclose(exponential(velocity)[inner], expected[inner], atol=0.05)


@pytest.mark.parametrize("axes", [2, 3])
def test_the_jacobian_of_a_linear_map_is_its_determinant(axes):
    draw = torch.Generator().manual_seed(axes)
    matrix = torch.eye(axes) + 0.3 * torch.randn(axes, axes, generator=draw)
    x = places((7,) * axes, torch.zeros(1))
    field = torch.einsum("ij,j...->i...", matrix, x)[None] - x
    assert torch.allclose(
        jacobian(field), torch.linalg.det(matrix).expand(1, *(7,) * axes), atol=1e-4
    )


def test_folding_is_counted():
    x = places((10, 10), torch.zeros(1))
    mirrored = torch.stack([-2 * x[0], 0 * x[1]])[None]
    assert float(folded(mirrored)) == 1 and float(folded(torch.zeros(1, 2, 10, 10))) == 0
    half = mirrored.clone()
    half[:, :, 5:] = 0
    assert 0.3 < float(folded(half)) < 0.7


@pytest.mark.parametrize("axes", [2, 3])
def test_local_correlation_is_the_sum_over_windows(axes):
    size, window = (11,) * axes, 5
    a, b = torch.rand(1, 1, *size).double(), torch.rand(1, 1, *size).double()
    half = window // 2
    padded = [np.pad(x[0, 0].numpy(), half) for x in (a, b)]
    values = []
    for place in np.ndindex(*size):
        box = tuple(slice(p, p + window) for p in place)
        p, q = padded[0][box].ravel(), padded[1][box].ravel()
        p, q = p - p.mean(), q - q.mean()
        values.append((p @ q) ** 2 / ((p @ p) * (q @ q) + 1e-5))
    assert float(local_correlation(a, b, window)) == pytest.approx(np.mean(values), abs=2e-5)


def test_the_misfit_is_smoothness_less_the_correlation_of_images_between_0_and_1():
    """Faint images, so that the constant of the correlation, meant for [0, 1], counts."""
    draw = torch.Generator().manual_seed(0)
    moving, fixed = (0.01 * torch.randn(2, 1, 12, 12, generator=draw) for _ in range(2))
    field = torch.randn(2, 2, 12, 12, generator=draw)
    found = misfit(moving, fixed, field, smooth=0.5)
    alike = local_correlation(warp((moving + 1) / 2, field), (fixed + 1) / 2)
    assert torch.allclose(found, 0.5 * smoothness(field) - alike, atol=1e-6)
    assert not torch.allclose(alike, local_correlation(warp(moving, field), fixed), atol=1e-3)


def test_local_correlation_does_not_see_contrast_but_sees_a_shift():
    image = blobs((40, 40))
    assert float(local_correlation(image, 0.6 * image + 0.2)[0]) > 0.9 * float(
        local_correlation(image, image)[0]
    )
    assert float(local_correlation(image, image.roll(4, -1))[0]) < 0.7
    flat = torch.zeros(1, 1, 40, 40)
    assert float(local_correlation(flat, image)[0]) == pytest.approx(0, abs=1e-6)


def test_smoothness_is_the_mean_squared_step():
    x = places((5, 8), torch.zeros(1))
    field = torch.stack([3 * x[0], 2 * x[1]])[None]
    # along axis 0 the channels step by (3, 0), along axis 1 by (0, 2)
    assert float(smoothness(field)[0]) == pytest.approx((9 / 2 + 4 / 2) / 2)


@pytest.mark.parametrize("axes", [2, 3])
def test_field_network_keeps_the_size_and_starts_near_zero(axes):
    torch.manual_seed(0)
    for patch in (1, 2):
        network = FieldUNet(axes, 2, (4, 8, 8), (8, 8, 4), 2, patch)
        field = network(torch.rand(2, 2, *(16,) * axes))
        assert field.shape == (2, axes, *(16,) * axes)
        assert 0 < field.abs().max() < 0.5
        alone = network(torch.ones(1, 2, *(16,) * axes))
        assert torch.allclose(network(torch.ones(3, 2, *(16,) * axes))[:1], alone, atol=1e-6)


def test_a_field_on_a_coarser_grid_keeps_its_voxels():
    assert torch.allclose(enlarged(torch.full((1, 2, 4, 4), 1.5), 2), torch.full((1, 2, 8, 8), 1.5))


# ------------------------------------------------------------------------------------- as ITK reads
def oblique(spacing):
    """An affine that is turned about all axes, with this spacing."""
    turn = torch.linalg.matrix_exp(
        torch.tensor([[0, 0.4, -0.2], [-0.4, 0, 0.3], [0.2, -0.3, 0]]).double()
    )
    affine = torch.eye(4).double()
    affine[:3, :3] = turn @ torch.diag(torch.tensor(spacing).double())
    affine[:3, 3] = torch.tensor([-31.0, 12.0, 55.0])
    return affine


@pytest.mark.parametrize(
    "affine", [oblique((0.8, 1.3, 2.5)), torch.diag(torch.tensor([-1.0, 2, 3, 1]).double())]
)
def test_simpleitk_resamples_as_we_warp(affine, tmp_path):
    size = (20, 18, 16)
    image, field = blobs(size), smooth_field(size, 3.0)
    write_nifti(Image(image[0], affine), tmp_path / "moving.nii.gz")
    write_displacement(field[0], affine, tmp_path / "field.nii.gz")
    moving = sitk.ReadImage(str(tmp_path / "moving.nii.gz"))
    read = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    assert np.allclose(read.GetDirection(), moving.GetDirection(), atol=1e-6)
    resampled = sitk.Resample(
        moving, moving, sitk.DisplacementFieldTransform(read), sitk.sitkLinear
    )
    theirs = torch.from_numpy(sitk.GetArrayFromImage(resampled).T.copy())
    inner = (slice(4, -4),) * 3
    ours = warp(image, field)[0, 0]
    assert (ours - theirs)[inner].abs().max() < 2e-4
    assert (image[0, 0] - theirs)[inner].abs().max() > 0.1
    header = nibabel.load(tmp_path / "field.nii.gz").header
    assert header.get_intent()[0] == "vector" and header.get_data_shape() == (*size, 1, 3)
    assert np.allclose(read_nifti(tmp_path / "field.nii.gz").affine, affine, atol=1e-4)


def test_simpleitk_resamples_a_picture_without_geometry(tmp_path):
    size = (24, 20)
    image, field = blobs(size), smooth_field(size, 3.0)
    write_displacement(field[0], None, tmp_path / "field.nii.gz")
    read = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    moving = sitk.GetImageFromArray(image[0, 0].numpy().T)
    moving.CopyInformation(read)
    resampled = sitk.Resample(
        moving, moving, sitk.DisplacementFieldTransform(read), sitk.sitkLinear
    )
    theirs = torch.from_numpy(sitk.GetArrayFromImage(resampled).T.copy())
    inner = (slice(4, -4),) * 2
    assert (warp(image, field)[0, 0] - theirs)[inner].abs().max() < 2e-4


# ---------------------------------------------------------------------------------- a known motion
@pytest.mark.parametrize(
    "data", ["brains:count=3,size=64,noise=0", "brains3d:count=1,size=32,noise=0"]
)
def test_the_losses_recover_a_known_deformation_of_a_brain(data):
    """Mean end-point error below 0.5 voxel in the brain, the field optimised for one pair."""
    from radiffuse.data.dataset import open_cases

    moving = open_cases(data).batch([0])["image"]
    size = tuple(moving.shape[2:])
    truth = smooth_field(size, 5.0, seed=4, waves=0.7)
    fixed = warp(moving, truth)
    brain = fixed > -0.9
    assert end_point_error(torch.zeros_like(truth), truth, brain) > 1.0
    factor = 8
    coarse = torch.zeros(1, len(size), *[side // factor for side in size], requires_grad=True)
    optimiser = torch.optim.Adam([coarse], 0.3)
    for _ in range(40):
        optimiser.zero_grad()
        misfit(moving, fixed, enlarged(coarse, factor), smooth=0.01).sum().backward()
        optimiser.step()
    error = end_point_error(enlarged(coarse.detach(), factor), truth, brain)
    assert float(error) < 0.5


# ------------------------------------------------------------------------------------------ overlap
def test_dice_by_label_and_of_absent_labels():
    a = torch.tensor([[1, 1, 2, 0], [0, 0, 0, 0]]).reshape(2, 1, 2, 2)
    b = torch.tensor([[1, 0, 2, 2], [0, 0, 3, 0]]).reshape(2, 1, 2, 2)
    assert labels_in(a, b) == [1, 2, 3]
    first, second = dice(a, b, [1, 2, 3])
    assert torch.allclose(first[:2], torch.tensor([2 / 3, 2 / 3]).double()) and first[2].isnan()
    assert second[:2].isnan().all() and second[2] == 0
    together = dice_of_patients(a, b, [1, 3], ["p", "p"])["p"]
    assert torch.allclose(together, torch.tensor([2 / 3, 0.0]).double())
