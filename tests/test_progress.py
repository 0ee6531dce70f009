"""What a long work says: how many are done, how fast, how long it takes; and that one long case goes on."""

import pytest
import torch
from torch import nn

from radiffuse import cli
from radiffuse.applications.evaluation.progress import progress_bar
from radiffuse.training import progress


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 0.0)


def test_a_line_says_how_many_how_fast_and_how_long(capsys):
    with progress_bar("comparing", 4) as done:
        done(1)
    first, then = capsys.readouterr().err.splitlines()
    assert first == "0 %  comparing 0 of 4"
    assert then.startswith("25 %  comparing 1 of 4") and "a second" in then and "left" in then


def test_calls_of_networks_show_that_a_case_goes_on(capsys):
    network = nn.Linear(2, 2)
    with progress_bar("sampling", 3, [network]):
        for _ in range(2):
            network(torch.ones(1, 2))
    assert "0 %  sampling 0 of 3  2 network calls" in capsys.readouterr().err.splitlines()[-1]
    assert not network._forward_hooks, "they are counted no longer than the work takes"


def test_nothing_is_said_in_the_first_half_minute(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PLAIN_SECONDS", 30.0)
    with progress_bar("comparing", 4) as done:
        done(1)
    assert not capsys.readouterr().err


def test_samples_and_predictions_say_how_far_they_are(tmp_path, capsys):
    brains, tiny = "brains:count=8,size=16", ["--preset", "tiny", "--train.steps", "1"]
    for method, data in (("ddpm", brains), ("anoddpm", f"{brains},label=none")):
        words = ["train", method, "--data", data, *tiny, "--out", str(tmp_path / method)]
        assert cli.main(words) == 0
    capsys.readouterr()
    words = ["--count", "4", "--batch", "2", "--steps", "2", "--out", str(tmp_path / "samples")]
    assert cli.main(["sample", str(tmp_path / "ddpm"), *words]) == 0
    assert "50 %  sampling 2 of 4" in capsys.readouterr().err
    words = ["--split", "train", "--batch", "4", "--set", "depth=0.1"]
    assert (
        cli.main(["predict", str(tmp_path / "anoddpm"), *words, "--out", str(tmp_path / "p")]) == 0
    )
    said = capsys.readouterr().err
    assert "predicting 0 of" in said and "predicting 4 of" in said and "network calls" in said


def test_a_preset_that_was_not_named_is_said_with_its_time(tmp_path, capsys):
    words = ["train", "ddpm", "--data", "brains:count=8,size=16", "--train.steps", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "chosen")]) == 0
    said = "no --preset was named, so it is small: 1 step of training"
    assert said in capsys.readouterr().err
    assert cli.main([*words, "--preset", "tiny", "--out", str(tmp_path / "named")]) == 0
    assert "was named" not in capsys.readouterr().err
