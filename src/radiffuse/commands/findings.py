"""What a structured report says of a case: its class and the probabilities of all, its score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..clinic.measured import Finding
from ..data.image import Image, orientation_of

__all__ = ["REPORTED", "findings"]

REPORTED = ("label", "probability", "score", "spread")
"""Keys of values that are reported, with those of the deviation of draws ("score-std")."""


def findings(
    entry: Mapping[str, Any], names: Sequence[str], like: Image, axis: int
) -> list[Finding]:
    """What is said of the case, or of each slice that is not empty; [] where nothing of `REPORTED` is.

    Args:
        entry: of `predictions.json`: "values", and "slices" where values are one a slice.
        names: of the classes; () where they have none.
        like: the image it is said of.
        axis: of that image, which numbers the slices.
    """
    told = {
        key: value for key, value in entry["values"].items() if key.partition("-")[0] in REPORTED
    }
    if not told:
        return []
    if "slices" not in entry:
        return [_finding(told, names)]
    plane, count = entry["slices"]["plane"], entry["slices"]["count"]
    places = _places(like, axis, count)
    return [
        _finding(
            {key: value[k] for key, value in told.items()},
            names,
            f"{plane} slice {k + 1}",
            places[k],
        )
        for k in range(count)
        if k not in entry["slices"]["empty"]
    ]


def _finding(
    told: Mapping[str, Any],
    names: Sequence[str],
    of: str = "the case",
    place: np.ndarray | None = None,
) -> Finding:
    numbers: dict[str, float] = {}
    for key, value in told.items():
        if key == "label":
            continue
        several = list(value) if isinstance(value, list) else None
        if several is None:
            numbers[key] = float(value)
        for k, each in enumerate(several or ()):
            numbers[f"{key} of {_named(k, names)}"] = float(each)
    classes = {"class": _named(int(told["label"]), names)} if "label" in told else {}
    return Finding(numbers, classes, of, place)


def _named(label: int, names: Sequence[str]) -> str:
    return str(names[label]) if label < len(names) else f"class {label}"


def _places(like: Image, axis: int, count: int) -> list[np.ndarray | None]:
    """Where slices lie, LPS in mm; None where nothing is known of it, or they cut through those of the source."""
    if like.affine is None or not _stacked(like, axis):
        return [None] * count
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ like.affine.numpy()
    return [lps[:3, 3] + k * lps[:3, axis] for k in range(count)]


def _stacked(like: Image, axis: int) -> bool:
    """Whether an axis is the one along which the files of a series lie."""
    if like.own is None or like.flat:
        return axis == 2
    return "RLAPSI".index(orientation_of(like)[axis]) // 2 == "RLAPSI".index(like.own[2]) // 2
