"""Headers of MetaImage, looked at before ITK reads them."""

import difflib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from ...errors import UserError
from .text_header import (
    HEADER_BYTES,
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

_FIELD = re.compile(r"[ \t]*(\w[\w|. \[\]()/+-]*?)[ \t]*[=:][ \t]*(.*?)\s*")
_PATTERN = re.compile(r"[^%]*%0?\d?d[^%]*")
_POWERS = {
    "DimSize": 1, "ElementSpacing": 1, "ElementSize": 1, "Offset": 1, "Position": 1, "Origin": 1,
    "TransformMatrix": 2, "Rotation": 2, "Orientation": 2,
}  # fmt: skip
"""One number for each axis, or a matrix."""
_POSITIVE = ("DimSize", "ElementSpacing", "ElementSize")
_PLACES = ("Offset", "Position", "Origin", "TransformMatrix", "Rotation", "Orientation")
"""Any of these says where voxels lie."""
_INTENSITY = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
"""What ITK passes over, and what it may be for that to be right."""
_NEEDED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
_BOOLEANS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
_KNOWN = (
    *(*_NEEDED, *_POWERS, *_BOOLEANS),
    "ObjectType", "ObjectSubType", "HeaderSize", "ElementNumberOfChannels", "CompressedDataSize", "Modality",
    "CenterOfRotation", "AnatomicalOrientation", "ElementMin", "ElementMax", "SequenceID", "Name", "Comment",
    "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset", "AcquisitionDate", "ID", "ParentID",
    "DistanceUnits", "Color",
)  # fmt: skip
_KINDS = (
    "char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "long_long", "ulong_long", "float",
    "double",
)  # fmt: skip
_TYPES = tuple(f"met_{kind}{end}" for kind in _KINDS for end in ("", "_array"))


def look(path: Path) -> Header:
    """What a header says, once all of it makes sense.

    Raises:
        UserError: a field that is missing, doubled or misspelt, whose numbers are not as many as they must
            be, not finite or out of range; voxels in what is no regular file.
    """
    with path.open("rb") as stream:
        begin = stream.read(HEADER_BYTES)
    text, mark, rest = begin.decode("latin-1").partition("ElementDataFile")
    target, newline, listed = rest.partition("\n")
    fields: dict[str, str] = {}
    for line in [*text.splitlines(), f"{mark}{target}"]:
        found = _FIELD.fullmatch(line)
        if (found is None and line.strip()) or len(line) > LONGEST_LINE:
            raise UserError(f"{path}: cannot be read: has a line {line[:60]!r} in its header")
        if found is None:
            continue
        if found[1] in fields:
            raise UserError(f"{path}: says {found[1]} twice")
        fields[found[1]] = found[2]
    for name in set(fields) - set(_KNOWN):
        if near := difflib.get_close_matches(name, set(_KNOWN) - set(fields), 1, 0.8):
            raise UserError(
                f"{path}: cannot be read: says {name}, which is nothing; is it {near[0]}?"
            )
    for name in _NEEDED:
        if name not in fields:
            raise UserError(f"{path}: cannot be read as MetaImage: says no {name}")
    _check_meta(path, fields)
    name = fields["ElementDataFile"]
    if name.upper().startswith("LIST") or "%" in name:
        voxels, files = _in_several(path, fields, listed)
        return _header(fields, voxels, files)
    packed = fields.get("CompressedData", "")[:1] in ("T", "t", "1")
    skipped = whole(path, fields, "HeaderSize", 0, -1, 1 << 40)
    if fields.get("BinaryData", "True")[:1] not in ("T", "t", "1"):
        return _header(fields, None, () if name.upper() == "LOCAL" else (regular(path, name),))
    local = name.upper() == "LOCAL"
    start = len(f"{text}{mark}{target}{newline}".encode("latin-1")) if local else 0
    file = path if local else regular(path, name)
    voxels = Voxels(file, -1 if skipped < 0 else start + skipped, packed)
    return _header(fields, voxels, () if local else (file,))


def _header(fields: Mapping[str, str], voxels: Voxels | None, beside: tuple[Path, ...]) -> Header:
    placed = any(name in fields for name in _PLACES)
    return Header(voxels, beside, placed, UNITS.get(fields.get("DistanceUnits", "").lower(), 1.0))


def _in_several(
    path: Path, fields: Mapping[str, str], listed: str
) -> tuple[Voxels, tuple[Path, ...]]:
    """Voxels in a file a slice: listed below "LIST", or named by a pattern, its first and last number and a step.

    ITK hands a pattern to C's printf, and divides by the step.
    """
    word, *rest = fields["ElementDataFile"].split()
    axes, each, names = whole(path, fields, "NDims", 0, 1, MOST_AXES), 0, []
    if not all(number.isdecimal() and len(number) < 6 for number in rest):
        pass
    elif word.upper() == "LIST":
        names = [line.strip() for line in listed.splitlines() if line.strip()]
        each = int(rest[0]) if rest else axes - 1
    elif _PATTERN.fullmatch(word) and len(rest) == 3 and int(rest[2]):
        first, last, step = (int(number) for number in rest)
        names, each = [word % number for number in range(first, last + 1, step)], axes - 1
    count = math.prod(int(n) for n in numbers(fields["DimSize"])[each:])
    if len(names) != count or not 0 < each < axes:
        raise UserError(
            f"{path}: its voxels lie in {len(names)} files ({fields['ElementDataFile'][:60]!r}), and {count} are "
            "expected"
        )
    files = tuple(regular(path, name) for name in names)
    return Voxels(files[0], 0, held=min(file.stat().st_size for file in files) * count), files


def _check_meta(path: Path, fields: Mapping[str, str]) -> None:
    axes = whole(path, fields, "NDims", 0, 1, MOST_AXES)
    order = list(fields)
    for name, power in _POWERS.items():
        if name not in fields:
            continue
        require(path, fields, name, axes**power, 0 if name in _POSITIVE else -math.inf)
        if order.index(name) < order.index("NDims"):
            raise UserError(f"{path}: says {name} before NDims, so that ITK cannot read it")
    whole(path, fields, "ElementNumberOfChannels", 1, 1, 1 << 16)
    for name, none in _INTENSITY.items():
        if numbers(fields.get(name, "")) not in ([], [none]):
            raise UserError(
                f"{path}: its {name} is {fields[name][:60]!r}, and no library here applies it; write the values that "
                "are meant"
            )
    whole(path, fields, "CompressedDataSize", 0, 0, 1 << 60)
    one_of(path, fields, "ElementType", _TYPES)
    for name in _BOOLEANS:
        one_of(path, fields, name, ("true", "false", "t", "f", "1", "0"))
