"""Models of the Hub: pushed, named, fetched once, and one line where that cannot be (a stand-in on this machine)."""

import zipfile

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
def radiffuse(forks, tmp_path):
    """Command lines, one after the other, in a process of their own, for the Hub's address is read at its start."""

    def call(address, *lines, token="hf_made_up", offline=False):
        own = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
        own |= {"HF_HUB_OFFLINE": "1"} if offline else {}
        own |= {"HF_TOKEN": token} if token else {}
        own |= {"HF_HUB_DOWNLOAD_TIMEOUT": "2", "HF_HUB_ETAG_TIMEOUT": "2"}
        words = [[str(word) for word in line] for line in lines]
        (told,) = forks("processes:commands", words, environments=[own])
        return [(code, err) for code, _, err in told]

    return call


def drawn(name, out):
    return ["sample", name, "--count", "1", "--out", out]


def test_a_model_is_pushed_fetched_and_kept(run, radiffuse, tmp_path):
    with hub() as (address, held):
        pushed, fetched = radiffuse(
            address,
            ["push", run, "hf://me/mine", "--licence", "CC0-1.0"],
            drawn("hf://me/mine", tmp_path / "one"),
        )
        assert pushed[0] == 0, pushed
        assert {"card.json", "README.md", "config.toml", "model.safetensors"} <= set(
            held["me/mine"]
        )
        assert fetched[0] == 0, fetched
    ((code, err),) = radiffuse(address, drawn("hf://me/mine", tmp_path / "two"), offline=True)
    assert code == 0, err
    one, two = ((tmp_path / n / "sample-00000.png").read_bytes() for n in ("one", "two"))
    assert one == two


def test_what_is_no_part_of_a_model_is_not_fetched(run, radiffuse, tmp_path):
    model = tmp_path / "model.zip"
    assert cli.main(["pack", str(run), "--out", str(model)]) == 0
    with hub() as (address, held), zipfile.ZipFile(model) as parts:
        held["me/mine"] = {name: parts.read(name) for name in parts.namelist()}
        held["me/mine"]["evil.py"] = b"1/0"
        ((code, err),) = radiffuse(address, drawn("hf://me/mine", tmp_path / "one"))
    assert code == 0, err
    assert not list((tmp_path / "hf").rglob("evil.py"))


def test_what_cannot_be_fetched_is_one_line(radiffuse, tmp_path):
    held_files = {"mine": {"card.json": b"{}"}, "other": {"README.md": b"hello"}}
    says = {
        "hf://me/none": "the Hub has no such model",
        "hf://me/mine@other": "no such revision",
        "hf://me/other": "holds no packed model",
    }
    with hub() as (address, held):
        for name, files in held_files.items():
            held[f"me/{name}"] = files
        told = radiffuse(address, *(drawn(name, tmp_path / "s") for name in says))
    for (code, err), line in zip(told, says.values(), strict=True):
        assert code == 1 and line in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.parametrize("offline", [False, True])
def test_a_hub_that_is_not_there_is_one_line(offline, radiffuse, tmp_path):
    words = drawn("hf://me/mine", tmp_path / "s")
    ((code, err),) = radiffuse("http://127.0.0.1:9", words, offline=offline)
    assert code == 1 and "cannot be reached" in err and "\n" not in err.strip()


def test_who_is_not_logged_in_is_told(run, radiffuse):
    with hub() as (address, held):
        ((code, err),) = radiffuse(address, ["push", run, "hf://me/mine"], token="")
        assert code == 1 and "log in" in err.splitlines()[-1] and not held


def test_a_name_that_is_none_is_told(run, capsys):
    assert cli.main(["push", str(run), "me/mine"]) == 1
    assert "they are written hf://OWNER/NAME" in capsys.readouterr().err
