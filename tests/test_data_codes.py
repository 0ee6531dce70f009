"""One meaning of a value of a mask in the whole data set, and in other data later."""

import nibabel
import numpy as np
import PIL.Image
import pytest

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError
from radiffuse.runs.config import read_config

LABELS = np.array([[0, 1], [2, 3]]).repeat(8, 0).repeat(8, 1)
TWO = LABELS * (LABELS != 1) * (LABELS != 2)


def folder(path, masks, names=None):
    """cases.csv of random images and the PNG masks given, the last one for testing."""
    path.mkdir()
    columns = names or ["mask"]
    lines = [",".join(["case", "split", "image", *columns])]
    draw = np.random.default_rng(0)
    for number, row in enumerate(masks):
        grey = draw.integers(0, 256, (16, 16), dtype=np.uint8)
        PIL.Image.fromarray(grey).save(path / f"image{number}.png")
        files = []
        for name, mask in zip(columns, row if isinstance(row, tuple) else (row,), strict=True):
            PIL.Image.fromarray(mask.astype(np.uint8)).save(path / f"{name}{number}.png")
            files.append(f"{name}{number}.png")
        split = "test" if number == len(masks) - 1 else "train"
        lines.append(",".join([f"c{number}", split, f"image{number}.png", *files]))
    (path / "cases.csv").write_text("\n".join(lines) + "\n")
    return path


def test_codes_are_found_over_all_files(tmp_path):
    """A file of 0 and 255 alone: 255 is label 3 where the others hold 85 and 170 too."""
    data = folder(tmp_path / "d", [85 * LABELS, 85 * TWO, 85 * LABELS])
    cases = open_cases(data)
    masks = cases.batch([0, 1, 2])["mask"][:, 0].numpy()
    assert np.array_equal(masks[0], LABELS) and np.array_equal(masks[1], TWO)
    assert cases.codes == (0, 85, 170, 255) and cases.facts().mask_classes == {"mask": 4}
    (line,) = [line for line in cases.notices if "codes" in line]
    assert "85 is label 1, 170 is label 2, 255 is label 3" in line


def test_codes_are_found_over_all_masks(tmp_path):
    data = folder(tmp_path / "d", [(85 * LABELS, 85 * TWO)] * 3, ["a_mask", "b_mask"])
    batch = open_cases(data).batch([0])
    assert np.array_equal(batch["b_mask"][0, 0].numpy(), TWO)


def test_yes_and_no_are_one_and_zero(tmp_path):
    cases = open_cases(folder(tmp_path / "d", [255 * (LABELS > 1)] * 3))
    assert cases.batch([0])["mask"].unique().tolist() == [0, 1] and cases.codes == (0, 255)


def test_labels_that_are_labels_stay(tmp_path):
    cases = open_cases(folder(tmp_path / "d", [LABELS, TWO, 2 * LABELS]))
    assert cases.codes == (0, 1, 2, 3, 4, 6) and not any("codes" in n for n in cases.notices)
    assert cases.batch([2])["mask"].unique().tolist() == [0, 2, 4, 6]


def test_codes_hold_in_arrays_too(tmp_path):
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    np.savez(
        tmp_path / "d.npz",
        image=image,
        mask=np.stack([85 * LABELS, 85 * TWO, 85 * TWO]).astype(np.uint8),
    )
    masks = open_cases(tmp_path / "d.npz").batch([0, 1])["mask"]
    assert np.array_equal(masks[1, 0].numpy(), TWO)


def test_255_beside_labels_may_mean_ignore_and_is_asked_about(tmp_path):
    mask = LABELS.copy()
    mask[0, 0] = 255
    with pytest.raises(UserError, match="255 may be one more label or mean 'ignore'"):
        open_cases(folder(tmp_path / "d", [mask] * 3))


def test_training_records_codes_and_other_data_are_read_by_them(tmp_path, refused):
    data = folder(tmp_path / "d", [85 * LABELS, 85 * np.roll(LABELS, 3), 85 * TWO])
    run = tmp_path / "run"
    words = ["train", "segmentation-ensembles", "--data", data, "--out", run, "--preset", "tiny"]
    words += ["--width", 8, "--train.steps", 1, "--train.batch", 2]
    assert cli.main([str(word) for word in words]) == 0
    source = read_config(run / "config.toml").data
    assert source.codes == (0, 85, 170, 255)
    later = folder(tmp_path / "later", [85 * TWO] * 2)
    assert np.array_equal(open_cases(later, codes=source.codes).batch([0])["mask"][0, 0], TWO)
    odd = folder(tmp_path / "odd", [64 * LABELS] * 2)
    with pytest.raises(
        UserError, match=r"mask0.png: a mask holds 64, and the codes .* 0, 85, 170, 255"
    ):
        open_cases(odd, codes=source.codes)


# ------------------------------------------------------------------------------- scaled by a slope
def scaled(path, slope):
    """NIfTI masks of 0 and 1000 times a slope of the header."""
    path.mkdir()
    lines = ["case,image,mask"]
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 200, (8, 8, 4)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), path / f"image{number}.nii.gz")
        mask = nibabel.Nifti1Image(((image > 100) * 1000).astype(np.int16), np.eye(4))
        raw = bytearray(mask.to_bytes())
        raw[112:116] = np.float32(slope).tobytes()  # scl_slope
        (path / f"mask{number}.nii").write_bytes(raw)
        lines.append(f"c{number},image{number}.nii.gz,mask{number}.nii")
    (path / "cases.csv").write_text("\n".join(lines) + "\n")
    return path


def test_a_slope_that_misses_whole_numbers_by_a_hair_is_rounded_and_said(tmp_path):
    cases = open_cases(scaled(tmp_path / "d", 0.0010002))
    assert cases.batch([0])["mask"].unique().tolist() == [0, 1]
    assert any("off by up to 0.0002; rounded" in line for line in cases.notices)


def test_a_slope_that_is_far_off_is_refused_by_how_much(tmp_path):
    with pytest.raises(UserError, match=r"whole numbers, and these miss them by up to 0\.3"):
        open_cases(scaled(tmp_path / "d", 0.0007))


def test_negative_labels_are_found_at_opening(tmp_path):
    data = scaled(tmp_path / "d", -0.001)
    with pytest.raises(UserError, match=r"mask0\.nii: a mask holds label -1"):
        open_cases(data)


# ---------------------------------------------------------------------------- other data, other codes
def test_white_in_other_data_is_one_where_training_had_one(tmp_path):
    trained = open_cases(folder(tmp_path / "a", [1 * (LABELS > 1)] * 3))
    other = open_cases(folder(tmp_path / "b", [255 * (LABELS > 1)] * 3), codes=trained.codes)
    assert other.batch([0])["mask"].unique().tolist() == [0, 1] and other.codes == (0, 1)


def test_codes_where_training_had_labels_are_refused(tmp_path):
    trained = open_cases(folder(tmp_path / "a", [LABELS] * 3))
    with pytest.raises(UserError, match="those of the training the labels 0, 1, 2, 3"):
        open_cases(folder(tmp_path / "b", [85 * LABELS] * 3), codes=trained.codes)


def test_a_few_labels_of_a_large_atlas_stay_what_they_are(tmp_path):
    atlas = np.arange(256).reshape(16, 16) % 120
    trained = open_cases(folder(tmp_path / "a", [atlas] * 3))
    assert len(trained.codes) == 120
    other = open_cases(folder(tmp_path / "b", [100 * (LABELS > 1)] * 3), codes=trained.codes)
    assert other.batch([0])["mask"].unique().tolist() == [0, 100]


@pytest.mark.parametrize("codes", [(0, 1, 255), (0, 2, 255), (0, 3, 17, 255)])
def test_white_beside_labels_may_mean_ignore_and_is_asked_for(tmp_path, codes):
    with pytest.raises(UserError, match="'ignore'"):
        open_cases(folder(tmp_path / "d", [np.array(codes)[LABELS % len(codes)]] * 3))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_masks_that_were_blurred_are_refused_not_taken_for_many_labels(tmp_path, kind):
    data = folder(tmp_path / "d", [255 * (LABELS > 1)] * 3)
    disc = 255 * (np.hypot(*np.mgrid[-24:24, -24:24]) < 15)
    for file in sorted(data.glob("*[0-9].png")):
        if file.name.startswith("mask"):
            mask = PIL.Image.fromarray(disc.astype(np.uint8))
            mask = mask if kind == "JPEG" else mask.resize((64, 64), PIL.Image.Resampling.BILINEAR)
            mask.save(file, format=kind)
        else:
            PIL.Image.open(file).resize((48, 48) if kind == "JPEG" else (64, 64)).save(file)
    with pytest.raises(UserError, match=r"grey values up to .* threshold it"):
        open_cases(data)


def test_voxels_named_ignore_are_no_class(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    draw = np.random.default_rng(0)
    for k in range(3):
        noise = draw.normal(size=(4, 5, 6)).astype(np.float32)
        mask = draw.integers(0, 3, (4, 5, 6)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / f"imagesTr/c{k}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"labelsTr/c{k}.nii.gz")
    about = tmp_path / "dataset.json"
    about.write_text('{"labels": {"background": 0, "tumour": 1, "ignore": 2}}')
    with pytest.raises(UserError, match="masks hold 2, which is named 'ignore'"):
        open_cases(tmp_path)
    about.write_text('{"labels": {"background": 0, "tumour": 1, "cyst": 2, "ignore": 3}}')
    assert open_cases(tmp_path).facts().mask_classes == {"mask": 3}


def test_voxels_named_ignore_in_later_data_are_no_class_either(tmp_path):
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
    draw = np.random.default_rng(0)
    for k in range(3):
        noise = draw.normal(size=(4, 5, 6)).astype(np.float32)
        mask = draw.integers(0, 3, (4, 5, 6)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), tmp_path / f"imagesTr/c{k}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"labelsTr/c{k}.nii.gz")
    (tmp_path / "dataset.json").write_text(
        '{"labels": {"background": 0, "tumour": 1, "ignore": 2}}'
    )
    with pytest.raises(UserError, match="masks hold 2, which is named 'ignore'"):
        open_cases(tmp_path, codes=(0, 1))


def test_a_label_of_one_mask_among_hundreds_is_counted(tmp_path):
    masks = np.zeros((400, 1, 6, 6), np.uint8)
    masks[:, :, :3], masks[1, :, 0, 0] = 1, 5
    noise = np.random.default_rng(0).integers(0, 256, masks.shape, dtype=np.uint8)
    split = np.array(["train"] * 399 + ["test"])
    np.savez(tmp_path / "a.npz", image=noise, mask=masks, split=split)
    assert open_cases(tmp_path / "a.npz").facts().mask_classes == {"mask": 6}


def test_a_mask_of_three_equal_colours_is_one_of_grey_values(tmp_path):
    white = 255 * (LABELS > 1)
    data = folder(tmp_path / "d", [np.stack([white] * 3, -1), white, np.stack([white] * 3, -1)])
    cases = open_cases(data)
    assert np.array_equal(cases.batch([0])["mask"][0, 0].numpy(), LABELS > 1)
    red = np.stack([white, 0 * white, 0 * white], -1)
    with pytest.raises(UserError, match="one channel, found 3"):
        open_cases(folder(tmp_path / "e", [red, red, red]))
