"""Records and weights are checked when they are read; what no command made is left alone."""

import json
import os
import re
import shutil
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from radiffuse import cli
from radiffuse.commands.predictions import Folder
from radiffuse.errors import UserError
from radiffuse.runs.run import open_run, record_model
from radiffuse.training import checkpoint

BRAINS = "brains:count=12,size=16,lesions=0.5,label=lesion"
TINY = ("--preset", "tiny", "--width", "4", "--multiples", "1", "1", "--train.steps", "2")
BEFORE = Path(__file__).parent / "before"


def done(*words):
    assert cli.main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """A run that samples."""
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    done("train", "ddpm", "--data", BRAINS, "--map", "image=t2", *TINY, "--out", out)
    return out


@pytest.fixture(scope="module")
def predicts(tmp_path_factory):
    """A run that predicts."""
    out = tmp_path_factory.mktemp("runs") / "anoddpm"
    words = ["--map", "image=t2", "mask=lesion", *TINY, "--octaves", 2, "--out", out]
    done("train", "anoddpm", "--data", BRAINS, *words)
    return out


@pytest.fixture
def copy(samples, tmp_path):
    return shutil.copytree(samples, tmp_path / "run")


def edited(path, change):
    """Write JSON again with some fields changed: {"data.size": 3}."""
    record = json.loads(path.read_text())
    for field, value in change.items():
        *above, last = field.split(".")
        place = record
        for name in above:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value
    path.write_text(json.dumps(record))


def flipped(path, bit):
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


# ----------------------------------------------------------------------------------------- schemas
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "written by a newer radiffuse (format 2, not 1)"),
        ({"format": 0}, "written by an older radiffuse (format 0, not 1)"),
        ({"format": "1"}, "format: expected int, got '1'"),
        ({"data": "brains"}, "data: expected object, got str"),
        ({"data.facts": []}, "data.facts: expected object, got array"),
        ({"data.facts.size": {"image": 16}}, "data.facts.size[...]: expected array, got int"),
        ({"data.facts.class_names": "ab"}, "data.facts.class_names: expected array, got str"),
        ({"data.stored.range": [0, "1"]}, "data.stored.range[1]: expected int | float, got str"),
        ({"data.fingerprint": 7}, "data.fingerprint: expected str, got int"),
        ({"model_sha256": 7}, "model_sha256: expected str | array | null, got int"),
    ],
)
def test_a_manifest_of_other_types_is_refused_by_field(copy, refused, tmp_path, change, said):
    edited(copy / "manifest.json", change)
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert f"{copy / 'manifest.json'}: {said}" in line
    assert said in refused("report", copy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("[]", "expected object, got array"),
        ('{"data": NaN}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_a_record_that_is_none_is_one_line(copy, refused, text, said):
    (copy / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    assert f"manifest.json: {said}" in refused("report", copy)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"format": 9}, "written by a newer radiffuse"),
        ({"method": {"fid": 3}}, "method[...]: expected object, got int"),
        (
            {"method": {"fid": {"mean": "3"}}},
            "method[...].mean: expected int | float | null, got str",
        ),
        ({"method": {"fid": {"ci95": [1]}}}, "method[...].ci95: expected"),
        ({"settings": {"panels": [1]}}, "settings.panels[0]: expected str, got int"),
        ({"rejection": {"a": {"curve": {}}}}, "rejection[...].curve: expected array, got object"),
        ({"rank_histogram": {"shares": ["a"]}}, "rank_histogram.shares[0]: expected int | float"),
        ({"calibration": {"voxels": [[1]]}}, "calibration.voxels[0]: expected"),
        ({"features": "x"}, "features: expected object, got str"),
    ],
)
def test_metrics_of_other_types_are_refused_by_field(copy, refused, record, said):
    (copy / "metrics.json").write_text(json.dumps(record))
    assert f"{copy / 'metrics.json'}: {said}" in refused("report", copy)


def test_thresholds_of_other_types_judge_no_prediction(predicts, refused, tmp_path):
    run = shutil.copytree(predicts, tmp_path / "run")
    (run / "metrics.json").write_text('{"calibration": {"healthy_scores": [0.5, "1"]}}')
    line = refused("predict", run, "--out", tmp_path / "p")
    assert "metrics.json: calibration.healthy_scores[1]: expected int | float, got str" in line


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ({}, "expected array, got object"),
        ([3], "[0]: expected object, got int"),
        ([{"name": 3}], "[0].name: expected str, got int"),
        ([{"fid": {"ci95": "wide"}}], "[0].fid.ci95: expected array | null, got str"),
    ],
)
def test_a_curve_of_other_types_is_refused_by_field(copy, refused, points, said):
    (copy / "quality.json").write_text(json.dumps(points))
    assert f"{copy / 'quality.json'}: {said}" in refused("report", copy)


def test_numbers_of_one_patient_have_no_interval_and_are_shown(copy):
    fid = {"mean": 3.0, "ci95": None, "n": 1}
    (copy / "quality.json").write_text(json.dumps([{"name": "a", "evaluations": 3, "fid": fid}]))
    curve = [{"referred": 0.0, "mean": 1.0, "ci95": None}]
    record = {"method": {"fid": fid}, "rejection": {"method": {"by": "spread", "curve": curve}}}
    (copy / "metrics.json").write_text(json.dumps(record))
    done("report", copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "written by a newer radiffuse"),
        ({"settings": []}, "settings: expected object, got array"),
        ({"predictions": {}}, "predictions: expected array, got object"),
        ({"predictions.0.case": 1}, "predictions[0].case: expected str, got int"),
        *(
            ({"predictions.0.files.image": name}, "expected the name of a file in this folder")
            for name in ("../x.png", "/etc/passwd", "a/b.png", "..", "", "a\\b", "a\0b")
        ),
    ],
)
def test_predictions_of_other_types_or_elsewhere_are_refused(
    samples, refused, tmp_path, change, said
):
    (tmp_path / "x.png").write_text("mine")
    out = tmp_path / "s"
    words = ("sample", samples, "--count", 1, "--steps", 2, "--out", out)
    done(*words)
    edited(out / "predictions.json", change)
    assert said in refused(*words)
    assert said in refused("report", out)
    assert (tmp_path / "x.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "radiffuse-checkpoint-2"}, "not a checkpoint of this version"),
        ({"step": "2"}, "damaged"),
        ({"settings": {}}, "damaged"),
    ],
)
def test_a_state_that_was_changed_is_refused(copy, capsys, change, said):
    state = checkpoint.newest(copy) / "state.json"
    edited(state, change)
    words = ["--data", BRAINS, "--map", "image=t2", *TINY, "--out", copy, "--resume"]
    assert cli.main(["train", "ddpm", *map(str, words)]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{state}: {said}" in line and line.endswith("to start from the beginning")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": "2"}, "step: expected int, got str"),
        ({"meter": 3}, "meter: expected object, got int"),
        ({"meter.typical": {"network": [1.0]}}, "meter.typical[...]: expected"),
    ],
)
def test_a_state_of_before_has_its_types_checked(tmp_path, change, said):
    folder = checkpoint.newest(shutil.copytree(BEFORE, tmp_path / "run"))
    edited(folder / "state.json", change)
    with pytest.raises(UserError, match=re.escape(f"state.json: {said}")):
        checkpoint.read_facts(folder)


def test_lines_of_a_log_that_are_none_are_passed_over(copy):
    """A training goes on, and a report is made: the log is told to people alone."""
    log = copy / "log.jsonl"
    good = log.read_bytes()
    log.write_bytes(b'\xff\n{"step": "1"}\n[1]\nnull\n' + b"[" * 100_000 + b"\n" + good)
    done("report", copy)
    words = ["--data", BRAINS, "--map", "image=t2", *TINY, "--train.steps", 3, "--out", copy]
    done("train", "ddpm", *words, "--resume")
    lines = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert lines == [2, 3]


@pytest.mark.parametrize("text", [b"\xff", b"x = " + b"[" * 100_000, b"[run", b"run = 1"])
def test_a_configuration_that_is_none_is_one_line(copy, refused, tmp_path, text):
    (copy / "config.toml").write_bytes(text)
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert f"{copy / 'config.toml'}: not " in line


# ------------------------------------------------------------------------------------------- models
def test_the_manifest_names_the_model(samples, tmp_path):
    named = json.loads((samples / "manifest.json").read_text())["model_sha256"]
    assert named == open_run(samples).model_sha256 and len(named) == 64
    done("sample", samples, "--count", 1, "--steps", 2, "--out", tmp_path / "s")
    made = json.loads((tmp_path / "s" / "predictions.json").read_text())
    assert made["settings"]["model_sha256"] == named


def test_no_flipped_bit_of_a_model_goes_unseen(samples, tmp_path):
    whole = samples / "model.safetensors"
    shutil.copytree(samples, tmp_path / "run")
    draw = np.random.default_rng(0)
    size = 8 * whole.stat().st_size
    header = 8 * int.from_bytes(whole.read_bytes()[:8], "little")
    method = 8 * whole.read_bytes().index(b"ddpm")
    bits = [*draw.integers(0, size, 30), *draw.integers(64, header, 60), method]
    for bit in bits:
        damaged = Path(shutil.copy(whole, tmp_path / "run"))
        flipped(damaged, int(bit))
        with pytest.raises(UserError, match=r"model\.safetensors: ") as caught:
            open_run(tmp_path / "run")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("command", ["sample", "predict", "evaluate", "prior"])
def test_no_command_uses_damaged_weights(samples, predicts, refused, tmp_path, command):
    run = shutil.copytree(predicts if command == "predict" else samples, tmp_path / "run")
    flipped(run / "model.safetensors", 8 * ((run / "model.safetensors").stat().st_size - 3))
    out = tmp_path / "out"
    line = refused(
        *{
            "sample": ("sample", run, "--count", 1, "--out", out),
            "predict": ("predict", run, "--out", out),
            "evaluate": ("evaluate", run, "--out", out / "metrics.json"),
            "prior": ("train", "mcg", "--prior", run, "--out", out),
        }[command]
    )
    assert "model.safetensors: damaged: its contents are not those that were written" in line
    assert not out.exists()


def test_a_model_of_another_run_is_refused_and_resume_writes_the_own_one(copy, refused, tmp_path):
    words = ["--data", BRAINS, "--map", "image=t2", *TINY]
    done("train", "ddpm", *words, "--train.seed", 1, "--out", tmp_path / "other")
    own = open_run(copy).model_sha256
    shutil.copy(tmp_path / "other" / "model.safetensors", copy)
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert "is not the model that manifest.json names" in line and "--resume" in line
    done("train", "ddpm", *words, "--out", copy, "--resume")
    assert open_run(copy).model_sha256 == own


def test_a_model_of_before_opens_with_a_notice(tmp_path, capsys):
    run = shutil.copytree(BEFORE, tmp_path / "run")
    open_run(run)
    assert "an older version wrote it, so damage to it cannot be seen" in capsys.readouterr().err


@contextmanager
def killed_at(number):
    """In a child process: call `number` of those that change the disk is the last, as by SIGKILL.

    Yields a list that afterwards holds the child's exit code; the parent's code is not run.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads
        child = os.fork()
    code = []
    if child == 0:
        left = number

        def dying(function):
            def call(*arguments, **keywords):
                nonlocal left
                left -= 1
                if left == 0:
                    os._exit(9)
                return function(*arguments, **keywords)

            return call

        for name in ("replace", "rename", "unlink", "mkdir", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
    yield code, child == 0
    if child == 0:
        os._exit(0)
    code.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def test_killed_at_any_point_of_writing_a_model_the_run_opens(copy, tmp_path):
    """Model and manifest are two files: either model is known at every moment between them."""
    opened = open_run(copy)
    before, objective = opened.model_sha256, opened.objective
    for parameter in objective.players["network"].parameters():
        parameter += 1
    manifest = {key: value for key, value in opened.manifest.items() if key != "model_sha256"}
    found = set()
    for number in range(1, 50):
        run = shutil.copytree(copy, tmp_path / str(number))
        with killed_at(number) as (code, here):
            if here:
                record = partial(record_model, run, manifest)
                model = run / "model.safetensors"
                checkpoint.save_model(objective, model, method="ddpm", step=3, record=record)
        found.add((code[0], open_run(run).model_sha256 == before))
        if code == [0]:
            break
        checkpoint.save_model(
            objective,
            run / "model.safetensors",
            method="ddpm",
            step=3,
            record=partial(record_model, run, manifest),
        )
        assert open_run(run).model_sha256 == open_run(run).manifest["model_sha256"] != before
    assert found == {(9, True), (9, False), (0, False)}


def test_no_flipped_bit_of_a_checkpoint_changes_what_goes_on(copy):
    """It is refused; but for the few bits that name the hash itself, after which all is as it was."""
    folder = checkpoint.newest(copy)
    draw = np.random.default_rng(0)

    shapes = checkpoint.model_tensors(open_run(copy).objective)

    def read():
        facts = checkpoint.read_facts(folder)
        into = {f"weights/{name}": torch.zeros_like(tensor) for name, tensor in shapes.items()}
        checkpoint.read_tensors(folder, into, {name: name.split("/")[1] for name in into})
        return facts, torch.cat([tensor.flatten() for tensor in into.values()])

    whole = read()
    refused = 0
    for name, count in (("state.json", 20), ("state.safetensors", 40)):
        path = folder / name
        content = path.read_bytes()
        for bit in draw.integers(0, 8 * len(content), count):
            flipped(path, int(bit))
            try:
                facts, weights = read()
                assert facts == whole[0] and torch.equal(weights, whole[1])
            except UserError:
                refused += 1
            path.write_bytes(content)
    assert refused >= 59


# ------------------------------------------------------------------------------- whose files they are
def test_a_picture_that_no_command_made_is_no_sample(samples, refused, tmp_path):
    out = tmp_path / "s"
    out.mkdir()
    mine = out / "sample-00001.png"
    mine.write_text("mine")
    (out / "notes.txt").write_text("mine too")
    words = ("sample", samples, "--steps", 2, "--out", out)
    line = refused(*words, "--count", 2)
    assert f"{mine}: is there already" in line and "take another --out" in line
    assert sorted(path.name for path in out.iterdir()) == ["notes.txt", "sample-00001.png"]
    done(*words, "--count", 1)
    assert "sample-00001.png: is there already" in refused(*words, "--count", 3)
    assert mine.read_text() == "mine" and (out / "notes.txt").read_text() == "mine too"


@pytest.mark.parametrize("name", ["sheet.png", "predictions.json"])
def test_a_sheet_or_a_record_that_no_command_made_is_kept(samples, refused, tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    assert name in refused("sample", samples, "--count", 1, "--steps", 2, "--out", tmp_path)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_file_that_no_command_made_is_no_prediction(predicts, refused, tmp_path):
    done("predict", predicts, "--out", tmp_path / "whole")
    record = json.loads((tmp_path / "whole/predictions.json").read_text())
    names = [file for entry in record["predictions"] for file in entry["files"].values()]
    out = tmp_path / "p"
    out.mkdir()
    for name in (names[-1], names[-1].partition(".")[0] + ".tif"):
        (out / name).write_text("mine")
        assert f"{out / name}: is there already" in refused("predict", predicts, "--out", out)
        assert [path.name for path in out.iterdir()] == [name]
        (out / name).unlink()


def test_a_training_leaves_the_records_of_others_alone(refused, tmp_path):
    words = ["train", "ddpm", "--data", BRAINS, "--map", "image=t2", *TINY, "--out", tmp_path]
    for name, text in (("config.toml", "[tool]\nx = 1\n"), ("manifest.json", "{}")):
        (tmp_path / name).write_text(text)
        line = refused(*words)
        assert name in line and line.endswith("take another --out")
        assert (tmp_path / name).read_text() == text
        (tmp_path / name).unlink()


def test_fewer_samples_and_then_more_are_all_kept(samples, tmp_path):
    words = ("sample", samples, "--steps", 2, "--out", tmp_path, "--count")
    done(*words, 3)
    made = {path.name: path.read_bytes() for path in tmp_path.glob("sample-*")}
    done(*words, 1)
    record = json.loads((tmp_path / "predictions.json").read_text())
    assert [entry["case"] for entry in record["predictions"]] == [
        f"sample-0000{k}" for k in range(3)
    ]
    done(*words, 4)
    assert {
        path.name: path.read_bytes() for path in tmp_path.glob("sample-*")
    }.items() > made.items()


def test_killed_at_any_point_of_filling_a_folder_it_can_be_filled(tmp_path):
    """What a killed command had written is its own: neither refused as foreign, nor taken half done."""
    entries = [
        {"case": f"c{k}", "files": {"image": f"c{k}.png", "mask": f"c{k}-mask.png"}} for k in (0, 1)
    ]
    names = [name for entry in entries for name in entry["files"].values()]

    def fill(folder):
        folder = Folder(folder, Path("run"), {"seed": 0}, ["predict"])
        kept = folder.begin(names)
        for number, entry in enumerate(entries):
            if entry["case"] in kept:
                continue
            with folder.staged(f"{number:06d}") as stage:
                stage.mkdir()
                for name in entry["files"].values():
                    (stage / name).write_text("made")
                folder.keep(f"{number:06d}", [entry])
                folder.move(stage, [entry])
        folder.gather(["c0", "c1"], kept)

    for number in range(1, 100):
        out = tmp_path / str(number)
        out.mkdir()
        with killed_at(number) as (code, here):
            if here:
                fill(out)
        if code == [0]:
            break
        fill(out)
        assert sorted(path.name for path in out.iterdir()) == sorted([*names, "predictions.json"])
        record = json.loads((out / "predictions.json").read_text())
        assert record["predictions"] == entries
    assert 15 < number < 99


def test_litter_of_an_interrupted_command_is_swept_and_nothing_else(samples, tmp_path):
    out = tmp_path / "s"
    words = ("sample", samples, "--steps", 2, "--out", out, "--count")
    done(*words, 1)
    for name in (".writing-abcdefg0-sample-00001.png", ".part-000004.json"):
        (out / name).write_text("[]")
    (out / ".part-000007").mkdir()
    (out / ".part-000007" / "sample-00007.png").write_text("half")
    (out / ".writing-notes").write_text("mine")
    (out / ".part-mine").write_text("mine")
    done(*words, 2)
    hidden = sorted(path.name for path in out.glob(".*"))
    assert hidden == [".part-mine", ".writing-notes"]


def test_evaluate_sweeps_what_it_keeps_in_the_run(predicts, tmp_path, monkeypatch):
    monkeypatch.setattr("radiffuse.commands.evaluate.evaluate", lambda *_, **__: {"method": {}})
    run = shutil.copytree(predicts, tmp_path / "run")
    litter = [run / name / ".writing-abcdefg0-x.png" for name in ("", "pictures", "evaluated/a")]
    for path in litter:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done("evaluate", run)
    assert not [path for path in litter if path.exists()]


# ------------------------------------------------------------------------------------ paths of data
def test_a_relative_path_of_data_works_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    np.savez("data.npz", image=pixels)
    words = ["train", "anoddpm", *TINY, "--octaves", 2, "--out", "run", "--healthy", 0]
    done(*words, "--data", "data.npz")
    data = str(tmp_path / "here" / "data.npz")
    assert open_run("run").config.data.path == data
    monkeypatch.chdir(tmp_path / "there")
    done("predict", "../here/run", "--out", "p")
    assert open_run("../here/run").manifest["data"]["path"] == data
    done("predict", "../here/run", "--out", "p", "--data", "../here/data.npz")
