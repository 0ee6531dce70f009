"""Models of the Hub: pushed, named, fetched once, and one line where that cannot be (a stand-in on this machine)."""

import os
import subprocess
import sys

import pytest

from hub import hub
from radiffuse import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "run"
    words = ["--data", "brains:count=30,size=16", "--preset", "tiny", "--train.steps", "1"]
    assert cli.main(["train", "ddpm", *words, "--out", str(out)]) == 0
    return out


@pytest.fixture
def radiffuse(tmp_path):
    """The command line in a process of its own, for the Hub's address is read at its start."""

    def call(address, *words, token="hf_made_up", offline=False):
        own = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
        own |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        own |= {"HF_TOKEN": token} if token else {}
        done = subprocess.run(
            [sys.executable, "-m", "radiffuse", *map(str, words)],
            env={**os.environ, **own, "HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stderr

    return call


def test_a_model_is_pushed_fetched_and_kept(run, radiffuse, tmp_path):
    with hub() as (address, held):
        code, err = radiffuse(address, "push", run, "hf://me/mine", "--licence", "CC0-1.0")
        assert code == 0, err
        assert {"card.json", "README.md", "config.toml", "model.safetensors"} <= set(
            held["me/mine"]
        )
        held["me/mine"]["evil.py"] = b"1/0"
        words = ["hf://me/mine", "--count", "1"]
        code, err = radiffuse(address, "sample", *words, "--out", tmp_path / "one")
        assert code == 0, err
        assert not list((tmp_path / "hf").rglob("evil.py"))
    code, err = radiffuse(address, "sample", *words, "--out", tmp_path / "two", offline=True)
    assert code == 0, err
    one, two = ((tmp_path / n / "sample-00000.png").read_bytes() for n in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("name", "held_files", "says"),
    [
        ("hf://me/none", {}, "the Hub has no such model"),
        ("hf://me/mine@other", {"card.json": b"{}"}, "no such revision"),
        ("hf://me/mine", {"README.md": b"hello"}, "holds no packed model"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(name, held_files, says, radiffuse, tmp_path):
    with hub() as (address, held):
        if held_files:
            held["me/mine"] = held_files
        code, err = radiffuse(address, "sample", name, "--count", "1", "--out", tmp_path / "s")
    assert code == 1 and says in err.splitlines()[-1] and "Traceback" not in err


def test_a_hub_that_is_not_there_is_one_line(radiffuse, tmp_path):
    words = ["sample", "hf://me/mine", "--count", "1", "--out", tmp_path / "s"]
    for offline in (False, True):
        code, err = radiffuse("http://127.0.0.1:9", *words, offline=offline)
        assert code == 1 and "cannot be reached" in err and err.count("\n") == 1


def test_who_is_not_logged_in_is_told(run, radiffuse):
    with hub() as (address, held):
        code, err = radiffuse(address, "push", run, "hf://me/mine", token="")
        assert code == 1 and "log in" in err.splitlines()[-1] and not held


def test_a_name_that_is_none_is_told(run, capsys):
    assert cli.main(["push", str(run), "me/mine"]) == 1
    assert "they are written hf://OWNER/NAME" in capsys.readouterr().err
