"""Headers of NRRD, looked at before ITK reads them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from .slicer import segments
from .text_header import (
    LONGEST_LINE,
    MOST_AXES,
    UNITS,
    Header,
    Voxels,
    numbers,
    one_of,
    regular,
    require,
    whole,
)

__all__ = ["look"]

_LINE = re.compile(r"([^:=#][^:=]*): ?(.*?)\s*")
_KEY_AND_VALUE = re.compile(r"([^:]+):=(.*)")
_HEADER_BYTES = 1 << 20
"""A header ends before: 3D Slicer writes half a kilobyte of each segment."""
_AXES = ("sizes", "spacings", "axis mins", "axis maxs", "thicknesses")
_FIELDS = (
    *_AXES,
    "type", "dimension", "space", "space dimension", "space directions", "space origin", "kinds", "encoding",
    "endian", "content", "block size", "old min", "old max", "data file", "line skip", "byte skip", "number",
    "sample units", "space units", "measurement frame", "centers", "centerings", "labels", "units", "min", "max",
    "datafile", "lineskip", "byteskip", "axismins", "axismaxs", "oldmin", "oldmax", "blocksize", "sampleunits",
)  # fmt: skip
_ANATOMICAL = re.compile(
    r"(right|left)-(anterior|posterior)-(superior|inferior)(-time)?|[RL][AP][SI]T?", re.IGNORECASE
)
"""Spaces that say where the patient's right, front and head are."""
_SKIPS = ("byte skip", "line skip", "byteskip", "lineskip")
_WORDS = {
    "endian": ("little", "big"),
    "encoding": ("raw", "txt", "text", "ascii", "hex", "gz", "gzip", "bz2", "bzip2"),
}  # fmt: skip


def look(path: Path) -> Header:
    """What a header says, once all of it makes sense.

    Raises:
        UserError: a line that is none of NRRD or too long, a field that is missing or doubled, or whose
            numbers are not as many as they must be, not finite or out of range; voxels in what is no file.
    """
    with path.open("rb") as stream:
        begin = stream.read(_HEADER_BYTES)
    blank = re.search(rb"\r?\n\r?\n", begin)
    end = blank.start() if blank else len(begin)
    magic, *lines = re.split(r"\r?\n", begin[:end].decode("latin-1"))
    if not re.fullmatch(r"NRRD000[1-6]", magic):
        raise UserError(f"{path}: cannot be read as .nrrd: does not begin as one")
    fields, pairs = _taken_apart(path, lines)
    _check_nrrd(path, fields)
    labels = segments(pairs)
    return replace(_located(path, fields, blank.end() if blank else 0), labels=labels)


def _taken_apart(path: Path, lines: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of a header, and what programs wrote beside them as keys and values."""
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        if said := _KEY_AND_VALUE.fullmatch(line):
            pairs[said[1]] = said[2].encode("latin-1").decode("utf-8", "replace")
            continue
        found = _LINE.fullmatch(line)
        if found is None or len(line) > LONGEST_LINE or found[1].lower() not in _FIELDS:
            raise UserError(
                f"{path}: cannot be read as .nrrd: has a line {line[:60]!r} in its header"
            )
        if found[1].lower() in fields:
            raise UserError(f"{path}: says {found[1]} twice")
        fields[found[1].lower()] = found[2]
    return fields, pairs


def _located(path: Path, fields: Mapping[str, str], begin: int) -> Header:
    """The header with where its voxels lie: from `begin` on, where they are in the file itself."""
    target = fields.get("data file", fields.get("datafile"))
    packed = fields["encoding"].lower() in ("gz", "gzip")
    if target is not None and (target.upper().startswith("LIST") or "%" in target):
        return _header(path, fields, None)
    file = path if target is None else regular(path, target)
    beside = () if target is None else (file,)
    skips = [whole(path, fields, name, 0, -1, 1 << 40) for name in _SKIPS if name in fields]
    if any(skips) or not (packed or fields["encoding"].lower() == "raw"):
        return _header(path, fields, None, beside)
    voxels = Voxels(file, begin if target is None else 0, packed)
    return _header(path, fields, voxels, beside)


def _header(
    path: Path, fields: Mapping[str, str], voxels: Voxels | None, beside: tuple[Path, ...] = ()
) -> Header:
    flat = fields["dimension"].strip() == "2"  # in a plane of its own
    known = flat or _ANATOMICAL.fullmatch(fields.get("space", "")) is not None
    placed = known and "space directions" in fields
    alpha = "rgba-color" in fields.get("kinds", "").lower().split()
    return Header(voxels, beside, placed, _mm(path, fields), alpha)


def _mm(path: Path, fields: Mapping[str, str]) -> float:
    """The unit of lengths, which ITK takes as mm.

    Raises:
        UserError: axes of several units.
    """
    said = fields.get("space units", fields.get("units", ""))
    found = {UNITS[word] for word in re.findall(r'"([^"]*)"', said.lower()) if word in UNITS}
    if len(found) > 1:
        raise UserError(f"{path}: its axes have several units of length ({said[:60]}); write mm")
    return found.pop() if found else 1.0


def _check_nrrd(path: Path, fields: Mapping[str, str]) -> None:
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise UserError(f"{path}: cannot be read as .nrrd: says no {name}")
    for name, known in _WORDS.items():
        one_of(path, fields, name, known)
    axes = whole(path, fields, "dimension", 0, 1, MOST_AXES)
    require(path, fields, "sizes", axes, 0)
    for name in _AXES[1:]:
        if name in fields and len(numbers(fields[name])) != axes:
            raise UserError(
                f"{path}: its {name} is {fields[name][:60]!r}; {axes} numbers are expected"
            )
    if "space origin" in fields:
        count = len(numbers(fields["space origin"]))
        require(path, fields, "space origin", count if count in (2, 3, 4) else axes)
    if "space directions" in fields:
        _check_space(path, fields, axes)
    _check_kinds(path, fields)


def _check_kinds(path: Path, fields: Mapping[str, str]) -> None:
    """What each axis is of: at most three of space, and one of components that ITK takes for what they are."""
    kinds = fields.get("kinds", "").lower().split()
    for kind in kinds:
        if kind == "hsv-color" or kind.endswith("matrix"):
            raise UserError(
                f"{path}: an axis of kind {kind} is not read; write grey, RGB or plain components"
            )
    space = [kind for kind in kinds if kind in ("domain", "space", "time")]
    if "time" in space or len(space) > 3:
        raise UserError(
            f"{path}: has {len(kinds)} axes of kinds {' '.join(kinds)}; a series is read with kind list for its axis "
            "of time, or from .nii.gz"
        )


def _check_space(path: Path, fields: Mapping[str, str], axes: int) -> None:
    """A vector for each axis, "none" for those that are not of space, and one for the origin."""
    vectors = re.findall(r"\([^()]*\)|none", fields["space directions"])
    placed = [vector for vector in vectors if vector != "none"]
    space = len(numbers(placed[0])) if placed else 0
    if len(vectors) != axes or space not in (2, 3, 4):
        raise UserError(
            f"{path}: its space directions are {fields['space directions'][:60]!r}; {axes} vectors are expected"
        )
    for vector in placed:
        require(path, {"space directions": vector}, "space directions", space)
    if "space origin" in fields:
        require(path, fields, "space origin", space)
