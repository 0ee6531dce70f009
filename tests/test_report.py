"""The report: one file, no network, no torch, everything escaped, what is missing is said."""

import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from radiffuse import papers
from radiffuse.applications.task import tasks
from radiffuse.commands import evaluate
from radiffuse.errors import UserError
from radiffuse.report import write_report
from radiffuse.report.chart import Axis, Point, chart
from radiffuse.report.document import document
from radiffuse.report.figures import FIGURES
from radiffuse.report.pictures import pixels, write_grid, write_pairs
from radiffuse.report.table import metrics_table
from radiffuse.report.wording import wording

ROOT = Path(__file__).resolve().parents[1]
METRIC = {"mean": 3.25, "ci95": [2.5, 4.0], "n": 600, "per_patient": {}}


@pytest.fixture
def run(tmp_path):
    """A run folder with everything in it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.toml").write_text('[run]\nmethod = "ddpm"\n\n[recipe]\nsteps = 1000\n')
    log = [{"step": k, "images": 16 * k, "seconds": 2.0 * k, "loss": {"network": 1 / k}}
           for k in range(1, 40)]  # fmt: skip
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)) + '\n{"step": 40, "lo')
    manifest = {
        "version": "9.8.7",
        "commit": "abc123",
        "command": "radiffuse train ddpm --data x.npz --out run",
        "data": {"path": "x.npz", "fingerprint": "f00d", "cases": 5000},
        "environment": {"torch": "2.13.0", "cpu": "a processor"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    metrics = {
        "method": {"fid": METRIC, "kid": {"refused": "needs 50 images a set, there are 9", "n": 9}},
        "baseline": {"fid": {**METRIC, "mean": 77.5}},
        "reference": {"fid": {**METRIC, "mean": 0.5}},
        "features": {"name": "FeatureNetwork", "hash": "0123456789ab"},
        "settings": {"copy_threshold": 0.125, "count": 1000, "steps": 50},
        "data": {"held_out": {"split": ["test"], "n": 600, "patients": 300, "fingerprint": "beef"}},
        "command": "radiffuse evaluate run",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    points = [
        {"name": "DDIM", "steps": n, "evaluations": n, "fid": {**METRIC, "mean": 50 / n}}
        for n in (5, 10, 50)
    ]
    (folder / "quality.json").write_text(json.dumps(points))
    for name in ("real", "generated", "baseline", "trajectory", "copies"):
        write_grid(folder / "pictures" / f"{name}.png", [np.zeros((1, 4, 4))] * 4, 2)
    return folder


class Page(HTMLParser):
    """Tags and text of a page; fails on a tag that closes another."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def test_report_holds_every_part_of_a_run(run):
    page = Page(write_report(run))
    for text in (
        papers.by_id("ddpm").citation, "x.npz", "f00d", "beef", "test: 600 images of 300 patients",
        "steps = 1000", "2.13.0", "abc123", "radiffuse train ddpm", "radiffuse evaluate run",
        "0123456789ab", "3.25", "2.5 to 4", "n = 600", "77.5", "0.5", "needs 50 images", "lower",
        "0.125", "1 min 18 s",
    ):  # fmt: skip
        assert text in page.text, text
    assert sum(tag == "img" for tag, _ in page.tags) == 5
    assert sum(tag == "svg" for tag, _ in page.tags) == 5, "two charts, three intervals"


def test_page_is_self_contained_and_runs_no_script(run):
    page = Page(write_report(run))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "link" not in {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#"))
    assert not re.search(r"url\(|@import", page.source)
    picture = next(a["src"] for tag, a in page.tags if tag == "img").partition(",")[2]
    assert base64.b64decode(picture) == (run / "pictures" / "real.png").read_bytes()


def test_text_from_files_is_escaped(run):
    evil = '<script>alert("1")</script>'
    (run / "config.toml").write_text(f"# {evil}\n[run]\nmethod = '{evil}'\n")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["method"][evil] = {"refused": evil, "n": 1}
    metrics["features"]["hash"] = metrics["command"] = evil
    (run / "metrics.json").write_text(json.dumps(metrics))
    (run / "quality.json").write_text(json.dumps([{"name": evil, "evaluations": 3, "fid": METRIC}]))
    page = Page(write_report(run))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(evil) >= 6


def test_the_main_baseline_has_its_name_and_one_of_equal_numbers_its_column(run):
    metrics = json.loads((run / "metrics.json").read_text())
    main = metrics["baseline"]
    metrics["baselines"] = {"median": main, "fewer_bits": dict(main), "worse": {"fid": METRIC}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    text = Page(write_report(run)).text
    assert text.count("baseline: median") == 1 and "fewer bits" in text and "worse" in text
    table = evaluate._table(metrics, "ddpm").splitlines()[0].split("  ")
    assert [each.strip() for each in table if each.strip()][:2] == ["ddpm", "baseline: median"]
    assert "fewer_bits" in " ".join(table)


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path):
    (tmp_path / "config.toml").write_text('[run]\nmethod = "ncsn"\n')
    page = Page(write_report(tmp_path, tmp_path / "out" / "page.html"))
    assert f"no metrics.json: run radiffuse evaluate {tmp_path} --data PATH" in page.text
    assert "no pictures" in page.text
    assert "no log.jsonl" in page.text
    assert "no manifest.json" in page.text


def test_a_folder_of_predictions_has_a_report_too(tmp_path):
    write_grid(tmp_path / "sample-00000.png", [np.zeros((1, 4, 4))], 1)
    record = {
        "run": "runs/a",
        "settings": {"method": "ddpm", "steps": 20, "seed": 7},
        "command": "radiffuse sample runs/a --count 1",
        "predictions": [
            {"case": "sample-00000", "files": {"image": "sample-00000.png"}, "seed": 11}
        ],
    }
    (tmp_path / "predictions.json").write_text(json.dumps(record))
    page = Page(write_report(tmp_path))
    assert "predictions of" in page.text and "seed 11" in page.text
    assert "radiffuse sample runs/a --count 1" in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 1
    write_grid(tmp_path / "sheet.png", [np.zeros((1, 4, 4))] * 2, 2)
    assert sum(tag == "img" for tag, _ in Page(write_report(tmp_path)).tags) == 1


def test_only_pictures_that_lie_in_the_folder_are_shown(tmp_path):
    """A link leads elsewhere, a text is no picture; both are left out by name."""
    secret = tmp_path / "secret.png"
    write_grid(secret, [np.ones((1, 4, 4))], 1)
    folder = tmp_path / "p"
    write_grid(folder / "own.png", [np.zeros((1, 4, 4))], 1)
    (folder / "link.png").symlink_to(secret)
    (folder / "text.png").write_text("a password")
    (folder / "sheet.png").symlink_to(secret)
    (folder / "pictures").symlink_to(tmp_path)
    names = ("own", "link", "text")
    entries = [{"case": name, "files": {"image": f"{name}.png"}} for name in names]
    record = {"settings": {}, "predictions": entries}
    (folder / "predictions.json").write_text(json.dumps(record))
    (folder / "config.toml").symlink_to(tmp_path / "page.toml")
    (tmp_path / "page.toml").write_text("secret = 1")
    page = Page(write_report(folder))
    shown = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    own = base64.b64encode((folder / "own.png").read_bytes()).decode()
    assert shown == [f"data:image/png;base64,{own}"]
    assert "left out, for they are no pictures in this folder: link.png, text.png" in page.text
    assert "secret = 1" not in page.text


def test_folders_that_cannot_be_reported_on_give_one_line(tmp_path, run):
    with pytest.raises(UserError, match="there is no such folder"):
        write_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run, metrics or predictions"):
        write_report(tmp_path / "empty")
    with pytest.raises(UserError, match="is a folder"):
        write_report(run, tmp_path)
    (run / "metrics.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"metrics\.json: expected object, got array"):
        write_report(run)
    (run / "metrics.json").write_text('{"method"')
    with pytest.raises(UserError, match="not valid JSON"):
        write_report(run)


def test_a_config_that_is_not_toml_is_shown_as_it_is(run):
    (run / "config.toml").write_text("half a [table")
    assert "half a [table" in Page(write_report(run)).text


def test_report_never_imports_torch(run):
    code = (
        "import sys; from radiffuse.report import write_report; import radiffuse.report.pictures; "
        f"write_report({str(run)!r}); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_axis_places_values_and_its_ticks_are_round():
    axis = Axis.over("x", [1.0, 1000.0], log=True)
    assert axis.share(1.0) == 0 and axis.share(1000.0) == pytest.approx(1)
    assert axis.share(10.0) == pytest.approx(1 / 3)
    assert axis.ticks()[:4] == pytest.approx([1, 2, 5, 10])
    assert Axis.over("x", [0.0, 9.0], log=False).ticks() == [0, 2, 4, 6, 8]
    assert Axis.over("x", [0.0, 9.0], log=True).log is False  # no logarithm of zero
    assert Axis.over("x", [3.0, 3.0], log=False).share(3.0) == 0.5


def test_chart_draws_each_line_with_its_bars_and_thins_long_ones():
    drawn = chart({"a": [Point(1, 2, 1, 3), Point(2, 4)], "b": []}, "x", "y", markers=True)
    assert drawn.count("<polyline") == 1 and drawn.count("<circle") == 2
    assert drawn.count('class="bar') == 1
    long = chart({"a": [Point(k, k) for k in range(5000)]}, "x", "y")
    (path,) = re.findall(r'points="([^"]*)"', long)
    assert 500 < len(path.split()) <= 600
    assert chart({}, "x", "y") == ""


def test_pictures_have_one_window_whatever_the_axes():
    grey = pixels(np.array([[[-1.0, 0.0, 1.0, 7.0]]]))
    assert grey[0, :, 0].tolist() == [0, 128, 255, 255]
    assert pixels(np.zeros((3, 5, 6))).shape == (5, 6, 3)
    assert pixels(np.zeros((1, 9))).shape == (16, 9, 3)


def test_a_volume_is_shown_in_three_planes():
    """Axial, coronal, sagittal, each in the middle of the height of the largest."""
    volume = np.full((1, 4, 3, 5), -1.0)
    right_front, right_top, front_top = (3, 2, 2), (3, 1, 4), (2, 2, 4)
    for place in (right_front, right_top, front_top):
        volume[0, *place] = 1
    shown = pixels(volume)[..., 0]
    assert shown.shape == (5, 4 + 4 + 3)
    axial, coronal, sagittal = shown[1:4, :4], shown[:, 4:8], shown[:, 8:]
    for plane in (axial, coronal, sagittal):
        assert np.argwhere(plane).tolist() == [[0, 0]], (
            "right or front is left, front or the top is up"
        )
    assert not shown[0, :4].any() and not shown[4, :4].any()


def test_pairs_stand_side_by_side_over_their_note(tmp_path):
    black, white = np.full((1, 8, 8), -1.0), np.full((1, 8, 8), 1.0)
    write_pairs(tmp_path / "pairs.png", [black] * 3, [white] * 3, ["a", "b", "c"], columns=2)
    with Picture.open(tmp_path / "pairs.png") as shown:
        values = np.asarray(shown)
    assert values[:64, :64].max() == 0 and values[:64, 66:130].min() == 255
    assert values[64:80, :130].min() < 128  # the note, which fits under a pair


def test_every_metric_of_an_application_is_explained():
    unknown = {m for task in tasks().values() for m in task.shown if not wording(m).meaning}
    assert not unknown


def of(mean, n=7):
    return {"mean": mean, "ci95": [mean - 1, mean + 1], "n": n}


def test_main_metrics_stand_side_by_side_and_the_others_are_folded():
    names = [f"m{k}" for k in range(9)]
    ours = {name: of(10.0 + k) for k, name in enumerate(names)}
    theirs = {"m8": of(30.0), "m0": of(12.0, n=3)}
    record = {
        "name": "x (small)",
        "method": ours,
        "baseline": theirs,
        "shown": ["m8", "none", "m0"],
    }
    main, _, rest = metrics_table(record).partition("<details>")
    tables = [re.findall(r"<th>(m\d)", part) for part in (main, *rest.split("</table>"))]
    assert tables[0] == ["m8", "m0"], "those of the application, in its order"
    assert tables[1:3] == [names[1:6], names[6:8]], "five at a time"
    who = re.findall(r"<tr><th>([^<]+)", main)
    assert who == ["x (small)", "baseline"] and "baseline" not in rest, "a row that says something"
    assert "n = 3" in main and main.count("n = 7") == 2


def test_intervals_of_a_metric_are_drawn_on_one_scale():
    record = {"method": {"a": of(1.0)}, "baseline": {"a": of(3.0)}}
    drawn = re.findall(r'x1="([\d.]+)" x2="([\d.]+)"', metrics_table(record))
    assert [tuple(map(float, each)) for each in drawn] == [(4.0, 50.0), (50.0, 96.0)]
    assert "<svg" not in metrics_table({"method": {"a": {"mean": 1.0, "n": 1}}})


def test_columns_of_pictures_have_headings(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["settings"] = {"panels": ["truth", "total_variation", "<b>"]}
    (run / "metrics.json").write_text(json.dumps(metrics))
    write_grid(run / "pictures" / "reconstructions.png", [np.zeros((1, 8, 8))] * 3, 3)
    page = write_report(run).read_text()
    assert "<span>truth</span><span>total variation</span><span>&lt;b&gt;</span>" in page


def test_every_picture_of_an_evaluation_has_its_place_in_a_report():
    written = {
        name
        for path in (ROOT / "src" / "radiffuse" / "applications").rglob("*.py")
        for name in re.findall(r'"([a-z]+\.png)"', path.read_text(encoding="utf-8"))
    }
    elsewhere = {"copies.png", "trajectory.png"}
    assert written - elsewhere <= {figure.file for figure in FIGURES}


def test_maps_of_an_evaluation_have_a_bar_with_their_end(run):
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["settings"] = {"panels": ["image", "anomaly map"], "scales": {"anomaly map": 0.8125}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    for name in ("anomalies", "translation"):
        write_grid(run / "pictures" / f"{name}.png", [np.zeros((1, 8, 8))] * 2, 2)
    page = write_report(run).read_text()
    assert page.count('<i class="grey"></i><small>0.812</small>') == 1
    assert page.count('<i class="grey"></i><small>0.5</small>') == 2, "deviation and error"


def test_small_pictures_are_shown_larger(run):
    write_grid(run / "pictures" / "real.png", [np.zeros((1, 32, 32))] * 2, 2)
    write_grid(run / "pictures" / "generated.png", [np.zeros((1, 64, 64))] * 8, 8)
    page = write_report(run).read_text()
    assert f"width: {4 * (2 * 64 + 2)}px" in page and f"width: {8 * 128 + 7 * 2}px" in page


def test_names_in_data_turn_nothing_around_on_a_page():
    """U+202E shows what follows from right to left: 0.91 as 19.0."""
    page = document("p\u202e1", "<p>p\u202e1 0.91 \u2066\x1b[31m\tµ é</p>\n")
    assert not set(page) & set("\u202e\u2066\x1b") and "<p>p?1 0.91 ??[31m\tµ é</p>\n" in page
