"""Data larger than the memory: read case by case, copied to disk once they are decoded, never held."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

import dicom_sources
from radiffuse.data import kept
from radiffuse.data.copies import Copies, copies, stamp_of
from radiffuse.data.dataset import open_cases
from radiffuse.data.image import Image
from radiffuse.data.rows import RowsColumn
from radiffuse.errors import UserError

WORKER = Path(__file__).resolve().parent.parent / "benchmarks" / "volumes_worker.py"


@pytest.fixture
def holds(monkeypatch):
    """Columns hold so many bytes in memory."""

    def hold(size):
        monkeypatch.setattr(kept, "LEAST_HELD", size)
        monkeypatch.setattr(kept, "MOST_HELD", size)
        kept.most_held.cache_clear()

    yield hold
    kept.most_held.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder of copies of this test alone."""
    monkeypatch.setenv("RADIFFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def arrays(count=12, size=(6, 5, 7), seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 900, (count, *size)).astype(np.uint16),
        "mr": rng.normal(size=(count, 2, *size)).astype(">f4"),
        "mask": rng.integers(0, 3, (count, *size)).astype(np.float32),
        "kspace": rng.normal(size=(count, 4, 4)) + 1j * rng.normal(size=(count, 4, 4)),
        "label": rng.integers(0, 2, count),
        "age": rng.normal(size=count),
        "mr_axes": np.array("NCDHW"),
    }


def same(first, second):
    """Whether two sets give the same numbers to whoever asks."""
    assert first.ids == second.ids and first.ranges == second.ranges
    for indices in ([0, 3, 1], list(range(len(first)))):
        one, other = first.batch(indices), second.batch(indices)
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.dtype == other[key].dtype and torch.equal(value, other[key]), key
    assert first.fingerprint == second.fingerprint
    assert first.facts() == second.facts()


# --- arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("image", "label", "age"), ("image", "mr", "mask"), ("kspace",)])
@pytest.mark.parametrize("size", [None, (4, 4, 4)])
def test_arrays_on_disk_are_those_in_memory(tmp_path, cache, holds, save, keys, size):
    if "kspace" in keys and size:
        keys = ("image", "kspace")
    made = {k: v for k, v in arrays().items() if k.removesuffix("_axes") in keys}
    save(tmp_path / "a.npz", **made)
    held = open_cases(tmp_path / "a.npz", size=size)
    holds(0)
    read = open_cases(tmp_path / "a.npz", size=size)
    large = {key for key in keys if made[key].ndim > 1}
    assert {key for key, c in read.columns.items() if isinstance(c, RowsColumn)} == large
    assert large <= {line.split()[1] for line in read.notices if "read case by case" in line}
    same(held, read)
    same(held, open_cases(tmp_path / "a.npz", size=size))


def test_a_large_array_that_map_calls_a_mask_is_looked_at_as_one(tmp_path, cache, holds):
    labels = np.random.default_rng(0).integers(0, 3, (4, 8, 8)).astype(np.float32)
    image = np.random.default_rng(1).random((4, 8, 8))
    np.savez(tmp_path / "a.npz", image=image, gt=labels * 0.9999)
    np.savez(tmp_path / "b.npz", image=image, gt=labels * 0.9)
    wanted = {"image": "image", "mask": "gt"}
    held = open_cases(tmp_path / "a.npz", mapping=wanted)
    holds(0)
    read = open_cases(tmp_path / "a.npz", mapping=wanted)
    assert isinstance(read.columns["mask"], RowsColumn)
    assert any("rounded" in line for line in read.notices)
    same(held, read)
    with pytest.raises(UserError, match="found fractions"):
        open_cases(tmp_path / "b.npz", mapping=wanted)


def test_only_large_arrays_stay_on_disk(tmp_path, cache, holds):
    np.savez(tmp_path / "a.npz", image=np.arange(2 * 64.0).reshape(2, 8, 8), x=np.ones((2, 3)))
    holds(2 * 64 * 8 - 1)
    columns = open_cases(tmp_path / "a.npz").columns
    assert isinstance(columns["image"], RowsColumn) and not isinstance(columns["x"], RowsColumn)
    holds(2 * 64 * 8)
    assert not isinstance(open_cases(tmp_path / "a.npz").columns["image"], RowsColumn)


def test_one_array_in_a_npy(tmp_path, cache, holds):
    np.save(tmp_path / "a.npy", arrays()["image"])
    held = open_cases(tmp_path / "a.npy")
    holds(0)
    same(held, open_cases(tmp_path / "a.npy"))
    assert not cache.exists(), "what lies as it is is read in its place"


def test_splits_of_medmnist_stay_on_disk_end_to_end(tmp_path, cache, holds):
    rng = np.random.default_rng(0)
    made = {}
    for split, count in (("train", 9), ("val", 2), ("test", 3)):
        made[f"{split}_images"] = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
        made[f"{split}_labels"] = rng.integers(0, 2, (count, 1))
    np.savez_compressed(tmp_path / "m.npz", **made)
    held = open_cases(tmp_path / "m.npz")
    holds(3 * 8 * 8 * 3)  # the training images alone are more
    read = open_cases(tmp_path / "m.npz")
    assert isinstance(read.columns["image"], RowsColumn)
    same(held, read)


def test_arrays_in_columns_or_of_64_bit_without_sign_are_held(tmp_path, cache, holds):
    holds(0)
    np.savez(tmp_path / "a.npz", image=np.asfortranarray(arrays()["image"]))
    np.savez(tmp_path / "b.npz", image=arrays()["image"].astype(np.uint64))
    for name in "ab":
        read = open_cases(tmp_path / f"{name}.npz")
        assert not isinstance(read.columns["image"], RowsColumn)


def test_a_flipped_bit_of_an_array_on_disk_is_found(tmp_path, cache, holds):
    path = tmp_path / "a.npz"
    np.savez(path, image=arrays()["image"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    holds(0)
    with pytest.raises(UserError, match="is damaged"):
        open_cases(path)


@pytest.mark.parametrize("change", ["written to", "cut short"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, cache, holds, change):
    path = tmp_path / "a.npy"
    np.save(path, arrays()["image"])
    holds(0)
    cases = open_cases(path)
    content = path.read_bytes()
    path.write_bytes(content[:-100] if change == "cut short" else content[:-1] + b"\1")
    os.utime(path, (0, 0))
    with pytest.raises(UserError, match="was changed while it was read; start again"):
        cases.batch([11])


def test_broken_voxels_of_arrays_on_disk_are_named(tmp_path, cache, holds):
    images = np.ones((3, 4, 4))
    images[:, 0] = 2
    images[1, 2, 2] = np.nan
    np.save(tmp_path / "a.npy", images)
    holds(0)
    with pytest.raises(UserError, match="of case 0001 holds 1 NaN or infinite"):
        open_cases(tmp_path / "a.npy")


def test_no_room_for_unpacked_copies_is_one_line(tmp_path, cache, holds, monkeypatch):
    made = arrays()["image"]
    np.savez_compressed(tmp_path / "a.npz", image=made)
    holds(0)
    monkeypatch.setenv("RADIFFUSE_CACHE_GIB", "0")
    held = open_cases(tmp_path / "a.npz")
    assert not isinstance(held.columns["image"], RowsColumn), "memory has room"
    monkeypatch.setattr("radiffuse.data.formats.array_files.MOST_BYTES", made.nbytes)
    with pytest.raises(UserError, match="has room; RADIFFUSE_CACHE names another folder"):
        open_cases(tmp_path / "a.npz")


def test_a_limit_that_is_no_number_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("RADIFFUSE_CACHE_GIB", "much")
    with pytest.raises(UserError, match="RADIFFUSE_CACHE_GIB=much: is no number of GiB"):
        copies()


# --- files ------------------------------------------------------------------------------------------


def volumes(folder, count=5, size=(6, 5, 7), codes="RAS"):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    for number in range(count):
        place = nibabel.orientations.inv_ornt_aff(
            nibabel.orientations.axcodes2ornt(codes if number else "RAS"), size
        )
        image = nibabel.Nifti1Image(rng.integers(0, 900, size).astype(np.int16), place)
        nibabel.save(image, folder / f"v{number}.nii.gz")
    return folder


@pytest.mark.parametrize(
    "options", [{}, {"size": (4, 4, 4)}, {"slices": "coronal"}, {"slices": "axial", "size": (4, 4)}]
)
@pytest.mark.parametrize("codes", ["RAS", "LAS"])
def test_decoded_files_are_copied_once_and_the_same(
    tmp_path, cache, holds, codes, options, monkeypatch
):
    folder = volumes(tmp_path / "data", codes=codes)
    held = open_cases(folder, **options)
    holds(0)
    read = open_cases(folder, **options)
    same(held, read)
    made = sorted(path.name for path in cache.iterdir())
    assert made and all(len(Path(name).stem) == 64 for name in made), "no name of a patient"
    assert cache.stat().st_mode & 0o777 == 0o700
    again = open_cases(folder, **options)
    monkeypatch.setattr("radiffuse.data.columns.read_image", lambda *_, **__: 1 / 0)
    same(held, again)
    assert sorted(path.name for path in cache.iterdir()) == made
    assert set(again.notices) - set(held.notices) <= set(read.notices)
    kept_lines = [
        line for line in read.notices if "stay on disk" in line or "mapped from copies" in line
    ]
    assert kept_lines


def test_geometry_of_a_copy_is_that_of_the_file(tmp_path, cache, holds):
    folder = volumes(tmp_path / "data", codes="LAS")
    held = [open_cases(folder).image(n, "image") for n in range(5)]
    holds(0)
    for _ in range(2):
        cases = open_cases(folder)
        for number, one in enumerate(held):
            read = cases.image(number, "image")
            assert torch.equal(one.affine, read.affine) and torch.equal(one.data, read.data)
            assert (one.own, one.format, one.range) == (read.own, read.format, read.range)


def test_a_copy_knows_that_its_file_has_two_axes(tmp_path, cache, holds):
    for number in range(3):
        picture = nibabel.Nifti1Image(np.eye(8, dtype=np.int16) * number + 1, np.eye(4))
        (tmp_path / "data").mkdir(exist_ok=True)
        nibabel.save(picture, tmp_path / "data" / f"p{number}.nii.gz")
    holds(0)
    assert all(open_cases(tmp_path / "data").image(1, "image").two_axes for _ in range(2))


def test_a_copy_of_dicom_knows_the_files_it_was_read_from(tmp_path, cache, holds):
    for person in range(3):
        dicom_sources.series(tmp_path / "data" / f"s{person}", PatientID=f"P{person}")
    holds(0)
    for _ in range(2):
        cases = open_cases(tmp_path / "data", range=(0, 1500))
        files = cases.image(1, "image").files
        assert len(files) == 5 and {file.parent for file in files} == {tmp_path / "data" / "s1"}


def test_a_file_put_in_its_place_is_read_anew(tmp_path, cache, holds):
    folder = volumes(tmp_path / "data")
    holds(0)
    before = open_cases(folder, range=(0, 900)).batch([0])["image"]
    image = nibabel.load(folder / "v0.nii.gz")
    other = np.asarray(image.dataobj).copy()
    other[0, 0, 0] ^= 1
    nibabel.save(nibabel.Nifti1Image(other, image.affine), folder / "v0.nii.gz")
    after = open_cases(folder, range=(0, 900)).batch([0])["image"]
    assert int((before != after).sum()) == 1


def test_what_a_reader_decided_is_said_by_a_copy_too(tmp_path, cache, holds):
    folder = volumes(tmp_path / "data")
    image = nibabel.load(folder / "v1.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(image.dataobj) * (1 + 1j), image.affine),
        folder / "v1.nii.gz",
    )
    holds(0)
    for _ in range(2):
        assert any("complex numbers" in line for line in open_cases(folder).notices)


def test_a_damaged_copy_is_made_again(tmp_path, cache, holds):
    folder = volumes(tmp_path / "data")
    holds(0)
    before = open_cases(folder).batch(range(5))["image"]
    for path in cache.iterdir():
        path.write_bytes(path.read_bytes()[:-7])
    assert torch.equal(open_cases(folder).batch(range(5))["image"], before)


# --- the folder -------------------------------------------------------------------------------------


def image_of(value):
    return Image(torch.full((1, 1000), value, dtype=torch.float32))


def test_the_copies_used_longest_ago_go_first_and_those_of_this_process_stay(tmp_path):
    most = 3 * (4000 + 1024)
    before = Copies(tmp_path, most)
    for age, name in enumerate("abc"):
        before.keep(name, image_of(age))
        os.utime(tmp_path / f"{name}.safetensors", (100 + age, 100 + age))
    now = Copies(tmp_path, most)
    assert now.image("a") is not None
    now.keep("d", image_of(3))
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "c", "d"}
    now.keep("e", image_of(4))
    now.keep("f", image_of(5))
    assert {path.stem for path in tmp_path.iterdir()} == {"a", "d", "e"}, (
        "nothing goes round and round"
    )
    assert now.image("f") is None and float(now.image("e")[0].data[0, 0]) == 4


def test_a_disk_that_is_full_costs_copies_alone(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("radiffuse.data.copies.save_file", full)
    here = Copies(tmp_path / "new", 1 << 20)
    here.keep("a", image_of(1))
    assert here.image("a") is None and not list((tmp_path / "new").iterdir())


def test_names_of_copies_follow_the_file(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    first = stamp_of([file], "image")
    assert first == stamp_of([file], "image") != stamp_of([file], "mask")
    file.write_bytes(b"2")
    assert stamp_of([file], "image") != first


# --- memory -----------------------------------------------------------------------------------------


STEADY = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}
"""The allocator gives back at once what is freed."""


def worker(*words, **environment):
    told = subprocess.run(
        [sys.executable, WORKER, *(str(word) for word in words)],
        check=True, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    return json.loads(told.stdout.splitlines()[-1])


def test_memory_of_a_training_is_flat_in_the_size_of_its_data(tmp_path, monkeypatch):
    """Data of 10 MiB and of 30, of which 2 may be held; where they may, the larger ones take what they are."""
    monkeypatch.syspath_prepend(str(WORKER.parent))
    made = importlib.import_module("volumes_worker")
    paths = [made.write("npz-packed", tmp_path / f"d{count}", count, 32) for count in (160, 480)]
    sets = [(paths[0], 2), (paths[0], 2), (paths[1], 2), (paths[1], 1000)]
    told = worker(
        "data", tmp_path / "runs", "--steps", 5, "--batch", 4, "--sample", 1 << 19,
        *(word for path, held in sets for word in ("--set", path, held << 20)),
        RADIFFUSE_CACHE=str(tmp_path / "cache"), **STEADY,
    )  # fmt: skip
    _, small, large, held = (each["bytes"] / 2**20 for each in told)
    assert large < small + 6, told
    assert held > large + 12, f"what is held is seen {told}"
