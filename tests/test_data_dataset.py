"""Opening data: every layout gives the same kind of cases."""

import json
from pathlib import Path

import h5py
import nibabel
import numpy as np
import PIL.Image
import pytest
import torch

from radiffuse.data.dataset import check_labels, check_trainable, from_iterable, open_cases
from radiffuse.errors import UserError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def noise(*shape, top=256, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


@pytest.fixture
def file(tmp_path):
    """20 cases of 5 patients: two contrasts, a mask, a label, an age, a text."""
    path = tmp_path / "set.npz"
    np.savez(
        path,
        t1=noise(20, 6, 8),
        t2=noise(20, 6, 8, seed=1),
        mask=noise(20, 6, 8, top=4),
        label=np.arange(20) % 3,
        label_name=np.array(["no", "mild", "severe"])[np.arange(20) % 3],
        age=np.arange(20, dtype=np.float64) + 40,
        report=np.array(["text"] * 20),
        patient=np.array([f"P{i // 4}" for i in range(20)]),
        slice=np.arange(20) % 4,
        split=np.array(["train"] * 12 + ["val"] * 4 + ["test"] * 4),
    )
    return path


def test_an_array_file_gives_typed_batches(file):
    cases = open_cases(file)
    assert cases.keys == ("t1", "t2", "mask", "label", "age")
    assert cases.ids[5] == "P1_slice001"
    assert cases.texts["report"][0] == "text"
    batch = cases.batch([3, 0])
    stored = np.load(file)["t1"][[3, 0]]
    torch.testing.assert_close(
        batch["t1"], torch.from_numpy(stored)[:, None].float() / 127.5 - 1, atol=1e-6, rtol=0
    )
    assert batch["mask"].dtype == torch.int64 and batch["mask"].shape == (2, 1, 6, 8)
    assert batch["label"].tolist() == [0, 0] and batch["label"].dtype == torch.int64
    assert batch["age"].tolist() == [43.0, 40.0] and batch["age"].dtype == torch.float32
    assert not cases.notices


def test_facts_are_measured_on_training_images(file):
    facts = open_cases(file).facts()
    x = torch.from_numpy(np.load(file)["t1"][:12]).float() / 127.5 - 1
    assert facts.mean == pytest.approx(float(x.mean()), abs=1e-6)
    assert facts.std == pytest.approx(float(x.std(correction=0)), abs=1e-6)
    assert facts.diameter == pytest.approx(float(torch.pdist(x.flatten(1)).max()), rel=1e-5)
    assert facts.channels == {"t1": 1, "t2": 1}
    assert facts.size == {"t1": (6, 8), "t2": (6, 8)}
    assert (facts.classes, facts.class_names) == (3, ("no", "mild", "severe"))
    assert facts.mask_classes == {"mask": 4}
    assert facts.cases == 20


def test_splits_are_the_files_own(file):
    cases = open_cases(file)
    assert [len(cases.split(name)) for name in ("train", "val", "test")] == [12, 4, 4]
    assert cases.split("test").ids[0] == "P4_slice000"
    assert cases.held_out().split_of == ("test",) * 4
    test = cases.split("test")
    torch.testing.assert_close(test.batch([0])["t1"], cases.batch([16])["t1"])
    with pytest.raises(UserError, match="no split 'train'; it has test"):
        test.split("train")


def test_held_out_is_val_where_there_is_no_test(tmp_path):
    np.savez(tmp_path / "a.npz", image=noise(4, 3, 3), split=np.array(["train"] * 3 + ["val"]))
    assert open_cases(tmp_path / "a.npz").held_out().split_of == ("val",)


def test_mapping_gives_roles_and_keeps_the_label(file):
    cases = open_cases(file, mapping={"source": "t1", "target": "t2"})
    assert cases.keys == ("source", "target", "label")
    torch.testing.assert_close(cases.batch([1])["source"], open_cases(file).batch([1])["t1"])
    with pytest.raises(UserError, match=r"no column 't3' for 'source'; did you mean 't[12]'\?"):
        open_cases(file, mapping={"source": "t3"})
    assert open_cases(file, mapping={"label": "report"}).facts().class_names == ("text",)


def test_joined_columns_are_cases_of_their_own(file):
    apart = open_cases(file)
    cases = open_cases(file, mapping={"image": "t1+t2", "seg": "mask"})
    assert cases.keys == ("image", "seg", "label")
    assert [len(cases.split(name)) for name in ("train", "val", "test")] == [24, 8, 8]
    assert cases.split("test").patients == apart.split("test").patients * 2
    assert len(set(cases.ids)) == 40
    assert (cases.ids[0], cases.ids[20]) == (apart.ids[0] + "_t1", apart.ids[0] + "_t2")
    batch, known = cases.batch([21, 3, 2]), apart.batch([1, 3, 2])
    torch.testing.assert_close(batch["image"][0], known["t2"][0])
    torch.testing.assert_close(batch["image"][1:], known["t1"][1:])
    torch.testing.assert_close(batch["seg"], known["mask"])
    torch.testing.assert_close(batch["label"], known["label"])


def test_columns_that_do_not_join_are_named(file):
    with pytest.raises(UserError, match="no column 't3' to join for 'image'; it has t1, t2"):
        open_cases(file, mapping={"image": "t1+t3"})
    with pytest.raises(UserError, match=r"differ in kind: t1 \(image\), mask \(mask\)"):
        open_cases(file, mapping={"image": "t1+mask"})
    with pytest.raises(UserError, match="different numbers of columns: source 2, target 3"):
        open_cases(file, mapping={"source": "t1+t2", "target": "t1+t2+t1"})


def test_joined_columns_of_a_split_made_here_stay_with_their_patient(tmp_path):
    np.savez(tmp_path / "a.npz", a=noise(40, 3, 3), b=noise(40, 3, 3, seed=1))
    cases = open_cases(tmp_path / "a.npz", mapping={"image": "a+b"})
    for name in ("train", "val", "test"):
        ids = cases.split(name).ids
        assert {case.removesuffix("_a") for case in ids if case.endswith("_a")} == {
            case.removesuffix("_b") for case in ids if case.endswith("_b")
        }


def test_a_lone_image_column_is_called_image(tmp_path):
    np.savez(tmp_path / "a.npz", scan=noise(4, 3, 3))
    assert open_cases(tmp_path / "a.npz").keys == ("image",)


def test_resizing_images_and_labels(file):
    cases = open_cases(file, size=(3, 4))
    batch = cases.batch([0, 1])
    assert batch["t1"].shape == (2, 1, 3, 4)
    assert batch["mask"].shape == (2, 1, 3, 4) and batch["mask"].dtype == torch.int64
    stored = torch.from_numpy(np.load(file)["t1"][0]).float()
    mean = stored.reshape(3, 2, 4, 2).mean((1, 3))
    torch.testing.assert_close(batch["t1"][0, 0], mean / 127.5 - 1, atol=1e-6, rtol=0)


def test_the_fingerprint_is_of_contents(file, tmp_path):
    arrays = dict(np.load(file))
    np.savez_compressed(tmp_path / "same.npz", **arrays)
    assert open_cases(file).fingerprint == open_cases(tmp_path / "same.npz").fingerprint
    arrays["t2"][7, 0, 0] ^= 1
    np.savez(tmp_path / "other.npz", **arrays)
    assert open_cases(file).fingerprint != open_cases(tmp_path / "other.npz").fingerprint


def test_an_undeclared_range_is_derived_from_training_cases_said_and_reused(tmp_path):
    images = noise(50, 16, 16, top=1000, dtype=np.int16)
    images[40:] *= 7
    images[3, 0, :4] = 30000
    split = np.array(["train"] * 40 + ["test"] * 10)
    np.savez(tmp_path / "a.npz", image=images, split=split)
    cases = open_cases(tmp_path / "a.npz")
    low, high = np.quantile(images[:40], [0.001, 0.999])
    assert high < 1000
    assert cases.ranges["image"] == pytest.approx((low, high), abs=1)
    assert "--range LOW HIGH" in cases.notices[0]
    np.savez(tmp_path / "b.npz", image=images[40:], patient=np.arange(10))
    again = open_cases(tmp_path / "b.npz", range=cases.ranges)
    torch.testing.assert_close(again.batch([0])["image"], cases.batch([40])["image"])
    assert ["names another range" in line for line in again.notices] == [True], "brighter ones"
    assert open_cases(tmp_path / "a.npz", range=(-1000, 1000)).ranges["image"] == (-1000, 1000)
    with pytest.raises(UserError, match="LOW must be less"):
        open_cases(tmp_path / "a.npz", range=(5, 5))


def test_image_tells_the_range_that_batch_used(tmp_path):
    np.savez(tmp_path / "a.npz", image=noise(4, 3, 3, top=1000, dtype=np.int16))
    image = open_cases(tmp_path / "a.npz", range=(0, 2000)).image(1, "image")
    assert image.range == (0, 2000)
    assert image.data.dtype == torch.int16


def test_twelve_bits_in_a_16_bit_file_do_not_become_black(tmp_path):
    for number in range(4):
        array = noise(6, 6, top=4096, dtype=np.uint16, seed=number)
        PIL.Image.fromarray(array).save(tmp_path / f"{number}.png")
    cases = open_cases(tmp_path)
    assert cases.ranges["image"][1] == pytest.approx(4095, abs=60)
    assert "fills little of the 16 bits" in "\n".join(cases.notices)


@pytest.mark.parametrize(("top", "expected"), [(2, (0, 1)), (21, (0, 20)), (200, (0, 255))])
def test_eight_bits_that_are_hardly_filled_get_their_own_range(top, expected, tmp_path):
    np.savez(tmp_path / "a.npz", image=noise(12, 16, 16, top=top))
    cases = open_cases(tmp_path / "a.npz")
    assert cases.ranges["image"] == expected
    assert ("fills little of the 8 bits" in "\n".join(cases.notices)) == (top < 100)


def test_a_mask_that_others_call_a_label_is_found_by_that_name():
    dataset = [
        {
            "image": np.random.rand(1, 8, 8, 8).astype("f4"),
            "label": np.eye(8, dtype="u1")[None, None],
        }
        for _ in range(3)
    ]
    for item in dataset:
        item["label"] = np.broadcast_to(item["label"][0], (8, 8, 8))[None]
    cases = from_iterable(dataset, mapping={"image": "image", "mask": "label"})
    assert cases.columns["mask"].kind == "mask"


def test_voxels_beside_a_header_are_part_of_the_fingerprint(tmp_path):
    import SimpleITK

    prints = []
    for shift in (0, 1):
        image = SimpleITK.GetImageFromArray(noise(6, 6, 6) // 2 + shift)
        SimpleITK.WriteImage(image, str(tmp_path / "a.mhd"))
        prints.append(open_cases(tmp_path / "a.mhd").fingerprint)
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("array", "channels", "size"),
    [
        (noise(5, 8, 9, 3), 3, (8, 9)),
        (noise(5, 8, 9, 1), 1, (8, 9)),
        (noise(5, 3, 8, 9), 3, (8, 9)),
        (noise(5, 6, 8, 9), 1, (6, 8, 9)),
        (noise(5, 1, 6, 8, 9), 1, (6, 8, 9)),
    ],
)
def test_where_channels_stand_in_an_array(tmp_path, array, channels, size):
    np.savez(tmp_path / "a.npz", image=array)
    facts = open_cases(tmp_path / "a.npz").facts()
    assert (facts.channels["image"], facts.size["image"]) == (channels, size)


def test_coordinates_pass_unscaled_with_their_gaps(tmp_path):
    coords = np.random.default_rng(0).normal(size=(3, 5, 4, 3)).astype(np.float32) * 100
    coords[0, 3:] = np.nan
    np.savez(tmp_path / "a.npz", coords=coords, length=np.array([3, 5, 5]))
    batch = open_cases(tmp_path / "a.npz").batch([0, 1, 2])
    np.testing.assert_array_equal(batch["coords"].numpy(), coords)
    assert batch["length"].tolist() == [3, 5, 5]


def test_medmnist(tmp_path):
    arrays = {}
    for part, count in (("train", 6), ("val", 2), ("test", 3)):
        arrays[f"{part}_images"] = noise(count, 4, 4, 3, seed=count)
        arrays[f"{part}_labels"] = np.arange(count)[:, None] % 2
    np.savez(tmp_path / "bloodmnist.npz", **arrays)
    cases = open_cases(tmp_path / "bloodmnist.npz")
    assert [cases.split_of.count(part) for part in ("train", "val", "test")] == [6, 2, 3]
    assert cases.batch([7])["label"].tolist() == [1]
    assert cases.facts().channels == {"image": 3}


def picture(path, *shape, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(noise(*shape, seed=seed)).save(path)
    return path


def test_cases_csv(tmp_path):
    rows = ["case,patient,split,image,vessel,label,age,sex"]
    for number in range(6):
        picture(tmp_path / "images" / f"{number}.png", 5, 7, 3, seed=number)
        mask = np.zeros((5, 7), np.uint8)
        mask[number % 5] = 255
        PIL.Image.fromarray(mask).save(tmp_path / f"v{number}.png")
        age = "unknown" if number == 2 else str(50 + number)
        split = "training" if number < 4 else "validation"
        label = "benign" if number % 2 else "malignant"
        rows.append(
            f"c{number},p{number},{split},images/{number}.png,v{number}.png,{label},{age},f"
        )
    (tmp_path / "cases.csv").write_text("\n".join(rows) + "\n")
    cases = open_cases(tmp_path)
    assert cases.keys == ("image", "vessel", "label", "age")
    batch = cases.batch([1, 2])
    assert batch["image"].shape == (2, 3, 5, 7)
    assert batch["vessel"].unique().tolist() == [0, 1]
    assert batch["label"].tolist() == [0, 1]
    assert batch["age"][0] == 51 and batch["age"][1].isnan()
    assert cases.facts().class_names == ("benign", "malignant")
    assert cases.texts["sex"] == ("f",) * 6
    assert set(cases.split_of) == {"train", "val"}


def test_a_folder_of_classes(tmp_path):
    for number in range(6):
        picture(tmp_path / ("cat" if number < 3 else "dog") / f"{number}.png", 5, 7, seed=number)
    cases = open_cases(tmp_path)
    assert cases.facts().class_names == ("cat", "dog")
    assert cases.batch(range(6))["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert {"train", "test"} <= set(cases.split_of)


def test_sub_folders_named_like_splits_are_splits(tmp_path):
    for number, part in enumerate(["train", "train", "test"]):
        picture(tmp_path / part / f"{number}.png", 5, 7, seed=number)
    cases = open_cases(tmp_path)
    assert cases.split_of == ("test", "train", "train")
    assert cases.keys == ("image",)


def test_files_that_begin_alike_are_of_one_patient_and_stay_together(tmp_path):
    names = [f"p{person:02d}_{word}{k}" for person in range(12) for k, word in enumerate(
        ("slice00", "Z-", "", "frame_"))]  # fmt: skip
    for seed, name in enumerate(names):
        picture(tmp_path / f"{name}.png", 5, 7, seed=seed)
    cases = open_cases(tmp_path)
    assert cases.patients == tuple(name[:3] for name in sorted(names))
    assert len(set(zip(cases.patients, cases.split_of, strict=True))) == 12
    (notice,) = cases.notices
    assert "files that begin alike count as one (12 patients, 4 files of p00)" in notice


@pytest.mark.parametrize(
    "names",
    [
        ["img_001", "img_002", "img_003"],
        ["normal_1", "normal_2", "covid_1", "covid_2"],
        ["p01_slice1", "p01_slice2"],
        ["anna", "ben"],
    ],
)
def test_where_names_tell_no_patients_each_file_is_one_and_a_notice_says_so(tmp_path, names):
    for seed, name in enumerate(names):
        picture(tmp_path / f"{name}.png", 5, 7, seed=seed)
    cases = open_cases(tmp_path)
    assert cases.patients == cases.ids
    (notice,) = cases.notices
    assert "no patient is known; each file counts as one" in notice
    assert "name patients in a cases.csv" in notice


def test_a_guess_at_patients_does_not_overrule_splits_that_are_given(tmp_path):
    for seed, name in enumerate(["train/p1_1", "train/p2_1", "test/p1_2"]):
        picture(tmp_path / f"{name}.png", 5, 7, seed=seed)
    cases = open_cases(tmp_path)
    assert cases.patients == cases.ids and cases.split_of == ("test", "train", "train")


def test_volumes_in_a_folder_and_one_alone(tmp_path):
    for number in range(3):
        data = noise(4, 5, 6, dtype=np.int16, seed=number)
        nibabel.save(
            nibabel.Nifti1Image(data, np.diag([1, 2, 3, 1.0])), tmp_path / f"{number}.nii.gz"
        )
    cases = open_cases(tmp_path, range=(0, 255))
    assert cases.batch([0, 1])["image"].shape == (2, 1, 4, 5, 6)
    assert cases.image(0, "image").spacing_mm == (1, 2, 3)
    one = open_cases(tmp_path / "1.nii.gz", range=(0, 255))
    assert one.ids == ("1",)
    torch.testing.assert_close(one.batch([0])["image"], cases.batch([1])["image"])
    small = open_cases(tmp_path, range=(0, 255), size=(2, 5, 3)).image(0, "image")
    assert small.spacing_mm == (2, 2, 6)


def test_decathlon(tmp_path):
    for number in range(5):
        data = noise(4, 4, 4, seed=number)
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), tmp_path / f"i{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(data // 128, np.eye(4)), tmp_path / f"l{number}.nii.gz")
    content = {
        "training": [{"image": f"./i{n}.nii.gz", "label": f"./l{n}.nii.gz"} for n in range(4)],
        "test": ["./i4.nii.gz"],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    cases = open_cases(tmp_path)
    assert cases.keys == ("image", "mask")
    assert cases.ids == ("i0", "i1", "i2", "i3")
    assert "without a mask" in cases.notices[0]
    assert cases.batch([0])["mask"].unique().tolist() == [0, 1]
    content["validation"] = [content["training"].pop()]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert open_cases(tmp_path / "dataset.json").split_of == ("train", "train", "train", "val")


def test_fastmri(tmp_path):
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=(2, 3, 8, 6)) + 1j * rng.normal(size=(2, 3, 8, 6))).astype("c8")
    with h5py.File(tmp_path / "scan.h5", "w") as stream:
        stream["kspace"] = kspace
        stream["reconstruction_rss"] = rng.random((2, 8, 6)).astype("f4")
    cases = open_cases(tmp_path / "scan.h5")
    np.testing.assert_array_equal(cases.batch([1, 0])["kspace"].numpy(), kspace[::-1])
    assert cases.batch([0])["image"].shape == (1, 1, 8, 6)
    assert cases.patients == ("scan", "scan")


def scan_of(path, **arrays):
    """The same arrays as .npz and as .h5, opened."""
    np.savez(path.with_suffix(".npz"), **arrays)
    with h5py.File(path.with_suffix(".h5"), "w") as stream:
        for name, array in arrays.items():
            stream[name] = array
    return open_cases(path.with_suffix(".npz")), open_cases(path.with_suffix(".h5"))


@pytest.mark.parametrize(
    ("shape", "mask"),
    [
        ((2, 3, 8, 6), (6,)), ((2, 3, 8, 6), (8, 6)), ((2, 3, 8, 6), (2, 8, 6)), ((2, 8, 6), (6,)),
        ((2, 3, 8, 6), None), ((2, 8, 6), None),
    ],
)  # fmt: skip
def test_kspace_of_an_npz_is_that_of_an_h5_with_its_sampling_mask(tmp_path, shape, mask):
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype("c8")
    beside = {} if mask is None else {"mask": rng.integers(0, 2, mask).astype("f4")}
    npz, h5 = scan_of(tmp_path / "scan", kspace=kspace, **beside)
    np.testing.assert_array_equal(npz.batch([0, 1])["kspace"], h5.batch([0, 1])["kspace"])
    assert npz.keys == ("kspace",)
    assert npz.batch([0])["kspace"].shape == (1, 1 if len(shape) == 3 else 3, 8, 6)
    told = any("mask is taken as what was sampled of kspace" in line for line in npz.notices)
    assert told == bool(beside)


def test_kspace_of_pairs_and_with_coils_last_is_read_from_an_npz(tmp_path):
    rng = np.random.default_rng(0)
    kspace = (rng.normal(size=(2, 3, 8, 6)) + 1j * rng.normal(size=(2, 3, 8, 6))).astype("c8")
    np.savez(tmp_path / "a.npz", kspace=np.stack([kspace.real, kspace.imag], -1))
    np.testing.assert_array_equal(open_cases(tmp_path / "a.npz").batch([0, 1])["kspace"], kspace)
    np.savez(tmp_path / "b.npz", kspace=np.moveaxis(kspace, 1, -1), kspace_axes="NHWC")
    np.testing.assert_array_equal(open_cases(tmp_path / "b.npz").batch([0, 1])["kspace"], kspace)
    np.savez(tmp_path / "c.npz", kspace=np.abs(kspace))
    with pytest.raises(UserError, match="expected complex numbers"):
        open_cases(tmp_path / "c.npz").batch([0])


def test_protein_backbones(tmp_path):
    line = "ATOM  {:5d}  {:<3s} ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           C\n"
    for length in (2, 3):
        text = "".join(
            line.format(4 * r + a, atom, r, r + 0.5, a, -r)
            for r in range(length)
            for a, atom in enumerate(("N", "CA", "C", "O"))
        )
        (tmp_path / f"p{length}.pdb").write_text(text)
    batch = open_cases(tmp_path).batch([0, 1])
    assert batch["coords"].shape == (2, 3, 4, 3)
    assert batch["coords"][1, 2, 1].tolist() == [2.5, 1, -2]
    assert batch["coords"][0, 2].isnan().all()
    assert batch["length"].tolist() == [2, 3]


class Carrier:
    """Stands for a TorchIO image: `.data` and `.affine`."""

    def __init__(self, data, affine):
        self.data, self.affine = data, affine


def test_any_iterable_of_dicts():
    affine = np.diag([2.0, 2, 2, 1])
    items = (
        {
            "image": Carrier(torch.rand(1, 3, 4, 5), affine),
            "label": n % 2,
            "age": 30.5,
            "case": f"c{n}",
        }
        for n in range(4)
    )
    cases = from_iterable(items, range=(0, 1))
    batch = cases.batch([0, 3])
    assert batch["image"].shape == (2, 1, 3, 4, 5)
    assert batch["label"].tolist() == [0, 1]
    assert batch["age"].tolist() == [30.5, 30.5]
    assert cases.image(0, "image").spacing_mm == (2, 2, 2)
    with pytest.raises(UserError, match="gives no case"):
        from_iterable([])
    with pytest.raises(UserError, match="differs from the first in its keys: b"):
        from_iterable([{"a": 1}, {"a": 1, "b": 2}])
    with pytest.raises(UserError, match="shape"):
        from_iterable([{"a": torch.zeros(1, 2, 2)}, {"a": torch.zeros(1, 3, 2)}])


def test_training_needs_two_cases_but_prediction_one(tmp_path):
    np.savez(tmp_path / "a.npz", image=noise(1, 4, 4))
    cases = open_cases(tmp_path / "a.npz")
    assert cases.batch([0])["image"].shape == (1, 1, 4, 4)
    with pytest.raises(UserError, match="one training case"):
        check_trainable(cases)
    np.savez(tmp_path / "b.npz", image=noise(3, 4, 4), split=np.array(["test"] * 3))
    with pytest.raises(UserError, match="no training cases, only test"):
        check_trainable(open_cases(tmp_path / "b.npz"))


def test_labels_a_model_does_not_know(file):
    cases = open_cases(file)
    check_labels(cases, 3)
    with pytest.raises(UserError, match="P0_slice002 has label 2, but the model knows the 2"):
        check_labels(cases, 2)


# --- the development machines' data ---------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count", "keys"),
    [
        ("mednist64.npz", 5992, ("image", "label")),
        ("lgg128.npz", 609, ("t1", "flair", "t1gd", "mask")),
        ("wbc2_128.npz", 100, ("image", "mask", "label")),
        ("cath500.npz", 500, ("coords", "length")),
        ("acdc128.npz", 758, ("ed", "es", "ed_mask", "es_mask")),
        ("wbc1_128.npz", 300, ("image", "mask", "label")),
        ("cath_pdb", 100, ("coords", "length", "residues")),
        ("kspace_brain_8ch_R8.h5", 1, ("image", "kspace")),
        ("chase_db1", 10, ("image", "vessel")),
        ("duke_sdoct", 12, ("noisy", "averaged")),
        ("brats3d", 1, ("t1", "t1ce", "t2", "flair", "mask")),
        ("spm_templates", 8, ("image",)),
        ("registration/brain3d_t1.nii.gz", 1, ("image",)),
        ("registration/CT_2D_head_fixed.mha", 1, ("image",)),
        ("kspace_head_8ch.h5", 1, ("image", "kspace")),
    ],
)
def test_real_data_load(name, count, keys):
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is not on this machine")
    cases = open_cases(DATA / name)
    assert (len(cases), cases.keys) == (count, keys)
    batch = cases.batch([0])
    for key in cases.image_keys:
        assert -1 <= batch[key].min() < batch[key].max() <= 1
