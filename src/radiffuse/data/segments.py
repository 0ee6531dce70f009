"""Segmentations that say what their labels show: one label is one thing in all cases."""

import re
from collections.abc import Sequence

from ..errors import UserError

__all__ = ["NOTHING", "names_of", "same_labels"]

Segment = tuple[str, str, str]
"""Code, label and meaning, each "" where nothing says it."""
NOTHING: Segment = ("", "", "")
"""Of a number that no segment has."""
_ANYTHING = ("sct 85756007", "srt t-d0050", "dcm t-d0050")
"""Tissue, which 3D Slicer writes where nobody said what a segment is."""
_UNNAMED = re.compile(r"segment[ _]?\d*")


def same_labels(
    labels: Sequence[tuple[Segment, ...]], key: str, source: str, ids: Sequence[str]
) -> None:
    """Refuse segmentations that number what they show differently: a label is a number.

    Segments are told apart by their codes; by their labels too where an object has one code twice, or none.

    Args:
        labels: of each case, what the labels 1, 2 ... show.

    Raises:
        UserError: names a label and what two cases call it.
    """
    codes = [[code for code, *_ in map(_said, each) if code] for each in labels]
    twice = any(len(set(each)) < len(each) for each in codes)
    known: dict[int, tuple[Segment, str]] = {}
    for case, segments in zip(ids, labels, strict=True):
        for number, shown in enumerate(segments, 1):
            if _said(shown) == NOTHING:
                continue
            other, first = known.setdefault(number, (shown, case))
            if not _alike(_said(shown), _said(other), twice):
                one, two = (" ".join(filter(None, each)) for each in (other, shown))
                raise UserError(
                    f"{source}: label {number} of {key} is {one!r} in case {first} and {two!r} in case {case}; "
                    "number the segments alike, and call them alike"
                )


def names_of(labels: Sequence[tuple[Segment, ...]]) -> dict[int, str]:
    """What the labels 1, 2 ... show by the first case that says it: the meaning of a code, else a label.

    Args:
        labels: of each case; alike (`same_labels`).
    """
    names: dict[int, str] = {}
    for segments in labels:
        for number, segment in enumerate(segments, 1):
            code, label, shows = _said(segment)
            own, meaning = (part.strip() for part in segment[1:])
            if name := (meaning if code and shows else own if label else ""):
                names.setdefault(number, name)
    return names


def _said(segment: Segment) -> Segment:
    """What a segment says of itself, without what programs write by themselves."""
    code, label, shows = (part.strip().casefold() for part in segment)
    label = "" if _UNNAMED.fullmatch(label) else label
    return ("", label, "") if code in ("", *_ANYTHING) else (code, label, shows)


def _alike(one: Segment, other: Segment, by_label: bool) -> bool:
    """Whether two segments show the same: by code, or of two schemes by meaning, and by label."""
    (code, label, shows), (code_, label_, shows_) = one, other
    if not (code and code_):
        named = label and label_
        return not named or bool({label, shows} & ({label_, shows_} - {""}))
    schemes = code.split(" ")[0] != code_.split(" ")[0] and bool(shows) and shows == shows_
    return (code == code_ or schemes) and (label == label_ or not by_label)
