"""Volumes in a report: three planes by a viewer inside of the page, the input below what was found."""

import base64
import gzip
import json
import re

import nibabel
import numpy as np
import pytest

from radiffuse import cli
from radiffuse.data.dataset import open_cases
from radiffuse.data.files import read_json, write_json
from radiffuse.report import predicted as report_predicted
from radiffuse.report import volumes as report_volumes
from radiffuse.report import write_report
from radiffuse.report.strip import GAP, colour_of, write_strip

DATA = re.compile(r'<script type="application/json" id="volumes">(.*?)</script>', re.S)
AFFINE = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def predictions(folder, entries):
    write_json(folder / "predictions.json", {"predictions": entries, "settings": {}})


def volume(path, values, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path.name


def told(page):
    found = DATA.search(page)
    return json.loads(found[1]) if found else []


def opened(layer):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(layer["data"])))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 20, (9, 10, 11)).astype(np.float32)
    labels = rng.integers(0, 4, (9, 10, 11)).astype(np.uint8)
    files = {"image": volume(tmp_path / "a-image.nii.gz", image)}
    files["mask"] = volume(tmp_path / "a-mask.nii.gz", labels)
    predictions(tmp_path, [{"case": "a", "files": files}])
    return tmp_path, image, labels


def test_volumes_stand_in_the_page_with_their_values_and_geometry(folder):
    path, image, labels = folder
    page = write_report(path).read_text()
    ((one,), names) = told(page), [layer["name"] for layer in told(page)[0]["layers"]]
    assert one["name"] == "a" and names == ["image", "mask"]
    first, second = (opened(layer) for layer in one["layers"])
    inside = (image > np.quantile(image, 0.002)) & (image < np.quantile(image, 0.998))
    step = float(np.diff(np.quantile(image, (0.001, 0.999)))[0]) / 255
    assert np.abs(first.get_fdata() - image)[inside].max() <= 0.51 * step
    assert np.array_equal(second.get_fdata(), labels)
    assert np.allclose(first.affine, AFFINE) and np.allclose(second.affine, AFFINE)
    assert "new niivue.Niivue" in page and len(page) < 4e6
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page), "nothing is loaded"


def test_large_volumes_are_shown_coarser_where_they_are(tmp_path):
    values = np.zeros((400, 8, 8), np.float32)
    values[200:210] = 1
    file = volume(tmp_path / "a.nii.gz", values)
    predictions(tmp_path, [{"case": "a", "files": {"image": file}}])
    ((layer,),) = (one["layers"] for one in told(write_report(tmp_path).read_text()))
    shown = opened(layer)
    assert shown.shape == (134, 8, 8) and np.allclose(shown.affine[:3, 0], 3 * AFFINE[:3, 0])
    assert np.allclose(shown.affine[:3, 3], AFFINE[:3, 3])


def test_pictures_and_what_is_no_volume_bring_no_viewer(tmp_path):
    flat = volume(tmp_path / "flat.nii.gz", np.zeros((8, 8, 1), np.float32))
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    files = {"image": flat, "mask": "broken.nii.gz", "other": "gone.nii.gz"}
    predictions(tmp_path, [{"case": "a", "files": files}])
    assert "<script" not in write_report(tmp_path).read_text()


def test_files_outside_of_the_folder_are_left_out(tmp_path):
    inside = tmp_path / "out"
    inside.mkdir()
    volume(tmp_path / "secret.nii.gz", np.zeros((4, 4, 4), np.float32))
    (inside / "link.nii.gz").symlink_to(tmp_path / "secret.nii.gz")
    shown = {"file": "", "heads": [], "given": {"image": "../secret.nii.gz"}}
    predictions(inside, [{"case": "a", "files": {"image": "link.nii.gz"}, "shown": shown}])
    assert "<script" not in write_report(inside).read_text()


def test_a_name_cannot_end_the_element_it_stands_in(tmp_path):
    file = volume(tmp_path / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    predictions(
        tmp_path, [{"case": "</script><script>alert(1)</script>", "files": {"image": file}}]
    )
    page = write_report(tmp_path).read_text()
    assert "<script>alert(1)" not in page and told(page)[0]["name"].startswith("</script>")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Volumes segmented twice by a network of one step."""
    out = tmp_path_factory.mktemp("volumes")
    words = ["--data", "brains3d:count=12,size=24", "--map", "image=t1", "mask=tissue"]
    small = ["--preset", "tiny", "--train.steps", "1", "--out", str(out / "run")]
    assert cli.main(["train", "segmentation-ensembles", *words, *small]) == 0
    assert cli.main(["predict", str(out / "run"), "--samples", "2", "--out", str(out / "p")]) == 0
    return out / "p"


def test_predict_keeps_what_was_given_for_the_viewer(predicted):
    page = write_report(predicted).read_text()
    (one,) = told(page)
    assert one["layers"][0]["name"] == "image, given"
    mapping = {"image": "t1", "mask": "tissue"}
    cases = open_cases("brains3d:count=12,size=24", mapping=mapping).held_out()
    given, real = opened(one["layers"][0]), cases.image(0, "image")
    assert np.allclose(given.affine, real.affine.numpy())
    assert np.corrcoef(given.get_fdata().ravel(), real.data[0].numpy().ravel())[0, 1] > 0.99
    labels = next(layer["labels"] for layer in one["layers"] if layer["labels"] and layer["over"])
    named = {each["value"]: (each["name"], each["colour"]) for each in labels}
    assert set(named.values()) <= {
        (name, colour_of(value))
        for value, name in ((1, "fluid"), (2, "grey matter"), (3, "white matter"))
    }
    truth = next(layer for layer in one["layers"] if layer["name"] == "mask, given")
    assert np.array_equal(opened(truth).get_fdata(), cases.image(0, "mask").data[0].numpy())


def test_strips_show_what_was_given_and_what_came_out(predicted):
    entry = read_json(predicted / "predictions.json")["predictions"][0]
    heads = entry["shown"]["heads"]
    assert heads[:2] == ["image, given", "mask, given"] and "mask" in heads
    assert "probability, mean of 2, fluid" in heads and "mask, off what was given" in heads
    names = ["", "fluid", "grey matter", "white matter"]
    assert entry["shown"]["names"] == {"mask": names}
    page = write_report(predicted).read_text()
    assert "</i>grey matter</span>" in page
    assert all(f"<span>{head}</span>" in page for head in heads)


def test_a_page_keeps_below_its_size_whatever_the_cases_hold(tmp_path, monkeypatch):
    """Strips come first, volumes take what is left; what is not shown is said."""
    rng = np.random.default_rng(0)
    entries = []
    for k in range(6):
        tile = rng.integers(0, 255, (24, 24, 3)).astype(np.uint8)
        file, _ = write_strip(tmp_path / "pictures" / f"c{k}", [tile])
        name = volume(tmp_path / f"c{k}.nii.gz", rng.normal(size=(12, 12, 12)).astype(np.float32))
        shown = {"file": f"pictures/{file}", "heads": ["image"]}
        entries.append({"case": f"c{k}", "files": {"image": name}, "shown": shown})
    predictions(tmp_path, entries)
    whole = write_report(tmp_path).read_text()
    assert whole.count('class="tile"') == 6 and len(told(whole)) == 6
    monkeypatch.setattr(report_predicted, "MOST_BYTES", 4 * 3000)
    monkeypatch.setattr(report_volumes, "_MOST_BYTES", 6 * 3500)
    page = write_report(tmp_path).read_text()
    shown = page.count('class="tile"')
    assert 0 < shown < 6 and 0 < len(told(page)) < 6
    assert f"The first {shown} of 6 cases" in page and len(page) < len(whole) - 5000


def test_each_column_of_a_strip_is_cut_out_where_it_is(tmp_path):
    """CSS: p % of (sheet - tile) is cut off on the left, and the sheet is `background-size` of the tile."""
    tiles = [np.full((20, width, 3), 40, np.uint8) for width in (20, 44, 20)]
    file, widths = write_strip(tmp_path / "c", tiles)
    columns = [{"width": width} for width in widths]
    shown = {"file": file, "heads": ["a", "b", "c"], "columns": columns}
    predictions(tmp_path, [{"case": "c", "files": {}, "shown": shown}])
    page = write_report(tmp_path).read_text()
    found = re.findall(r"background-size: ([\d.]+)% 100%; background-position-x: ([\d.]+)%", page)
    sheet, left = sum(widths) + 2 * GAP, 0
    for (size, place), width in zip(found, widths, strict=True):
        assert float(size) / 100 * width == pytest.approx(sheet, abs=1e-3)
        assert float(place) / 100 * (sheet - width) == pytest.approx(left, abs=1e-3)
        left += width + GAP
