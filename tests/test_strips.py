"""The strips of `predict`: each case's input and output as they are, colours by their scale."""

import numpy as np
import pytest
from PIL import Image as Picture

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import read_json
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.shown import pixels
from radiffuse.report import write_report
from radiffuse.report.strip import GAP, heat, labelled, write_strip

DATA = "brains:count=12,size=32,label=none"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    out = tmp_path_factory.mktemp("strips")
    words = ["--data", DATA, "--map", "image=t1", "--preset", "tiny", "--train.steps", "1"]
    assert cli.main(["train", "score-mri", *words, "--out", str(out / "run")]) == 0
    few = ["--samples", "2", "--steps", "2"]
    assert cli.main(["predict", str(out / "run"), *few, "--out", str(out / "p")]) == 0
    return out / "p"


def columns(folder, entry):
    strip = np.asarray(Picture.open(folder / entry["shown"]["file"]).convert("RGB"))
    return {
        head: strip[:, k * (32 + GAP) :][:, :32] for k, head in enumerate(entry["shown"]["heads"])
    }


def test_the_input_and_the_mean_are_what_they_are(predicted):
    cases = open_cases(DATA, mapping={"image": "t1"}).held_out()
    entries = {}
    for entry in read_json(predicted / "predictions.json")["predictions"]:
        entries.setdefault(entry["case"], []).append(entry)
    assert list(entries) == list(cases.ids)
    for row, (first, *others) in enumerate(entries.values()):
        shown = columns(predicted, first)
        assert not any("shown" in other for other in others), "once for a case"
        assert np.array_equal(shown["image, given"], pixels(cases.batch([row])["image"][0].numpy()))
        file = next(each["files"]["image-mean"] for each in others if "image-mean" in each["files"])
        mean = read_image(predicted / file).data[0].numpy().astype(int)
        assert np.abs(shown["image, mean of 2"][..., 0].astype(int) - mean).max() <= 1
        assert "measured, simulated" in shown
        spread = next(head for head in shown if head.startswith("where the 2 differ, 0 to "))
        assert shown[spread].max() == 255, "the scale ends near the largest"


def test_the_report_shows_them_with_their_headings(predicted):
    page = write_report(predicted).read_text()
    assert page.count("<figure><figcaption><b>brain") == 3
    assert "<span>measured, simulated</span>" in page and 'id="sharp"' in page
    assert "<script" not in page


def test_colours_rise_from_black_to_white():
    ramp = heat(np.linspace(0, 2, 64)[None, None], 2.0)[0].astype(int).sum(-1)
    assert ramp[0] == 0 and ramp[-1] == 765 and (np.diff(ramp) >= 0).all()


def test_labels_have_a_colour_each_and_the_background_none():
    shown = labelled(np.arange(12)[None, None])[0]
    assert len({tuple(colour) for colour in shown[:6]}) == 6 and not shown[0].any()
    assert all(colour.any() for colour in shown[1:])


def test_large_images_are_stored_smaller(tmp_path):
    tile = np.tile(np.linspace(0, 255, 400).astype(np.uint8)[:, None, None], (1, 300, 3))
    name = write_strip(tmp_path / "case", [tile, tile])
    with Picture.open(tmp_path / name) as strip:
        assert name == "case.jpg" and strip.size == (2 * 144 + GAP, 192)
