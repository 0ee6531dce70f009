"""Every kind of page in a browser: no error, nothing cut, sliders and viewer draw, it prints, names are no HTML."""

import base64
import gzip
import io
import json
import shutil
import threading
import time

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from radiffuse import cli
from radiffuse.commands.viewing import application
from radiffuse.data.files import write_json
from radiffuse.report import write_report
from radiffuse.report.gallery import Panel, write_gallery
from radiffuse.report.pictures import write_grid
from radiffuse.report.strip import grey, heat, labelled, write_strip

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
pypdf = pytest.importorskip("pypdf", reason="needs pypdf")
uvicorn = pytest.importorskip("uvicorn", reason="needs uvicorn")
pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)",
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

EVIL = '<img src=x onerror="bad=1">'
KINDS = ("run", "predictions", "volumes", "label maps", "demo", "view", "compared")
WIDTHS = (1280, 800)
SIDE = 24
BROKEN = """
for (const folded of document.querySelectorAll("details")) folded.open = true;
const broken = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode;
  if (!node.parentElement.closest("td, th, dd, dt, h1, h2, figcaption, .strip span, .bar, .swatches")) continue;
  for (const word of node.data.matchAll(/[\\p{L}\\p{N}]{2,40}/gu)) {
    const range = document.createRange();
    range.setStart(node, word.index);
    range.setEnd(node, word.index + word[0].length);
    const lines = new Set([...range.getClientRects()].filter(box => box.width).map(box => Math.round(box.top)));
    if (lines.size > 1) broken.push(word[0]);
  }
}
return broken;
"""
CUT = """
return [document.documentElement, ...document.querySelectorAll("main, .wide, table, figure, .strip, .panel, pre")]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.tagName + "." + box.className + " " + box.scrollWidth + " in " + box.clientWidth);
"""


def ball(side=SIDE):
    """Distance from the middle of a cube, 1 at its faces."""
    axes = np.meshgrid(*[np.linspace(-1, 1, side)] * 3, indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A generative run of pictures: long words, many numbers, a chain, a name that would be HTML."""
    folder = tmp_path_factory.mktemp("run") / "run"
    rng = np.random.default_rng(0)
    noisy = [rng.normal(size=(1, 16, 16)) * (1 - k / 5) + k / 5 for _ in range(3) for k in range(6)]
    for name in ("real", "generated", "baseline", "copies"):
        write_grid(folder / "pictures" / f"{name}.png", noisy[:8], 4)
    write_grid(folder / "pictures" / "trajectory.png", noisy, 6)
    metric = {"mean": 0.123456, "ci95": [0.1, 0.2], "n": 1200}
    names = (
        "fid",
        "kid",
        "fid_planes_corrected",
        "psnr",
        "ms_ssim",
        "coverage90_body_conformal",
        "<b>",
    )
    refused = {
        "refused": "needs 4096 images a set for features of 2048 numbers, there are 600",
        "n": 9,
    }
    row = {**dict.fromkeys(names, metric), "kid": refused}
    rivals = {f"uncertainty_calibrated_convolutional_baseline_{k}": row for k in range(4)}
    write_json(
        folder / "metrics.json",
        {
            "id": "ddpm", "name": f"ddpm {EVIL}", "method": row, "baseline": row, "baselines": rivals,
            "settings": {"frames": [6, 3]}, "command": EVIL * 3,
            "data": {"held_out": {"split": ["test"], "n": 600, "fingerprint": "0f" * 32}},
        },
    )  # fmt: skip
    (folder / "config.toml").write_text(f'[run]\nmethod = "ddpm"\n# {EVIL}\n')
    log = [{"step": k, "images": k, "seconds": k, "loss": {"network": 9 / k}} for k in range(1, 99)]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    return folder


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    """Pictures case by case: grey, a map, labels; names of cases and labels that would be HTML."""
    folder = tmp_path_factory.mktemp("predictions") / "p"
    middle = ball()[SIDE // 2][None]
    masks = (middle < 0.8).astype(int) + (middle < 0.4)
    entries = []
    for case in ("brain_of_a_person_with_a_very_long_name_0001", EVIL):
        tiles = [grey(1 - 2 * middle.clip(0, 1)), heat(middle, 1.4), labelled(masks)]
        file, widths = write_strip(folder / "pictures" / f"case{len(entries)}", tiles)
        kinds = (
            {"kind": "grey", "key": "image", "least": 0.0, "most": 255.0, "unit": "stored units"},
            {"kind": "heat", "key": "image", "most": 25.5, "unit": EVIL},
            {"kind": "labels", "key": "mask", "labels": [1, 2]},
        )
        shown = {
            "file": f"pictures/{file}",
            "heads": ["image, given", f"where they differ {EVIL}", "mask"],
            "columns": [
                {**kind, "width": width} for kind, width in zip(kinds, widths, strict=True)
            ],
            "names": {"mask": ["", "grey matter", EVIL]},
        }
        values = {"seed": 1351407286762396570, "score": 0.123456789, "classes": [0.25] * 8}
        entries.append(
            {
                "case": case,
                "files": {"image": f"{case[:60]}-image-mean.nii.gz"},
                "shown": shown,
                "values": values,
            }
        )
    write_json(
        folder / "predictions.json", {"predictions": entries, "settings": {"method": "score-mri"}}
    )
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A case of volumes: an image, a deviation, labels with names."""
    folder = tmp_path_factory.mktemp("volumes") / "v"
    folder.mkdir()
    far, affine = ball(), np.diag([2.0, 2.0, 2.0, 1.0])
    parts = {
        "image-mean": (200 * (1 - far).clip(0)).astype(np.float32),
        "image-std": (20 * far).astype(np.float32),
        "mask": (far < 0.8).astype(np.uint8) + (far < 0.4),
    }
    for name, values in parts.items():
        nibabel.save(nibabel.Nifti1Image(values, affine), folder / f"{name}.nii.gz")
    columns = [
        {"kind": "grey", "key": "image", "least": 0.0, "most": 255.0, "unit": "HU"},
        {"kind": "labels", "key": "mask", "labels": [1, 2]},
    ]
    shown = {"heads": [], "columns": columns, "names": {"mask": ["", "grey matter", EVIL]}}
    files = {name: f"{name}.nii.gz" for name in parts}
    record = {"predictions": [{"case": EVIL, "files": files, "shown": shown}], "settings": {}}
    write_json(folder / "predictions.json", record)
    return folder


@pytest.fixture(scope="module")
def run_of_volumes(tmp_path_factory):
    """An evaluation of volumes, as `write_grid` keeps them."""
    folder = tmp_path_factory.mktemp("run3d") / "run"
    far = ball()[None]
    columns = [1 - 2 * far.clip(0, 1), far.clip(0, 1), far.clip(0, 1), far - 1, far - 1]
    write_grid(folder / "pictures" / "translation.png", columns, 5)
    write_json(folder / "metrics.json", {"id": "ddpm-conversion", "method": {}})
    facts = {"channels": {"source": 1}, "spacing": [2.0, 2.0, 5.0]}
    write_json(folder / "manifest.json", {"data": {"facts": facts, "orientation": "LPS"}})
    return folder


@pytest.fixture(scope="module")
def label_maps(tmp_path_factory):
    """What a model that ships says of two people."""
    out = tmp_path_factory.mktemp("labels") / "p"
    words = [
        "--data",
        "brains:count=1,size=64,first=5000,label=none",
        "--samples",
        "2",
        "--steps",
        "2",
    ]
    assert (
        cli.main(
            [
                "predict",
                "brains-tissue",
                *words,
                "--map",
                "image=t1",
                "mask=tissue",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    tile = heat(ball()[SIDE // 2][None], 1.4)
    panel = Panel("Title " + EVIL, "What it says.", ("given", "found", "true"), ((tile,) * 3,) * 2, ("a", EVIL),
                  legend="white 1.4.", number="PSNR 25.6", command="radiffuse predict x --data PATH")  # fmt: skip
    page = tmp_path_factory.mktemp("demo") / "index.html"
    write_gallery(page, "Pages", "Says.", [panel, panel])
    return page


@pytest.fixture(scope="module")
def served(run, label_maps, tmp_path_factory):
    """The address of `radiffuse view`, of a run and of predictions twice."""
    root = tmp_path_factory.mktemp("view") / "runs"
    shutil.copytree(run, root / f"a run {EVIL.partition('=')[0]}")
    for name in ("one", "other"):
        shutil.copytree(label_maps, root / name)
    server = uvicorn.Server(uvicorn.Config(application(root, "token"), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def addresses(run, run_of_volumes, predictions, volumes, label_maps, demo, served):
    written = {
        "run": run, "run of volumes": run_of_volumes, "predictions": predictions,
        "volumes": volumes, "label maps": label_maps,
    }  # fmt: skip
    files = {name: write_report(folder).as_uri() for name, folder in written.items()}
    return {
        **files,
        "demo": demo.as_uri(),
        "view": f"{served}?token=token",
        "compared": f"{served}beside?one=one&other=other",
    }


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in (
        *("headless=new", "no-sandbox", "hide-scrollbars"),
        *("use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader"),
    ):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


def wide(browser, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def opened(browser, address):
    """The page, once its viewer has drawn where it has one."""
    browser.get(address)
    if browser.find_elements("id", "planes"):
        until(browser, "return document.body.dataset.drawn > 0")


def until(browser, condition, seconds=30):
    end = time.monotonic() + seconds
    while not browser.execute_script(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def seen(browser, selector):
    """The pixels of the first element of a selector."""
    shot = browser.find_element("css selector", selector).screenshot_as_png
    return np.asarray(Picture.open(io.BytesIO(shot)).convert("RGB")).astype(int)


def moved(browser, selector, value):
    """A slider, box or choice set as a hand would."""
    browser.execute_script(
        "const it = document.querySelector(arguments[0]);"
        "if (it.type === 'checkbox') it.checked = arguments[1]; else it.value = arguments[1];"
        "for (const kind of ['input', 'change']) it.dispatchEvent(new Event(kind, {bubbles: true}));",
        selector,
        value,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_fits_says_no_error_and_prints(kind, browser, addresses):
    browser.get_log("browser")
    wide(browser, WIDTHS[0])
    opened(browser, addresses[kind])
    for width in WIDTHS:
        wide(browser, width)
        assert browser.execute_script(BROKEN) == [], f"words broken at {width}"
        assert browser.execute_script(CUT) == [], f"cut at {width}"
    errors = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert not errors
    assert browser.execute_script("return window.bad") is None
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    pages = pypdf.PdfReader(io.BytesIO(base64.b64decode(printed))).pages
    assert all(page.extract_text().strip() or page.images for page in pages)
    assert sum(len(page.extract_text()) for page in pages) > 200


@pytest.mark.parametrize("kind", ["run", "predictions", "demo"])
def test_names_are_shown_as_they_are(kind, browser, addresses):
    opened(browser, addresses[kind])
    assert EVIL in browser.execute_script("return document.body.textContent")
    assert not browser.find_elements("css selector", "img[src=x]")


def test_the_slider_of_a_chain_moves_its_states(browser, addresses):
    opened(browser, addresses["run"])
    end = seen(browser, ".frames")
    moved(browser, ".walk input", 0)
    start = seen(browser, ".frames")
    assert np.abs(end - start).mean() > 10
    assert start.std() > 2 * end.std(), "noise, then an even picture"


def test_columns_of_a_strip_are_cut_where_they_are(browser, addresses):
    """Grey without colour, a map that is bright outside, labels in their colours; over what they mean."""
    opened(browser, addresses["predictions"])
    tiles = [
        seen(browser, f".strip > div:nth-child({place}) .tile")[4:-4, 4:-4] for place in (1, 2, 3)
    ]
    assert np.ptp(tiles[0], axis=-1).max() <= 4, "grey"
    middle, corner = tiles[1][len(tiles[1]) // 2, tiles[1].shape[1] // 2], tiles[1][2, 2]
    assert middle.sum() < 60 and corner.sum() > 600
    assert tiles[2].reshape(-1, 3).tolist().count([222, 122, 60]) > 500, "label 2"
    text = browser.find_element("css selector", ".strip").text
    assert "255 stored units" in text and "grey matter" in text and "25.5" in text
    moved(browser, "#sharp", True)
    drawn = "return getComputedStyle(document.querySelector('.tile')).imageRendering"
    assert browser.execute_script(drawn) == "pixelated"


def test_the_viewer_draws_and_obeys(browser, addresses):
    """An image under labels, with their names; window, opacity and choice of layers change what is seen."""
    wide(browser, 500)
    opened(browser, addresses["volumes"])
    assert browser.execute_script("return document.body.dataset.drawn") == "2"
    first = seen(browser, "#planes")
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 50, "not empty"
    assert np.ptp(first, axis=-1).max() > 60, "labels in colours"
    assert "grey matter" in browser.find_element("id", "legend").text
    assert EVIL in browser.find_element("id", "legend").text, "a name, and no HTML"
    assert "171 HU" in browser.find_element("id", "legend").text
    assert "image-mean: 1" in browser.find_element("id", "where").text
    for selector, value in (("#opacity", 0), ("#high", 30)):
        before = seen(browser, "#planes")
        moved(browser, selector, value)
        assert np.abs(seen(browser, "#planes") - before).mean() > 2, selector
    browser.execute_script("document.body.dataset.drawn = 0")
    moved(browser, "#over", 0)
    until(browser, "return document.body.dataset.drawn == 1")
    assert "grey matter" not in browser.find_element("id", "legend").text
    deviation = browser.execute_script(
        "return [...document.getElementById('over').options].findIndex(o => o.text === 'image-std')"
    )
    moved(browser, "#over", deviation)
    until(browser, "return document.body.dataset.drawn == 2")
    assert "HU" in browser.find_elements("css selector", "#legend .legend-of")[1].text


def test_a_run_of_volumes_has_the_viewer_too(browser, addresses):
    """Columns are layers, deviations in the units of the picture, voxels as large and turned as in training."""
    wide(browser, 500)
    opened(browser, addresses["run of volumes"])
    layers = browser.execute_script(
        "return [...document.getElementById('over').options].map(o => o.text)"
    )
    assert layers == ["nothing", "source", "target", "mean", "deviation", "error"]
    over = browser.find_elements("css selector", "#legend .legend-of")[1].text
    assert "deviation" in over and "0.422" in over, "a quarter of the distance"
    data = browser.execute_script(
        "return JSON.parse(document.getElementById('volumes').textContent)"
    )
    volume = nibabel.Nifti1Image.from_bytes(
        gzip.decompress(base64.b64decode(data[0]["layers"][0]["data"]))
    )
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert volume.header.get_zooms() == pytest.approx((2, 2, 5))
    assert len(np.unique(seen(browser, "#planes").reshape(-1, 3), axis=0)) > 50
