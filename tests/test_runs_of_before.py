"""A run that an earlier version made (tests/before: version 0.1.0, before the modules moved) still serves.

It was made by the command in its config.toml; the numbers below are that version's.
"""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
from safetensors.torch import load_file

from radiffuse import cli, papers
from radiffuse.applications import fields
from radiffuse.commands.train_flags import order
from radiffuse.runs.config import Config, DataSource, write_config
from radiffuse.runs.run import recipe_of

BEFORE = Path(__file__).parent / "before"
SCORES = {
    "brain0000_low": 1.1631426811218262,
    "brain0000_middle": 0.8230807781219482,
    "brain0000_high": 1.4687347412109375,
}
SUM_AFTER_FOUR_STEPS = 426.49603259142623


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(BEFORE, tmp_path / "before")


def test_it_predicts_what_it_did(run, tmp_path):
    assert cli.main(["predict", str(run), "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    scores = {entry["case"]: entry["values"]["score"] for entry in record["predictions"]}
    assert scores == pytest.approx(SCORES, rel=1e-4)


def test_it_goes_on_as_it_did(run):
    command = tomllib.loads((run / "config.toml").read_text())["run"]["command"].split()[1:]
    words = command[: command.index("--out")]
    words[words.index("--train.steps") + 1] = "4"
    assert cli.main([*words, "--out", str(run), "--resume"]) == 0
    weights = load_file(run / "model.safetensors").values()
    total = sum(float(tensor.double().abs().sum()) for tensor in weights)
    assert total == pytest.approx(SUM_AFTER_FOUR_STEPS, rel=1e-6)


NEWER = [name for name in papers.implemented() if getattr(papers.by_id(name).load(), "BEFORE", {})]
"""Methods with fields that configurations of before lack."""


@pytest.mark.parametrize("method", NEWER)
def test_a_field_that_a_configuration_is_older_than_is_as_it_was_then(method, tmp_path):
    """Opened or replayed, whatever the preset holds now."""
    kind = papers.by_id(method).load()
    now = {name: value for name, value in fields.plain(kind()).items() if name not in kind.BEFORE}
    old = Config(method, "paper", now, {}, DataSource("brains"))
    write_config(tmp_path / "config.toml", old)
    opened = recipe_of(old, "config.toml")
    replayed = order(["--config", str(tmp_path / "config.toml"), "--out", "x"]).recipe
    for name, value in kind.BEFORE.items():
        assert getattr(opened, name) == getattr(replayed, name) == value, name
        assert getattr(kind(), name) != value, f"{name} is not what it was"
