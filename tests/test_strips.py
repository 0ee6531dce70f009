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

DATA, SIDE = "brains:count=3,size=64,first=5000,label=none", 64


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    out = tmp_path_factory.mktemp("strips") / "p"
    words = ["--data", DATA, "--map", "image=t1", "--samples", "2", "--steps", "2"]
    assert cli.main(["predict", "brains-mri", *words, "--out", str(out)]) == 0
    return out


def columns(folder, entry):
    strip = np.asarray(Picture.open(folder / entry["shown"]["file"]).convert("RGB"))
    return {
        head: strip[:, k * (SIDE + GAP) :][:, :SIDE]
        for k, head in enumerate(entry["shown"]["heads"])
    }


def test_the_input_and_the_mean_are_what_they_are(predicted):
    cases = open_cases(DATA, mapping={"image": "t1"})
    entries = {}
    for entry in read_json(predicted / "predictions.json")["predictions"]:
        entries.setdefault(entry["case"], []).append(entry)
    assert list(entries) == list(cases.ids)
    for row, (first, *others) in enumerate(entries.values()):
        shown = columns(predicted, first)
        assert np.array_equal(shown["image, given"], pixels(cases.batch([row])["image"][0].numpy()))
        assert not others, "one result a case"
        mean = read_image(predicted / first["files"]["image-mean"]).data[0].numpy().astype(int)
        assert np.abs(shown["image, mean of 2"][..., 0].astype(int) - mean).max() <= 1
        assert mean.min() < 30 and mean.max() > 130, (
            "darker and brighter than the middle of the range"
        )
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
