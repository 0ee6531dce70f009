"""Which preset a run has, in what it departs from its paper, and where its results say so."""

import json

import pytest
import torch

from radiffuse import cli, papers
from radiffuse.training.health import Meter
from radiffuse.training.options import TrainOptions
from radiffuse.training.progress import Reporter, spelled

DATA = ("--data", "brains:count=20,size=16")
QUICK = ("--width", "8", "--train.steps", "2", "--train.batch", "4")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of no preset named."""
    out = tmp_path_factory.mktemp("runs") / "ddpm"
    assert cli.main(["train", "ddpm", *DATA, *QUICK, "--out", str(out)]) == 0
    return out


def test_small_is_what_is_trained_where_no_preset_is_named(small):
    assert 'preset = "small"' in (small / "config.toml").read_text()
    assert json.loads((small / "manifest.json").read_text())["preset"] == "small"


def test_small_says_what_it_departs_from(tmp_path, capsys):
    words = ["train", "anoddpm", *DATA, "--map", "image=t1", "--healthy", "0", *QUICK]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "anoddpm" in line]
    assert len(lines) == 1 and lines[0].startswith("note: anoddpm (small) departs from its paper: ")


def test_the_paper_s_has_nothing_to_say(tmp_path, capsys):
    words = ["train", "ddpm", *DATA, "--preset", "paper", *QUICK, "--timesteps", "30"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "depart" not in capsys.readouterr().err


def test_results_carry_the_preset_in_their_name(small, tmp_path, capsys):
    words = ["--steps", "2", "--count", "4"]
    assert cli.main(["sample", str(small), *words, "--out", str(tmp_path / "made")]) == 0
    assert cli.main(["report", str(tmp_path / "made")]) == 0
    settings = json.loads((tmp_path / "made" / "predictions.json").read_text())["settings"]
    assert settings["method"] == "ddpm" and settings["preset"] == "small"
    assert "<h1>ddpm (small)</h1>" in (tmp_path / "made" / "report.html").read_text()
    assert cli.main(["report", str(small)]) == 0
    assert "<h1>ddpm (small)</h1>" in (small / "report.html").read_text()


def test_tables_of_numbers_carry_it_too(small, capsys, monkeypatch):
    value = {"mean": 1.0, "ci95": None, "n": 1}
    record = {"method": {"fid": value}, "baseline": {"fid": value}, "data": {}}
    monkeypatch.setattr("radiffuse.commands.evaluate.evaluate", lambda *_, **__: record)
    assert cli.main(["evaluate", str(small)]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["ddpm", "(small)", "baseline"]
    assert json.loads((small / "metrics.json").read_text())["name"] == "ddpm (small)"
    assert cli.main(["report", str(small)]) == 0
    assert "<th>ddpm (small)<" in (small / "report.html").read_text()
    (small / "metrics.json").unlink()


def test_names_of_results():
    assert papers.named("ddpm", "paper") == "ddpm"
    assert papers.named("ddpm", "small") == "ddpm (small)"


def test_another_preset_does_not_go_on(small, refused):
    words = ("train", "ddpm", *DATA, *QUICK, "--out", small, "--resume", "--preset", "tiny")
    assert "made with --preset small, now it is tiny" in refused(*words)


def test_show_prints_what_the_paper_preset_departs_from(capsys):
    assert cli.main(["show", "anoddpm"]) == 0
    said = capsys.readouterr().out
    assert "train.ema = [0.0333], source: exponential, decay 0.9999" in said
    assert "train.batch = 1 (code: args" in said and "missing: random turns" in said


def report_steps(tmp_path, capsys, options, seconds, count=8):
    """What a training of steps of `seconds` says."""
    reporter = Reporter(tmp_path, options, Meter(scaled=False, cause=lambda *_: ""), 0, 0.0)
    for step in range(1, count + 1):
        reporter.step(step, 100.0 + step * seconds)
    reporter.close()
    return [line for line in capsys.readouterr().err.splitlines() if "on this machine" in line]


def test_the_time_of_a_training_is_told_once_from_its_first_steps(tmp_path, capsys):
    lines = report_steps(tmp_path, capsys, TrainOptions(steps=800_000), 4.0)
    assert len(lines) == 1
    assert lines[0].startswith("about 37 days on this machine: 800,000 steps of 4 s")


@pytest.mark.parametrize("options", [TrainOptions(minutes=30.0), TrainOptions(steps=20)])
def test_short_and_timed_trainings_tell_nothing(tmp_path, capsys, options):
    assert not report_steps(tmp_path, capsys, options, 4.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(90.0, "about 2 min"), (7_300.0, "about 2 hours"), (1e6, "about 12 days")],
)
def test_durations_in_words(seconds, said):
    assert spelled(seconds) == said


def test_an_average_of_no_width_is_the_last_weights():
    from radiffuse.training.ema import PowerAverage

    live = {"w": torch.zeros(3)}
    average = PowerAverage(live, (0.0, 0.1))
    for step in range(1, 5):
        live["w"].fill_(step)
        average.update(step)
    assert average.averages[0.0]["w"].tolist() == [4.0] * 3
    assert 0 < float(average.averages[0.1]["w"][0]) < 4
