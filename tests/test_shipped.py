"""The models that come with the library: small, whole, better than their best baseline, shown by the demonstration."""

import json
import re
import zlib

import pytest
import torch

import radiffuse as rd
from radiffuse import cli, papers
from radiffuse.commands.demo import shown
from radiffuse.data.dataset import open_cases
from radiffuse.report.card import readme
from radiffuse.runs.named import SHIPPED, card_of, found_run, shipped
from radiffuse.runs.run import open_run

MOST_BYTES = 25e6
NAMES = shipped()


def test_they_fit_into_the_wheel():
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) <= MOST_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_model_opens_and_its_card_is_of_it(name):
    run, card = open_run(found_run(name)), card_of(SHIPPED / name)
    assert card["name"] == name and card["method"] == run.config.name
    assert card["id"] in papers.ids() and card["licence"] == "Apache-2.0" and card["title"]
    assert (SHIPPED / name / "README.md").read_text() == readme(card)
    metrics = json.loads((SHIPPED / name / "metrics.json").read_text())
    assert metrics["model_sha256"] == run.model_sha256
    assert "per_patient" not in json.dumps(metrics)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_beats_its_best_baseline(name):
    (first, *_) = card_of(SHIPPED / name)["numbers"]
    sign = 1 if first["better"] == "higher" else -1
    assert sign * (first["method"]["mean"] - first["baseline"]["mean"]) > 0


@pytest.mark.parametrize("name", NAMES)
def test_it_learned_from_other_people_than_the_demonstration_shows(name):
    trained, demo = card_of(SHIPPED / name)["data"]["name"], card_of(SHIPPED / name)["demo"]
    if "data" in demo:
        count, first = (
            int(re.search(rf"{word}=(\d+)", text)[1])
            for word, text in (("count", trained), ("first", demo["data"]))
        )
        assert first >= count


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_or_draws(name):
    model, card = rd.load(name), card_of(SHIPPED / name)
    if "data" not in card["demo"]:
        (image,) = model.sample(1)
        assert image.data.double().std() > 0
        return
    cases = open_cases(
        re.sub(r"count=\d+", "count=1", card["demo"]["data"]),
        mapping=dict(word.split("=") for word in card["demo"].get("map", ())),
    )
    (prediction,) = model.predict(cases)
    images = [value for value in prediction.outputs.values() if isinstance(value, rd.Image)]
    assert images and all(torch.isfinite(image.data.double()).all() for image in images)


def test_they_are_listed_with_their_cards(capsys):
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert cli.main(["models", NAMES[0]]) == 0
    assert "What it is not for" in capsys.readouterr().out
    assert cli.main(["models", "--json"]) == 0
    assert [card["name"] for card in json.loads(capsys.readouterr().out)] == list(NAMES)


def test_a_name_that_is_none_is_told_the_nearest(capsys, tmp_path):
    words = ["predict", NAMES[0] + "s", "--data", "brains:count=3", "--out", str(tmp_path / "x")]
    assert cli.main(words) == 1
    assert f"did you mean {NAMES[0]}" in capsys.readouterr().err


def test_every_model_is_shown_once():
    places = [card["demo"]["place"] for card in shown().values()]
    assert set(shown()) == set(NAMES) and len(set(places)) == len(places)
