"""Files say what made them, and `predictions.json` lists each with its role and hash."""

import hashlib
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import torch
from PIL import Image as Picture

import dicom_sources as sources
from dicom_sources import files_of, valid
from radiffuse import cli
from radiffuse.api import load
from radiffuse.clinic.meanings import meaning
from radiffuse.commands.draws import Draws
from radiffuse.commands.findings import findings
from radiffuse.data.files import user_cache
from radiffuse.data.formats.by_ending import read_image, save_image
from radiffuse.data.image import Image
from radiffuse.data.made import Made
from radiffuse.errors import UserError

MADE = Made("sample", "synthetic", "ddpm", "small", "mine", "cd" * 32, "0.1.0")
LINE = "SYNTHETIC sample: radiffuse 0.1.0 ddpm, model cdcdcdcdcdcd"
GREY = Image(torch.arange(48, dtype=torch.uint8).reshape(1, 6, 8), range=(0, 255))
VOLUME = Image(torch.rand(1, 4, 5, 6), torch.diag(torch.tensor([2.0, 2, 3, 1]).double()))


# -------------------------------------------------------------------------------------- formats
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_nifti_says_what_made_it_in_80_bytes_and_whole(tmp_path, ending):
    path = save_image(VOLUME, tmp_path / f"a{ending}", MADE)
    file = nibabel.load(path)
    assert file.header["descrip"].item().decode() == LINE
    (told,) = file.header.extensions
    assert told.get_code() == 6 and json.loads(told.get_content())["model_sha256"] == "cd" * 32
    assert torch.equal(read_image(path).data, VOLUME.data)
    long = Made("x" * 200, "derived", "m" * 90, model_sha256="ef" * 32, version="0.1.0").line
    assert len(long.encode()) <= 80 and long.startswith("DERIVED")


@pytest.mark.parametrize("image", ["grey", "deep", "colour", "deep colour"])
def test_png_says_what_made_it_in_text_chunks(tmp_path, image):
    data = GREY.data.repeat(3 if "colour" in image else 1, 1, 1).to(torch.int32)
    deep = (
        Image(data * 1000, range=(0, 65535))
        if "deep" in image
        else Image(data.byte(), range=(0, 255))
    )
    path = save_image(deep, tmp_path / "a.png", MADE)
    assert torch.equal(read_image(path).data, deep.data)
    with Picture.open(path) as file:
        told = file.text
    assert told["Description"] == LINE and told["Software"] == "radiffuse 0.1.0"
    assert json.loads(told["Comment"])["kind"] == "synthetic"


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_metaimage_and_nrrd_say_what_made_them(tmp_path, ending):
    path = save_image(VOLUME, tmp_path / f"a{ending}", MADE)
    assert torch.equal(read_image(path).data, VOLUME.data)
    assert LINE.encode() in path.read_bytes()[:4000]
    image = sitk.ReadImage(str(path))
    key = next(key for key in image.GetMetaDataKeys() if key.lower() == "made")
    assert json.loads(image.GetMetaData(key))["method"] == "ddpm"


def test_tiff_and_jpeg_say_what_made_them(tmp_path):
    with Picture.open(save_image(GREY, tmp_path / "a.tif", MADE)) as file:
        assert LINE in file.tag_v2[270]
    with Picture.open(save_image(GREY, tmp_path / "a.jpg", MADE)) as file:
        assert LINE.encode() in file.info["comment"]
    deep = Image(GREY.data.repeat(3, 1, 1).to(torch.int32) * 1000, range=(0, 65535))
    assert LINE.encode() in save_image(deep, tmp_path / "b.tif", MADE).read_bytes()


# ------------------------------------------------------------------------------------- commands
def command(*words):
    assert cli.main([str(word) for word in words]) == 0


def record(folder):
    return json.loads((folder / "predictions.json").read_text())["predictions"]


def assert_listed(folder, kind):
    """Every file is listed once, with its hash, and nothing else is."""
    told = [each for entry in record(folder) for each in entry["written"]]
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    there -= {"predictions.json", "sheet.png"}
    assert sorted(each["file"] for each in told) == sorted(there)
    for each in told:
        content = (folder / each["file"]).read_bytes()
        assert each["sha256"] == hashlib.sha256(content).hexdigest()
        assert (
            each["kind"] == kind and each["version"] == "0.1.0" and each["run"] and each["method"]
        )
    return {each["role"] for each in told}


TINY = ("--preset", "tiny", "--train.steps", 1, "--train.batch", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four CT series, of a patient each."""
    folder = tmp_path_factory.mktemp("series")
    for person in range(4):
        sources.series(folder / f"s{person}", "CT", PatientID=f"P{person}")
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A detector of anomalies in slices of them."""
    out = tmp_path_factory.mktemp("runs") / "run"
    command("train", "anoddpm", "--data", data, "--slices", "axial", "--data-leak", "keep",
            "--size", 16, 16, "--range", -1024, 1000, *TINY, "--out", out)  # fmt: skip
    return out


@pytest.fixture(scope="module")
def predicted(run, data, tmp_path_factory):
    """One of the series, drawn twice."""
    out = tmp_path_factory.mktemp("predicted") / "p"
    command("predict", run, "--data", data / "s1", "--samples", 2, "--steps", 2, "--out", out)
    return out


def test_a_case_that_came_as_dicom_goes_back_into_its_study(predicted, data):
    (entry,) = record(predicted)
    assert set(entry["files"]) == {
        "healthy-mean",
        "healthy-std",
        "anomaly-mean",
        "anomaly-std",
        "mask-vote",
        "report",
    }
    source = pydicom.dcmread(files_of(data / "s1")[0])
    numbers = set()
    for key, file in entry["files"].items():
        valid(predicted / file)
        header = pydicom.dcmread(files_of(predicted / file)[0])
        assert header.PatientID == "P1" and header.StudyInstanceUID == source.StudyInstanceUID, key
        numbers.add(header.SeriesNumber)
    assert len(numbers) == 6, "a series each"
    assert read_image(predicted / entry["files"]["mask-vote"]).size == (16, 16, 5)
    healthy = pydicom.dcmread(files_of(predicted / entry["files"]["healthy-mean"])[0])
    assert healthy.Modality == "CT" and healthy.WindowWidth == 400
    assert healthy.SeriesDescription == "healthy counterpart, mean of draws (anoddpm): T1 axial"
    roles = assert_listed(predicted, "derived")
    assert roles == {"answer", "uncertainty", "report", "picture"}


def test_the_report_has_a_score_of_each_slice(predicted):
    import highdicom

    (entry,) = record(predicted)
    groups = highdicom.sr.srread(
        predicted / entry["files"]["report"]
    ).content.get_image_measurement_groups()
    scores = [group.get_measurements()[0].value for group in groups]
    assert scores == pytest.approx(entry["values"]["score"]) and len(scores) == 5
    uids = {group.source_images[0].referenced_sop_instance_uid for group in groups}
    assert len(uids) == 5, "of the slice that it is a score of"


def test_the_page_shows_what_was_made(predicted):
    from radiffuse.report import write_report

    page = write_report(predicted).read_text()
    (predicted / "report.html").unlink()
    assert "healthy-mean" in page and "image, given" in page


def test_what_is_there_is_kept_and_half_a_series_is_made_again(run, data, predicted, tmp_path):
    out = tmp_path / "p"
    shutil.copytree(predicted, out)
    words = ("predict", run, "--data", data / "s1", "--samples", 2, "--steps", 2, "--out", out)
    before = {p: p.read_bytes() for p in out.rglob("*.dcm")}
    command(*words)
    assert {p: p.read_bytes() for p in out.rglob("*.dcm")} == before
    series = next(path for path in out.iterdir() if path.name.endswith("-healthy-mean"))
    (series / "0003.dcm").unlink()
    command(*words)
    after = {p: p.read_bytes() for p in out.rglob("*.dcm")}
    assert set(after) == set(before) and not set(after.values()) & set(before.values())
    assert_listed(out, "derived")


def test_single_draws_are_kept_where_they_are_asked_for(run, data, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "value,name,category_code,category_scheme,category_meaning,type_code,type_scheme,type_meaning\n"
        "1,odd,49755003,SCT,Morphologically abnormal structure,4147007,SCT,Mass\n"
    )
    out = tmp_path / "p"
    command("predict", run, "--data", data / "s1", "--samples", 2, "--steps", 2, "--out", out,
            "--keep", "draws", "--codes", labels)  # fmt: skip
    first, second, *_ = record(out)
    assert set(first["files"]) == {"healthy", "anomaly", "mask", "report"}
    mask = pydicom.dcmread(out / second["files"]["mask"])
    assert mask.SegmentSequence[0].SegmentLabel == "odd"
    assert mask.SeriesDescription == "segmentation, draw 2 (anoddpm): T1 axial"
    assert "draw" in assert_listed(out, "derived")


def test_nothing_is_lost_where_dicom_has_no_object(run, data, tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise ValueError("this source is odd")

    monkeypatch.setattr("radiffuse.clinic.study.write_segmentation", fails)
    command("predict", run, "--data", data / "s1", "--steps", 2, "--out", tmp_path / "p")
    said = capsys.readouterr().err
    assert (
        "mask: no DICOM object can be made beside this source (this source is odd); written as NIfTI"
        in said
    )
    (entry,) = record(tmp_path / "p")
    assert entry["files"]["mask"].endswith("-mask.nii.gz")
    assert read_image(tmp_path / "p" / entry["files"]["mask"]).size == (16, 16, 5)
    assert_listed(tmp_path / "p", "derived")


def test_python_reads_what_was_made(run, data):
    (found,) = load(run).predict(data / "s1", steps=2)
    assert found["healthy"].size == (16, 16, 5) and found["mask"].data.max() <= 1
    assert len(found["score"]) == 5 and "report" not in found.outputs


def test_samples_of_a_run_of_dicom_are_new_patients(data, tmp_path):
    run, out = tmp_path / "run", tmp_path / "s"
    command("train", "ddpm", "--data", data, "--slices", "axial", "--data-leak", "keep", "--size", 16, 16,
            "--range", -1024, 1000, *TINY, "--out", run)  # fmt: skip
    command("sample", run, "--count", 2, "--steps", 2, "--out", out)
    headers = [pydicom.dcmread(out / entry["files"]["image"]) for entry in record(out)]
    for entry, header in zip(record(out), headers, strict=True):
        valid(out / entry["files"]["image"])
        assert header.PatientName == "Synthetic^Radiffuse" and header.Modality == "CT"
    assert len({header.PatientID for header in headers} | {"P1"}) == 3
    assert assert_listed(out, "synthetic") == {"sample"}
    kept = {p: p.read_bytes() for p in out.glob("*.dcm")}
    command("sample", run, "--count", 3, "--steps", 2, "--out", out)
    assert all(p.read_bytes() == content for p, content in kept.items())


def test_pictures_of_a_sample_say_that_they_are_synthetic(tmp_path):
    np.savez(
        tmp_path / "a.npz", image=np.random.default_rng(0).integers(0, 255, (6, 16, 16), np.uint8)
    )
    command("train", "ddpm", "--data", tmp_path / "a.npz", *TINY, "--out", tmp_path / "run")
    command("sample", tmp_path / "run", "--count", 1, "--steps", 2, "--out", tmp_path / "s")
    with Picture.open(tmp_path / "s" / "sample-00000.png") as file:
        told = file.text["Description"]
    assert told.startswith("SYNTHETIC sample: radiffuse 0.1.0 ddpm, model ")
    assert assert_listed(tmp_path / "s", "synthetic") == {"sample"}


# --------------------------------------------------------------------------- numbers, of draws and slices
class Cases:
    """What `Draws` asks of a writer, of pictures of one case."""

    def __init__(self, task="classification"):
        self.task = task

    def who(self, row):
        return {"case": f"c{row}", "patient": "p"}

    def like(self, row, key=""):
        return GREY

    def meaning(self, key):
        return meaning(key, task=self.task)


def test_the_class_of_several_draws_is_the_likeliest_of_their_mean(tmp_path):
    draws = Draws(3)
    for seed, chances in enumerate(([0.1, 0.9], [0.9, 0.1], [0.55, 0.45])):
        told = torch.tensor([chances])
        draws.add({"probability": told, "label": told.argmax(-1), "spread": told[:, 0]}, [seed])
    (entry,) = draws.entries(Cases(), 0, 0, tmp_path, False, lambda key: True)
    values = entry["values"]
    assert values["probability"] == pytest.approx([1.55 / 3, 1.45 / 3], abs=1e-6)
    assert values["label"] == 0 and entry["samples"] == 3 and entry["seeds"] == [0, 1, 2]
    assert values["spread-std"] == pytest.approx(np.std([0.1, 0.9, 0.55], ddof=1), abs=1e-6)
    votes = Draws(3)
    for label in (2, 1, 2):
        votes.add({"label": torch.tensor([label])}, [0])
    (entry,) = votes.entries(Cases(), 0, 0, tmp_path, False, lambda key: True)
    assert entry["values"]["label"] == 2, "the most frequent, where there is no probability"


def test_a_report_names_classes_and_slices():
    values = {"label": 1, "probability": [0.25, 0.75], "residual": 2.0}
    (one,) = findings({"values": values}, ("normal", "pneumonia"), GREY, 0)
    assert one.classes == {"class": "pneumonia"}
    assert one.numbers == {"probability of normal": 0.25, "probability of pneumonia": 0.75}
    slices = {"plane": "axial", "count": 3, "empty": [1]}
    each = findings({"values": {"score": [0.5, None, 0.7]}, "slices": slices}, (), VOLUME, 2)
    assert [(f.of, f.numbers["score"]) for f in each] == [
        ("axial slice 1", 0.5),
        ("axial slice 3", 0.7),
    ]
    assert each[1].place.tolist() == [0, 0, 6], "2 mm, 2 mm, and 3 mm from slice to slice"
    across = findings({"values": {"score": [0.5, None, 0.7]}, "slices": slices}, (), VOLUME, 0)
    assert across[0].place is None, "sagittal slices are none of the images of an axial series"
    assert findings({"values": {"residual": 1.0}}, (), GREY, 0) == []


def test_what_draws_say_of_a_case_is_asked_of_that_case_alone(monkeypatch):
    """STAPLE takes its time: of a batch of three it is asked three times for one, not for three."""
    asked = []

    def staple(draws):
        asked.append(draws.shape[1])
        return draws[0]

    monkeypatch.setattr("radiffuse.commands.draws.staple", staple)
    several = Draws(2)
    for _ in range(2):
        several.add({"mask": torch.arange(3).reshape(3, 1, 1, 1).expand(3, 1, 4, 4)}, [0, 1, 2])
    fused = [several._fused(place, True) for place in range(3)]
    assert asked == [1, 1, 1]
    for key in ("mask-vote", "mask-staple"):
        assert [int(one[key].max()) for one in fused] == [0, 1, 2]


def test_without_a_home_caches_are_asked_for_by_name(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(UserError, match="no home for a cache; name a folder by XDG_CACHE_HOME"):
        user_cache()
