"""`radiffuse inspect`: what a data set holds, and what of it would be refused, before anything is made of it."""

import json
import re
import shutil

import nibabel
import numpy as np
import pydicom.data
import pytest
import torch
from PIL import Image as Picture

from radiffuse import cli
from radiffuse.commands.inspect import SIDE, as_it_lies
from radiffuse.data.dataset import open_cases
from radiffuse.data.image import Image
from test_data_dicom import series, write_slice
from test_names_hidden import plant, planted_in


@pytest.fixture
def look(capsys, monkeypatch):
    """Inspect; what stands on the terminal, which is no wider than 100 columns where a table is drawn."""
    monkeypatch.setenv("COLUMNS", "100")

    def look(*words):
        assert cli.main(["inspect", *map(str, words)]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        return said.out

    return look


@pytest.fixture
def told(look):
    """The same as an object."""
    return lambda *words: json.loads(look(*words, "--json"))


@pytest.fixture
def mixed(tmp_path):
    """Series of three people, one with a gap, and objects that are no images."""
    folder = plant(tmp_path / "study", people=3, slices=4)
    (folder / "0001").unlink()
    series(folder / "x", slices=6, series="1.2.55", SeriesNumber=9, SeriesDescription="t2 tse")
    for name in ("liver_1frame.dcm", "rtstruct.dcm", "test-SR.dcm"):
        shutil.copy(pydicom.data.get_testdata_file(name), folder / name)
    (folder / ".hidden").write_text("x")
    (folder / "notes.txt").write_text("x")
    return folder


def volumes(folder, count=6):
    folder.mkdir()
    for k in range(count):
        data = np.random.default_rng(k).integers(0, 900, (6, 5, 4)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([2.0, 1, 3, 1])), folder / f"sub-{k}_t1.nii")
    return folder


def test_every_number_is_that_of_the_files(tmp_path, told):
    folder = volumes(tmp_path / "data")
    found = told(folder)
    (column,) = found["columns"]
    data = [np.asarray(nibabel.load(f).dataobj) for f in sorted(folder.iterdir())]
    assert (found["cases"], found["read"], column["kind"]) == (6, 6, "image")
    assert column["sizes"] == {"6 x 5 x 4": 6} and column["spacings"] == {"2 x 1 x 3": 6}
    assert column["orientations"] == {"RAS": 6} and column["stored"] == {"int16": 6}
    assert (column["low"], column["high"]) == (min(map(np.min, data)), max(map(np.max, data)))
    for row, values in zip(found["rows"], data, strict=True):
        assert row["images"]["image"]["high"] == values.max()
    cases = open_cases(folder)
    assert {row["case"]: row["split"] for row in found["rows"]} == dict(
        zip(cases.ids, cases.split_of, strict=True)
    )
    assert found["drawn"] and sum(found["splits"].values()) == 6 and not found["refused"]


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (lambda p: np.savez(p / "a.npz", image=np.random.default_rng(0).random((4, 8, 8)), label=[0, 1, 0, 1],
                            patient=["a", "a", "b", "c"], sex=["f", "m", "f", "m"]), "image label text"),
        (lambda p: [Picture.fromarray(np.random.default_rng(k).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(
            p / f"{k}.png") for k in range(3)], "image"),
        (lambda p: np.savez(p / "b.npz", coords=np.random.default_rng(0).random((3, 9, 3)), length=[7, 8, 9]),
         "raw scalar"),
    ],
)  # fmt: skip
def test_every_format_has_its_columns(tmp_path, told, look, make, kinds):
    make(tmp_path)
    path = next(tmp_path.glob("*.npz"), tmp_path)
    found = told(path)
    assert [column["kind"] for column in found["columns"]] == kinds.split()
    assert all(len(line) <= 100 for line in look(path).splitlines() if "/" not in line)
    if "label" in kinds:
        assert found["patients"] == 3 and found["columns"][1]["high"] == 1


def test_an_embedded_set_is_looked_at_too(told):
    found = told("brains:count=4,size=16")
    assert (
        found["patients"] == 2
        and found["cases"] == 4
        and {"t1", "lesion"} <= {column["name"] for column in found["columns"]}
    )


def test_what_would_be_refused_is_told_for_each_case(tmp_path, told):
    folder = volumes(tmp_path / "data")
    (folder / "sub-3_t1.nii").write_bytes(b"no image")
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((2, 2, 2), np.int16), np.eye(4)), folder / "sub-5_t1.nii"
    )
    found = told(folder)
    (broken,) = [row for row in found["rows"] if row["refused"]]
    assert "sub-3_t1.nii" in broken["refused"] and broken["images"] == {}
    assert len([line for line in found["refused"] if "sub-3_t1.nii" in line]) == 1
    (folder / "sub-3_t1.nii").unlink()
    (line,) = told(folder)["refused"]
    assert line.startswith("to be trained on: ") and "differ in shape" in line


def test_where_there_is_nothing_to_tell_of_it_ends_in_one_line(tmp_path, refused):
    (tmp_path / "empty").mkdir()
    assert "is an empty folder" in refused("inspect", tmp_path / "empty")
    assert "no such file or folder" in refused("inspect", tmp_path / "missing")


def test_of_many_cases_some_are_read_and_that_is_said(tmp_path, told, look):
    np.savez(tmp_path / "a.npz", image=np.random.default_rng(0).random((30, 4, 4)))
    found = told(tmp_path / "a.npz", "--most", "5")
    assert (found["cases"], found["read"]) == (30, 5)
    assert [row["row"] for row in found["rows"]] == [0, 7, 14, 22, 29]
    assert "30 cases" in look(tmp_path / "a.npz", "--most", "5") and "5 of them were read" in look(
        tmp_path / "a.npz", "--most", "5"
    )


# ---------------------------------------------------------------------------------------- series
def test_series_are_listed_as_what_they_are(mixed, told):
    found = told(mixed)
    rows = {(row["what"], row["number"]): row for row in found["series"]["series"]}
    assert {what for what, _ in rows} == {
        "images",
        "Segmentation",
        "Comprehensive SR",
        "RT Structure Set",
    }
    tilted = rows["images", "9"]
    assert (tilted["size"], tilted["slices"], tilted["spacing"]) == ("4 x 6", 6, [2.0, 0.5, 3.0])
    assert (tilted["plane"], tilted["modality"], tilted["cases"]) == ("coronal 20°", "MR", 1)
    gap = rows["images", "1"]
    assert gap["cases"] == 0 and "1 slice is missing" in gap["refused"]
    assert (found["series"]["hidden"], found["series"]["others"]) == (1, 1)


def test_names_are_in_the_table_of_series_only_where_they_are_asked_for(mixed, look, tmp_path):
    hidden = look(mixed) + look(mixed, "--series") + look(mixed, "--json")
    look(mixed, "--out", tmp_path / "out")
    hidden += (tmp_path / "out" / "index.html").read_text()
    assert planted_in(hidden) == [] and "t2 tse" not in hidden
    plain = re.sub(r"\s+", "", look(mixed, "--series", "--names", "plain"))
    assert "PL4NTID1" in plain and "t2tse" in plain
    assert '"uid": "1.2.55"' in look(mixed, "--json", "--names", "plain")


def test_series_without_a_word_is_their_table_alone(mixed, look):
    said = look(mixed, "--series")
    assert said.startswith("series (and 1 hidden file, 1 file that is no DICOM)")
    assert "refused: s" in said and "columns" not in said
    assert all(len(line) <= 100 for line in said.splitlines() if not line.startswith("refused"))


def test_a_chosen_series_is_looked_at_alone(mixed, told):
    found = told(mixed, "--series", "9")
    assert found["cases"] == 1 and len(found["series"]["series"]) == 1
    assert found["columns"][0]["sizes"] == {"4 x 6 x 6": 1}


# ------------------------------------------------------------------------------------------- page
def test_the_page_stands_alone_and_the_sheet_shows_every_case(tmp_path, look):
    folder = volumes(tmp_path / "data", 2)
    look(folder, "--out", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert not re.findall(r"(?:src|href)=[\"'](?!data:|#)", page) and "data:image/png" in page
    sheet = np.asarray(Picture.open(tmp_path / "out" / "sheet.png").convert("L"))
    assert sheet.shape[1] > 2 * 2 * SIDE and sheet.std() > 20


def test_voxels_are_drawn_as_long_as_they_are():
    image = Image(
        torch.zeros(1, 6, 6, 3), torch.diag(torch.tensor([12.0, 4, 2, 1], dtype=torch.float64))
    )
    assert as_it_lies(image) == (SIDE, SIDE // 3, round(SIDE / 12))
    assert as_it_lies(Image(torch.zeros(1, 10, 20))) == (SIDE // 2, SIDE)


def test_a_page_is_written_whole_or_not_at_all(tmp_path, refused):
    np.savez(tmp_path / "a.npz", image=np.random.default_rng(0).random((4, 4, 4)))
    (tmp_path / "out").write_text("kept")
    assert "--out takes a folder" in refused(
        "inspect", tmp_path / "a.npz", "--out", tmp_path / "out"
    )
    assert (tmp_path / "out").read_text() == "kept"


def test_ultrasound_in_colour_is_listed_without_place(tmp_path, told):
    array = np.random.default_rng(0).integers(0, 255, (8, 8)).astype(np.uint8)
    write_slice(tmp_path / "a", array, None, Modality="US", SeriesNumber=3)
    found = told(tmp_path)
    (row,) = found["series"]["series"]
    assert (row["plane"], row["modality"], row["slices"]) == ("", "US", 1)
    assert any("may show names or dates" in line for line in found["notices"])


def test_series_are_asked_of_what_has_none_by_itself(refused):
    said = refused("inspect", "brains:count=6,size=16", "--series")
    assert "its cases are no DICOM series by themselves" in said
