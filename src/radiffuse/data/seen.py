"""What images a model was trained on: spacing, field of view and brightness, and what lies outside of that."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .cases import Cases
from .gaps import Gapped
from .image import Image
from .scan import spread

__all__ = ["outside", "seen"]

MOST = 256
"""Cases that are looked at, spread over all."""
SLACK = 0.1
"""Share by which lengths may lie outside of what was seen."""
BRIGHTER = 0.25
"""The same of grey values, of the width of those seen."""

_LENGTHS = {"spacing_mm": "voxels of", "extent_mm": "a field of view of"}
_GREYS = {"dark": "its 1st percentile is", "bright": "its 99th percentile is"}

Ranges = dict[str, tuple[float, float]]


def seen(cases: Cases) -> dict[str, Ranges]:
    """By image key, the smallest and largest of what the cases show.

    `spacing_mm` (between neighbours) and `extent_mm` (size times spacing) are over all axes, absent where no
    geometry is known; `dark` and `bright` are the 1st and 99th percentile of the stored values of a case.
    """
    found: dict[str, Ranges] = {}
    for row in spread(len(cases), MOST):
        for key in _there(cases, row):
            found[key] = _joined(found.get(key), _looked_at(cases.image(row, key)))
    return found


def outside(known: Mapping[str, Mapping[str, Any]], cases: Cases, rows: Sequence[int]) -> list[str]:
    """What lies outside of what was seen, a line each kind, which names the first of the cases.

    Args:
        known: of the training, as `seen` gives it.
        cases: to be predicted.
        rows: which of them.
    """
    lines: dict[str, list[str]] = {}
    for row in rows:
        for key in (key for key in _there(cases, row) if key in known):
            found = _looked_at(cases.image(row, key))
            for kind, line in _compared(key, known[key], found).items():
                lines.setdefault(kind, []).append(f"{cases.ids[row]}: {line}")
    return [
        first + (f" (and {len(others)} others like it)" if others else "")
        for first, *others in lines.values()
    ]


def _there(cases: Cases, row: int) -> Iterator[str]:
    """Keys of the images that a case has."""
    for key in cases.image_keys:
        column = cases.columns[key]
        if not isinstance(column, Gapped) or column.at[cases.rows[row]] >= 0:
            yield key


def _looked_at(image: Image) -> Ranges:
    values = image.data.abs() if image.data.is_complex() else image.data
    dark, bright = np.percentile(values.double().numpy(), (1, 99)).tolist()
    found: Ranges = {"dark": (dark, dark), "bright": (bright, bright)}
    spacing = image.spacing_mm
    if spacing:
        extent = [step * length for step, length in zip(spacing, image.size, strict=True)]
        found["spacing_mm"] = min(spacing), max(spacing)
        found["extent_mm"] = min(extent), max(extent)
    return found


def _joined(one: Ranges | None, other: Ranges) -> Ranges:
    """The range that holds both, of what both know."""
    if one is None:
        return other
    return {
        name: (min(one[name][0], low), max(one[name][1], high))
        for name, (low, high) in other.items()
        if name in one
    }


def _compared(key: str, known: Mapping[str, Any], found: Ranges) -> dict[str, str]:
    """What is outside, by kind."""
    lines: dict[str, str] = {}
    for name, words in _LENGTHS.items():
        if name not in known:
            continue
        if name not in found:
            lines["unknown"] = (
                f"{key} has no geometry, and the model was trained on {words} {_said(known[name])} mm"
            )
            break
        (low, high), (least, most) = found[name], known[name]
        if low < least * (1 - SLACK) or high > most * (1 + SLACK):
            lines[name] = (
                f"{key} has {words} {_said((low, high))} mm, and the model was trained on {_said((least, most))} mm"
            )
    width = BRIGHTER * (known["bright"][1] - known["dark"][0])
    for name, words in _GREYS.items():
        (value, _), (least, most) = found[name], known[name]
        if not least - width <= value <= most + width:
            lines[name] = (
                f"{key} is of other grey values than the training's: {words} {value:.4g}, and was "
                f"{_said((least, most))} there"
            )
    return lines


def _said(limits: Sequence[float]) -> str:
    low, high = (f"{value:.4g}" for value in limits)
    return low if low == high else f"{low} to {high}"
