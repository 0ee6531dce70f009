"""`radiffuse runs`: what lies in a folder of runs, and how far it is."""

import json
import shutil

import pytest

from radiffuse import cli
from radiffuse.commands.lock import writing


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    words = ["train", "ddpm", "--data", "brains:count=12,size=16", "--map", "image=t1"]
    words += ["--preset", "tiny", "--train.steps", "2", "--out", str(folder)]
    assert cli.main(words) == 0
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    """A folder with a copy of it, and one of the same that asks for ten steps."""
    for name in ("a", "b"):
        shutil.copytree(trained, tmp_path / "deep" / name)
    config = tmp_path / "deep" / "b" / "config.toml"
    config.write_text(config.read_text().replace("steps = 2\n", "steps = 10\n"))
    return tmp_path


def rows(folder, capsys):
    assert cli.main(["runs", str(folder), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_finished_and_stopped_runs_are_told_apart(runs, capsys):
    first, second = rows(runs, capsys)
    assert first["run"].endswith("deep/a") and first["method"] == "ddpm (tiny)"
    assert first["data"].startswith("brains") and first["number"] == ""
    assert first["state"].startswith("trained 2 steps")
    assert second["state"].startswith("stopped after 2 steps") and "--resume" in second["state"]
    with writing(runs / "deep" / "b", "radiffuse train"):
        assert rows(runs, capsys)[1]["state"].startswith("in training, 2 steps")
    assert cli.main(["runs", str(runs / "deep" / "a")]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 and table[0].split()[:3] == ["run", "method", "data"]


def test_the_main_number_stands_beside_the_baseline(runs, capsys):
    record = {
        "task": "generation",
        "method": {"kid": {"mean": 1.0}, "fid": {"mean": 12.34567}, "recall": {"refused": "few"}},
        "baseline": {"fid": {"mean": 20.0}},
    }
    path = runs / "deep" / "a" / "metrics.json"
    path.write_text(json.dumps(record))
    assert rows(runs, capsys)[0]["number"] == "fid 12.35 (20)"
    path.write_text(json.dumps({**record, "baseline": None}))
    assert rows(runs, capsys)[0]["number"] == "fid 12.35"


@pytest.mark.parametrize("name", ["config.toml", "metrics.json"])
def test_a_run_that_cannot_be_read_leaves_the_others(runs, capsys, name):
    (runs / "deep" / "a" / name).write_text("{")
    first, second = rows(runs, capsys)
    assert first["state"].startswith("cannot be read") and second["state"].startswith("stopped")


@pytest.mark.parametrize(("name", "words"), [("none", "no such folder"), ("empty", "holds no run")])
def test_a_folder_without_runs_is_said_in_one_line(tmp_path, capsys, name, words):
    (tmp_path / "empty").mkdir()
    assert cli.main(["runs", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
