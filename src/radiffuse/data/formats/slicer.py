"""What 3D Slicer writes of the segments of a .seg.nrrd into its header, as SegmentN_NAME:=VALUE."""

import re
from collections.abc import Mapping

__all__ = ["segments"]

_NUMBERED = re.compile(r"Segment\d+_LabelValue")
_LARGEST = 1 << 16
"""Slicer stores labels in 16 bit."""
_WHAT = (2, 3, 5, 6)
"""Where type, its modifier, region and its modifier stand in an entry of a terminology."""


def segments(pairs: Mapping[str, str]) -> tuple[tuple[str, str, str], ...]:
    """Code, label and meaning of what the labels 1, 2 ... show; "" for numbers that no segment has."""
    found: dict[int, tuple[str, str, str]] = {}
    for key, value in pairs.items():
        if _NUMBERED.fullmatch(key) and value.strip().isdecimal():
            name = key.removesuffix("LabelValue")
            code, meaning = _coded(pairs.get(f"{name}Tags", ""))
            found[int(value)] = (code, pairs.get(f"{name}Name", "").strip(), meaning)
    last = max((number for number in found if number < _LARGEST), default=0)
    return tuple(found.get(number, ("", "", "")) for number in range(1, last + 1))


def _coded(tags: str) -> tuple[str, str]:
    """The codes of an entry of a terminology, and its meaning: "CONTEXT~category~SCT^10200004^Liver~^^~..."."""
    entry = next((tag for tag in tags.split("|") if tag.startswith("TerminologyEntry:")), "")
    parts = [part.split("^") for part in entry.split("~")]
    said = [parts[n] for n in _WHAT if n < len(parts) and len(parts[n]) == 3 and parts[n][1]]
    if not said or len(parts[2]) != 3:
        return "", ""
    return " ".join(f"{scheme} {value}" for scheme, value, _ in said), parts[2][2]
