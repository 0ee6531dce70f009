"""What belongs together lies on one grid, whatever order the axes of its files have."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radiffuse import cli
from radiffuse.commands.pictures import write_output
from radiffuse.data.dataset import open_cases
from radiffuse.data.formats.by_ending import read_image, save_image
from radiffuse.data.geometry import Grid, resampled, turned
from radiffuse.data.image import Image, axis_codes
from radiffuse.errors import UserError

CODES = [
    "".join(order)
    for axes in itertools.permutations(("LR", "PA", "IS"))
    for order in itertools.product(*axes)
]
"""All 48 axis orders."""


def oblique(spacing=(1.0, 1.5, 2.0), turn=0.2):
    """An affine whose axes are turned a little out of the world's."""
    a, b = np.cos(turn), np.sin(turn)
    about = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, a, -b], [0, b, a]]
    )
    affine = np.eye(4)
    affine[:3, :3] = about @ np.diag(spacing)
    affine[:3, 3] = (-20, 30, 5)
    return affine


def scene(size=(6, 7, 8), affine=None, seed=0):
    """An image and the mask of its bright half, RAS-like, with their affine."""
    image = np.random.default_rng(seed).integers(1, 200, size).astype(np.float32)
    return image, (image > 100).astype(np.uint8), oblique() if affine is None else affine


def stored(data, affine, codes):
    """The same voxels at the same places, stored in another order (by nibabel)."""
    there = nibabel.orientations.axcodes2ornt(tuple(codes))
    here = nibabel.orientations.io_orientation(affine)
    turn = nibabel.orientations.ornt_transform(here, there)
    return nibabel.as_closest_canonical(nibabel.Nifti1Image(data, affine)).__class__(
        nibabel.orientations.apply_orientation(data, turn),
        affine @ nibabel.orientations.inv_ornt_aff(turn, data.shape),
    )


def folder(path, cases):
    """cases.csv of (image, mask) pairs of NIfTI images."""
    path.mkdir()
    lines = ["case,split,image,mask"]
    for number, (image, mask) in enumerate(cases):
        nibabel.save(image, path / f"image{number}.nii.gz")
        nibabel.save(mask, path / f"mask{number}.nii.gz")
        lines.append(f"c{number},train,image{number}.nii.gz,mask{number}.nii.gz")
    (path / "cases.csv").write_text("\n".join(lines) + "\n")
    return path


# --------------------------------------------------------------------------------- turned exactly
@pytest.mark.parametrize("codes", CODES)
def test_an_image_of_any_axis_order_is_turned_onto_a_grid_exactly(codes):
    image, _, affine = scene()
    other = stored(image, affine, codes)
    assert "".join(nibabel.aff2axcodes(other.affine)) == codes
    read = Image(torch.tensor(other.get_fdata())[None], torch.tensor(other.affine))
    there = turned(read, Grid(image.shape, torch.tensor(affine)))
    assert torch.equal(there.data[0], torch.tensor(image).double())
    assert torch.equal(there.affine, torch.tensor(affine))


@settings(max_examples=24, deadline=None)
@given(st.sampled_from(CODES), st.sampled_from(CODES), st.floats(-0.3, 0.3))
def test_image_and_mask_in_any_two_orders_are_one_case(tmp_path_factory, first, second, turn):
    """Through opening and a training batch: the mask is where the image is bright."""
    pairs = []
    for seed in range(3):
        image, mask, affine = scene(affine=oblique(turn=turn), seed=seed)
        pairs.append((stored(image, affine, first), stored(mask, affine, second)))
    cases = open_cases(folder(tmp_path_factory.mktemp("set") / "data", pairs), range=(0.0, 200.0))
    batch = cases.batch([0, 1, 2])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 0.0)
    assert cases.orientation == first and not any("another grid" in line for line in cases.notices)


def test_a_set_of_two_orientations_has_one_inside_and_says_so(tmp_path):
    image, mask, affine = scene(affine=np.diag([1.0, 1, 1, 1]), size=(6, 6, 6))
    pairs = [
        (stored(image, affine, codes), stored(mask, affine, "RAS"))
        for codes in ("RAS", "LAS", "RAS")
    ]
    cases = open_cases(folder(tmp_path / "data", pairs), range=(0.0, 200.0))
    batch = cases.batch([0, 1, 2])
    assert torch.equal(batch["image"][0], batch["image"][1]) and cases.orientation == "RAS"
    assert torch.equal(batch["mask"][0], batch["mask"][1])
    (line,) = [line for line in cases.notices if "stored as" in line]
    assert "RAS (2), LAS (1)" in line


def test_outputs_of_each_case_are_in_its_own_orientation(tmp_path):
    """Judged by nibabel."""
    image, _, _ = scene(size=(16, 16), affine=np.eye(4))
    cube = np.repeat(image[..., None], 5, 2)
    cases = open_cases(folder(tmp_path / "data", [
        (stored(cube, oblique(), codes), stored((cube > 100).astype(np.uint8), oblique(), "RAS"))
        for codes in ("RAS", "RAS", "PIL")
    ]))  # fmt: skip
    given = cases.image(2, "image")
    assert axis_codes(given.affine) == "RAS" and given.own == "PIL"
    name = write_output(cases.batch([2])["image"][0], given, tmp_path / "out")
    written = nibabel.load(tmp_path / name)
    asked = nibabel.load(tmp_path / "data" / "image2.nii.gz")
    assert written.shape == asked.shape and np.allclose(written.affine, asked.affine, atol=1e-4)
    assert np.allclose(written.get_fdata(), asked.get_fdata(), atol=2)


def test_other_data_get_the_orientation_of_the_training(tmp_path):
    image, mask, affine = scene()
    pairs = [(stored(image, affine, "LPS"), stored(mask, affine, "LPS"))] * 2
    cases = open_cases(folder(tmp_path / "data", pairs), orientation="RAS", range=(0.0, 200.0))
    assert cases.orientation == "RAS" and cases.batch([0])["image"].shape[2:] == (6, 7, 8)


def in_units(array, affine, unit):
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    return image


def test_a_mask_of_microns_that_is_stored_flipped_is_turned(tmp_path):
    image, mask, _ = scene(size=(12, 12, 12))
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 11
    there = in_units(image, np.eye(4), "micron"), in_units(mask[::-1].copy(), flipped, "micron")
    cases = open_cases(folder(tmp_path / "data", [there]))
    assert torch.equal(cases.batch([0])["mask"][0, 0], torch.tensor(mask))


@pytest.mark.parametrize("side", [0.001, 0.02, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("voxels", [1, 2, 5])
def test_a_mask_that_lies_whole_voxels_away_is_moved_there_however_small_these_are(
    tmp_path, side, voxels
):
    image, _, _ = scene(size=(16, 16, 16))
    mask = np.zeros((16, 16, 16), np.uint8)
    mask[6:10, 6:10, 6:10] = 1
    affine = np.diag([side, side, side, 1.0])
    moved = affine.copy()
    moved[0, 3] = -voxels * side * 0.999
    pair = (
        nibabel.Nifti1Image(image, affine),
        nibabel.Nifti1Image(np.roll(mask, voxels, 0), moved),
    )
    cases = open_cases(folder(tmp_path / "data", [pair]))
    assert torch.equal(cases.batch([0])["mask"][0, 0], torch.tensor(mask))
    assert any("another grid" in line for line in cases.notices)


def test_a_pair_of_microns_on_two_grids_is_refused(tmp_path):
    image, _, _ = scene(size=(12, 12, 12))
    for name, start in (("moving", 5.0), ("fixed", 0.0)):
        affine = np.eye(4)
        affine[0, 3] = start
        nibabel.save(in_units(image, affine, "micron"), tmp_path / f"{name}.nii.gz")
    (tmp_path / "cases.csv").write_text("moving,fixed\nmoving.nii.gz,fixed.nii.gz\n")
    with pytest.raises(UserError, match=r"0.005 mm apart"):
        open_cases(tmp_path)


@pytest.mark.parametrize(("unit", "far"), [("micron", "0.011 mm"), ("mm", "11 mm")])
def test_forms_of_a_nifti_that_disagree_are_told_in_any_unit(tmp_path, unit, far):
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 11
    file = in_units(scene(size=(12, 12, 12))[0], np.eye(4), unit)
    file.set_sform(np.eye(4), 1)
    file.set_qform(flipped, 1)
    nibabel.save(file, tmp_path / "both.nii.gz")
    notices = []
    read_image(tmp_path / "both.nii.gz", notice=notices.append)
    (line,) = [line for line in notices if "disagree" in line]
    assert f"by {far};" in line


# ------------------------------------------------------------------------------------ of pictures
def flat(path, codes, seed=0):
    """A slice in one of the orders of its axes, stored as a NIfTI of one slice (by nibabel)."""
    values = np.random.default_rng(seed).integers(1, 200, (9, 7, 1)).astype(np.int16)
    there = stored(values, np.diag([1.0, 1, 5, 1]), f"{codes}S")
    nibabel.save(there, path)
    return values[..., 0]


def test_pictures_of_several_orientations_have_one_inside_and_are_written_in_their_own(tmp_path):
    orders = ("RA", "LA", "RA", "RP", "AR", "PL")
    truth = [flat(tmp_path / f"{k}.nii.gz", codes, k) for k, codes in enumerate(orders)]
    cases = open_cases(tmp_path, range=(0.0, 200.0))
    assert cases.orientation == "RA"
    for k, codes in enumerate(orders):
        image = cases.image(k, "image")
        assert np.array_equal(image.data[0].numpy(), truth[k])
        save_image(image, tmp_path / "out.nii.gz")
        written, read = (nibabel.load(tmp_path / name) for name in ("out.nii.gz", f"{k}.nii.gz"))
        assert np.array_equal(written.get_fdata(), read.get_fdata()), codes
        assert np.allclose(written.affine, read.affine)
    (line,) = [line for line in cases.notices if "stored as" in line]
    assert "images are stored as RA (2), LA (1)" in line and "other planes" not in line


def test_a_mask_of_a_picture_is_turned_with_it(tmp_path):
    lines = ["case,image,mask"]
    for k, codes in enumerate(("RA", "LA", "RA")):
        image = flat(tmp_path / f"i{k}.nii.gz", codes, k)
        nibabel.save(
            stored((image > 100).astype(np.uint8)[..., None], np.diag([1.0, 1, 5, 1]), "RPS"),
            tmp_path / f"m{k}.nii.gz",
        )
        lines.append(f"c{k},i{k}.nii.gz,m{k}.nii.gz")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    batch = open_cases(tmp_path, range=(0.0, 200.0)).batch([0, 1, 2])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 0.0)


def test_pictures_get_the_orientation_of_slices_that_were_cut_of_volumes(tmp_path):
    """Slices of PLS volumes along their last axis run to the back and to the left."""
    truth = [flat(tmp_path / f"{k}.nii.gz", "RA", k) for k in range(3)]
    cases = open_cases(tmp_path, orientation="PLS")
    assert cases.orientation == "PL"
    expected = np.flip(np.asarray(truth[0]).T, (0, 1))
    np.testing.assert_array_equal(cases.columns["image"].image(0).data[0].numpy(), expected)


def test_pictures_of_other_planes_stay_as_they_are_and_that_is_told(tmp_path):
    for k, codes in enumerate(("RA", "LA", "RA")):
        flat(tmp_path / f"{k}.nii.gz", codes, k)
    values = np.random.default_rng(3).integers(1, 200, (9, 7, 1)).astype(np.int16)
    sagittal = np.array([[0, 0, 5.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(values, sagittal), tmp_path / "3.nii.gz")
    cases = open_cases(tmp_path, range=(0.0, 200.0))
    assert np.array_equal(cases.image(3, "image").data[0].numpy(), values[..., 0])
    (line,) = [line for line in cases.notices if "stored as" in line]
    assert "but for AS, which lie in other planes" in line


def test_later_pictures_get_the_orientation_of_the_training(tmp_path):
    truth = [flat(tmp_path / f"{k}.nii.gz", "LA", k) for k in range(3)]
    cases = open_cases(tmp_path, orientation="RA", range=(0.0, 200.0))
    assert np.array_equal(cases.image(1, "image").data[0].numpy(), truth[1])
    assert open_cases(tmp_path, orientation="RAS", range=(0.0, 200.0)).orientation == "RA"


# ------------------------------------------------------------------------------------- resampled
def test_a_mask_of_another_spacing_is_resampled_as_simpleitk_does(tmp_path):
    image, _, affine = scene()
    fine = oblique(spacing=(0.7, 0.9, 1.1))
    fine[:3, 3] = (-19, 31, 6)
    labels = np.random.default_rng(3).integers(0, 4, (8, 9, 10)).astype(np.uint8)
    for data, nearest in ((labels, True), (labels.astype(np.float32), False)):
        own = Image(torch.tensor(data)[None], torch.tensor(fine))
        found = resampled(own, Grid(image.shape, torch.tensor(affine)), nearest).data[0].numpy()
        kind = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
        right = sitk.GetArrayFromImage(
            sitk.Resample(as_itk(data, fine), as_itk(image, affine), sitk.Transform(), kind, 0.0)
        ).transpose(2, 1, 0)
        same = np.isclose(found, right, atol=1e-4)
        assert same.mean() > (0.98 if nearest else 0.999), "ties of the nearest voxel apart"
        assert 0.1 < (right > 0).mean() < 0.9


def as_itk(data, affine):
    found = sitk.GetImageFromArray(data.transpose(2, 1, 0))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    found.SetSpacing(spacing.tolist())
    found.SetDirection((lps[:3, :3] / spacing).flatten().tolist())
    found.SetOrigin(lps[:3, 3].tolist())
    return found


def test_a_mask_that_was_moved_is_put_where_its_header_says_and_that_is_told(tmp_path):
    affine = np.diag([2.0, 2, 2, 1])
    image = np.zeros((8, 8, 8), np.float32)
    image[4:6, 2:4, 2:4] = 100
    moved = affine.copy()
    moved[:3, 3] = (4, 0, 0)  # two voxels
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[2:4, 2:4, 2:4] = 1  # the same place in the world
    pairs = [(nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image(mask, moved))] * 2
    cases = open_cases(folder(tmp_path / "data", pairs), range=(0.0, 100.0))
    batch = cases.batch([0])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 0)
    (line,) = [line for line in cases.notices if "another grid" in line]
    assert "mask of case c0 and 1 more" in line and "75% of the grid is met" in line


@pytest.mark.parametrize("nearest", [True, False])
def test_what_is_said_to_be_met_is_met_up_to_the_edges(nearest):
    """Last voxels of a grid of half the spacing lie on the very edge of the coarse one, where roundings differ."""
    coarse = Image(
        torch.full((1, 7, 5, 3), 2.0), torch.diag(torch.tensor([1.4, 1.4, 1.4, 1.0]).double())
    )
    fine = Grid((14, 10, 6), torch.diag(torch.tensor([0.7, 0.7, 0.7, 1.0]).double()))
    own = Grid.of(coarse)
    assert fine.covered_by(own) == 1
    assert bool((resampled(coarse, fine, nearest).data == 2).all())
    wider = Grid((15, 10, 6), fine.affine)
    beyond = resampled(coarse, wider, nearest=True).data[0, 14]
    assert wider.covered_by(own) < 1 and not beyond.any()


def test_a_mask_that_nowhere_meets_its_image_is_refused_with_both_geometries(tmp_path):
    image, mask, affine = scene()
    away = affine.copy()
    away[:3, 3] += 300
    pairs = [(nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image(mask, away))] * 2
    with pytest.raises(
        UserError, match=r"mask of case c0 \(6 x 7 x 8 voxels .* nowhere meets image"
    ):
        open_cases(folder(tmp_path / "data", pairs))


@pytest.mark.parametrize(("voxel", "shift"), [(1e-3, 0), (0.02, 2), (0.05, 1), (0.05, 2), (0.2, 0)])
def test_masks_of_small_voxels_are_put_where_their_headers_say(tmp_path, voxel, shift):
    """Stored mirrored (and shifted); in a field of view of some micrometres a whole image is less than 0.1 mm."""
    affine = np.diag([voxel, voxel, voxel, 1.0])
    image = np.zeros((8, 8, 8), np.float32)
    image[2:4, 2:4, 2:4] = 100
    mirrored = affine @ np.array([[-1, 0, 0, 7 + shift], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    mask = np.zeros((8, 8, 8), np.uint8)
    mask[4 + shift : 6 + shift, 2:4, 2:4] = 1
    assert np.allclose(mirrored @ [4 + shift, 2, 2, 1], affine @ [3, 2, 2, 1])
    cases = open_cases(
        folder(tmp_path / "data", [
            (nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image(mask, mirrored)),
            (nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image((image > 0).astype(np.uint8), affine)),
        ]),
        range=(0.0, 100.0),
    )  # fmt: skip
    batch = cases.batch([0, 1])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 0)


def test_a_pair_of_small_voxels_on_two_grids_is_refused(tmp_path):
    image, _, _ = scene()
    fixed, moving = np.diag([0.01, 0.01, 0.01, 1]), np.diag([0.01, 0.01, 0.01, 1])
    moving[0, 3] = 0.03
    for name, affine in (("fixed", fixed), ("moving", moving)):
        nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / f"{name}.nii.gz")
    (tmp_path / "cases.csv").write_text("case,fixed,moving\na,fixed.nii.gz,moving.nii.gz\n")
    with pytest.raises(UserError, match=r"corner 0\.03 mm apart"):
        open_cases(tmp_path)


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_a_mask_that_was_cropped_to_what_it_shows_is_in_its_image(tmp_path, turn):
    """As segmentation programs save it: the crop may lie between the points of any coarse lattice."""
    size, at = (100, 90, 80), (37, 22, 61)
    image = np.zeros(size, np.float32)
    image[at[0] : at[0] + 3, at[1] : at[1] + 3, at[2] : at[2] + 2] = 100
    affine = oblique((1.0, 1.0, 1.0), turn)
    crop = affine.copy()
    crop[:3, 3] = (affine @ [*at, 1])[:3]
    pairs = [
        (
            nibabel.Nifti1Image(image, affine),
            nibabel.Nifti1Image(np.ones((3, 3, 2), np.uint8), crop),
        )
    ]
    cases = open_cases(folder(tmp_path / "data", pairs), range=(0.0, 100.0))
    batch = cases.batch([0])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 0)
    assert any("less than 1% of the grid is met" in line for line in cases.notices)


def test_the_share_of_a_grid_that_another_covers_is_counted():
    whole = Grid((30, 20, 10), torch.eye(4, dtype=torch.float64))
    part = torch.eye(4, dtype=torch.float64)
    part[:3, 3] = torch.tensor([7.0, 11.0, 3.0])
    assert whole.covered_by(Grid((2, 3, 4), part)) == pytest.approx(2 * 3 * 4 / 6000)
    assert Grid((2, 3, 4), part).covered_by(whole) == 1


def test_data_without_geometry_stay_as_they_are(tmp_path):
    draw = np.random.default_rng(0)
    np.savez(
        tmp_path / "plain.npz",
        image=draw.integers(0, 255, (4, 8, 8), dtype=np.uint8),
        mask=draw.integers(0, 3, (4, 8, 8), dtype=np.uint8),
    )
    cases = open_cases(tmp_path / "plain.npz")
    assert cases.orientation == "" and type(cases.columns["mask"]).__name__ == "ArrayColumn"


# --------------------------------------------------------------------------------- training records
def test_training_records_the_orientation_and_predicts_others_in_it(tmp_path):
    pairs = []
    for seed in range(4):
        image, mask, affine = scene((8, 8, 8), seed=seed)
        pairs.append((stored(image, affine, "LAS"), stored(mask * 0, affine, "LAS")))
    data = folder(tmp_path / "data", pairs)
    words = ["train", "anoddpm", "--data", data, "--out", tmp_path / "run", "--preset", "tiny"]
    words += [
        "--width",
        4,
        "--multiples",
        1,
        1,
        "--octaves",
        2,
        "--train.steps",
        1,
        "--train.batch",
        2,
    ]
    assert cli.main([str(word) for word in words]) == 0
    assert 'orientation = "LAS"' in (tmp_path / "run" / "config.toml").read_text()
    image, mask, affine = scene((8, 8, 8), seed=9)
    others = [(stored(image, affine, "SPR"), stored(mask, affine, "RAS"))] * 2
    there = folder(tmp_path / "other", others)
    out = tmp_path / "out"
    words = ["predict", tmp_path / "run", "--data", there, "--out", out, "--steps", 1]
    assert cli.main([str(word) for word in [*words, "--split", "train"]]) == 0
    written, asked = nibabel.load(out / "c1-healthy.nii.gz"), nibabel.load(there / "image1.nii.gz")
    assert written.shape == asked.shape and np.allclose(written.affine, asked.affine, atol=1e-4)


@pytest.mark.parametrize(("thick", "told"), [(2.0, False), (2.8, False), (6.0, True)])
def test_voxels_of_several_sizes_are_told_of(tmp_path, thick, told):
    """Nothing resamples from case to case, and a network takes a wide voxel for a narrow one."""
    cases = []
    for number, spacing in enumerate([(1.0, 1.5, 2.0), (1.0, 1.5, thick), (1.1, 1.5, 2.0)]):
        image, mask, affine = scene(affine=oblique(spacing), seed=number)
        cases.append((nibabel.Nifti1Image(image, affine), nibabel.Nifti1Image(mask, affine)))
    lines = [
        n for n in open_cases(folder(tmp_path / "data", cases)).notices if "differ in size" in n
    ]
    assert bool(lines) == told
    if told:
        (line,) = lines
        assert "2 mm in c0 and 1 x 1.5 x 6 mm in c1" in line and "resample" in line
