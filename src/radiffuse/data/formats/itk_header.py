"""Headers of MetaImage and NRRD, looked at before ITK reads them.

ITK takes 0 for a number that it cannot read, passes over fields that it does not know, prints what it finds
on the terminal, and is stopped by the system where a faulty line of NRRD is longer than its buffer.
"""

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError, nearest
from .packed import ANY, check_expansion, unpacked_bytes

__all__ = ["Voxels", "check_held", "look"]

HEADER_BYTES = 1 << 16
"""A header of text ends before."""
LONGEST_LINE = 500
"""Of NRRD; ITK has room for some 1000 characters."""
MOST_AXES = 16


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a header lie.

    Attributes:
        file: that holds them.
        begin: its first byte of them; negative: they are its last bytes.
        packed: whether these are deflated.
    """

    file: Path
    begin: int
    packed: bool = False


def look(path: Path) -> Voxels | None:
    """Where voxels lie, once all of a header makes sense; None where these are text or in several files.

    Raises:
        UserError: a field that is missing, doubled, misspelt, or whose numbers are not as many as they must
            be, not finite or out of range; voxels in what is no regular file.
    """
    with path.open("rb") as stream:
        begin = stream.read(HEADER_BYTES)
    return _nrrd(path, begin) if path.suffix.lower() == ".nrrd" else _meta(path, begin)


def check_held(voxels: Voxels, declared: int, path: Path) -> None:
    """Count the bytes of voxels that are there.

    Raises:
        UserError: they are not as many as a header declares, or damaged.
    """
    held = voxels.file.stat().st_size - max(voxels.begin, 0)
    if voxels.packed:
        check_expansion(declared, held, path)
        try:
            with voxels.file.open("rb") as stream:
                stream.seek(voxels.begin)
                held = unpacked_bytes(stream, declared, ANY)
        except (zlib.error, EOFError):
            raise UserError(f"{path}: cannot be read (its packed voxels are damaged)") from None
    if held < declared or (voxels.packed and held > declared):
        raise UserError(
            f"{path}: cannot be read: declares {declared} bytes of voxels and holds {held} (cut short?)"
        )


# --- numbers ----------------------------------------------------------------------------------------


def _numbers(text: str) -> list[float]:
    """Numbers between blanks, commas and brackets; NaN for what is none."""
    values = []
    for word in re.sub(r"[(),]", " ", text).split():
        try:
            values.append(float(word) if word.isascii() and "_" not in word else math.nan)
        except ValueError:
            values.append(math.nan)
    return values


def _require(
    path: Path, fields: Mapping[str, str], name: str, count: int, least: float = -math.inf
) -> None:
    """Refuse a field that is not `count` finite numbers greater than `least`."""
    values = _numbers(fields[name])
    if len(values) != count or not all(math.isfinite(v) and v > least for v in values):
        kind = "positive " if least == 0 else ""
        raise UserError(
            f"{path}: its {name} is {fields[name][:60]!r}; {count} finite {kind}numbers are expected"
        )


def _whole(path: Path, fields: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number of a header."""
    value = _numbers(fields.get(name, str(default)))
    if len(value) != 1 or not (low <= value[0] <= high) or value[0] != int(value[0]):
        raise UserError(
            f"{path}: its {name} is {fields.get(name, '')[:60]!r}; a whole number from {low} to {high} is "
            "expected"
        )
    return int(value[0])


def _one_of(path: Path, fields: Mapping[str, str], name: str, known: tuple[str, ...]) -> None:
    if name in fields and fields[name].lower() not in known:
        raise UserError(f"{path}: its {name} is {fields[name][:60]!r}, none of {' '.join(known)}")


def _regular(path: Path, name: str) -> Path:
    """The file beside a header that holds voxels."""
    file = path.parent / name
    if "\0" in name or not file.is_file():
        raise UserError(
            f"{path}: its voxels lie in {name[:100]!r}, which is no regular file (missing, a device or a pipe)"
        )
    return file


# --- MetaImage --------------------------------------------------------------------------------------

_FIELD = re.compile(r"[ \t]*(\w[\w|.]*)[ \t]*=[ \t]*(.*?)\s*")
_POWERS = {
    "DimSize": 1, "ElementSpacing": 1, "ElementSize": 1, "Offset": 1, "Position": 1, "Origin": 1,
    "TransformMatrix": 2, "Rotation": 2, "Orientation": 2,
}  # fmt: skip
"""One number for each axis, or a matrix."""
_POSITIVE = ("DimSize", "ElementSpacing", "ElementSize")
_NEEDED = ("NDims", "DimSize", "ElementType", "ElementDataFile")
_BOOLEANS = ("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData")
_KNOWN = (
    *(*_NEEDED, *_POWERS, *_BOOLEANS, "ObjectType", "HeaderSize", "ElementNumberOfChannels"),
    *("CompressedDataSize", "CenterOfRotation", "AnatomicalOrientation", "Modality", "Comment", "Name", "ID"),
)
_TYPES = tuple(
    f"met_{kind}{end}"
    for kind in (
        *("char", "uchar", "short", "ushort", "int", "uint", "long", "ulong", "long_long", "ulong_long"),
        *("float", "double"),
    )
    for end in ("", "_array")
)


def _meta(path: Path, begin: bytes) -> Voxels | None:
    text, mark, rest = begin.decode("latin-1").partition("ElementDataFile")
    target, newline, listed = rest.partition("\n")
    fields: dict[str, str] = {}
    for line in [*text.splitlines(), f"{mark}{target}"]:
        found = _FIELD.fullmatch(line)
        if found is None:
            continue
        if found[1] in fields:
            raise UserError(f"{path}: says {found[1]} twice")
        fields[found[1]] = found[2]
    for name in _NEEDED:
        if name not in fields:
            near = nearest(name, set(fields) - set(_KNOWN))
            raise UserError(
                f"{path}: cannot be read as MetaImage: says no {name}{f' (but {near})' if near else ''}"
            )
    for name in set(fields) - set(_KNOWN):
        if (near := nearest(name, _KNOWN)) and near not in fields:
            raise UserError(f"{path}: says {name}, which is nothing; is it {near}?")
    _check_meta(path, fields)
    name = fields["ElementDataFile"]
    if name.upper().startswith("LIST") or "%" in name:
        for file in listed.splitlines() if name.upper().startswith("LIST") else ():
            _regular(path, file.strip())
        return None
    packed = fields.get("CompressedData", "")[:1] in ("T", "t", "1")
    skipped = _whole(path, fields, "HeaderSize", 0, -1, 1 << 40)
    if fields.get("BinaryData", "True")[:1] not in ("T", "t", "1"):
        return None
    local = name.upper() == "LOCAL"
    start = len(f"{text}{mark}{target}{newline}".encode("latin-1")) if local else 0
    return Voxels(path if local else _regular(path, name), -1 if skipped < 0 else start + skipped, packed)


def _check_meta(path: Path, fields: Mapping[str, str]) -> None:
    axes = _whole(path, fields, "NDims", 0, 1, MOST_AXES)
    order = list(fields)
    for name, power in _POWERS.items():
        if name not in fields:
            continue
        _require(path, fields, name, axes**power, 0 if name in _POSITIVE else -math.inf)
        if order.index(name) < order.index("NDims"):
            raise UserError(f"{path}: says {name} before NDims, so that ITK cannot read it")
    _whole(path, fields, "ElementNumberOfChannels", 1, 1, 1 << 16)
    _one_of(path, fields, "ElementType", _TYPES)
    for name in _BOOLEANS:
        _one_of(path, fields, name, ("true", "false", "t", "f", "1", "0"))


# --- NRRD -------------------------------------------------------------------------------------------

_LINE = re.compile(r"([^:=#][^:=]*): ?(.*?)\s*")
_KEY_AND_VALUE = re.compile(r"[^:]+:=.*")
_AXES = ("sizes", "spacings", "axis mins", "axis maxs", "thicknesses")
_FIELDS = (
    *(*_AXES, "type", "dimension", "space", "space dimension", "space directions", "space origin", "kinds"),
    *("encoding", "endian", "content", "block size", "old min", "old max", "data file", "line skip"),
    *("byte skip", "number", "sample units", "space units", "measurement frame", "centers", "centerings"),
    *("labels", "units", "min", "max", "datafile", "lineskip", "byteskip", "axismins", "axismaxs"),
    *("oldmin", "oldmax", "blocksize", "sampleunits"),
)
_WORDS = {
    "endian": ("little", "big"),
    "encoding": ("raw", "txt", "text", "ascii", "hex", "gz", "gzip", "bz2", "bzip2"),
}  # fmt: skip


def _nrrd(path: Path, begin: bytes) -> Voxels | None:
    end = min((at for mark in (b"\n\n", b"\r\n\r\n") if (at := begin.find(mark)) >= 0), default=len(begin))
    magic, *lines = begin[:end].decode("latin-1").splitlines() or [""]
    if not re.fullmatch(r"NRRD000[1-6]", magic):
        raise UserError(f"{path}: cannot be read as .nrrd: does not begin as one")
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith("#") or _KEY_AND_VALUE.fullmatch(line):
            continue
        found = _LINE.fullmatch(line)
        if found is None or len(line) > LONGEST_LINE or found[1].lower() not in _FIELDS:
            raise UserError(f"{path}: cannot be read as .nrrd: has a line {line[:60]!r} in its header")
        if found[1].lower() in fields:
            raise UserError(f"{path}: says {found[1]} twice")
        fields[found[1].lower()] = found[2]
    _check_nrrd(path, fields)
    name = fields.get("data file", fields.get("datafile"))
    packed = fields["encoding"].lower() in ("gz", "gzip")
    if name is not None and (name.upper().startswith("LIST") or "%" in name):
        return None
    file = path if name is None else _regular(path, name)
    skips = [_whole(path, fields, name, 0, -1, 1 << 40) for name in ("byte skip", "line skip") if name in fields]
    if any(skips) or not (packed or fields["encoding"].lower() == "raw"):
        return None
    blank = 4 if begin[end : end + 1] == b"\r" else 2
    return Voxels(file, 0 if name is not None else end + blank, packed)


def _check_nrrd(path: Path, fields: Mapping[str, str]) -> None:
    for name in ("type", "dimension", "sizes", "encoding"):
        if name not in fields:
            raise UserError(f"{path}: cannot be read as .nrrd: says no {name}")
    for name, known in _WORDS.items():
        _one_of(path, fields, name, known)
    axes = _whole(path, fields, "dimension", 0, 1, MOST_AXES)
    _require(path, fields, "sizes", axes, 0)
    for name in _AXES[1:]:
        if name in fields and len(_numbers(fields[name])) != axes:
            raise UserError(f"{path}: its {name} is {fields[name][:60]!r}; {axes} numbers are expected")
    if "space origin" in fields:
        count = len(_numbers(fields["space origin"]))
        _require(path, fields, "space origin", count if count in (2, 3, 4) else axes)
    if "space directions" in fields:
        _check_space(path, fields, axes)


def _check_space(path: Path, fields: Mapping[str, str], axes: int) -> None:
    """A vector for each axis, "none" for those that are not of space, and one for the origin."""
    vectors = re.findall(r"\([^()]*\)|none", fields["space directions"])
    placed = [vector for vector in vectors if vector != "none"]
    space = len(_numbers(placed[0])) if placed else 0
    if len(vectors) != axes or space not in (2, 3, 4):
        raise UserError(
            f"{path}: its space directions are {fields['space directions'][:60]!r}; {axes} vectors are expected"
        )
    for vector in placed:
        _require(path, {"space directions": vector}, "space directions", space)
    if "space origin" in fields:
        _require(path, fields, "space origin", space)
