"""Volumes in three planes, with overlays, windowing and legends, by NiiVue (Rorden et al.), which is bundled."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .figures import FIGURES
from .layer import KEPT, VOLUMES, compressed
from .predicted import strips
from .scales import called
from .source import Source
from .strip import colour_of

__all__ = ["volumes"]

_ENDINGS = (".nii", ".gz")
_LAYERS, _SIDE = 7, 192
_MOST_BYTES = 26 << 20
"""Of volumes and strips in one page, which stays below 30 MB with the script."""
_MOST_LABELS = 64
_OVER = ("anomaly", "unmeasured", "divergence")
_CONTROLS = """<p class="controls"><label>Case <select id="case"></select></label>
<label>Volume <select id="base"></select></label>
<label>over it <select id="over"></select></label>
<label>opacity <input id="opacity" type="range" min="0" max="100" value="60"></label>
<label>window, % <input id="low" type="range" min="0" max="100" value="0" aria-label="lower end of the window">
<input id="high" type="range" min="0" max="100" value="100" aria-label="upper end of the window"></label>
<label><input id="nearest" type="checkbox"> voxels as they are</label></p>
<div class="planes"><canvas id="planes" width="1050" height="350"></canvas></div>
<p class="note" id="legend"></p><p class="note" id="where" aria-live="polite"></p>
<p class="note">Drag to move the planes, scroll to step, drag with the right button to set
the window. The patient's right is on the left. Drawn by NiiVue (WebGL 2).</p>"""


@dataclass(frozen=True)
class Volume:
    """A file that is shown.

    Attributes:
        name: of the layer.
        path: NIfTI.
        key: of the batch or the prediction.
        unit: of its values.
        labels: whether they are labels.
        over: whether it lies over others as it opens.
        names: of its labels; "" has none.
        affine: its geometry, where the file does not know it.
        most: what 1 means where -1 means 0; None: values mean what they are.
    """

    name: str
    path: Path
    unit: str = ""
    labels: bool = False
    over: bool = False
    names: Sequence[str] = ()
    affine: np.ndarray | None = None
    most: float | None = None


@dataclass
class _Case:
    """The volumes of a case, and what its strip says of them."""

    name: str
    layers: list[tuple[str, Path]] = field(default_factory=list)
    shown: Mapping[str, Any] = field(default_factory=dict)


def volumes(source: Source) -> str:
    """The volumes of the first cases, one case at a time; "" where there are none."""
    found: list[dict[str, Any]] = []
    held = sum(len(strip) for _, strip in strips(source))
    for name, layers in (*_of_predictions(source), *_of_run(source)):
        read = [made for layer in layers[:_LAYERS] if (made := _layer(layer))]
        size = sum(len(layer["data"]) for layer in read)
        if read and len(found) < VOLUMES and (not found or held + size <= _MOST_BYTES):
            found.append({"name": name, "layers": read})
            held += size
    if not found:
        return ""
    script = files(__package__).joinpath("vendor/niivue.umd.js").read_text(encoding="utf-8")
    ours = files(__package__).joinpath("viewer.js").read_text(encoding="utf-8")
    told = json.dumps(found).replace("<", "\\u003c")
    return (
        f'{_CONTROLS}<script type="application/json" id="volumes">{told}</script>'
        f"<script>{script}</script><script>{ours}</script>"
    )


def _of_predictions(source: Source) -> Iterator[tuple[str, list[Volume]]]:
    """The NIfTI files of each case, what is a summary of draws before the draws."""
    found: dict[str, _Case] = {}
    for entry in source.entries:
        case = found.setdefault(str(entry.get("case")), _Case(str(entry.get("case"))))
        shown = entry.get("shown") or {}
        case.shown = case.shown or shown
        files = {
            **{f"{key}, given": file for key, file in dict(shown.get("given") or {}).items()},
            **(entry.get("files") or {}),
            **dict(shown.get("made") or {}),  # copies of what is DICOM, by the same keys
        }
        for key, file in files.items():
            path = source.folder / str(file)
            if path.suffix in _ENDINGS and source.holds(path):
                case.layers.append((str(key), path))
    for case in found.values():
        yield case.name, [_told(case, *layer) for layer in sorted(case.layers, key=_last)]


def _of_run(source: Source) -> Iterator[tuple[str, list[Volume]]]:
    """The volumes of an evaluation: a case a row where columns have heads, else a case each."""
    affine = _training_grid(source)
    for each in FIGURES:
        picture = source.picture_file(each.file)
        heads, scales = each.columns(source), each.scales(source)
        rows: dict[int, list[Volume]] = {}
        for path in (
            sorted(picture.parent.glob(f"{KEPT}/{picture.stem}-*.nii.gz")) if picture else ()
        ):
            place, columns = map(int, path.name.removesuffix(".nii.gz").split("-")[-2:])
            many = len(heads) == columns
            head = heads[place % columns] if many else each.title
            most = scales.get(head)
            if source.holds(path):
                name = head.removeprefix("4 x ").replace("_", " ")
                layer = Volume(name, path, over=most is not None, affine=affine, most=most)
                rows.setdefault(place // columns if many else place, []).append(layer)
        for row, layers in rows.items():
            yield f"{each.title} {row + 1}", layers


def _training_grid(source: Source) -> np.ndarray | None:
    """Index to millimetres of the volumes of the training, from their first voxel; None where it is not known."""
    import nibabel

    told = source.manifest.get("data", {})
    spacing, codes = told.get("facts", {}).get("spacing") or (), told.get("orientation", "")
    if len(spacing) != 3 or len(codes) != 3:
        return None
    turned = nibabel.orientations.axcodes2ornt(codes)
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for axis, (world, sign) in enumerate(turned):
        affine[int(world), axis] = sign * spacing[axis]
    return affine


def _last(layer: tuple[str, Path]) -> int:
    """What comes first: means and single answers, then deviations, then draws of which there are several."""
    key, path = layer
    if key.endswith(", given"):
        return -1
    many = any(part.isdecimal() and len(part) == 2 for part in path.name.split("-"))
    return 2 if many else int(_spread(key))


def _spread(key: str) -> bool:
    return key.endswith(("std", "energy", "interval90"))


def _told(case: _Case, name: str, path: Path) -> Volume:
    """A file of a case, with what its strip says of the key."""
    key = name.partition(",")[0].partition("-")[0]
    columns = [column for column in case.shown.get("columns", ()) if column.get("key") == key]
    kinds = {column.get("kind"): column for column in columns}
    unit = str(kinds.get("grey", {}).get("unit", ""))
    labels = key == "mask" or "labels" in kinds
    answered = labels and not name.endswith(", given")
    return Volume(
        name,
        path,
        f"({unit})²" if unit and name.endswith("energy") else unit,
        labels,
        answered or key in _OVER or _spread(name),
        (case.shown.get("names") or {}).get(key, ()),
    )


def _layer(volume: Volume) -> dict[str, Any] | None:
    """One volume as a page holds it: 8 bits, at most `_SIDE` a side; None for what is no volume."""
    import nibabel

    try:
        image: Any = nibabel.load(volume.path)
        if len(image.shape) != 3 or min(image.shape) < 2:
            return None
        steps = [max(1, -(-side // _SIDE)) for side in image.shape]
        image = image.slicer[tuple(slice(None, None, step) for step in steps)]
        values = np.asarray(image.dataobj, np.float64)
        values = values if volume.most is None else (values + 1) / 2 * volume.most
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError):
        return None
    low, high = np.quantile(values, (0.001, 0.999)).tolist()
    heat = volume.over and not volume.labels
    low = min(low, 0.0) if heat else low
    affine = image.affine if volume.affine is None else volume.affine @ np.diag([*steps, 1.0])
    packed = compressed(values, affine, low, high, volume.labels)
    return {
        "name": volume.name,
        "data": base64.b64encode(packed).decode("ascii"),
        "labels": _labels(values, volume.names) if volume.labels else None,
        "over": volume.over,
        "heat": heat,
        "low": low,
        "high": max(high, low + 1e-12),
        "unit": volume.unit,
    }


def _labels(values: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """The labels that are there, with their names and colours."""
    there = [int(value) for value in np.unique(values.round()) if 0 < value < 256]
    return [
        {"value": label, "name": called(label, names), "colour": colour_of(label)}
        for label in there[:_MOST_LABELS]
    ]
