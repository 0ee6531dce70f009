"""Array files: where channels stand is read from the file, or asked for; masks hold labels."""

import io
import re
import zipfile

import numpy as np
import pytest

from radiffuse.data.dataset import open_cases
from radiffuse.errors import UserError


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def saved(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def refused(path):
    with pytest.raises(UserError) as caught:
        open_cases(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- axes of images -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "readings"),
    [
        ((10, 4, 24, 24), {"NCHW", "NDHW"}),
        ((10, 24, 24, 4), {"NHWC", "NDHW"}),
        ((10, 2, 24, 24), {"NCHW", "NDHW"}),
        ((4, 4, 12, 12, 12), {"NCDHW", "NDHWC"}),
        ((4, 3, 12, 3), {"NCHW", "NHWC", "NDHW"}),
    ],
)
def test_axes_that_can_be_read_in_two_ways_are_asked_for(tmp_path, shape, readings):
    said = refused(saved(tmp_path, image=noise(*shape)))
    assert "a.npz: image" in said and str(shape) in said
    named = {
        axes for axes in ("NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC") if f"axes='{axes}'" in said
    }
    assert named == readings


@pytest.mark.parametrize(
    ("axes", "shape", "channels", "size"),
    [
        ("NCHW", (4, 4, 24, 24), 4, (24, 24)),
        ("NDHW", (4, 4, 24, 24), 1, (4, 24, 24)),
        ("NHWC", (4, 24, 24, 4), 4, (24, 24)),
        ("NCDHW", (2, 4, 8, 9, 10), 4, (8, 9, 10)),
        ("NDHWC", (2, 8, 9, 10, 4), 4, (8, 9, 10)),
        ("NDHW", (4, 24, 24, 3), 1, (24, 24, 3)),
    ],
)
@pytest.mark.parametrize("key", ["axes", "image_axes"])
def test_a_text_beside_the_arrays_says_their_axes(tmp_path, axes, shape, channels, size, key):
    array = noise(*shape)
    cases = open_cases(saved(tmp_path, image=array, **{key: axes}))
    stored = cases.columns["image"].stack([1])[0].numpy()
    expected = np.moveaxis(array[1], axes.index("C") - 1, 0) if "C" in axes else array[1][None]
    np.testing.assert_array_equal(stored, expected)
    assert (cases.facts().channels["image"], cases.facts().size["image"]) == (channels, size)


def test_the_axes_hold_for_all_arrays_of_as_many_and_those_of_one_name_for_it_alone(tmp_path):
    path = saved(
        tmp_path, t1=noise(3, 2, 12, 12), t2=noise(3, 12, 12, 2), mask=np.ones((3, 12, 12), np.uint8),
        axes="NCHW", t2_axes="NHWC",
    )  # fmt: skip
    columns = open_cases(path).columns
    assert columns["t1"].stack([0]).shape == columns["t2"].stack([0]).shape == (1, 2, 12, 12)
    assert columns["mask"].stack([0]).shape == (1, 1, 12, 12)


@pytest.mark.parametrize(
    ("axes", "why"), [("CHWN", "none of NHW NDHW NCHW"), ("NCDHW", "no such array")]
)
def test_axes_that_say_nothing_are_refused(tmp_path, axes, why):
    said = refused(saved(tmp_path, image=noise(3, 4, 12, 12), axes=axes))
    assert why in said and axes in said


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((5, 8, 9, 3), "NHWC"), ((5, 3, 8, 9), "NCHW"), ((2, 6, 7, 8, 3), "NDHWC")],
)
def test_three_channels_are_taken_with_a_notice(tmp_path, shape, axes):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.int16)
    cases = open_cases(saved(tmp_path, image=array))
    assert cases.facts().channels["image"] == 3
    assert any(axes in notice and "taken as channels" in notice for notice in cases.notices)
    again = open_cases(saved(tmp_path, image=array, axes=axes))
    assert not any("taken as channels" in notice for notice in again.notices)


def test_colour_pictures_as_every_library_stores_them_need_no_notice(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3)).astype(np.uint8)
    cases = open_cases(saved(tmp_path, image=array, patient=np.arange(5)))
    assert cases.facts().channels["image"] == 3 and not cases.notices


@pytest.mark.parametrize("shape", [(5, 24, 24, 20), (5, 6, 8, 9), (5, 12, 12, 8)])
def test_axes_of_like_length_are_a_volume(tmp_path, shape):
    facts = open_cases(saved(tmp_path, image=noise(*shape))).facts()
    assert (facts.channels["image"], facts.size["image"]) == (1, shape[1:])


def test_a_lone_array_cannot_say_its_axes_and_is_told_where_it_can(tmp_path):
    np.save(tmp_path / "a.npy", noise(3, 4, 12, 12))
    assert "np.savez" in refused(tmp_path / "a.npy")


def test_the_colours_of_medmnist_are_known_and_need_no_notice(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3)).astype(np.uint8)
    labels = np.arange(6)[:, None] % 2
    path = saved(tmp_path, train_images=images, train_labels=labels)
    cases = open_cases(path)
    assert cases.facts().channels == {"image": 3} and not cases.notices


# --- labels per voxel -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "why"),
    [(-1, "label -1"), (np.nan, "1 NaN"), (np.inf, "1 NaN or infinite"), (0.4, "fractions")],
)
def test_what_is_no_label_is_found_at_opening(tmp_path, value, why):
    mask = np.zeros((3, 6, 6), np.float32)
    mask[1, 2, 3] = value
    said = refused(saved(tmp_path, image=noise(3, 6, 6), mask=mask))
    assert why in said and "a.npz: mask" in said


def test_a_channel_for_each_label_is_no_mask_of_slices(tmp_path):
    mask = np.eye(4, dtype=np.uint8)[np.random.default_rng(0).integers(0, 4, (3, 12, 12))]
    path = saved(tmp_path, image=noise(3, 12, 12), mask=mask, mask_axes="NHWC")
    assert "argmax" in refused(path)
    assert "axes='NHWC'" in refused(saved(tmp_path, image=noise(3, 12, 12), mask=mask))


def test_labels_that_miss_whole_numbers_by_a_hair_are_rounded_and_said(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (3, 6, 6))
    path = saved(tmp_path, image=noise(3, 6, 6), mask=(labels * 0.9999).astype(np.float32))
    cases = open_cases(path)
    np.testing.assert_array_equal(cases.columns["mask"].stack([0, 1, 2])[:, 0].numpy(), labels)
    assert any("rounded" in notice for notice in cases.notices)


FRACTIONS = np.random.default_rng(0).random((3, 6, 6)).astype(np.float32)
CHANNELS = np.zeros((3, 6, 6, 3), np.uint8)
NO_LABELS = [
    (FRACTIONS, "found fractions"), (FRACTIONS * np.nan, "NaN"), (-np.ones((3, 6, 6), np.int16), "holds label -1"),
    (CHANNELS, "argmax"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "why"), NO_LABELS)
def test_an_array_that_map_calls_a_mask_is_looked_at_as_one(tmp_path, values, why):
    said = {"gt_axes": "NHWC"} if values.ndim == 4 else {}
    path = saved(tmp_path, image=noise(3, 6, 6), gt=values, **said)
    with pytest.raises(UserError, match=why):
        open_cases(path, mapping={"image": "image", "mask": "gt"})


def test_an_array_that_map_calls_a_mask_is_rounded_where_a_hair_is_missing(tmp_path):
    labels = np.random.default_rng(0).integers(0, 4, (3, 6, 6))
    path = saved(tmp_path, image=noise(3, 6, 6), gt=(labels * 0.9999).astype(np.float32))
    cases = open_cases(path, mapping={"image": "image", "mask": "gt"})
    np.testing.assert_array_equal(cases.batch([0, 1, 2])["mask"][:, 0].numpy(), labels)
    assert any("rounded" in notice for notice in cases.notices)


# --- sizes before anything is unpacked ------------------------------------------------------------


def declaring(shape, data):
    """A NumPy file whose header declares `shape`."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + data


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((10**9, 10**6), r"4000000000000000 bytes of voxels, and holds \d+: is damaged"),
        ((4, 8, 20), r"2560 bytes of voxels, and holds \d+: is damaged"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_that_declares_more_than_there_is_is_refused_unread(tmp_path, shape, why, packed):
    content = declaring(shape, bytes(4 * 4 * 8 * 8))
    path = tmp_path / ("a.npz" if packed else "a.npy")
    if packed:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("image.npy", content)
    else:
        path.write_bytes(content)
    assert re.search(why, refused(path))


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused_unread(tmp_path, monkeypatch):
    """Each of its arrays alone would fit."""
    arrays = {f"t{k}": np.zeros((4, 64, 64), np.float32) for k in range(3)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    monkeypatch.setattr("radiffuse.data.formats.stored.MOST_BYTES", 2 * arrays["t0"].nbytes)
    monkeypatch.setattr(np, "load", lambda *_, **__: 1 / 0)
    assert "GiB of memory" in refused(tmp_path / "a.npz")


def test_zeros_pack_well_and_are_read(tmp_path):
    images = np.zeros((4, 256, 256), np.float32)
    images[:, 1, 1] = np.arange(1, 5)
    images[:, 2:4] = 1
    np.savez_compressed(tmp_path / "a.npz", image=images)
    assert len(open_cases(tmp_path / "a.npz")) == 4


def test_words_and_bytes_describe_cases_as_text_does(tmp_path):
    image = noise(6, 5, 5)
    words = np.array([b"a", b"a", b"b", b"b", b"c", b"c"])
    split = np.array([b"train"] * 4 + [b"test"] * 2)
    kinds = np.array(["ill", "well"] * 3)
    cases = open_cases(saved(tmp_path, image=image, Patient=words, split=split, label=kinds))
    assert cases.patients == ("a", "a", "b", "b", "c", "c")
    assert cases.split_of == ("train",) * 4 + ("test",) * 2
    assert cases.class_names == ("ill", "well")
    assert cases.batch([0, 1])["label"].tolist() == [0, 1]


def test_patients_that_are_not_there_are_asked_for(tmp_path):
    patient = np.array([1.0, 2, np.nan])
    with pytest.raises(UserError, match="names no patient"):
        open_cases(saved(tmp_path, image=noise(3, 5, 5), patient=patient))
