"""Geometry: spacing, orientation and resizing keep every voxel where it is in the world."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radiffuse.data.formats.by_ending import like, read_image, save_image, save_like
from radiffuse.data.image import Image, axis_codes, oriented
from radiffuse.data.transforms import (
    axis_weights,
    from_unit,
    resize,
    resized,
    resized_affine,
    to_unit,
)

few = settings(max_examples=15, deadline=None)


def world(affine, size):
    """World coordinates `(3, *size)` of the voxels of a grid."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"))
    flat = np.concatenate([index.reshape(3, -1), np.ones((1, index[0].size))])
    return (affine.numpy() @ flat)[:3].reshape(3, *size)


@st.composite
def affines(draw):
    """Oblique, anisotropic, flipped and permuted grids."""
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.4, 6.0, size=3)
    affine[:3, 3] = rng.uniform(-200, 200, size=3)
    return torch.from_numpy(affine)


sizes = st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(4, 9))


def test_spacing_comes_from_the_columns_not_the_diagonal():
    affine = torch.tensor(
        [[0, -2.0, 0, 5], [3.0, 0, 0, 6], [0, 0, 4.0, 7], [0, 0, 0, 1]], dtype=torch.float64
    )
    assert Image(torch.zeros(1, 2, 2, 2), affine).spacing_mm == (3.0, 2.0, 4.0)
    assert Image(torch.zeros(1, 2, 2)).spacing_mm is None


def test_axis_codes_name_the_direction_of_each_axis():
    assert axis_codes(torch.eye(4, dtype=torch.float64)) == "RAS"
    assert axis_codes(torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))) == "LPS"
    assert axis_codes(torch.tensor([[0, 0, 2.0, 0], [-1.0, 0, 0, 0], [0, 1.0, 0, 0]])) == "PSR"


@given(affines(), sizes, st.sampled_from(["RAS", "LPS", "PIR", "SLA"]))
@few
def test_reorienting_moves_no_voxel_in_the_world(affine, size, codes):
    image = Image(torch.from_numpy(world(affine, size)), affine)
    turned = oriented(image, codes)
    assert axis_codes(turned.affine) == codes
    np.testing.assert_allclose(turned.data.numpy(), world(turned.affine, turned.size), atol=1e-9)


def test_orientation_needs_a_volume_and_known_letters():
    with pytest.raises(ValueError, match="affine"):
        oriented(Image(torch.zeros(1, 2, 2, 2)))
    with pytest.raises(ValueError, match="RAX"):
        oriented(Image(torch.zeros(1, 2, 2, 2), torch.eye(4, dtype=torch.float64)), "RAX")


def test_a_whole_factor_averages_blocks():
    assert resize(torch.tensor([[0, 2, 4, 10]]), (2,)).tolist() == [[1.0, 7.0]]


def test_another_factor_averages_the_interpolant_over_its_stretch():
    """old 3, new 2: over [0, 1/2] and [3/2, 2] the mean of the hat functions."""
    expected = torch.tensor([[3.0, 1.0, 0.0], [0.0, 1.0, 3.0]], dtype=torch.float64) / 4
    torch.testing.assert_close(axis_weights(3, 2), expected)


@pytest.mark.parametrize(("old", "new"), [(7, 3), (9, 9), (10, 4), (5, 4), (4, 11)])
def test_weights_of_a_voxel_add_up_to_one(old, new):
    torch.testing.assert_close(axis_weights(old, new).sum(1), torch.ones(new).double())


def test_enlarging_interpolates_between_centres():
    expected = [0.0, 0.25, 0.75, 1.0]
    assert resize(torch.tensor([[0.0, 1.0]]), (4,))[0].tolist() == expected


def test_labels_stay_whole_and_keep_their_type():
    labels = torch.randint(0, 4, (1, 7, 9), dtype=torch.uint8)
    small = resize(labels, (3, 4), nearest=True)
    assert small.dtype == torch.uint8
    assert set(small.flatten().tolist()) <= set(labels.flatten().tolist())
    torch.testing.assert_close(resize(labels, (14, 18), nearest=True)[:, ::2, ::2], labels)


@given(affines(), sizes, sizes)
@few
def test_resizing_moves_the_affine_along(affine, old, new):
    """A picture of its own world coordinates still tells the truth after resizing."""
    image = Image(torch.from_numpy(world(affine, old)), affine)
    small = resized(image, new)
    scale = [a / b for a, b in zip(old, new, strict=True)]
    inner = np.ones(new, dtype=bool)
    for axis, s in enumerate(scale):
        centre = (np.arange(new[axis]) + 0.5) * s - 0.5
        good = (centre >= 0) & (centre <= old[axis] - 1) | (s >= 1)
        inner &= np.expand_dims(good, tuple(a for a in range(3) if a != axis))
    difference = np.abs(small.data.numpy() - world(small.affine, new))
    assert difference[:, inner].max() < 1e-3


@given(affines(), sizes)
@few
def test_enlarging_agrees_with_simpleitk(affine, old):
    new = tuple(n + 3 for n in old)
    data = torch.rand(1, *old, dtype=torch.float64)
    mine = resized(Image(data, affine), new)

    def itk(array, geometry):
        lps = np.diag([-1.0, -1, 1, 1]) @ geometry.numpy()
        image = sitk.GetImageFromArray(array.transpose(2, 1, 0))
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(spacing.tolist())
        image.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        return image

    source = itk(data[0].numpy(), affine)
    grid = itk(np.zeros(new), resized_affine(affine, old, new))
    truth = sitk.Resample(source, grid, sitk.Transform(), sitk.sitkLinear, -1.0)
    theirs = sitk.GetArrayFromImage(truth).transpose(2, 1, 0)
    seen = theirs >= 0
    assert seen.mean() > 0.2
    np.testing.assert_allclose(mine.data[0].numpy()[seen], theirs[seen], atol=1e-5)


@given(affines(), sizes, sizes, st.integers(1, 3))
@few
def test_geometry_survives_load_resize_predict_save(tmp_path_factory, affine, old, new, series):
    """3-D and 4-D, oblique, anisotropic, any orientation: world coordinates agree to 1e-3 mm."""
    folder = tmp_path_factory.mktemp("geometry")
    stored = torch.rand(series, *old)
    save_image(Image(stored, affine), folder / "in.nii.gz")
    loaded = read_image(folder / "in.nii.gz")
    torch.testing.assert_close(loaded.data, stored)
    small = resized(loaded, new)
    prediction = to_unit(small.data, (0.0, 1.0))
    path = save_like(small, prediction, folder / "out", limits=(0.0, 1.0))
    saved = read_image(path)
    assert path.name == "out.nii.gz"
    assert np.abs(world(loaded.affine, old) - world(affine, old)).max() < 1e-3
    expected = world(resized_affine(affine, old, new), new)
    assert np.abs(world(saved.affine, new) - expected).max() < 1e-3
    torch.testing.assert_close(saved.data, small.data, atol=1e-5, rtol=0)


def test_a_prediction_of_another_size_takes_its_affine_along():
    template = Image(torch.zeros(1, 8, 8, 8), torch.eye(4, dtype=torch.float64), range=(0.0, 1.0))
    made = like(template, torch.zeros(1, 4, 4, 4))
    assert made.spacing_mm == (2.0, 2.0, 2.0)
    assert made.affine[:3, 3].tolist() == [0.5, 0.5, 0.5]


def test_scaling_clips_and_comes_back():
    stored = torch.tensor([-50, 0, 100, 255, 300])
    unit = to_unit(stored, (0, 255))
    assert (unit[0], unit[1], unit[3], unit[4]) == (-1, -1, 1, 1)
    assert from_unit(unit, (0, 255), torch.uint8).tolist() == [0, 0, 100, 255, 255]
    every = torch.arange(65536)
    assert torch.equal(from_unit(to_unit(every, (0, 65535)), (0, 65535), torch.int32), every.int())


def test_integers_never_leave_the_range_they_were_scaled_from():
    assert from_unit(torch.tensor([-3.0, 3.0]), (0, 200), torch.uint8).tolist() == [0, 200]
