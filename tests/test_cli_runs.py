"""Commands that make and use a run folder, on pictures made here."""

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from radiffuse import cli, papers
from radiffuse.applications.generation import evaluate as generation
from radiffuse.applications.generation.ddpm import DDPM
from radiffuse.applications.task import Task
from radiffuse.commands.source import asked_cases, open_source
from radiffuse.errors import UserError
from radiffuse.metrics import features
from radiffuse.metrics.joined import MEMBERS
from radiffuse.runs import run
from radiffuse.training import processes

TINY = ("--preset", "tiny", "--width", "8", "--train.steps", "2", "--train.batch", "4")


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Predictions are counted here, and stopped at some of them: none is made to measure its memory."""
    for name in ("sample", "predict"):
        monkeypatch.setattr(f"radiffuse.commands.{name}.check_prediction", lambda *_: "")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 cases of 8 x 8 pixels in two classes, 8 bit, split by patient."""
    path = tmp_path_factory.mktemp("data") / "squares.npz"
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (24, 8, 8), dtype=np.uint8)
    np.savez(
        path,
        image=image,
        label=np.arange(24) % 2,
        label_name=np.array(["round", "square"] * 12),
        patient=np.array([f"p{k}" for k in range(24)]),
        split=np.array(["train"] * 16 + ["val"] * 4 + ["test"] * 4),
    )
    return path


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """A run of two steps, told the class."""
    out = tmp_path_factory.mktemp("runs") / "run"
    words = ["train", "ddpm", "--data", str(data), "--out", str(out), *TINY, "--conditional"]
    assert cli.main(words) == 0
    return out


def sampled(run_folder, out, *words):
    command = ["sample", run_folder, "--out", out, *words]
    assert cli.main([str(word) for word in command]) == 0
    return json.loads((out / "predictions.json").read_text())


# ------------------------------------------------------------------------------------------ train
def test_train_writes_a_complete_run(trained, data):
    made_with = tomllib.loads((trained / "config.toml").read_text())
    assert made_with["run"]["method"] == "ddpm" and made_with["run"]["preset"] == "tiny"
    assert made_with["recipe"]["width"] == 8 and made_with["recipe"]["size"] == [8, 8]
    assert set(made_with["run"]["fitted"]) == {
        "channels",
        "size",
        "classes",
        "data_std",
        "spectrum",
    }
    assert set(made_with["recipe"]) == {field.name for field in dataclasses.fields(DDPM)}
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["data"]["path"] == str(data) and len(manifest["data"]["fingerprint"]) == 64
    assert manifest["environment"]["torch"] == torch.__version__
    assert manifest["command"].startswith("radiffuse train ddpm --data ")


def test_a_configuration_replays_the_run(trained, tmp_path):
    words = ["train", "--config", str(trained / "config.toml"), "--out", str(tmp_path / "again")]
    assert cli.main(words) == 0
    first, again = (path / "model.safetensors" for path in (trained, tmp_path / "again"))
    assert run.model_sha256(first) == run.model_sha256(again)
    tables = [
        tomllib.loads((path / "config.toml").read_text()) for path in (trained, tmp_path / "again")
    ]
    for table in tables:
        del table["run"]["command"]
    assert tables[0] == tables[1]


def test_a_replay_takes_flags_on_top(trained, tmp_path):
    words = ["--out", tmp_path / "again", "--train.seed", "7", "--guidance", "2"]
    assert cli.main(["train", "--config", str(trained / "config.toml"), *map(str, words)]) == 0
    made_with = tomllib.loads((tmp_path / "again" / "config.toml").read_text())
    assert made_with["train"]["seed"] == 7 and made_with["recipe"]["guidance"] == 2.0


def test_a_run_is_never_overwritten(trained, data, refused):
    words = ["train", "ddpm", "--data", data, "--out", trained, *TINY, "--conditional"]
    assert "--resume" in refused(*words)
    assert cli.main([str(word) for word in [*words, "--resume"]]) == 0


def test_resuming_with_another_configuration_names_the_field(trained, data, refused):
    words = ["train", "ddpm", "--data", data, "--out", trained, *TINY, "--resume"]
    assert "recipe.classes" in refused(*words)
    words.append("--conditional")
    assert "train.seed = 0, now it is 3" in refused(*words, "--train.seed", "3")
    other = ["train", "ncsn", "--data", data, "--out", trained, *TINY, "--resume"]
    assert "is a run of ddpm, not of ncsn" in refused(*other)


def test_a_run_of_a_version_without_some_field_goes_on(copy, data):
    config = copy / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("churn = ")))
    assert len(config.read_text().splitlines()) == len(lines) - 1
    words = ["train", "ddpm", "--data", str(data), "--out", str(copy), *TINY, "--conditional"]
    assert cli.main([*words, "--resume"]) == 0


def test_a_longer_budget_goes_on(data, tmp_path):
    words = ["train", "ddpm", "--data", str(data), "--out", str(tmp_path / "run"), *TINY]
    assert cli.main(words) == 0
    assert cli.main([*words, "--resume", "--train.steps", "3"]) == 0
    checkpoints = [path.name for path in (tmp_path / "run" / "checkpoint").glob("step-*")]
    assert "step-00000003" in checkpoints


def test_a_missing_key_says_how_to_map_it(tmp_path, refused):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "two.npz", t1=pixels, t2=255 - pixels)
    words = ["train", "ddpm", "--data", tmp_path / "two.npz", "--out", tmp_path / "run", *TINY]
    line = refused(*words)
    assert "'image'" in line and "t1, t2" in line and "--map image=" in line
    assert not (tmp_path / "run").exists()


def test_out_that_is_a_file_is_refused(tmp_path, data, refused):
    (tmp_path / "file").write_text("mine")
    words = ["train", "ddpm", "--data", data, "--out", tmp_path / "file", *TINY]
    assert "is a file" in refused(*words)
    assert (tmp_path / "file").read_text() == "mine"


def test_ctrl_c_saves_and_says_how_to_go_on(data, tmp_path):
    out = tmp_path / "run"
    words = ["train", "ddpm", "--data", data, "--out", out, *TINY, "--train.steps", "1000000"]
    words += ["--train.log-every", "1"]
    command = [sys.executable, "-m", "radiffuse", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        log = out / "log.jsonl"
        while not (log.exists() and log.stat().st_size):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
                pytest.fail(process.stderr.read())
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().splitlines()
    assert process.returncode == 1
    assert "--resume" in said[-1] and "Traceback" not in "\n".join(said)
    assert run.open_run(out).config.method == "ddpm"
    assert not list(out.rglob(".writing-*"))


# ---------------------------------------------------------------------------------------- open_run
@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def test_a_run_opens_with_its_weights_frozen(trained):
    opened = run.open_run(trained)
    network = opened.objective.players["network"]
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert opened.recipe.classes == 2 and opened.generative


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(UserError, match=r"not a run folder \(config.toml is missing\)"):
        run.open_run(tmp_path)


def test_an_unfinished_run_says_so(copy, refused, tmp_path):
    (copy / "model.safetensors").unlink()
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert "training has not finished" in line and "--resume" in line


def test_a_truncated_model_says_so(copy, refused, tmp_path):
    model = copy / "model.safetensors"
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert str(model) in line and "truncated" in line
    assert not (tmp_path / "s").exists()


def test_a_model_of_another_network_says_so(copy, refused, tmp_path):
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("width = 8", "width = 16"))
    assert "of another network" in refused("sample", copy, "--count", 1, "--out", tmp_path / "s")


def test_a_run_of_another_version_says_so(copy, refused, tmp_path):
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("format = 1", "format = 99"))
    line = refused("sample", copy, "--count", 1, "--out", tmp_path / "s")
    assert "written by a newer radiffuse" in line


def test_a_mistyped_field_in_the_configuration_is_named(copy, refused, tmp_path):
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("dropout = ", "dropuot = "))
    line = refused("evaluate", copy)
    assert "has no field 'dropuot'; did you mean dropout" in line


# ------------------------------------------------------------------------------------------ sample
def test_samples_are_pictures_of_the_datas_depth(trained, tmp_path):
    record = sampled(trained, tmp_path / "s", "--count", 3)
    with Picture.open(tmp_path / "s" / "sample-00002.png") as picture:
        assert picture.mode == "L" and picture.size == (8, 8)
    assert (tmp_path / "s" / "sheet.png").is_file()
    assert [entry["label"] for entry in record["predictions"]] == [0, 1, 0]
    assert record["settings"]["model_sha256"] == run.model_sha256(trained / "model.safetensors")


def test_a_sample_depends_on_seed_and_number_alone(trained, tmp_path):
    def pixels(name, *words):
        sampled(trained, tmp_path / name, "--labels", 1, *words)
        files = sorted((tmp_path / name).glob("sample-*.png"))
        return [np.asarray(Picture.open(file)) for file in files]

    whole = pixels("whole", "--count", 5, "--batch", 5)
    parts = pixels("parts", "--count", 3, "--batch", 2)
    assert all(np.array_equal(a, b) for a, b in zip(whole[:3], parts, strict=True))
    assert not np.array_equal(whole[0], whole[1])
    other = pixels("other", "--count", 1, "--seed", 1)
    assert not np.array_equal(whole[0], other[0])


def test_two_processes_draw_the_same_samples(trained, forks, tmp_path):
    sampled(trained, tmp_path / "one", "--count", 3)
    words = ["sample", trained, "--count", 3, "--out", tmp_path / "two"]
    assert on_two_processes(forks, *words).count("3 samples in") == 1
    for k in range(3):
        one, two = (tmp_path / name / f"sample-{k:05d}.png" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    record = json.loads((tmp_path / "two" / "predictions.json").read_text())
    assert len(record["predictions"]) == 3


def test_samples_that_are_there_are_kept_and_the_rest_is_drawn(trained, tmp_path):
    out = tmp_path / "s"
    sampled(trained, out, "--count", 3)
    whole = [path.read_bytes() for path in sorted(out.glob("sample-*.png"))]
    (out / "sample-00001.png").unlink()
    (out / "sample-00000.png").write_bytes(whole[2])
    sampled(trained, out, "--count", 3)
    assert (out / "sample-00000.png").read_bytes() == whole[2]
    assert (out / "sample-00001.png").read_bytes() == whole[1]


def test_samples_of_other_settings_are_not_mixed(trained, tmp_path, refused):
    sampled(trained, tmp_path / "s", "--count", 1)
    words = ["sample", trained, "--out", tmp_path / "s", "--count", 2]
    assert "with seed 0, not 1; take another --out" in refused(*words, "--seed", 1)


def test_a_command_that_failed_before_its_first_sample_binds_nobody(trained, tmp_path):
    sampled(trained, tmp_path / "s", "--count", 1)
    for path in (tmp_path / "s").iterdir():
        if path.name != "predictions.json":
            path.unlink()
    sampled(trained, tmp_path / "s", "--count", 1, "--seed", 1)


def test_classes_go_by_name_or_number(trained, tmp_path, capsys):
    record = sampled(trained, tmp_path / "s", "--count", 2, "--label", "square")
    assert [entry["label"] for entry in record["predictions"]] == [1, 1]
    words = ["sample", trained, "--out", tmp_path / "t", "--count", 1, "--labels"]
    assert cli.main([str(word) for word in [*words, "squar"]]) == 2
    assert "did you mean square" in capsys.readouterr().err
    assert cli.main([str(word) for word in [*words, "2"]]) == 2
    assert "there are 0 to 1" in capsys.readouterr().err


def test_steps_change_the_sampler(trained, tmp_path):
    assert sampled(trained, tmp_path / "s", "--count", 1, "--steps", 3)["settings"]["steps"] == 3


def test_volumes_are_written_with_their_geometry(tmp_path):
    import nibabel

    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1]])
    draw = np.random.default_rng(0)
    for k in range(4):
        volume = draw.integers(0, 900, (8, 8, 4)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / f"case{k}.nii.gz")
    (tmp_path / "cases.csv").write_text(
        "case,patient,split,image\n"
        + "".join(f"c{k},p{k},train,case{k}.nii.gz\n" for k in range(4))
    )
    words = ["train", "sde", "--data", tmp_path, "--out", tmp_path / "run", *TINY]
    assert cli.main([str(word) for word in [*words, "--range", 0, 1000]]) == 0
    sampled(tmp_path / "run", tmp_path / "s", "--count", 1)
    made = nibabel.load(tmp_path / "s" / "sample-00000.nii.gz")
    assert made.shape == (8, 8, 4) and made.get_data_dtype() == np.int16
    np.testing.assert_allclose(made.affine, affine)


def test_fractions_become_16_bit_pictures(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=pixels)
    words = ["train", "ddpm", "--data", tmp_path / "data.npz", "--out", tmp_path / "run", *TINY]
    assert cli.main([str(word) for word in [*words, "--range", -3, 3]]) == 0
    sampled(tmp_path / "run", tmp_path / "s", "--count", 1)
    with Picture.open(tmp_path / "s" / "sample-00000.png") as picture:
        assert picture.mode.startswith("I;16")


def test_ctrl_c_keeps_the_samples_drawn_so_far(trained, tmp_path, monkeypatch, refused):
    drawn = []
    predict = DDPM.predict

    def stopped(self, objective, batch):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(batch)
        return predict(self, objective, batch)

    words = ["sample", trained, "--count", 4, "--batch", 2, "--out", tmp_path / "s"]
    with monkeypatch.context() as context:
        context.setattr(DDPM, "predict", stopped)
        assert "is kept, the same command makes the rest" in refused(*words)
    assert len(list((tmp_path / "s").glob("sample-*.png"))) == 2
    sampled(trained, tmp_path / "s", "--count", 4)
    assert len(list((tmp_path / "s").glob("sample-*.png"))) == 4


def test_a_sample_that_diverged_is_refused_and_those_before_it_are_kept(
    trained, tmp_path, monkeypatch, refused
):
    predict = DDPM.predict

    def diverging(self, objective, batch):
        image = predict(self, objective, batch)["image"]
        image[1] = torch.nan
        return {"image": image}

    monkeypatch.setattr(DDPM, "predict", diverging)
    line = refused("sample", trained, "--count", 3, "--out", tmp_path / "s")
    assert "sample-00001: 'image' holds values that are not finite" in line
    assert "try more steps (--steps N) or another sampler (--set sampler=NAME)" in line
    assert [path.name for path in (tmp_path / "s").glob("*.png")] == ["sample-00000.png"]


def test_networks_sample_in_bf16_and_hand_out_fp32(trained, tmp_path, refused):
    x, clock, label = torch.randn(4, 2, 8, 8), torch.zeros(4), torch.zeros(4, dtype=torch.long)
    inside = []

    def drawn(precision):
        network = run.open_run(trained).with_precision(precision).objective.players["network"]
        first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
        first.register_forward_hook(lambda *call: inside.append(call[-1].dtype))
        torch.manual_seed(0)
        torch.nn.init.normal_(network.leave.weight)  # two steps of training left it next to zero
        return network(x, clock, label=label)

    exact, rounded = drawn("fp32"), drawn("bf16")
    assert inside == [torch.float32, torch.bfloat16] and rounded.dtype == torch.float32
    error = (rounded - exact).norm() / exact.norm()
    assert 1e-5 < error < 2e-2
    words = ("--count", 1, "--precision")
    sampled(trained, tmp_path / "s", *words, "bf16")
    line = refused("sample", trained, "--out", tmp_path / "s", *words, "fp32")
    assert "precision" in line
    if not torch.cuda.is_available():
        line = refused("sample", trained, "--out", tmp_path / "h", *words, "fp16", code=2)
        assert line.endswith("--precision fp16 needs a GPU; use bf16 or fp32")


# ----------------------------------------------------------------------------------------- predict
def test_predict_points_a_generative_run_to_sample(trained, tmp_path, refused):
    assert "use `radiffuse sample" in refused("predict", trained, "--out", tmp_path / "p")


@dataclasses.dataclass(frozen=True)
class Negative(DDPM):
    """A stand-in for a translation: the negative of the input, and its mean as a number."""

    task = Task("translation", reads=("image",), writes=("target", "mean"))
    trajectory = property()

    def predict(self, objective, batch):
        image = batch["image"]
        return {"target": -image, "mean": image.flatten(1).mean(1), "mask": (image > 0).long()}


def test_predict_writes_each_case_like_its_input(trained, data, tmp_path, monkeypatch):
    monkeypatch.setattr(papers.Paper, "load", lambda paper: Negative)
    words = ["predict", trained, "--out", tmp_path / "p", "--batch", 3]
    assert cli.main([str(word) for word in words]) == 0
    record = json.loads((tmp_path / "p" / "predictions.json").read_text())
    stored = np.load(data)["image"][20:]
    assert len(record["predictions"]) == 4 and record["settings"]["split"] == "test"
    for entry, image in zip(record["predictions"], stored, strict=True):
        made = np.asarray(Picture.open(tmp_path / "p" / entry["files"]["target"]))
        assert np.array_equal(made, 255 - image)
        mask = np.asarray(Picture.open(tmp_path / "p" / entry["files"]["mask"]))
        assert np.array_equal(mask, image > 127)
        assert entry["values"]["mean"] == pytest.approx(image.mean() / 127.5 - 1, abs=1e-5)
    assert not list((tmp_path / "p").glob(".*"))


@pytest.fixture
def predicting(trained, tmp_path, monkeypatch):
    """Run `predict` into tmp_path/p; the ids of cases it asked for, and how it ended.

    `stop` interrupts it, as Ctrl-C does, when it asks for that many batches.
    """

    def predict(*words, stop=None):
        asked = []

        class Draws(Negative):
            def predict(self, objective, batch):
                if len(asked) == stop:
                    raise KeyboardInterrupt
                asked.append(len(batch["image"]))
                part = (batch["seed"] % 5 / 5)[:, None, None, None]
                return super().predict(objective, {**batch, "image": part * batch["image"]})

        monkeypatch.setattr(papers.Paper, "load", lambda paper: Draws)
        command = ["predict", trained, "--out", tmp_path / "p", "--batch", 2, *words]
        return asked, cli.main([str(word) for word in command])

    return predict


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("draws", "stop"), [(1, 1), (3, 3), (3, 4)])
def test_predict_goes_on_after_ctrl_c_as_if_it_had_never_stopped(
    predicting, tmp_path, capsys, draws, stop
):
    """Four cases in two batches; of a case some draws alone are worth nothing."""
    predicting("--samples", draws)
    whole = contents((tmp_path / "p").rename(tmp_path / "whole"))
    assert predicting("--samples", draws, stop=stop)[1] == 1
    assert "is kept, the same command makes the rest" in capsys.readouterr().err
    assert predicting("--samples", draws) == ([2] * draws, 0)
    assert contents(tmp_path / "p") == whole
    assert predicting("--samples", draws) == ([], 0)
    assert contents(tmp_path / "p") == whole


def test_predict_makes_again_what_is_gone(predicting, tmp_path):
    predicting()
    whole = contents(tmp_path / "p")
    next((tmp_path / "p").glob("*-mask*")).unlink()
    assert predicting() == ([1], 0)
    assert contents(tmp_path / "p") == whole


@pytest.mark.parametrize("draws", [1, 2])
def test_a_case_that_diverged_is_refused_and_all_others_are_kept(
    predicting, tmp_path, monkeypatch, capsys, draws
):
    """The last draw of the second of two cases is not finite."""
    predicting("--samples", draws)
    whole = contents((tmp_path / "p").rename(tmp_path / "whole"))
    entries = json.loads(whole["predictions.json"])["predictions"]
    bad = sorted({entry["case"] for entry in entries})[1]
    predict, seeds = Negative.predict, []

    def diverging(self, objective, batch):
        seeds.append(batch["seed"])
        outputs = predict(self, objective, batch)
        if len(seeds) == draws:
            outputs["target"][1, 0, 0, 0] = torch.inf
        return outputs

    with monkeypatch.context() as context:
        context.setattr(Negative, "predict", diverging)
        assert predicting("--samples", draws)[1] == 1
    line = capsys.readouterr().err
    assert f"error: {bad}: 'target' holds values that are not finite" in line
    assert "try more steps (--steps N) or another sampler (--set sampler=NAME)" in line
    left = contents(tmp_path / "p")
    assert not [name for name in left if name.startswith(bad)]
    assert len([name for name in left if name.endswith(".png")]) > 0
    assert predicting("--samples", draws) == ([2] * draws + [1] * draws, 0)
    assert contents(tmp_path / "p") == whole


def test_predict_goes_on_with_another_number_of_processes(predicting, tmp_path, monkeypatch):
    predicting()
    whole = contents((tmp_path / "p").rename(tmp_path / "whole"))
    with monkeypatch.context() as two:
        for name, value in (("start", lambda: None), ("world", lambda: 2), ("agree", list)):
            two.setattr(processes, name, value)
        assert predicting(stop=0)[1] == 1  # process 0 of two is stopped at once
        two.setattr(processes, "rank", lambda: 1)
        assert predicting() == ([2], 0)
    assert predicting() == ([2], 0)
    assert contents(tmp_path / "p") == whole


def test_predictions_of_other_settings_are_not_mixed(predicting, tmp_path, capsys):
    predicting(stop=1)
    for words, what in (
        (("--samples", 2), "samples 1, not 2"),
        (("--map", "image=image"), "map None, not {'image': 'image'}"),
    ):
        assert predicting(*words) == ([], 1)
        assert f"holds predictions with {what}; take another --out" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- evaluate
def test_evaluate_writes_the_record_with_what_made_it(trained, tmp_path, monkeypatch, capsys):
    value = {"mean": 1.25, "ci95": [1.0, 1.5], "n": 4, "per_patient": {}}
    refusal = {"refused": "needs 50 images", "n": 4}
    asked = {}

    def measured(recipe, objective, train, held_out, **options):
        asked.update(options, train=len(train), held_out=len(held_out))
        return {"method": {"kid": refusal, "ms_ssim": value}, "baseline": {}, "data": {}}

    monkeypatch.setattr("radiffuse.commands.evaluate.evaluate", measured)
    out = tmp_path / "metrics.json"
    words = ["evaluate", trained, "--out", out, "--count", 4, "--split", "val"]
    assert cli.main([str(word) for word in words]) == 0
    record = json.loads(out.read_text())
    assert record["method"]["ms_ssim"] == value and record["id"] == "ddpm"
    assert record["model_sha256"] == run.model_sha256(trained / "model.safetensors")
    assert asked["command"].startswith("radiffuse evaluate ") and asked["count"] == 4
    assert (asked["train"], asked["held_out"]) == (16, 4)
    table = capsys.readouterr().out
    assert "1.25 [1, 1.5]" in table and "no kid: needs 50 images" in table


def test_data_that_have_moved_are_asked_for(copy, refused):
    text = (copy / "config.toml").read_text()
    path = tomllib.loads(text)["data"]["path"]
    (copy / "config.toml").write_text(text.replace(path, "/gone/data.npz"))
    assert "the training data are gone; name data with --data" in refused("evaluate", copy)


def test_a_split_that_is_not_there_is_named(trained, refused):
    assert "train, val, test" in refused("evaluate", trained, "--split", "holdout")


@pytest.fixture
def hasty(monkeypatch):
    """A feature network of two steps, and no likelihood."""
    monkeypatch.setattr(features, "STEPS", 2)
    monkeypatch.setattr(generation, "spread", lambda n, count: [0])


def evaluated(run_folder, *words):
    return cli.main([str(word) for word in ["evaluate", run_folder, "--count", 4, *words]])


def test_evaluate_goes_on_after_ctrl_c_in_the_metrics(copy, hasty, monkeypatch, refused):
    """Images are drawn once; the numbers are those of a command that was never stopped."""
    assert evaluated(copy) == 0
    whole = json.loads((copy / "metrics.json").read_text())
    shutil.rmtree(copy / "evaluated")
    (copy / "metrics.json").unlink()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(generation, "_metrics", stopped)
        assert "interrupted" in refused("evaluate", copy, "--count", 4)
    assert not (copy / "metrics.json").exists()
    with monkeypatch.context() as context:
        context.setattr(DDPM, "predict", stopped)
        assert evaluated(copy) == 0
    assert json.loads((copy / "metrics.json").read_text()) == whole


# --------------------------------------------------------------------------------------- full disk
@pytest.fixture
def disk_for(monkeypatch):
    """A disk that is full after some more files."""

    @contextlib.contextmanager
    def with_room(files):
        moved, replace = [], os.replace

        def full(*paths):
            if len(moved) == files:
                raise OSError(errno.ENOSPC, "No space left on device")
            moved.append(paths)
            replace(*paths)

        with monkeypatch.context() as context:
            context.setattr(os, "replace", full)
            yield

    return with_room


def test_sample_and_predict_on_a_full_disk_keep_what_there_is_and_go_on(
    trained, predicting, disk_for, tmp_path, refused, capsys
):
    with disk_for(3):  # predictions.json, what comes next, and one sample
        line = refused("sample", trained, "--count", 2, "--out", tmp_path / "s")
    assert line.endswith("sample-00001.png: the disk is full; free some space and run again")
    left = [name for name in contents(tmp_path / "s") if not name.startswith(".part-")]
    assert sorted(left) == ["predictions.json", "sample-00000.png"]
    sampled(trained, tmp_path / "s", "--count", 2)
    with disk_for(
        1 + 6 + 1 + 1
    ):  # a batch of two cases of two files and a strip, what it says, one file
        assert predicting()[1] == 1
    assert "the disk is full; free some space and run again" in capsys.readouterr().err
    assert predicting() == ([2], 0)
    assert not list(tmp_path.rglob(".*"))


def test_evaluate_and_report_on_a_full_disk_are_one_line_and_go_on(
    copy, hasty, disk_for, monkeypatch, refused
):
    for room, what in ((0, "evaluated/"), (1, "features-"), (1 + MEMBERS, "pictures/")):
        with disk_for(room):
            line = refused("evaluate", copy, "--count", 4)
        assert what in line and line.endswith("the disk is full; free some space and run again")
        shutil.rmtree(copy / "evaluated", ignore_errors=True)
        shutil.rmtree(copy / "features", ignore_errors=True)
    assert evaluated(copy) == 0
    with disk_for(0):
        line = refused("report", copy)
    assert line.endswith("report.html: the disk is full; free some space and run again")
    assert cli.main(["report", str(copy)]) == 0
    assert not list(copy.rglob(".*"))


# ----------------------------------------------------------------------------------- two processes
def on_two_processes(forks, *words):
    """What a command says on two processes, with a feature network of two steps."""
    told = forks.on_two("processes:commands", [[str(word) for word in words]], 2)
    assert [code for ((code, _, _),) in told] == [0, 0], told
    return "".join(out for ((_, out, _),) in told)


def test_two_processes_predict_the_same(data, forks, tmp_path):
    train = ["train", "ddpm-conversion", "--data", data, "--map", "source=image", "target=image"]
    train += [*TINY[:2], *TINY[4:], "--out", tmp_path / "run"]
    assert cli.main([str(word) for word in train]) == 0
    words = ["predict", tmp_path / "run", "--samples", 2, "--batch", 2, "--steps", 2]
    words += ["--out", tmp_path / "p"]
    assert cli.main([str(word) for word in words]) == 0
    one = contents((tmp_path / "p").rename(tmp_path / "one"))
    assert on_two_processes(forks, *words).count("4 cases predicted in") == 1
    two = contents(tmp_path / "p")
    first, second = (json.loads(files.pop("predictions.json")) for files in (one, two))
    assert second["environment"].pop("processes") == 2
    del first["environment"]["processes"], first["environment"]["threads"]
    del second["environment"]["threads"]
    assert second == first and two == one


def test_two_processes_measure_the_same(copy, hasty, forks):
    words = ["--split", "val", "--batch", 2]
    assert evaluated(copy, *words) == 0
    one = json.loads((copy / "metrics.json").read_text())
    shutil.rmtree(copy / "evaluated")
    told = on_two_processes(forks, "evaluate", copy, "--count", 4, *words)
    assert told.count("metrics: ") == 1
    two = json.loads((copy / "metrics.json").read_text())
    assert two["environment"]["processes"] == 2
    for who in ("method", "baseline"):
        for metric in ("nearest_pixels", "nearest_features"):
            first, second = (record[who][metric]["per_patient"] for record in (one, two))
            assert len(second) == 4 and second == pytest.approx(first, rel=1e-4)


# ---------------------------------------------------------------------------------- moved data
def test_data_at_another_place_are_the_same_data(trained, data, tmp_path, refused):
    """Resume, evaluate and predict by contents; other contents are refused by name."""
    copy = shutil.copytree(trained, tmp_path / "run")
    moved = shutil.copy(data, tmp_path / "elsewhere.npz")
    words = ["train", "ddpm", "--data", str(moved), "--out", str(copy), *TINY, "--conditional"]
    assert cli.main([*words, "--resume", "--train.steps", "3"]) == 0
    assert tomllib.loads((copy / "config.toml").read_text())["data"]["path"] == str(moved)
    with np.load(data) as arrays:
        changed = {**arrays, "image": 255 - arrays["image"]}
    np.savez(tmp_path / "changed.npz", **changed)
    other = [*words, "--resume", "--train.steps", "4"]
    other[other.index(str(moved))] = str(tmp_path / "changed.npz")
    assert "was trained on data of other contents" in refused(*other)


def test_moved_training_data_keep_their_split(trained, data, tmp_path):
    opened = run.open_run(trained)
    moved = shutil.copy(data, tmp_path / "elsewhere.npz")
    source = dataclasses.replace(opened.config.data, path=str(moved))
    every = open_source(source, opened.recipe)
    assert set(asked_cases(every, None, source, opened).split_of) == {"test"}
