"""`radiffuse compare`: what is measured of each family, the triangle, what is refused, and that it goes on."""

import json

import numpy as np
import pytest
import torch

from radiffuse import cli, papers
from radiffuse.applications.generation.measured import classes_found, network_calls
from radiffuse.metrics import features
from radiffuse.report.trilemma import axes_of, triangle


def number(mean):
    return {"mean": mean, "ci95": [mean, mean], "n": 10}


def metrics(fid, coverage, seconds=None):
    timed = {} if seconds is None else {"seconds_batch_64": number(seconds)}
    return {"fid": number(fid), "coverage": number(coverage), **timed}


GAUSSIAN, REAL = metrics(100.0, 0.2), metrics(1.0, 0.9)


@pytest.mark.parametrize(
    "method, axes",
    [
        (metrics(100.0, 0.0, 10.0), (0, 0, 0)),
        (metrics(1.0, 0.9, 1e-3), (1, 1, 1)),
        (metrics(10.0, 0.45, 0.1), (0.5, 0.5, 0.5)),
        (metrics(0.5, 0.99, 1e-5), (1, 1, 1)),
        (metrics(400.0, 0.0, 100.0), (0, 0, 0)),
    ],
)
def test_each_axis_is_computed_from_its_number(method, axes):
    found = axes_of(method, GAUSSIAN, REAL)
    assert tuple(found.values()) == pytest.approx(axes)


def test_a_family_without_a_number_is_named_and_not_drawn():
    refused = {**metrics(10.0, 0.5, 0.1), "fid": {"refused": "too few", "n": 3}}
    axes = {
        "gan": axes_of(refused, GAUSSIAN, REAL),
        "vae": axes_of(metrics(10.0, 0.5, 0.1), GAUSSIAN, REAL),
    }
    assert axes["gan"]["quality"] is None
    drawn = triangle(axes)
    assert drawn.count('stroke-width="2"') == 1 and "gan (not drawn" in drawn


def test_classes_are_found_by_a_classifier_and_rare_ones_apart():
    """Three classes far from each other, the third rare; the draws lack it."""
    torch.manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 6.0]])
    labels = torch.tensor([0] * 100 + [1] * 100 + [2] * 10)
    train = centres[labels] + 0.3 * torch.randn(210, 2)
    drawn = centres[torch.arange(200) % 2] + 0.3 * torch.randn(200, 2)
    found = classes_found(train, labels, train, labels, drawn, ("hand", "chest", "breast"))
    assert found["classes_found"]["mean"] == pytest.approx(2 / 3)
    assert found["rare_classes_found"]["mean"] == 0
    assert found["classifier_accuracy"]["mean"] == 1
    assert found["shares"]["breast"] == [pytest.approx(10 / 210), 0.0]


@pytest.mark.parametrize("family, calls", [("gan", 1), ("vae", 1), ("ebm", 4), ("ddpm", 5)])
def test_network_calls_are_counted_one_after_the_other(family, calls):
    from radiffuse.data.dataset import open_cases

    recipe = (
        papers.by_id(family).load().tiny().fitted(open_cases("brains:count=24,size=16").facts())
    )
    assert network_calls(recipe, recipe.objective()) == calls


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "--data is missing"),
        (["--data", "brains"], "--out is missing"),
        (["--data", "brains", "--out", "x", "--families", "gna"], "did you mean gan"),
        (["--data", "brains", "--out", "x", "--families", "anoddpm"], "no model of images alone"),
        (["--data", "brains", "--out", "x", "--families", "gan", "gan"], "name each family once"),
        (["--data", "brains", "--out", "x", "--count", "12"], "need 128 drawn images"),
        (["--data", "brains", "--out", "x", "--minutes", "0"], "--minutes must be"),
    ],
)
def test_wrong_words_are_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and list(tmp_path.iterdir()) == []


def test_too_few_images_are_refused_before_anything_is_trained(capsys, tmp_path):
    words = ["compare", "--data", "brains:count=300,size=16", "--preset", "tiny"]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 1
    assert "held-out images are too few" in capsys.readouterr().err
    assert not (tmp_path / "out" / "ddpm").exists()


def test_families_are_trained_measured_and_drawn_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "STEPS", 5)
    split = np.array(["train"] * 220 + ["test"] * 140)
    image = np.random.default_rng(0).integers(0, 255, (360, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", image=image, split=split)
    words = ["compare", "--data", str(tmp_path / "pictures.npz"), "--preset", "tiny"]
    words += ["--count", "128", "--families", "gan", "vae", "--minutes", "0.01"]
    words += ["--out", str(tmp_path)]
    assert cli.main(words) == 0
    record = json.loads((tmp_path / "compare.json").read_text())
    assert list(record["families"]) == ["gan", "vae"]
    for found in record["families"].values():
        assert found["method"]["seconds_batch_1"]["mean"] > 0 and found["calls"] == 1
        assert all(value is None or 0 <= value <= 1 for value in found["axes"].values())
    assert "mean" in record["families"]["vae"]["method"]["bits_per_dimension"]
    assert "bits_per_dimension" not in record["families"]["gan"]["method"]
    page = (tmp_path / "compare.html").read_text()
    assert (
        "data:image/png;base64" in page
        and "<svg" in page
        and "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    )
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    assert len(times) == 2 and cli.main(words) == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}
    other = json.loads((tmp_path / "gan" / "metrics.json").read_text())
    asked_otherwise = {**other, "settings": {**other["settings"], "steps": 1}}
    (tmp_path / "gan" / "metrics.json").write_text(json.dumps(asked_otherwise))
    assert cli.main(words) == 0
    again = json.loads((tmp_path / "gan" / "metrics.json").read_text())
    assert again["settings"] == other["settings"], "measured anew, as the run draws by itself"


@pytest.mark.parametrize("family", ["gan", "vae", "flow", "ebm"])
def test_runs_of_families_are_sampled_as_any_other(family, tmp_path):
    run = tmp_path / "run"
    words = [
        "train",
        family,
        "--data",
        "brains:count=12,size=16",
        "--preset",
        "tiny",
        "--train.steps",
        "1",
    ]
    assert cli.main([*words, "--out", str(run)]) == 0
    assert cli.main(["sample", str(run), "--count", "1", "--out", str(tmp_path / "s")]) == 0
    assert (tmp_path / "s" / "sample-00000.png").is_file()
