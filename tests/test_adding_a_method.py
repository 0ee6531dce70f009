"""Adding a method touches one folder and one row: a toy one in a file of its own goes all the way."""

import dataclasses
import json
import sys

import pytest

from radiffuse import cli, papers
from radiffuse.errors import UserError

TOY = '''
"""A toy: every voxel's label from its grey value alone."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import nn

from radiffuse.applications.segmentation.segmenter import Segmenter
from radiffuse.applications.segmentation.task import SEGMENTATION
from radiffuse.diffusion.label_maps import likeliest
from radiffuse.papers import Paper, by_id


@dataclass(frozen=True)
class Toy:
    """Labels by grey value."""

    paper: ClassVar[Paper] = by_id("toy")
    task: ClassVar[Any] = SEGMENTATION
    given: ClassVar[tuple[str, ...]] = ("image",)
    windows: ClassVar[None] = None

    size: tuple[int, ...] = ()
    condition_channels: int = 0
    channels: int = 0
    width: int = 8
    steps: int = 1
    samples: int = 1

    def fitted(self, facts):
        labels = facts.mask_classes["mask"] - 1
        told = facts.channels["image"]
        size = tuple(facts.size["image"])
        return replace(self, size=size, condition_channels=told, channels=labels)

    def objective(self):
        layers = (
            nn.Conv2d(self.condition_channels, self.width, 1),
            nn.SiLU(),
            nn.Conv2d(self.width, self.channels + 1, 1),
        )
        return Segmenter(nn.Sequential(*layers), self.given, self.channels)

    def predict(self, objective, batch):
        foreground = objective.predict(batch)
        found = {"mask": likeliest(foreground), "probability": foreground}
        return {**found, "expected": foreground}

    @classmethod
    def small(cls):
        return cls(width=16)

    @classmethod
    def tiny(cls):
        return cls()
'''
ROW = papers.Paper(
    "toy",
    None,
    "A toy",
    "Nobody A",
    "Nowhere, 2026",
    2026,
    "segmentation",
    "any",
    "any",
    "DDPM",
    "https://example.org",
    "toy_method:Toy",
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The toy's file where Python finds it, and its row beside the others."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "toy_method.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    monkeypatch.setattr(papers, "PAPERS", (*papers.PAPERS, ROW))
    yield
    sys.modules.pop("toy_method", None)


def test_one_file_and_one_row_are_a_method(toy, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "predictions"

    def said(*words):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    listed = json.loads(said("methods", "--json"))
    assert [row["implemented"] for row in listed if row["id"] == "toy"] == [True]
    assert "writes       mask" in said("show", "toy")
    data = ["--data", "brains:count=12,size=16", "--map", "image=t1", "mask=tissue"]
    said("train", "toy", *data, "--preset", "tiny", "--train.steps", 3, "--out", run)
    said("predict", run, "--out", out)
    assert list(out.glob("*-mask.*")) and list(out.glob("*-probability.*"))
    assert "dice" in said("evaluate", run)
    record = json.loads((run / "metrics.json").read_text())
    assert record["id"] == "toy" and record["baseline"] and record["task"] == "segmentation"
    said("report", run)
    assert "toy" in (run / "report.html").read_text()


def test_a_row_without_a_recipe_says_so():
    row = dataclasses.replace(ROW, recipe="")
    with pytest.raises(UserError, match="toy is not implemented yet"):
        row.load()
