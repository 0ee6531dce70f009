"""Several volumes in one DICOM series (echoes, times, b-values, stacks), told apart by what their headers say."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from .dicom_frames import Frame, Opened, value_of
from .dicom_stack import PLACE_MM, ordered
from .dicom_values import harmless, text

__all__ = ["TELLING", "Part", "parts"]

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
TELLING_FRAMES = (
    ("MREchoSequence", "EffectiveEchoTime"),
    ("MRDiffusionSequence", "DiffusionBValue"),
    ("FrameContentSequence", "TemporalPositionIndex"),
    ("MRImageFrameTypeSequence", "FrameType"),
    ("CTImageFrameTypeSequence", "FrameType"),
    ("PETFrameTypeSequence", "FrameType"),
    ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    ("FrameContentSequence", "FrameAcquisitionNumber"),
)
"""Of frames of one file likewise: functional group and attribute."""


@dataclass(frozen=True)
class Part:
    """Files, or frames of one, that make a volume.

    Attributes:
        name: for it ("EchoTime-80"); "" where it is alone.
        members: the files.
        frames: which frames of its only file; None for all of its files.
    """

    name: str
    members: tuple[Opened, ...]
    frames: tuple[int, ...] | None = None

    @property
    def pictures(self) -> list[Frame]:
        """All frames of it."""
        if self.frames is None:
            return [frame for one in self.members for frame in one.frames]
        return [self.members[0].frames[row] for row in self.frames]


def parts(members: Sequence[Opened]) -> list[Part]:
    """The volumes of a series, each with a name.

    Files of one frame: where several lie in each place, and one attribute has as many values and parts them into
    volumes that lie in the same places. Files of several frames, where these make no one volume: by StackID, by an
    attribute that parts frames in the same way, and by file. All else stays one, named "", and reading it says why it
    is refused.
    """
    if any(len(one.frames) > 1 for one in members):
        return _of_frames(members)
    together = [Part("", tuple(members))]
    frames = [one.frames[0] for one in members]
    places = _places(frames)
    if places is None or len(set(places)) == len(places):
        return together
    for name in TELLING:
        values = [text(one.header, name) for one in members]
        if (groups := _parting(values, places)) is not None:
            return [
                Part(_named(name, value, n), tuple(members[row] for row in rows))
                for n, (value, rows) in enumerate(groups, 1)
            ]
    return together


def _of_frames(members: Sequence[Opened]) -> list[Part]:
    """The volumes of a series of files of several frames."""
    together = [Part("", tuple(members))]
    if _makes_a_volume([frame for one in members for frame in one.frames]):
        return together
    found = []
    for number, one in enumerate(members, 1):
        volumes = _split(one.frames)
        if volumes is None:
            return together
        file = [f"object-{number}"] if len(members) > 1 else []
        for name, rows in volumes:
            words = "_".join([*file, *([name] if name else [])])
            found.append(Part(words, (one,), tuple(rows)))
    return found


def _split(frames: Sequence[Frame]) -> list[tuple[str, list[int]]] | None:
    """Frames of a file by volume, each with its name; None where nothing parts them into volumes."""
    if _makes_a_volume(frames):
        return [("", list(range(len(frames))))]
    stacks: dict[str, list[int]] = defaultdict(list)
    for row, frame in enumerate(frames):
        stacks[value_of(frame, "FrameContentSequence", "StackID")].append(row)
    if len(stacks) > 1 and "" not in stacks:
        found = []
        for n, (stack, rows) in enumerate(sorted(stacks.items()), 1):
            inside = _split([frames[row] for row in rows])
            if inside is None:
                return None
            for name, places in inside:
                words = "_".join(filter(None, [_named("StackID", stack, n), name]))
                found.append((words, [rows[place] for place in places]))
        return found
    lying = _places(frames)
    for sequence, name in TELLING_FRAMES if lying is not None else ():
        values = [value_of(frame, sequence, name) for frame in frames]
        groups = _parting(values, lying or [])
        if groups is not None and all(
            _makes_a_volume([frames[row] for row in rows]) for _, rows in groups
        ):
            return [(_named(name, value, n), rows) for n, (value, rows) in enumerate(groups, 1)]
    return None


def _makes_a_volume(frames: Sequence[Frame]) -> bool:
    try:
        ordered(frames, Path())
    except UserError:
        return False
    return True


def _parting(values: Sequence[str], places: Sequence[int]) -> list[tuple[str, list[int]]] | None:
    """Rows by value where each value stands once in every place; else None."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        groups[value].append(row)
    every = sorted(set(places))
    alike = all(sorted(places[row] for row in rows) == every for rows in groups.values())
    if len(groups) < 2 or "" in groups or not alike:
        return None
    return sorted(groups.items())


def _named(name: str, value: str, number: int) -> str:
    return f"{name}-{harmless(value, str(number))}"


def _places(frames: Sequence[Frame]) -> list[int] | None:
    """Number of the place of each frame along the normal; None where a frame does not say it."""
    if not frames or frames[0].axes is None:
        return None
    normal = np.cross(*frames[0].axes)
    along = np.array([np.nan if f.place is None else float(f.place @ normal) for f in frames])
    order = np.argsort(along)
    steps = np.diff(along[order], prepend=along[order[0]])
    numbers = np.empty(len(along), dtype=int)
    numbers[order] = np.cumsum(~(steps < PLACE_MM))
    return [int(number) for number in numbers]
