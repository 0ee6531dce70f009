"""Names that come from data never become paths."""

import json
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.data.names import safe_names

BEFORE = Path(__file__).parent / "before"
ODD = ("../../escaped", "a", "./a", "A", "/etc/passwd", "x\0y", "red\x1b[31m", "n" * 300)


@given(st.lists(st.text(max_size=400), max_size=8))
def test_every_name_is_one_file_of_its_own_on_every_system(names):
    made = safe_names(names)
    assert len({name.casefold() for name in made}) == len(names)
    for name in made:
        for kind in (PurePosixPath, PureWindowsPath):
            assert kind("out", name).name == name and kind("out", name).parent == kind("out")
        assert len(name.encode()) <= 110 and name.isprintable() and not name.startswith(".")
    assert safe_names(made) == made


@pytest.mark.parametrize("name", ["p01_slice003", "Fall 7", "größe", "TCGA_FG_A4MU-2.1", "42"])
def test_good_names_stay(name):
    assert safe_names([name]) == (name,)


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "odd.npz"
    draw = np.random.default_rng(0)
    t2 = draw.integers(0, 256, (len(ODD), 16, 16), dtype=np.uint8)
    np.savez(path, t2=t2, case=np.array(ODD), patient=np.array(ODD))
    return path


def test_the_original_names_are_kept_beside(data):
    cases = open_cases(data)
    assert cases.names == ODD and cases.ids[1:4] == ("a", "_a", "A-2")


def test_predictions_stay_in_their_folder_and_say_the_names_of_the_data(data, tmp_path):
    run = shutil.copytree(BEFORE, tmp_path / "inside" / "run")
    out = tmp_path / "inside" / "deep" / "out"
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    words = ["predict", run, "--data", data, "--map", "image=t2", "--out", out, "--steps", 1]
    assert cli.main([str(word) for word in words]) == 0
    written = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert written and all(path.parent in (out, out / "pictures") for path in written)
    entries = json.loads((out / "predictions.json").read_text())["predictions"]
    assert {entry.get("name", entry["case"]) for entry in entries} == set(ODD)
    files = [file for entry in entries for file in entry["files"].values()]
    assert len(files) == len(set(files)) == 3 * len(ODD)


def test_control_characters_never_reach_the_terminal(tmp_path, refused):
    path = tmp_path / "bad.npz"
    image = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    image[1, 0, 0] = np.nan
    np.savez(path, image=image, case=np.array(["a", "b\x1b[2J", "c", "d"]))
    line = refused("train", "ddpm", "--data", path, "--out", tmp_path / "run")
    assert "NaN" in line and line.isprintable()
