"""Data sets of MONAI and TorchIO: labels per voxel, affines and crops, by stand-ins and by the real libraries."""

import warnings

import nibabel
import numpy as np
import pytest
import torch

from radiffuse.data.dataset import from_iterable
from radiffuse.errors import UserError

OBLIQUE = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
SIZE = (6, 5, 4)


class Meta(torch.Tensor):
    """Stands for a MONAI MetaTensor: a tensor with `.affine` and `.meta`."""

    @staticmethod
    def of(data, affine=OBLIQUE, **meta):
        made = torch.as_tensor(data).as_subclass(Meta)
        made.affine, made.meta = torch.as_tensor(affine), meta
        return made


class Carrier(dict):
    """Stands for a TorchIO image: a dict with `.data` (C, I, J, K), `.affine` and `.type`."""

    def __init__(self, data, type_="intensity"):
        super().__init__(path="somewhere.nii")
        self.data, self.affine, self.type = torch.as_tensor(data), OBLIQUE, type_


def volumes(count=4, size=SIZE):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, 1, *size)).astype(np.float32)
    return images, rng.integers(0, 3, (count, 1, *size)).astype(np.float32)


def refused(items):
    with pytest.raises(UserError) as caught:
        from_iterable(items)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- MONAI ----------------------------------------------------------------------------------------


def test_a_label_per_voxel_is_the_mask_and_said():
    images, labels = volumes()
    cases = from_iterable(
        {"image": Meta.of(image), "label": Meta.of(label)}
        for image, label in zip(images, labels, strict=True)
    )
    batch = cases.batch(range(4))
    np.testing.assert_array_equal(batch["mask"].numpy(), labels)
    assert not batch["mask"].is_floating_point() and "label" not in batch
    assert any("label holds labels per voxel" in notice for notice in cases.notices)
    np.testing.assert_array_equal(cases.image(1, "mask").affine, OBLIQUE)
    np.testing.assert_array_equal(cases.image(1, "image").affine, OBLIQUE)


def test_columns_of_an_iterable_take_roles():
    images, labels = volumes()
    cases = from_iterable(
        [
            {"t1": image, "t2": -image, "label": label}
            for image, label in zip(images, labels, strict=True)
        ],
        mapping={"source": "t1", "target": "t2", "mask": "mask"},
    )
    assert set(cases.batch([0])) == {"source", "target", "mask"}


def test_fractions_of_an_iterable_are_no_mask_whatever_they_were_called():
    draw = np.random.default_rng(0)
    items = [{"image": draw.random((1, 8, 8)), "gt": draw.random((1, 8, 8))} for _ in range(3)]
    with pytest.raises(UserError, match="found fractions"):
        from_iterable(items, mapping={"image": "image", "mask": "gt"})


def test_kspace_as_numpy_makes_it_has_the_precision_of_files():
    kspace = np.fft.fft2(np.random.default_rng(0).random((2, 8, 8)))
    assert kspace.dtype == np.complex128
    found = from_iterable([{"kspace": kspace}]).batch([0])["kspace"]
    assert found.dtype == torch.complex64
    np.testing.assert_allclose(found[0].numpy(), kspace, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("label", [1, np.int64(1), torch.tensor(1), torch.tensor([1])])
def test_a_label_of_a_case_stays_its_class(label):
    images, _ = volumes()
    cases = from_iterable({"image": image, "label": label} for image in images)
    assert cases.batch([0, 1])["label"].tolist() == [1, 1]


def test_several_labels_of_a_case_are_refused():
    images, _ = volumes()
    said = refused([{"image": image, "label": torch.eye(4)[1]} for image in images])
    assert "one label per case" in said and "(4,)" in said


def test_an_affine_in_lps_is_turned():
    images, _ = volumes()
    cases = from_iterable({"image": Meta.of(image, space="LPS")} for image in images)
    expected = np.diag([-1.0, -1, 1, 1]) @ OBLIQUE
    np.testing.assert_array_equal(cases.image(0, "image").affine, expected)


def test_a_picture_may_carry_an_affine_of_two_axes():
    pictures, _ = volumes(size=(6, 5))
    flat = np.array([[2.0, 0, 7], [0, 3, 8], [0, 0, 1]])
    cases = from_iterable({"image": Meta.of(picture, flat)} for picture in pictures)
    assert cases.image(0, "image").spacing_mm == (2, 3)
    assert cases.image(0, "image").affine[:2, 3].tolist() == [7, 8]


@pytest.mark.parametrize(
    ("affine", "why"),
    [
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([1.0, 0, 1, 1]), "plane"),
        (np.eye(2), "4 x 4"),
    ],
)
def test_an_affine_that_is_none_is_refused(affine, why):
    images, _ = volumes()
    assert why in refused([{"image": Meta.of(image, affine)} for image in images])


def test_an_affine_that_only_some_carry_is_said():
    images, _ = volumes()
    items = [{"image": image} for image in images[1:]]
    cases = from_iterable([{"image": Meta.of(images[0])}, *items])
    assert any("1 of 4 cases have an affine" in notice for notice in cases.notices)


def test_crops_of_one_image_stay_one_patient():
    """RandCropByPosNegLabeld and its like give a list of dicts for each image."""
    images, labels = volumes(count=12)
    cases = from_iterable(
        [
            {"image": image[..., start : start + 2], "label": label[..., start : start + 2]}
            for start in (0, 2)
        ]
        for image, label in zip(images, labels, strict=True)
    )
    assert len(cases) == 24 and len(set(cases.patients)) == 12
    assert all(cases.split_of[k] == cases.split_of[k + 1] for k in range(0, 24, 2))


def test_what_is_no_tensor_is_left_out_and_said():
    images, _ = volumes()
    cases = from_iterable(
        {"image": image, "image_meta_dict": {"pixdim": 1}, "image_transforms": [{"class": "Flip"}]}
        for image in images
    )
    assert set(cases.columns) == {"image"}
    for key in ("image_meta_dict", "image_transforms"):
        assert any(f"{key} (" in notice and "left out" in notice for notice in cases.notices)


@pytest.mark.parametrize("shape", [(24, 24), (24, 24, 24), (24, 20, 20, 4), (24, 24, 3)])
def test_images_without_a_channel_axis_in_front_are_refused(shape):
    rng = np.random.default_rng(0)
    said = refused([{"image": rng.normal(size=shape)} for _ in range(3)])
    assert "no channel axis" in said and str(shape) in said


@pytest.mark.parametrize("shape", [(4, 24, 24), (3, 8, 9, 10), (20, 24, 24), (1, 4, 4, 4)])
def test_channels_in_front_are_kept(shape):
    rng = np.random.default_rng(0)
    facts = from_iterable({"image": rng.normal(size=shape)} for _ in range(3)).facts()
    assert (facts.channels["image"], facts.size["image"]) == (shape[0], shape[1:])


def test_a_mask_without_a_channel_axis_gets_one_where_images_tell():
    images, labels = volumes()
    items = [{"image": i, "mask": m[0]} for i, m in zip(images, labels, strict=True)]
    np.testing.assert_array_equal(from_iterable(items).batch(range(4))["mask"].numpy(), labels)


@pytest.mark.parametrize(("value", "why"), [(-1, "label -1"), (np.nan, "NaN"), (0.5, "fractions")])
def test_what_is_no_label_is_found(value, why):
    images, labels = volumes()
    labels[2, 0, 1, 1, 1] = value
    said = refused([{"image": i, "mask": m} for i, m in zip(images, labels, strict=True)])
    assert why in said


def test_items_that_are_no_dicts_are_refused():
    assert "item 0 is tuple" in refused([(torch.zeros(1, 4, 4), 1)])


# --- TorchIO --------------------------------------------------------------------------------------


def test_images_and_label_maps_of_torchio():
    images, labels = volumes()
    cases = from_iterable(
        {"mri": Carrier(image), "tumour": Carrier(label, "label"), "age": 40.0}
        for image, label in zip(images, labels, strict=True)
    )
    batch = cases.batch(range(4))
    assert set(batch) == {"image", "tumour_mask", "age"}
    np.testing.assert_array_equal(batch["tumour_mask"].numpy(), labels)
    np.testing.assert_array_equal(cases.image(0, "image").affine, OBLIQUE)


def test_a_picture_of_torchio_is_no_volume_of_one_slice():
    images, _ = volumes(size=(6, 5, 1))
    assert from_iterable({"image": Carrier(image)} for image in images).facts().size["image"] == (
        6,
        5,
    )


# --- the real libraries ---------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    images, labels = volumes()
    for k in range(4):
        for name, array in (("image", images[k, 0]), ("label", labels[k, 0].astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(array, OBLIQUE), tmp_path / f"{name}{k}.nii.gz")
    return [{name: tmp_path / f"{name}{k}.nii.gz" for name in ("image", "label")} for k in range(4)]


def check(cases):
    images, labels = volumes()
    for row in range(4):
        np.testing.assert_array_equal(cases.image(row, "image").data.numpy(), images[row])
        np.testing.assert_allclose(cases.image(row, "image").affine, OBLIQUE)
    np.testing.assert_array_equal(cases.batch(range(4))["mask"].numpy(), labels)


def test_a_dictionary_data_set_of_monai(files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai")
        from monai.data import Dataset
        from monai.transforms import Compose, CropForegroundd, EnsureChannelFirstd, LoadImaged

        keys = ["image", "label"]
        whole = CropForegroundd(keys, source_key="image", select_fn=lambda x: x > -100)
        steps = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), whole])
        check(from_iterable(Dataset(files, steps)))


def test_a_subjects_data_set_of_torchio(files):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchio = pytest.importorskip("torchio")
        subjects = [
            torchio.Subject(
                image=torchio.ScalarImage(file["image"]), label=torchio.LabelMap(file["label"])
            )
            for file in files
        ]
        check(from_iterable(torchio.SubjectsDataset(subjects)))


@pytest.mark.parametrize("number", [int, torch.tensor, np.int64, str])
@pytest.mark.parametrize("key", ["patient", "Patient", "subject_id", "PatientID"])
def test_patients_are_known_by_any_of_their_names(key, number):
    items = [{"image": torch.rand(1, 6, 6), key: number(k // 3)} for k in range(12)]
    assert from_iterable(items).patients == tuple(str(k // 3) for k in range(12))


def test_crops_of_two_images_of_one_subject_are_of_one_person():
    def crop(k):
        return {"image": torch.rand(1, 6, 6), "subject_id": f"s{k // 2}"}

    cases = from_iterable([[crop(k), crop(k)] for k in range(6)])
    assert len(cases) == 12 and len(set(cases.patients)) == 3


def test_a_case_that_names_nobody_among_others_that_do_is_asked_for():
    items = [{"image": torch.rand(1, 6, 6), "patient": k and str(k)} for k in range(4)]
    items[0]["patient"] = ""
    with pytest.raises(UserError, match="case 0000 names no patient"):
        from_iterable(items)
