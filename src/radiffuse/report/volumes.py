"""Volumes in three planes, with overlays and windowing, by NiiVue (Rorden et al.), which is bundled."""

import base64
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .layer import VOLUMES, compressed
from .source import Source

__all__ = ["volumes"]

_ENDINGS = (".nii", ".gz")
_LAYERS, _SIDE = 7, 192
_MOST_BYTES = 16 << 20
"""Of volumes in one page."""
_LABELS = ("mask",)
_SHOW = """
const cases = JSON.parse(document.getElementById("volumes").textContent);
const element = name => document.getElementById(name);
const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1], isColorbar: false, dragAndDropEnabled: false, isRadiologicalConvention: true,
  show3Dcrosshair: false, logLevel: "silent", isResizeCanvas: true, crosshairWidth: 0.4, sagittalNoseLeft: true,
});
function options(select, names) {
  select.replaceChildren(...names.map((name, place) => new Option(name, place)));
}
function windowed() {
  const shown = viewer.volumes[0];
  const low = Number(element("low").value), high = Number(element("high").value);
  shown.cal_min = shown.global_min + (shown.global_max - shown.global_min) * Math.min(low, high) / 100;
  shown.cal_max = shown.global_min + (shown.global_max - shown.global_min) * Math.max(low, high, low + 1) / 100;
  element("said").textContent = shown.cal_min.toPrecision(3) + " to " + shown.cal_max.toPrecision(3);
  viewer.updateGLVolume();
}
async function show() {
  const one = cases[element("case").value].layers;
  const base = one[element("base").value], over = one[Number(element("over").value) - 1];
  const opened = async (layer, opacity, colormap) => niivue.NVImage.loadFromBase64(
    {base64: layer.data, name: layer.name + ".nii.gz", opacity, colormap});
  while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
  viewer.addVolume(await opened(base, 1, "gray"));
  if (over) {
    const colours = over.labels ? "actc" : "hot";
    viewer.addVolume(await opened(over, Number(element("opacity").value) / 100, colours));
    viewer.volumes[1].cal_min = over.labels ? 0.5 : over.high / 20;
    viewer.volumes[1].cal_max = over.high;
  }
  viewer.setInterpolation(element("nearest").checked);
  windowed();
  element("legend").textContent = over ? over.name + ": " + over.said : "";
  document.body.dataset.drawn = viewer.volumes.length;
}
function begin() {
  const one = cases[element("case").value].layers;
  options(element("base"), one.map(layer => layer.name));
  element("base").value = Math.max(0, one.findIndex(layer => !layer.over));
  options(element("over"), ["nothing", ...one.map(layer => layer.name)]);
  element("over").value = Math.max(0, one.findIndex(layer => layer.over) + 1);
  return show();
}
options(element("case"), cases.map(each => each.name));
viewer.attachTo("planes").then(() => {
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
  element("case").addEventListener("change", begin);
  for (const name of ["base", "over", "nearest"]) element(name).addEventListener("change", show);
  for (const name of ["low", "high"]) element(name).addEventListener("input", windowed);
  element("opacity").addEventListener("input", event => {
    if (viewer.volumes.length > 1) viewer.setOpacity(1, Number(event.target.value) / 100);
  });
  return begin();
});
"""
_CONTROLS = """<p class="controls"><label>Case <select id="case"></select></label>
<label>Volume <select id="base"></select></label>
<label>over it <select id="over"></select></label>
<label>opacity <input id="opacity" type="range" min="0" max="100" value="60"></label>
<label>window, % <input id="low" type="range" min="0" max="100" value="0">
<input id="high" type="range" min="0" max="100" value="100"></label> <span id="said"></span>
<label><input id="nearest" type="checkbox"> voxels as they are</label></p>
<div class="planes"><canvas id="planes" width="1050" height="350"></canvas></div>
<p class="note"><span id="legend"></span> Drag to move the planes, scroll to step, drag with the right button to set
the window. The patient's right is on the left. Drawn by NiiVue (WebGL 2).</p>"""


def volumes(source: Source) -> str:
    """The volumes of the first cases, one case at a time; "" where there are none."""
    found: list[dict[str, Any]] = []
    held = 0
    for name, layers in _by_case(source).items():
        read = [layer for key, path in layers[:_LAYERS] if (layer := _layer(key, path))]
        size = sum(len(layer["data"]) for layer in read)
        if read and len(found) < VOLUMES and (not found or held + size <= _MOST_BYTES):
            found.append({"name": name, "layers": read})
            held += size
    if not found:
        return ""
    script = files(__package__).joinpath("vendor/niivue.umd.js").read_text(encoding="utf-8")
    told = json.dumps(found).replace("<", "\\u003c")
    return (
        f'{_CONTROLS}<script type="application/json" id="volumes">{told}</script>'
        f"<script>{script}</script><script>{_SHOW}</script>"
    )


def _by_case(source: Source) -> dict[str, list[tuple[str, Path]]]:
    """The NIfTI files of each case by their key, what is a summary of draws before the draws."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for entry in source.entries:
        shown = entry.get("shown") or {}
        files = {
            **{f"{key}, given": file for key, file in dict(shown.get("given") or {}).items()},
            **dict(shown.get("made") or {}),
            **(entry.get("files") or {}),
        }
        for key, file in files.items():
            path = source.folder / str(file)
            if path.suffix in _ENDINGS and source.holds(path):
                found.setdefault(str(entry.get("case")), []).append((str(key), path))
    return {case: sorted(each, key=_last) for case, each in found.items()}


def _last(layer: tuple[str, Path]) -> int:
    """What comes first: means and single answers, then deviations, then draws of which there are several."""
    key, path = layer
    if key.endswith(", given"):
        return -1
    many = any(part.isdecimal() and len(part) == 2 for part in path.name.split("-"))
    return 2 if many else int(key.endswith(("std", "energy", "interval90")))


def _layer(key: str, path: Path) -> dict[str, Any] | None:
    """One volume as a page holds it: 8 bits, at most `_SIDE` a side; None for what is no volume."""
    import nibabel

    try:
        image: Any = nibabel.load(path)
        if len(image.shape) != 3 or min(image.shape) < 2:
            return None
        steps = [max(1, -(-side // _SIDE)) for side in image.shape]
        image = image.slicer[tuple(slice(None, None, step) for step in steps)]
        values = np.asarray(image.dataobj, np.float64)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError):
        return None
    labels = key.split("-")[0] in _LABELS
    low, high = (
        (0.0, float(values.max())) if labels else np.quantile(values, (0.001, 0.999)).tolist()
    )
    return {
        "name": f"{key}",
        "data": base64.b64encode(compressed(values, image.affine, low, high, labels)).decode(
            "ascii"
        ),
        "labels": labels,
        "over": labels or key in ("anomaly", "unmeasured") or key.endswith("std"),
        "high": high,
        "said": _said(values, labels, high),
    }


def _said(values: np.ndarray, labels: bool, high: float) -> str:
    if not labels:
        return f"from {high / 20:.3g} (dark) to {high:.3g} (bright)."
    return f"labels {', '.join(f'{label:g}' for label in np.unique(values)[1:12])}."
