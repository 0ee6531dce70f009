"""What a header of text says, and whether the voxels that it declares are there, before ITK reads them.

ITK takes 0 for a number that it cannot read, passes over fields that it does not know, prints what it finds
on the terminal, and is stopped by the system where a faulty line of NRRD is longer than its buffer.
"""

import math
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from .packed import ANY, check_expansion, unpacked_bytes

__all__ = [
    *("HEADER_BYTES", "LONGEST_LINE", "MOST_AXES", "UNITS", "Header", "Voxels", "check_held"),
    *("numbers", "one_of", "regular", "require", "whole"),
]

_NAMES = {
    1e-6: ("nm", "nanometer", "nanometre"),
    1e-3: ("um", "\u00b5m", "\u03bcm", "micron", "micrometer", "micrometre"),
    1.0: ("mm", "millimeter", "millimetre"),
    10.0: ("cm", "centimeter", "centimetre"),
    1e3: ("m", "meter", "metre"),
}
UNITS = {name + end: mm for mm, names in _NAMES.items() for name in names for end in ("", "s")}
"""Units of length, in mm."""

HEADER_BYTES = 1 << 16
"""A header of text ends before."""
LONGEST_LINE = 500
"""ITK has room for some 1000 characters."""
MOST_AXES = 16


@dataclass(frozen=True)
class Header:
    """What a header says that ITK passes over.

    Attributes:
        voxels: where they lie; None where these are text or in files that are not looked at.
        beside: other files that hold them.
        placed: whether it says where they lie in the patient.
        mm: the unit of its lengths.
        alpha: whether the last component of a voxel is its opacity.
        labels: what the labels 1, 2 ... show, as in `Image`.
    """

    voxels: "Voxels | None"
    beside: tuple[Path, ...] = ()
    placed: bool = True
    mm: float = 1.0
    alpha: bool = False
    labels: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a header lie.

    Attributes:
        file: that holds them.
        begin: its first byte of them; negative: they are its last bytes.
        packed: whether these are deflated.
        held: bytes in this and further files; None: those of the file.
    """

    file: Path
    begin: int
    packed: bool = False
    held: int | None = None


def check_held(voxels: Voxels, declared: int, path: Path) -> None:
    """Count the bytes of voxels that are there.

    Raises:
        UserError: they are not as many as a header declares, or damaged.
    """
    held = voxels.held
    if held is None:
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


def numbers(text: str) -> list[float]:
    """Numbers between blanks, commas and brackets; NaN for what is none."""
    values = []
    for word in re.sub(r"[(),]", " ", text).split():
        try:
            values.append(float(word) if word.isascii() and "_" not in word else math.nan)
        except ValueError:
            values.append(math.nan)
    return values


def require(
    path: Path, fields: Mapping[str, str], name: str, count: int, least: float = -math.inf
) -> None:
    """Refuse a field that is not `count` finite numbers greater than `least`."""
    values = numbers(fields[name])
    if len(values) != count or not all(math.isfinite(v) and v > least for v in values):
        kind = "positive " if least == 0 else ""
        raise UserError(
            f"{path}: its {name} is {fields[name][:60]!r}; {count} finite {kind}numbers are expected"
        )


def whole(
    path: Path, fields: Mapping[str, str], name: str, default: int, low: int, high: int
) -> int:
    """A whole number of a header."""
    value = numbers(fields.get(name, str(default)))
    if len(value) != 1 or not (low <= value[0] <= high) or value[0] != int(value[0]):
        raise UserError(
            f"{path}: its {name} is {fields.get(name, '')[:60]!r}; a whole number from {low} to {high} is "
            "expected"
        )
    return int(value[0])


def one_of(path: Path, fields: Mapping[str, str], name: str, known: tuple[str, ...]) -> None:
    if name in fields and fields[name].lower() not in known:
        raise UserError(f"{path}: its {name} is {fields[name][:60]!r}, none of {' '.join(known)}")


def regular(path: Path, name: str) -> Path:
    """The file beside a header that holds voxels."""
    file = path.parent / name
    if "\0" in name or not file.is_file():
        raise UserError(
            f"{path}: its voxels lie in {name[:100]!r}, which is no regular file (missing, a device or a pipe)"
        )
    return file
