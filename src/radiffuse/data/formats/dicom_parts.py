"""Several volumes in one DICOM series (echoes, times, b-values), told apart by what their headers say."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from .dicom_frames import Opened
from .dicom_stack import PLACE_MM
from .dicom_values import harmless, text

__all__ = ["TELLING", "parts"]

TELLING = (
    *(
        "EchoTime",
        "DiffusionBValue",
        "TemporalPositionIdentifier",
        "ImageType",
        "AcquisitionNumber",
    ),
    "TriggerTime",
)
"""Attributes that may tell volumes of a series apart, in this order."""


def parts(members: Sequence[Opened]) -> list[tuple[str, list[Opened]]]:
    """Files of a series by volume, each with a name for it ("EchoTime-80").

    Only where several files lie in each place, and one attribute has as many values and parts them
    into volumes that lie in the same places. All else stays one series, named "".
    """
    together = [("", list(members))]
    places = _places(members)
    if places is None or len(set(places)) == len(places):
        return together
    for name in TELLING:
        groups: dict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(members):
            groups[text(one.header, name)].append(row)
        alike = all(
            sorted(places[row] for row in rows) == sorted(set(places)) for rows in groups.values()
        )
        if len(groups) > 1 and "" not in groups and alike:
            return [
                (f"{name}-{harmless(value, str(n))}", [members[row] for row in groups[value]])
                for n, value in enumerate(sorted(groups), 1)
            ]
    return together


def _places(members: Sequence[Opened]) -> list[int] | None:
    """Number of the place of each file along the normal; None where a file has several frames."""
    frames = [one.frames[0] for one in members if len(one.frames) == 1]
    if len(frames) < len(members) or not frames or frames[0].axes is None:
        return None
    normal = np.cross(*frames[0].axes)
    along = np.array([np.nan if f.place is None else float(f.place @ normal) for f in frames])
    order = np.argsort(along)
    steps = np.diff(along[order], prepend=along[order[0]])
    numbers = np.empty(len(along), dtype=int)
    numbers[order] = np.cumsum(~(steps < PLACE_MM))
    return [int(number) for number in numbers]
