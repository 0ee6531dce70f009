"""What NumPy files declare, and where their arrays lie, before anything of them is read."""

import math
import shutil
import zipfile
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from ...errors import UserError
from ..copies import copies, stamp_of
from ..kept import most_held
from ..rows import Region, StoredArray
from .stored import MOST_BYTES, check_bytes, check_stored

__all__ = ["Declared", "check_sizes", "declared", "left_on_disk", "told_of"]

PIECE = 1 << 22


@dataclass(frozen=True)
class Declared:
    """One array of a file.

    Attributes:
        shape, dtype: of the array.
        by_columns: it is in Fortran order.
        header: bytes before its first number.
        stored: bytes of the member in the file.
        member: of the archive; None: the file is the array.
        may_stay: it need not be read in whole.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool
    header: int
    stored: int
    member: zipfile.ZipInfo | None = None
    may_stay: bool = True

    @property
    def bytes(self) -> int:
        """Of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def stays(self) -> bool:
        """Whether it is too large to be held, and can be read case by case."""
        # 64 bit without sign become signed or not by the largest of all values
        plain = self.dtype.kind in "bifc" or (self.dtype.kind == "u" and self.dtype.itemsize < 8)
        by_case = len(self.shape) > 1 and not self.by_columns and self.may_stay
        return plain and by_case and self.bytes > most_held()


def declared(stream: BinaryIO, path: Path, held: Container[str] = ()) -> dict[str, Declared]:
    """What the arrays of a .npz declare, or the one ("image") of a .npy.

    Args:
        stream: of the file `path`.
        held: names of arrays that must be read in whole.

    Raises:
        ValueError: no header of NumPy.
    """
    if not zipfile.is_zipfile(stream):
        stream.seek(0)
        return {"image": _header(stream, path.stat().st_size)}
    found = {}
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                name = info.filename.removesuffix(".npy")
                header = _header(member, info.file_size)
                found[name] = replace(header, member=info, may_stay=name not in held)
    return found


def _header(stream: IO[bytes], stored: int) -> Declared:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version}")
    shape, by_columns, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError("Object arrays are pickles")
    return Declared(shape, dtype, by_columns, stream.tell(), stored)


def check_sizes(arrays: dict[str, Declared], path: Path) -> None:
    """Compare what arrays declare with the memory and with the file.

    Raises:
        UserError: more than the memory, or than the file can hold.
    """
    for array in arrays.values():
        check_bytes(array.bytes // max(array.shape[0], 1) if array.stays else array.bytes, path)
        check_stored(array.bytes, path, array.stored)
    if any(array.member for array in arrays.values()):
        check_bytes(sum(array.bytes for array in arrays.values() if not array.stays), path)
        total = sum(array.bytes for array in arrays.values())
        check_stored(total, path, path.stat().st_size, packed=True)


def left_on_disk(arrays: dict[str, Declared], path: Path) -> dict[str, StoredArray]:
    """The arrays that are too large to be held: where they lie, or unpacked copies of them.

    A checksum of the archive is compared once, as it is where arrays are read whole.

    Raises:
        UserError: one that fits neither into memory nor, unpacked, on disk.
        zipfile.BadZipFile, zlib.error: damaged.
    """
    found = {}
    for name, array in arrays.items():
        if not array.stays:
            continue
        place = _in_place(array, path)
        if place is None:
            place = _unpacked(name, array, path)
        if place is not None:
            region = Region.of(*place, array.shape, array.dtype)
            found[name] = StoredArray((region,))
        else:
            _check_fits(array, name, path)
    return found


def told_of(array: StoredArray, where: str, path: Path) -> str:
    """One line on an array that stays on disk."""
    gib = array.size * array.dtype.itemsize / 2**30
    unpacked = {part.path.parent for part in array.parts} - {path.parent}
    where_to = f", unpacked in {unpacked.pop()}" if unpacked else ""
    return f"{where} takes {gib:.3g} GiB and is read case by case{where_to}"


def _check_fits(array: Declared, name: str, path: Path) -> None:
    if array.bytes > MOST_BYTES // 2:
        raise UserError(
            f"{path}: {name} takes {array.bytes / 2**30:.3g} GiB unpacked, and neither the memory nor the folder "
            "of copies has room; RADIFFUSE_CACHE names another folder, RADIFFUSE_CACHE_GIB allows it more, or "
            "np.savez stores it as it is"
        )


def _in_place(array: Declared, path: Path) -> tuple[Path, int] | None:
    """File and offset of an array that is stored as it is."""
    member = array.member
    if member is None:
        return path, array.header
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        return None
    with _member(member, path) as stream:
        while stream.read(PIECE):  # compares the checksum at its end
            pass
    with path.open("rb") as file:
        file.seek(member.header_offset + 26)
        names = [int.from_bytes(file.read(2), "little") for _ in range(2)]
    return path, member.header_offset + 30 + sum(names) + array.header


def _unpacked(name: str, array: Declared, path: Path) -> tuple[Path, int] | None:
    """A copy of a packed array on disk; None where there is no room for it."""
    member = array.member
    assert member is not None
    if not copies().room_for(array.stored):
        return None

    def write(file: BinaryIO) -> None:
        with _member(member, path) as stream:
            shutil.copyfileobj(stream, file, PIECE)

    made = copies().file(f"{stamp_of([path], name, member.CRC)}.npy", array.stored, write)
    return None if made is None else (made, array.header)


@contextmanager
def _member(member: zipfile.ZipInfo, path: Path) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
        yield stream
