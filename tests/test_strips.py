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
from radiffuse.report.strip import GAP, colour_of, heat, labelled, write_strip

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
        assert shown["where the 2 differ"].max() == 255, "the scale ends near the largest"


def test_maps_have_their_ends_in_stored_units(predicted):
    """The deviation is that of the file beside it, the error that of the mean against the image."""
    cases = open_cases(DATA, mapping={"image": "t1"})
    for row, case in enumerate(cases.ids):
        entries = [
            e for e in read_json(predicted / "predictions.json")["predictions"] if e["case"] == case
        ]
        shown = next(entry["shown"] for entry in entries if "shown" in entry)
        about = dict(zip(shown["heads"], shown["columns"], strict=True))
        files = {k: predicted / v for entry in entries for k, v in entry["files"].items()}
        spread = read_image(files["image-std"]).data.numpy()
        assert about["where the 2 differ"]["most"] == pytest.approx(
            np.quantile(spread, 0.995), 1e-3
        )
        off = (read_image(files["image-mean"]).data.float() - cases.image(row, "image").data).abs()
        error = about["image, off what was given"]
        assert error["most"] == pytest.approx(float(np.quantile(off.numpy(), 0.995)), abs=1)
        assert error["kind"] == "heat" and error["unit"] == shown["unit"] == "stored units"
        assert {"kind": "grey", "least": 0.0, "most": 255.0}.items() <= about[
            "image, given"
        ].items()
        assert about["unmeasured, mean of 2"]["unit"] == "", "its file holds numbers of the network"


def test_the_report_shows_them_with_their_headings(predicted):
    page = write_report(predicted).read_text()
    assert page.count("<figure><figcaption><b>brain") == 3
    assert "<span>measured, simulated</span>" in page and 'id="sharp"' in page
    assert page.count("255 stored units</small>") == 9, "three grey columns a case have a bar"
    assert "<script" not in page


def test_colours_rise_from_black_to_white():
    ramp = heat(np.linspace(0, 2, 64)[None, None], 2.0)[0].astype(int).sum(-1)
    assert ramp[0] == 0 and ramp[-1] == 765 and (np.diff(ramp) >= 0).all()


def test_labels_have_a_colour_each_and_the_background_none():
    shown = labelled(np.arange(200)[None, None])[0]
    assert len({tuple(colour) for colour in shown[:65]}) == 65 and not shown[0].any()
    assert all(colour.any() for colour in shown[1:])
    for label in (0, 1, 5, 64, 65, 199):
        assert colour_of(label) == f"#{bytes(shown[label]).hex()}"


def test_large_images_are_stored_smaller(tmp_path):
    tile = np.tile(np.linspace(0, 255, 400).astype(np.uint8)[:, None, None], (1, 300, 3))
    name, widths = write_strip(tmp_path / "case", [tile, tile[:, :200]])
    with Picture.open(tmp_path / name) as strip:
        assert name == "case.webp" and strip.size == (144 + GAP + 96, 192) and widths == [144, 96]
