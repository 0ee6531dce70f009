"""A method of pictures on volumes: cut along a plane of the patient, put together as the input lies.

Where voxels belong is judged by nibabel and SimpleITK.
"""

import json
import tomllib
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from radiffuse import cli, papers
from radiffuse.applications.denoising.oct_ddpm import OCT
from radiffuse.applications.denoising.pet_ddpm import PET
from radiffuse.applications.fields import recorded
from radiffuse.commands.pictures import write_output
from radiffuse.commands.slicewise import slicewise
from radiffuse.commands.source import check_axes
from radiffuse.data.columns import FileColumn
from radiffuse.data.dataset import from_iterable, open_cases
from radiffuse.data.neighbours import with_neighbours
from radiffuse.data.transforms import to_unit
from radiffuse.errors import UserError
from radiffuse.runs.config import DataSource
from test_data_dicom import series
from test_data_geometry import CODES, oblique, stored

SIZE = (5, 6, 7)
TINY = ("--preset", "tiny", "--train.steps", "1", "--train.batch", "2")

AS_SEEN = {
    "axial": lambda ras, k: ras[::-1, ::-1, k].T,  # rows to the back, columns to the left
    "coronal": lambda ras, k: ras[::-1, k, ::-1].T,  # rows to the feet, columns to the left
    "sagittal": lambda ras, k: ras[k, ::-1, ::-1].T,  # rows to the feet, columns to the back
}
"""Slice k of a volume in RAS as a radiologist sees it."""
AXES = {"sagittal": 0, "coronal": 1, "axial": 2}


def scene(seed=0, size=SIZE, codes="RAS", turn=0.2):
    """A volume, and the mask of its bright voxels, as nibabel images in one axis order."""
    data = np.random.default_rng(seed).integers(1, 255, size, dtype=np.uint8)
    affine = oblique(turn=turn)
    return stored(data, affine, codes), stored((data > 100).astype(np.uint8), affine, codes)


def volumes(folder, images, names=None):
    """A folder of NIfTI volumes, a person each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        nibabel.save(image, folder / f"{names[number] if names else f'scan{number}'}.nii.gz")
    return folder


def table(folder, pairs, header="case,patient,split,image,mask"):
    """cases.csv of (image, mask) pairs; the last case is held out."""
    volumes(folder, [image for image, _ in pairs], [f"i{n}" for n in range(len(pairs))])
    volumes(folder, [mask for _, mask in pairs], [f"m{n}" for n in range(len(pairs))])
    rows = [
        f"c{n},p{n},{'test' if n == len(pairs) - 1 else 'train'},i{n}.nii.gz,m{n}.nii.gz"
        for n in range(len(pairs))
    ]
    (folder / "cases.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def command(*words):
    assert cli.main([str(word) for word in words]) == 0


def ras(image):
    return np.asarray(nibabel.as_closest_canonical(image).dataobj)


@pytest.fixture
def identity(monkeypatch):
    """The stand-in of a denoiser that gives back what it is given; what it was given."""
    seen = []

    def predict(self, objective, batch):
        assert batch["clean"].dim() == 4 and len(batch["seed"]) == len(batch["clean"])
        seen.append(batch)
        return {"denoised": batch["clean"]}

    monkeypatch.setattr(OCT, "predict", predict)
    monkeypatch.setattr("radiffuse.commands.predict.check_prediction", lambda *words: "")
    return seen


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A denoiser of axial slices of three volumes, two steps old."""
    root = tmp_path_factory.mktemp("axial")
    data = volumes(root / "data", [scene(seed, (16, 16, 4))[0] for seed in range(3)])
    command("train", "oct-ddpm", "--data", data, "--map", "clean=image", "--slices", "axial",
            *TINY, "--window", 8, "--out", root / "run")  # fmt: skip
    return root / "run"


@pytest.fixture(scope="module")
def of_pictures(tmp_path_factory):
    """The same denoiser, of pictures."""
    root = tmp_path_factory.mktemp("pictures")
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(root / "data.npz", image=image)
    command(
        "train",
        "oct-ddpm",
        "--data",
        root / "data.npz",
        "--map",
        "clean=image",
        *TINY,
        "--window",
        8,
        "--out",
        root / "run",
    )
    return root / "run"


# -------------------------------------------------------------------------------------- training
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(CODES),
    st.sampled_from(CODES),
    st.sampled_from(list(AXES)),
    st.floats(-0.3, 0.3),
)
def test_a_case_is_a_slice_in_the_orientation_of_the_patient(
    tmp_path_factory, first, second, plane, turn
):
    """Whatever order image and mask are stored in: the slice is that of nibabel's canonical volume."""
    pairs = [
        (scene(seed, codes=first, turn=turn)[0], scene(seed, codes=second, turn=turn)[1])
        for seed in range(2)
    ]
    cases = open_cases(table(tmp_path_factory.mktemp("set"), pairs), range=(0, 255), slices=plane)
    count = SIZE[AXES[plane]]
    assert len(cases) == 2 * count and cases.patients == ("p0",) * count + ("p1",) * count
    batch = cases.batch(range(len(cases)))
    for row, (volume, k) in enumerate((v, k) for v in range(2) for k in range(count)):
        assert cases.ids[row] == f"c{volume}_slice{k:03d}"
        seen = AS_SEEN[plane](ras(pairs[volume][0]), k)
        assert torch.equal(batch["image"][row, 0], to_unit(torch.tensor(seen.copy()), (0, 255)))
        assert np.array_equal(batch["mask"][row, 0], seen > 100)


@pytest.mark.parametrize("plane", AXES)
def test_a_slice_keeps_its_place_in_the_world(tmp_path, plane):
    image = scene(codes="PIR")[0]
    cases = open_cases(volumes(tmp_path, [image, scene(1)[0]]), slices=plane)
    row = cases.ids.index("scan0_slice003")
    one = cases.image(row, "image")
    canonical = nibabel.as_closest_canonical(image)
    for r, c in ((0, 0), (2, 1), (4, 3)):
        place = nibabel.affines.apply_affine(one.affine.numpy(), (r, c, 0))
        index = (
            nibabel.affines.apply_affine(np.linalg.inv(canonical.affine), place).round().astype(int)
        )
        assert index[AXES[plane]] == 3
        assert canonical.dataobj[tuple(index)] == one.data[0, r, c]
    zooms = nibabel.affines.voxel_sizes(canonical.affine)
    assert sorted(one.spacing_mm) == pytest.approx(sorted(np.delete(zooms, AXES[plane])))


def test_slices_of_a_patient_never_straddle_a_split(tmp_path):
    data = volumes(tmp_path, [scene(seed)[0] for seed in range(12)])
    cases = open_cases(data, slices="coronal")
    splits = {}
    for patient, split in zip(cases.patients, cases.split_of, strict=True):
        splits.setdefault(patient, set()).add(split)
    assert len(splits) == 12 and all(len(split) == 1 for split in splits.values())
    assert {"train", "test"} <= set(cases.split_of)
    whole = cases.whole()
    assert dict(zip(whole.patients, whole.split_of, strict=True)) == {
        patient: next(iter(split)) for patient, split in splits.items()
    }


def test_slices_without_content_are_left_out_and_counted(tmp_path):
    images = [scene(seed)[0] for seed in range(2)]
    for k in (0, 5, 6):
        images[1].dataobj[..., k] = 7
    cases = open_cases(volumes(tmp_path / "some", images), slices="axial")
    assert len(cases) == 11 and "scan1_slice005" not in cases.ids
    (line,) = [line for line in cases.notices if "cut into" in line]
    assert "2 volumes are cut into 14 slices, axial: rows go to the back" in line
    assert "3 of one grey value are left out" in line and "all of" not in line
    assert not any("is constant" in line for line in cases.notices)
    images[1].dataobj[:] = 7
    cases = open_cases(volumes(tmp_path / "all", images), slices="axial")
    assert any("7 of one grey value are left out (all of case scan1)" in n for n in cases.notices)
    images[0].dataobj[:] = 7
    with pytest.raises(UserError, match="no slice holds more than one grey value"):
        open_cases(volumes(tmp_path / "none", images), slices="axial")


def test_of_a_pair_to_register_both_must_have_content():
    moving, fixed = (torch.rand(1, 4, 4, 3, generator=torch.manual_seed(k)) for k in (0, 1))
    moving[..., 0] = fixed[..., 2] = 0
    pair = [{"moving": moving, "fixed": fixed}] * 2
    assert from_iterable(pair, slices="2").ids == ("0000_slice001", "0001_slice001")
    pair = [{"source": moving, "target": fixed}] * 2
    assert len(from_iterable(pair, slices="2")) == 6


def test_labels_of_a_volume_are_those_of_its_slices():
    items = [
        {"image": torch.rand(1, 3, 4, 5), "label": k, "age": 40.0 + k, "patient": "ab"[k]}
        for k in (0, 1)
    ]
    batch = (cases := from_iterable(items, slices="0")).batch(range(6))
    assert batch["image"].shape == (6, 1, 4, 5)
    assert batch["label"].tolist() == [0] * 3 + [1] * 3 and batch["age"][5] == 41
    assert cases.whole().batch([1])["label"].tolist() == [1]


def test_a_mask_without_geometry_is_turned_with_its_image():
    """As many voxels as the image, so that it lies as the image does."""

    class WithAffine(torch.Tensor):
        pass

    data = torch.randint(0, 255, (1, *SIZE), dtype=torch.uint8)
    carried = data.as_subclass(WithAffine)
    carried.affine = nibabel.orientations.inv_ornt_aff(
        nibabel.orientations.axcodes2ornt("LIP"), SIZE
    )
    items = [{"image": carried, "mask": (data > 100).long()}] * 2
    batch = from_iterable(items, slices="sagittal", range=(0, 255)).batch([0])
    assert torch.equal(batch["mask"] > 0, batch["image"] > 2 * 100 / 255 - 1)


def test_in_plane_sizes_that_differ_ask_for_a_size(tmp_path):
    data = volumes(tmp_path, [scene(0, (5, 6, 7))[0], scene(1, (6, 6, 4))[0]])
    with pytest.raises(UserError, match=r"differ in shape: .*--size resizes all to one size"):
        open_cases(data, slices="axial").facts()
    cases = open_cases(data, slices="axial", size=(4, 4))
    assert cases.facts().size == {"image": (4, 4)} and len(cases) == 11
    given = cases.whole().image(0, "image")
    assert given.size == (4, 4, 7) and given.own == "RAS"


def test_a_volume_is_read_once_for_all_of_its_slices(tmp_path, monkeypatch):
    """Beyond what opening reads of any volume, whatever its number of slices."""
    data = volumes(tmp_path, [scene(seed, (6, 6, 40))[0] for seed in range(3)])
    reads, read = [], FileColumn._read
    monkeypatch.setattr(
        FileColumn, "_read", lambda self, row, _: reads.append(row) or read(self, row, _)
    )
    monkeypatch.setattr("radiffuse.data.kept.most_held", lambda: 0)
    monkeypatch.setenv("RADIFFUSE_CACHE_GIB", "0")
    plain = open_cases(data)
    plain.batch([0, 1, 2])
    without, reads[:] = len(reads), []
    cases = open_cases(data, slices="axial")
    for _ in range(5):
        cases.batch(torch.randperm(120).tolist())
    assert len(reads) <= without + 3


def test_what_does_not_fit_the_memory_is_said(tmp_path, monkeypatch):
    data = volumes(tmp_path, [scene(seed)[0] for seed in range(3)])
    monkeypatch.setenv("RADIFFUSE_CACHE_GIB", "0")
    monkeypatch.setattr("radiffuse.data.slices.MOST_BYTES", 8 * 5 * 6 * 7)
    cases = open_cases(data, slices="axial")
    assert any("files are read again; --size makes them smaller" in line for line in cases.notices)
    assert cases.batch(range(21))["image"].shape == (21, 1, 6, 5)
    assert len(cases.columns["image"].stacks.kept.images) == 2


def test_planes_are_told_apart_by_the_fingerprint(tmp_path):
    data = volumes(tmp_path, [scene(seed, (6, 6, 6))[0] for seed in range(2)])
    prints = {open_cases(data, slices=plane).fingerprint for plane in (*AXES, "0", "none")}
    made = {open_cases("brains3d:count=2,size=16", slices=plane).fingerprint for plane in AXES}
    assert len(prints) == 5 and len(made) == 3
    assert open_cases(data, slices="axial").fingerprint in prints


# --------------------------------------------------------------------------- axes without patient
def test_arrays_without_geometry_name_an_axis(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (3, 20, 24, 28), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", image=image)
    with pytest.raises(UserError, match=r"no axis of it is known to be axial; --slices 0, 1 or 2"):
        open_cases(tmp_path / "a.npz", slices="axial")
    for axis in (0, 1, 2):
        cases = open_cases(tmp_path / "a.npz", slices=str(axis), range=(0, 255))
        other = torch.tensor(np.take(image[1], 5, axis))
        row = cases.ids.index("0001_slice005")
        assert torch.equal(cases.batch([row])["image"][0, 0], to_unit(other, (0, 255)))
        assert any(f"axis {axis}: nothing is known of their place" in n for n in cases.notices)


def test_an_axis_of_volumes_with_geometry_is_named_by_its_plane(tmp_path):
    data = volumes(tmp_path, [scene(0, codes="LIP")[0], scene(1, codes="LIP")[0]])
    cases = open_cases(data, slices="1")
    assert cases.volumes.plane == "axial" and len(cases) == 14
    assert any("axis 1 of volumes that are LIP inside" in line for line in cases.notices)


def test_pictures_stay_as_they_are(tmp_path):
    for k in range(3):
        Picture.fromarray(np.random.default_rng(k).integers(0, 255, (6, 6), dtype=np.uint8)).save(
            tmp_path / f"{k}.png"
        )
    cases = open_cases(tmp_path, slices="axial")
    assert cases.ids == ("0", "1", "2") and cases.volumes is None
    assert any("--slices axial cuts nothing" in line for line in cases.notices)


def test_what_cannot_be_cut_is_one_clear_line(tmp_path):
    flat = nibabel.Nifti1Image(np.random.rand(5, 6, 1).astype(np.float32), np.eye(4))
    mixed = volumes(tmp_path / "mixed", [scene()[0], flat])
    with pytest.raises(UserError, match=r"image of case scan1 has 2 axes, and --slices axial"):
        open_cases(mixed, slices="axial")
    coords = [{"coords": torch.rand(5, 3)}] * 2
    with pytest.raises(UserError, match=r"coords is no image, and --slices 0 cuts images"):
        from_iterable(coords, slices="0")
    with pytest.raises(
        UserError, match=r"a slice of .* has 2 axes .* size asked for is \(4, 4, 4\)"
    ):
        open_cases(volumes(tmp_path / "v", [scene()[0]]), slices="axial", size=(4, 4, 4))


# ------------------------------------------------------------------------------------ prediction
def test_volumes_of_any_order_come_back_voxel_by_voxel_as_they_lie(run, tmp_path, identity):
    """Also those that no training volume was stored as; orders that turn, mirror and swap all axes."""
    orders = ("RAS", "LPS", "PIR", "SLA", "IPL", "ARS", "LIP", "SRP")
    images = [
        scene(seed, (8, 8, 4 + seed), codes, turn=0.03 * seed)[0]
        for seed, codes in enumerate(orders)
    ]
    data = volumes(tmp_path / "data", images)
    command("predict", run, "--data", data, "--out", tmp_path / "out", "--batch", 3)
    assert max(len(batch["clean"]) for batch in identity) == 3
    seeds = torch.cat([batch["seed"] for batch in identity]).tolist()
    assert len(set(seeds)) == len(seeds) == sum(range(4, 4 + len(orders)))
    for number, image in enumerate(images):
        written = nibabel.load(tmp_path / "out" / f"scan{number}-denoised.nii.gz")
        assert nibabel.aff2axcodes(written.affine) == tuple(orders[number])
        np.testing.assert_allclose(written.affine, image.affine, atol=1e-5)
        assert written.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(written.dataobj), np.asarray(image.dataobj))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["settings"]["slices"] == "axial"
    (entry, *_) = record["predictions"]
    assert entry["case"] == "scan0" and entry["patient"] == "scan0"
    assert entry["slices"] == {"plane": "axial", "count": 4, "empty": []}


@pytest.mark.parametrize("plane", AXES)
def test_the_model_sees_the_slices_it_was_trained_on(run, tmp_path, identity, plane):
    """Another plane than training's, where it is named."""
    image = scene(3, (8, 8, 8), "PIL")[0]
    data = volumes(tmp_path / "data", [image])
    command("predict", run, "--data", data, "--out", tmp_path / "out", "--slices", plane)
    shown = torch.cat([batch["clean"] for batch in identity])[:, 0]
    for k in range(8):
        seen = torch.tensor(AS_SEEN[plane](ras(image), k).copy())
        assert torch.equal(shown[k], to_unit(seen, (0, 255)))
    written = nibabel.load(tmp_path / "out" / "scan0-denoised.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(image.dataobj))


def test_a_model_of_pictures_predicts_volumes_where_a_plane_is_named(
    of_pictures, tmp_path, identity, refused
):
    image = scene(3, (8, 8, 5), "SLP")[0]
    data = volumes(tmp_path / "data", [image])
    words = ("predict", of_pictures, "--data", data, "--map", "clean=image")
    said = refused(*words, "--out", tmp_path / "no")
    assert "holds volumes (5 x 8 x 8)" in said and "was trained on pictures; --slices axial" in said
    command(*words, "--out", tmp_path / "out", "--slices", "coronal")
    assert tuple(identity[0]["clean"].shape) == (8, 1, 5, 8)
    written = nibabel.load(tmp_path / "out" / "scan0-denoised.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(image.dataobj))


def test_a_dicom_series_comes_back_as_a_series(run, tmp_path, identity):
    """Judged by SimpleITK, slice by slice at its place."""
    series(tmp_path / "series", slices=6, Rows=4)
    command("predict", run, "--data", tmp_path / "series", "--out", tmp_path / "out",
            "--slices", "sagittal", "--range", 0, 1000)  # fmt: skip
    (folder,) = [
        path for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != "pictures"
    ]

    def read(path):
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        return reader.Execute()

    before, after = read(tmp_path / "series"), read(folder)
    assert np.array_equal(sitk.GetArrayFromImage(before), sitk.GetArrayFromImage(after))
    for name in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(before, name)() == pytest.approx(getattr(after, name)(), abs=1e-4)


def test_empty_slices_are_not_given_to_the_model_and_come_back(run, tmp_path, identity):
    image = scene(4, (8, 8, 6))[0]
    image.dataobj[..., :2] = 9
    data = volumes(tmp_path / "data", [image])
    command("predict", run, "--data", data, "--out", tmp_path / "out")
    assert sum(len(batch["clean"]) for batch in identity) == 4
    written = nibabel.load(tmp_path / "out" / "scan0-denoised.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(image.dataobj))
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert record["predictions"][0]["slices"]["empty"] == [0, 1]


def test_a_slice_is_the_same_in_a_batch_of_any_size(run, tmp_path):
    data = volumes(tmp_path / "data", [scene(5, (16, 16, 6))[0]])
    for batch in (1, 4, 16):
        command("predict", run, "--data", data, "--out", tmp_path / f"{batch}", "--batch", batch)
    one, four, all_ = (
        np.asarray(nibabel.load(tmp_path / f"{n}" / "scan0-denoised.nii.gz").dataobj)
        for n in (1, 4, 16)
    )
    assert np.array_equal(one, four) and np.array_equal(one, all_)


def answering(outputs, batch, cases, task, at_once=2, beside=()):
    """What a model makes of a volume that says `outputs(slices)`."""
    cut = slicewise(cases, task, beside, at_once)
    return cut, cut(outputs, batch)


def test_numbers_become_a_list_with_one_for_each_slice():
    from radiffuse.applications.classification.task import CLASSIFICATION

    image = torch.rand(1, 4, 4, 5)
    image[..., 3] = 0
    cases = from_iterable([{"image": image, "label": 0}] * 2, slices="2", range=(0, 1))
    batch = {**cases.whole().batch([0]), "seed": torch.tensor([3])}
    cut, out = answering(
        lambda told: {"probability": told["image"].amax((1, 2, 3))[:, None] * torch.ones(1, 2)},
        batch, cases, CLASSIFICATION,
    )  # fmt: skip
    assert out["probability"].shape == (1, 5, 2)
    brightest = batch["image"][0].amax((0, 1, 2))
    entry = cut.told({"values": {"probability": out["probability"][0].tolist()}}, batch)
    assert entry["values"]["probability"][3] is None and entry["slices"]["empty"] == [3]
    assert entry["values"]["probability"][4] == [pytest.approx(float(brightest[4]))] * 2


def test_labels_and_maps_are_zero_where_a_slice_is_empty():
    from radiffuse.applications.segmentation.task import SEGMENTATION

    image = torch.rand(1, 4, 4, 5)
    image[..., 0] = 0
    items = [{"image": image, "mask": torch.ones(1, 4, 4, 5, dtype=torch.long)}] * 2
    cases = from_iterable(items, slices="2", range=(0, 1))
    batch = {**cases.whole().batch([0]), "seed": torch.tensor([3])}
    _, out = answering(
        lambda told: {"mask": told["mask"], "probability": told["image"] * 0 + 0.5},
        batch, cases, SEGMENTATION,
    )  # fmt: skip
    assert out["mask"].shape == (1, 1, 4, 4, 5) and out["mask"].dtype == torch.int64
    assert not out["mask"][..., 0].any() and (out["mask"][..., 1:] == 1).all()
    assert not out["probability"][..., 0].any() and (out["probability"][..., 1:] == 0.5).all()


@pytest.mark.parametrize("plane", AXES)
def test_displacements_in_a_plane_are_vectors_of_the_volume(tmp_path, plane):
    """SimpleITK moves every slice by one voxel along its rows, which is the way that the network says."""
    from radiffuse.applications.registration.task import REGISTRATION

    pair = [scene(seed, (8, 8, 8), "PIR", turn=0)[0] for seed in (0, 1)]
    folder = volumes(tmp_path / "d", pair)
    (folder / "cases.csv").write_text(
        "case,moving,fixed\n" + "a,scan0.nii.gz,scan1.nii.gz\nb,scan0.nii.gz,scan1.nii.gz\n"
    )
    cases = open_cases(folder, slices=plane, range=(0, 255), on_leak="keep")
    batch = {**cases.whole().batch([0]), "seed": torch.tensor([0])}

    def shifted(told):
        field = torch.zeros(len(told["moving"]), 2, 8, 8)
        field[:, 0] = 1
        return {"displacement": field}

    _, out = answering(shifted, batch, cases, REGISTRATION)
    like = cases.whole().image(0, "fixed")
    name = write_output(out["displacement"][0], like, tmp_path / "x-displacement", raw=True)
    field = sitk.ReadImage(str(tmp_path / name), sitk.sitkVectorFloat64)
    move = sitk.DisplacementFieldTransform(field)
    moving = sitk.ReadImage(str(folder / "scan0.nii.gz"), sitk.sitkFloat64)
    warped = sitk.GetArrayFromImage(
        sitk.Resample(moving, moving, move, sitk.sitkNearestNeighbor, -1.0)
    ).transpose(2, 1, 0)
    canonical = ras(nibabel.Nifti1Image(warped, pair[0].affine))
    for k in range(8):
        there = AS_SEEN[plane](ras(pair[0]), k)[1:]
        assert np.array_equal(AS_SEEN[plane](canonical, k)[:-1], there)


def test_neighbours_are_of_the_same_volume_in_training_and_in_prediction():
    """Two volumes of one patient; the slice beside an empty one has that on the other side."""
    from radiffuse.applications.denoising.task import DENOISING

    noisy = torch.rand(2, 1, 3, 3, 5)
    noisy[1, ..., 3] = 0
    items = [{"noisy": image, "patient": "one"} for image in noisy]
    cases = from_iterable(items, slices="2", range=(0, 1), mapping={"noisy": "noisy"})
    beside = with_neighbours(cases, (-1, 1))
    row = cases.ids.index("0001_slice002")
    told = beside.batch([row])["noisy_neighbours"][0]
    assert torch.equal(told, to_unit(torch.cat([noisy[1][..., 1]] * 2), (0, 1)))
    seen = []
    answering(lambda part: seen.append(part) or {}, {
        **cases.whole().batch([1]), "seed": torch.tensor([0])
    }, cases, DENOISING, at_once=9, beside=(-1, 1))  # fmt: skip
    trained = beside.batch([cases.ids.index(f"0001_slice00{k}") for k in (0, 1, 2, 4)])
    assert torch.equal(seen[0]["noisy_neighbours"], trained["noisy_neighbours"])


# ---------------------------------------------------------------------------- the command line
def test_one_series_is_trained_on_slice_by_slice(tmp_path, capsys, refused):
    """None of it is held out, which is said; measured on itself, that is said too."""
    series(tmp_path / "series", slices=6)
    root = tmp_path / "run"
    words = ["train", "oct-ddpm", "--data", tmp_path / "series", "--map", "clean=image", *TINY,
             "--size", 16, 16, "--window", 8, "--out", root]  # fmt: skip
    assert "--slices axial, coronal or sagittal" in refused(*words)
    words = words[: words.index("--size")] + words[words.index("--size") + 3 :]
    assert "--slices axial, coronal or sagittal" in refused(*words)
    words += ["--size", 16, 16, "--slices", "sagittal"]
    command(*words)
    said = capsys.readouterr().err
    assert "all cases are of one patient, so that none is held out" in said
    made_with = tomllib.loads((root / "config.toml").read_text())["data"]
    assert made_with["slices"] == "sagittal" and made_with["orientation"] == "IPR"
    command(*words, "--resume")
    capsys.readouterr()
    assert cli.main([str(word) for word in (*words[:-1], "coronal", "--resume")]) == 1
    assert "data.slices = 'sagittal', now it is 'coronal'" in capsys.readouterr().err
    assert "none is held out; name others with --data" in refused("evaluate", root)
    capsys.readouterr()
    command("evaluate", root, "--split", "train")
    assert "these are the patients that the run was trained on" in capsys.readouterr().err
    command("train", "--config", root / "config.toml", "--out", tmp_path / "again")
    again = tomllib.loads((tmp_path / "again" / "config.toml").read_text())["data"]
    assert again["slices"] == "sagittal"


def test_evaluation_counts_patients_not_slices(run, tmp_path):
    data = volumes(tmp_path / "other", [scene(seed, (16, 16, 4))[0] for seed in (7, 8)], ["a", "b"])
    command("evaluate", run, "--data", data, "--out", tmp_path / "m.json")
    metrics = json.loads((tmp_path / "m.json").read_text())
    values = metrics["method"]["psnr"]
    assert set(values["per_patient"]) == {"a", "b"} and values["n"] == 2
    assert metrics["slices"] == "axial"


def test_a_model_of_volumes_refuses_pictures_and_slices(tmp_path, refused):
    data = volumes(tmp_path / "data", [scene(seed, (8, 8, 8))[0] for seed in range(3)])
    root = tmp_path / "run"
    command("train", "oct-ddpm", "--data", data, "--map", "clean=image", *TINY, "--window", 8,
            "--no-slicewise", "--out", root)  # fmt: skip
    flat = volumes(tmp_path / "flat", [nibabel.Nifti1Image(np.eye(8)[..., None], np.eye(4))])
    for name in ("predict", "evaluate"):
        out = ("--out", tmp_path / "out.json")
        said = refused(name, root, "--data", flat, *out)
        assert "holds pictures (8 x 8)" in said and "was trained on volumes (8 x 8 x 8)" in said
        said = refused(name, root, "--data", data, "--slices", "axial", *out)
        assert "is cut into slices" in said and "without --slices" in said


def test_a_prior_of_slices_takes_volumes_as_they_are(tmp_path):
    """A reconstruction goes through them itself."""
    cases = from_iterable([{"image": torch.rand(1, 4, 4, 4)}] * 2)
    sizes = {"data": {"facts": {"size": {"image": [4, 4]}}}}
    prior = SimpleNamespace(
        manifest=sizes, path="runs/prior", recipe=papers.by_id("score-mri").load()()
    )
    check_axes(prior, cases, DataSource("data"))
    with pytest.raises(UserError, match="was trained on pictures; --slices"):
        other = SimpleNamespace(**{**vars(prior), "recipe": OCT()})
        check_axes(other, cases, DataSource("data"))


def test_no_other_word_is_a_plane(run, refused, tmp_path):
    said = refused("predict", run, "--out", tmp_path / "o", "--slices", "axail", code=2)
    assert "axial" in said and "sagittal" in said


def test_runs_of_before_call_it_slices():
    """A denoiser's own field, before `--slices` meant planes."""
    assert recorded(PET, {"slices": False}, "config.toml").slicewise is False
