"""Packed models: the same predictions as the run, nothing of the data, refused where they are damaged."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image as Picture
from safetensors import safe_open

import radiffuse as rd
from radiffuse import cli
from radiffuse.runs.named import found_run
from radiffuse.runs.packed import without_paths
from radiffuse.runs.run import open_run

SECRET = "Jane_Doe_1977"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def run(tmp_path_factory, hasty_judge):
    """A measured run on a folder that is called after a person."""
    folder = tmp_path_factory.mktemp("packed") / SECRET
    folder.mkdir()
    rng = np.random.default_rng(0)
    for person in range(24):
        values = rng.integers(0, 255, (16, 16), dtype=np.uint8)
        Picture.fromarray(values).save(folder / f"{SECRET}-{person}.png")
    out = folder.parent / "run"
    words = ["train", "ddpm", "--data", str(folder), "--preset", "tiny", "--train.steps", "3"]
    assert cli.main([*words, "--out", str(out)]) == 0
    assert cli.main(["evaluate", str(out), "--count", "4"]) == 0
    return out


def packed(run, path, *words):
    assert cli.main(["pack", str(run), "--out", str(path), *words]) == 0
    return path


def test_a_packed_model_draws_what_the_run_draws(run, tmp_path):
    model = packed(run, tmp_path / "model.zip")
    ours, theirs = (rd.load(each).sample(2, seed=3, batch=1) for each in (run, model))
    for one, other in zip(ours, theirs, strict=True):
        assert np.array_equal(one.data, other.data)


def test_rounded_weights_take_half_the_room_and_nearly_agree(run, tmp_path):
    whole = packed(run, tmp_path / "whole.zip")
    half = packed(run, tmp_path / "half.zip", "--stored", "bf16")
    names = ("model.safetensors",)
    sizes = [zipfile.ZipFile(path).getinfo(*names).file_size for path in (whole, half)]
    assert sizes[1] < 0.6 * sizes[0]
    with (
        safe_open(found_run(whole) / names[0], "pt") as a,
        safe_open(found_run(half) / names[0], "pt") as b,
    ):
        for name in a.keys():  # noqa: SIM118
            one, other = a.get_tensor(name), b.get_tensor(name).float()
            assert (one - other).abs().max() <= 2**-8 * one.abs().max()
            assert one.dim() > 1 or (one == other).all()


def test_nothing_tells_of_whom_it_learned(run, tmp_path):
    model = packed(run, tmp_path / "model.zip")
    with zipfile.ZipFile(model) as archive:
        for name in archive.namelist():
            text = archive.read(name).decode("latin-1")
            assert f"{SECRET}-" not in text and str(run.parent) not in text, name


def test_the_card_says_numbers_data_and_what_it_is_not_for(run, tmp_path):
    said = ["--title", "Noise of nobody", "--data", "Numbers drawn here", "--licence", "CC0-1.0"]
    model = packed(run, tmp_path / "model.zip", *said, "--not-for", "anything")
    with zipfile.ZipFile(model) as archive:
        card, text = json.loads(archive.read("card.json")), archive.read("README.md").decode()
    metrics = json.loads((run / "metrics.json").read_text())
    (first, *_) = card["numbers"]
    assert first["method"]["mean"] == metrics["method"][first["metric"]]["mean"]
    assert first["baseline"]["mean"] == metrics["baseline"][first["metric"]]["mean"]
    for words in ("Noise of nobody", "Numbers drawn here", "CC0-1.0", "anything", "3 steps"):
        assert words in text
    assert text.startswith("---\nlicense: cc0-1.0\n") and "no medical device" in text


def test_numbers_of_other_weights_are_left_out(run, tmp_path, capsys):
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, "model_sha256": "0" * 64}))
    try:
        model = packed(run, tmp_path / "model.zip")
    finally:
        (run / "metrics.json").write_text(json.dumps(metrics))
    assert "is of another model" in capsys.readouterr().err
    assert "metrics.json" not in zipfile.ZipFile(model).namelist()


def test_what_is_made_of_a_packed_model_lies_beside_it(run, tmp_path, monkeypatch):
    model = packed(run, tmp_path / "model.zip")
    monkeypatch.chdir(tmp_path)
    before = sorted(found_run(model).rglob("*"))
    data = ["--data", str(run.parent / SECRET)]
    assert cli.main(["evaluate", str(model), "--count", "4", *data]) == 0
    assert cli.main(["report", str(model)]) == 0
    assert sorted(found_run(model).rglob("*")) == before
    name = found_run(model).name
    assert (tmp_path / f"{name}-metrics" / "metrics.json").is_file()
    assert (tmp_path / f"{name}-report" / "report.html").is_file()


@pytest.mark.parametrize(
    ("method", "data", "more"),
    [
        ("brain-ldm", "brains3d:count=12,size=16", ["--first.steps", "2"]),
        (
            "fast-anomaly",
            "brains:count=24,size=32,lesions=0.5,label=lesion",
            ["--first.steps", "2"],
        ),
    ],
)
def test_models_of_several_parts_are_whole(method, data, more, tmp_path):
    out = tmp_path / "run"
    words = ["--data", data, "--preset", "tiny", "--train.steps", "2", *more, "--out", str(out)]
    assert cli.main(["train", method, *words]) == 0
    model = packed(out, tmp_path / "model.zip", "--stored", "bf16")
    opened = open_run(found_run(model))
    assert opened.recipe == open_run(out).recipe
    assert (found_run(model) / "autoencoder" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "member", ["../escaped.json", "/tmp/escaped.json", "evil.py", "a/b/card.json"]
)
def test_an_archive_of_others_is_refused(run, member, tmp_path, capsys):
    model = packed(run, tmp_path / "model.zip")
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr(member, "{}")
    assert cli.main(["sample", str(model), "--count", "1", "--out", str(tmp_path / "s")]) == 1
    assert "no packed model: it holds" in capsys.readouterr().err
    assert not list(tmp_path.rglob("escaped.json"))


def test_a_damaged_archive_is_refused(run, tmp_path, capsys):
    model = packed(run, tmp_path / "model.zip")
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert cli.main(["sample", str(model), "--count", "1", "--out", str(tmp_path / "s")]) == 1
    err = capsys.readouterr().err
    assert "model.zip: damaged, or no packed model" in err and err.count("\n") == 1


@pytest.mark.parametrize("at", [0.2, 0.4, 0.6, 0.8])
def test_a_flipped_byte_is_told_in_one_line(run, at, tmp_path, capsys):
    model = packed(run, tmp_path / "model.zip")
    whole = bytearray(model.read_bytes())
    whole[int(at * len(whole))] ^= 0xFF
    model.write_bytes(whole)
    capsys.readouterr()
    assert cli.main(["sample", str(model), "--count", "1", "--out", str(tmp_path / "s")]) == 1
    err = capsys.readouterr().err
    assert "damaged" in err and "internal error" not in err and err.count("\n") == 1


def test_packing_says_what_it_cannot(run, tmp_path, capsys):
    assert cli.main(["pack", str(run), "--out", str(tmp_path / "model")]) == 2
    assert "ends in .zip" in capsys.readouterr().err
    model = packed(run, tmp_path / "model.zip")
    assert "--licence TEXT" in capsys.readouterr().err
    assert cli.main(["pack", str(model), "--out", str(tmp_path / "again.zip")]) == 2
    assert "packed model already" in capsys.readouterr().err


def test_commands_are_told_without_folders():
    command = "radiffuse train ddpm --data ../Jane/x.npz --map image=/a/b.png --out runs/jane/x"
    assert without_paths(command) == "radiffuse train ddpm --data x.npz --map image=b.png --out x"
    assert without_paths("radiffuse train x --data 'brains:count=3'").endswith("brains:count=3")


def test_a_model_that_another_command_unpacks_at_the_same_time_is_taken(run, tmp_path, monkeypatch):
    path = packed(run, tmp_path / "model.zip")
    extract = zipfile.ZipFile.extractall

    def meanwhile(archive, part):
        extract(archive, part)
        if not part.parent.name.startswith(".unpacking-other"):
            monkeypatch.setattr(zipfile.ZipFile, "extractall", extract)
            found_run(path)

    monkeypatch.setattr(zipfile.ZipFile, "extractall", meanwhile)
    assert (found_run(path) / "card.json").is_file() or found_run(path).is_dir()
