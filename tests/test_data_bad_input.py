"""Bad data: one line that says what is wrong, where, and what to do."""

import h5py
import nibabel
import numpy as np
import PIL.Image
import pytest

from radiffuse.data.dataset import check_trainable, open_cases
from radiffuse.errors import UserError


def refused(path, **options):
    with pytest.raises(UserError) as caught:
        open_cases(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


def pictures(folder, *shapes):
    for number, shape in enumerate(shapes):
        PIL.Image.fromarray(noise(*shape) // (number + 1)).save(folder / f"{number}.png")
    return folder


def test_missing_path(tmp_path):
    assert "no such file or folder" in refused(tmp_path / "nothing.npz")


def test_empty_folder(tmp_path):
    assert "empty folder" in refused(tmp_path)


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    assert "no image" in refused(tmp_path)


def test_truncated_array_file(tmp_path):
    path = saved(tmp_path, image=noise(20, 16, 16))
    path.write_bytes(path.read_bytes()[:3000])
    assert "damaged, cut short" in refused(path)


def test_array_file_of_something_else(tmp_path):
    (tmp_path / "a.npz").write_text("not a zip")
    assert "damaged" in refused(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"")
    assert "damaged" in refused(tmp_path / "b.npz")


def test_pickled_objects_are_never_read(tmp_path):
    ragged = np.empty(2, dtype=object)
    ragged[:] = [noise(2, 2), noise(3, 3)]
    assert "pickle" in refused(saved(tmp_path, image=ragged))


def test_arrays_of_different_length(tmp_path):
    message = refused(saved(tmp_path, image=noise(4, 3, 3), label=np.arange(5)))
    assert "image 4, label 5" in message


def test_no_case(tmp_path):
    assert "no case" in refused(saved(tmp_path, image=noise(0, 3, 3)))


def test_a_truncated_picture_in_a_folder_is_named(tmp_path):
    pictures(tmp_path, (64, 64), (64, 64))
    data = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(data[: len(data) // 2])
    assert "1.png: cannot be read" in refused(tmp_path)


def test_mixed_sizes_are_noticed_and_refused_where_a_batch_is_needed(tmp_path):
    cases = open_cases(pictures(tmp_path, (6, 8), (6, 8), (5, 8)))
    assert "6x8 in 2 cases (0), 5x8 in 1 case (2); --size resizes" in "\n".join(cases.notices)
    assert cases.batch([2])["image"].shape == (1, 1, 5, 8)
    for use in (cases.facts, lambda: cases.batch([0, 2]), lambda: check_trainable(cases)):
        with pytest.raises(UserError, match="--size"):
            use()
    assert open_cases(tmp_path, size=(4, 4)).facts().size == {"image": (4, 4)}


def test_numbers_that_some_cases_lack_are_noticed(tmp_path):
    """A model of covariates is not told them then, which nobody would see."""
    ages = np.array([30.0, np.nan, 50, 60])
    who = np.array(["a", "b", "c", "d"])
    cases = open_cases(saved(tmp_path, image=noise(4, 8, 8), age=ages, patient=who))
    (line,) = cases.notices
    assert "'age' is missing in 1 of 4 cases, as b" in line
    whole = saved(tmp_path, image=noise(4, 8, 8), age=np.arange(4.0), patient=who)
    assert not open_cases(whole).notices


def test_grey_and_colour_do_not_mix(tmp_path):
    message = refused(pictures(tmp_path, (6, 8), (6, 8, 3)))
    assert "6x8 with 3 channels in 1 case (1)" in message


def test_a_size_of_the_wrong_number_of_axes(tmp_path):
    assert "2 axes" in refused(saved(tmp_path, image=noise(4, 6, 6)), size=(3, 3, 3))
    assert "2 axes" in refused(pictures(tmp_path, (6, 8)) / "0.png", size=(3, 3, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_voxels_are_counted(tmp_path, value):
    image = np.random.default_rng(0).normal(size=(4, 5, 5)).astype(np.float32)
    image[2, 1, :3] = value
    assert "case 0002 holds 3 NaN or infinite voxels" in refused(saved(tmp_path, image=image))


def test_broken_voxels_in_a_file_are_named(tmp_path):
    data = np.ones((3, 3, 3), np.float32)
    data[0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / "x.nii.gz")
    assert "x.nii.gz: holds 3 NaN or infinite voxels" in refused(tmp_path)


def test_all_constant_is_refused_and_one_constant_noticed(tmp_path):
    image = np.zeros((4, 5, 5), np.uint8)
    assert "every image of 'image' is constant" in refused(saved(tmp_path, image=image))
    image[:3] = noise(3, 5, 5)
    (notice,) = open_cases(saved(tmp_path, image=image, patient=np.arange(4))).notices
    assert "constant (one grey value) in case 3" in notice


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 1, -1, 0], "case 0002 has -1"),
        ([0, 1, 0.5, 0], "case 0002 has 0.5"),
        ([0, 1, np.nan, 0], "case 0002 has nan"),
        ([0, 1, 2001, 0], "label 2001 of case 0002 is out of range"),
        ([[0, 1]] * 4, "one label per case"),
    ],
)
def test_labels(tmp_path, labels, said):
    assert said in refused(saved(tmp_path, image=noise(4, 3, 3), label=np.array(labels)))


def test_two_names_for_one_label(tmp_path):
    path = saved(
        tmp_path,
        image=noise(3, 3, 3),
        label=np.array([0, 1, 1]),
        label_name=np.array(["a", "b", "c"]),
    )
    assert "label 1 is called 'b' and, in case 0002, 'c'" in refused(path)


def test_an_unknown_split_word(tmp_path):
    path = saved(tmp_path, image=noise(2, 3, 3), split=np.array(["train", "tset"]))
    assert "'tset' is none of train, val, test" in refused(path)


def test_a_mask_with_fractions(tmp_path):
    path = saved(tmp_path, image=noise(2, 3, 3), mask=np.full((2, 3, 3), 0.5, np.float32))
    assert "whole numbers" in refused(path)


def csv(tmp_path, text):
    (tmp_path / "cases.csv").write_text(text)
    return tmp_path


def test_csv(tmp_path):
    pictures(tmp_path, (4, 4), (4, 4))
    assert "holds no case" in refused(csv(tmp_path, "case,image\n"))
    assert "line 3 has 1 cells" in refused(csv(tmp_path, "case,image\na,0.png\nb\n"))
    assert "2.png: no such file" in refused(csv(tmp_path, "case,image\na,0.png\nb,2.png\n"))
    assert "case a stands twice" in refused(csv(tmp_path, "case,image\na,0.png\na,1.png\n"))
    assert "column name stands twice" in refused(csv(tmp_path, "image,image\n0.png,1.png\n"))
    labels = "case,image,label\na,0.png,yes\nb,1.png,\n"
    assert "case b has no label" in refused(csv(tmp_path, labels))


def test_classes_for_some_images_only(tmp_path):
    pictures(tmp_path, (4, 4))
    (tmp_path / "cat").mkdir()
    pictures(tmp_path / "cat", (4, 4))
    assert "some images lie in sub-folders" in refused(tmp_path)


def test_json_that_is_no_data_set(tmp_path):
    (tmp_path / "dataset.json").write_text("[1, 2]")
    assert "no Decathlon" in refused(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    assert "not valid JSON" in refused(tmp_path)
    (tmp_path / "dataset.json").write_text('{"training": [3]}')
    assert "must be a path" in refused(tmp_path)


def test_h5_without_kspace(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"no")
    assert "no HDF5" in refused(tmp_path / "a.h5")
    for name, values, said in (
        ("real", np.ones((1, 4, 8, 8), np.float32), "kspace is float32 of shape (1, 4, 8, 8); expected complex"),
        ("flat", np.ones((8, 8), np.complex64), "expected complex numbers, (slices, coils, rows, columns)"),
    ):  # fmt: skip
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["kspace"] = values
        assert said in refused(tmp_path / f"{name}.h5")


def test_a_gap_beside_joined_columns_is_named(tmp_path):
    for k in range(4):
        for name in ("t1", "t2", "seg"):
            PIL.Image.fromarray(np.full((8, 8), k, np.uint8)).save(tmp_path / f"{name}{k}.png")
    rows = [f"c{k},t1{k}.png,t2{k}.png,{'' if k == 2 else f'seg{k}.png'}" for k in range(4)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,t1,t2,seg", *rows]))
    with pytest.raises(UserError, match="seg: case c2 names no file"):
        open_cases(tmp_path, mapping={"image": "t1+t2", "mask": "seg"})
