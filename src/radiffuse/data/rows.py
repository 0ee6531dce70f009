"""Arrays that are larger than what is held in memory: cases read from their file when a batch asks for them."""

import math
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .columns import Kind, content_hash, in_threads, wrong_axes
from .copies import named, stamp_of
from .image import Image
from .kept import Kept
from .transforms import resized

__all__ = ["Held", "Region", "RowsColumn", "StoredArray", "end_to_end"]


@dataclass(frozen=True)
class Region:
    """An array in C order that lies in a file as it is.

    The file stays open, so that another one put in its place is not read in parts.

    Attributes:
        path: of the file, for messages.
        stream: of the file.
        offset: of the first byte.
        shape, dtype: of the array; the first axis counts the cases.
    """

    path: Path
    stream: BufferedReader
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    begun: tuple[int, int] = (0, 0)
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    @classmethod
    def of(cls, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype) -> "Region":
        """The array at `offset` of a file."""
        stream = path.open("rb")
        region = cls(path, stream, offset, shape, dtype, _state(stream))
        weakref.finalize(region, stream.close)
        return region

    def row(self, number: int) -> np.ndarray:
        """One case, `(1, ...)`.

        Raises:
            UserError: the file was written to since it was opened, or cut short.
        """
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        there = bytearray(size)
        with self.lock:
            changed = _state(self.stream) != self.begun
            self.stream.seek(self.offset + number * size)
            whole = self.stream.readinto(there) == size
        if changed or not whole:
            raise UserError(f"{self.path}: was changed while it was read; start again")
        return np.frombuffer(there, self.dtype).reshape(1, *self.shape[1:])


def _state(stream: BufferedReader) -> tuple[int, int]:
    stat = os.fstat(stream.fileno())
    return stat.st_size, stat.st_mtime_ns


@dataclass(frozen=True)
class Held:
    """A small array of the file `path` in memory, beside large ones that are not."""

    path: Path
    array: np.ndarray
    offset: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        return self.array.dtype

    def row(self, number: int) -> np.ndarray:
        """One case, `(1, ...)`."""
        return self.array[number : number + 1]


@dataclass(frozen=True)
class StoredArray:
    """Arrays of one shape of case, end to end: what code asks of an array without reading it."""

    parts: tuple[Region | Held, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def row(self, number: int) -> np.ndarray:
        """One case, `(1, ...)`."""
        for part in self.parts:
            if number < part.shape[0]:
                return part.row(number).astype(self.dtype, copy=False)
            number -= part.shape[0]
        raise IndexError(number)


def end_to_end(arrays: Sequence[np.ndarray | StoredArray], path: Path) -> np.ndarray | StoredArray:
    """Arrays of the file `path` as one; in memory where they all are."""
    here = [array for array in arrays if isinstance(array, np.ndarray)]
    if len(here) == len(arrays):
        return np.concatenate(here)
    parts: list[Region | Held] = []
    for array in arrays:
        parts += array.parts if isinstance(array, StoredArray) else [Held(path, array)]
    return StoredArray(tuple(parts))


@dataclass(frozen=True)
class RowsColumn:
    """Cases of an array that stays in its file; to all who ask as `ArrayColumn`.

    Attributes:
        array: where the cases lie.
        convert: rows as stored `(n, ...)` to what the column holds, `(n, C, *S)` or `(n, ...)`.
        kind, name, range: as in `ArrayColumn`.
        size: grid to resize to.
    """

    array: StoredArray
    convert: Callable[[np.ndarray], Tensor]
    kind: Kind
    name: str
    range: tuple[float, float] | None = None
    size: tuple[int, ...] | None = None
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    digests: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.array)

    def image(self, row: int) -> Image:
        if self.size is None:
            return self._read(row)
        return self.kept(row, lambda _: self._resized(row), lambda: self.stamp(row))

    def _read(self, row: int) -> Image:
        return Image(self.convert(self.array.row(int(row)))[0], range=self.range)

    def _resized(self, row: int) -> Image:
        assert self.size is not None
        return resized(self._read(row), self.size, nearest=self.kind == "mask")

    def stack(self, rows: Sequence[int]) -> Tensor:
        return torch.stack([image.data for image in in_threads(self.image, rows)])

    def to_size(self, size: tuple[int, ...]) -> "RowsColumn":
        if self.kind not in ("image", "mask"):
            return self
        old = tuple(self.image(0).size)
        if old == size:
            return self
        if len(old) != len(size):
            raise wrong_axes(self.name, old, size)
        return replace(self, size=size, kept=Kept(), digests={})

    def as_kind(self, kind: Kind) -> "RowsColumn":
        return replace(self, kind=kind, kept=Kept())

    def hashed(self, row: int) -> str:
        if row not in self.digests:
            self.digests[row] = content_hash(self.image(row).data)
        return self.digests[row]

    def stamp(self, row: int) -> str:
        files = [part.path for part in self.array.parts]
        places = [part.offset for part in self.array.parts]
        return named(stamp_of(files, self.name, self.kind, self.size), places, int(row))

    def source(self, row: int) -> str:
        return self.name
