"""Columns: one key of a data set, for all its cases, in memory or on disk."""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError, fitting
from .copies import stamp_of
from .formats.by_ending import read_image
from .formats.itk import NRRD, header_of
from .formats.stored import ending
from .image import Image
from .kept import Kept
from .transforms import resize, resized

T = TypeVar("T")
Kind = Literal["image", "mask", "label", "scalar", "raw"]
"""image: scaled to [-1, 1]. mask: labels per voxel. label: class of the case. scalar: one number.
raw: numbers passed on as they are (coordinates, k-space)."""

_MASKS = {"mask", "masks", "seg", "segmentation", "vessel", "tissue", "lesion"}
_RAW = {"coords", "points", "kspace", "field"}


def names_mask(name: str) -> bool:
    """Whether a column of this name holds labels per voxel."""
    return name.lower() in _MASKS or name.lower().endswith(("_mask", "_seg"))


def names_raw(name: str) -> bool:
    """Whether a column of this name is passed on unscaled."""
    return name.lower() in _RAW or name.lower().endswith(("_coords", "_points"))


def names_image(name: str) -> bool:
    """Whether a column of this name is one of images: neither labels nor passed on unscaled."""
    return not names_raw(name) and not names_mask(name)


class Column(Protocol):
    """One key of all cases."""

    @property
    def kind(self) -> Kind: ...

    def __len__(self) -> int: ...

    def image(self, row: int) -> Image:
        """One case in stored units, with its geometry."""

    def stack(self, rows: Sequence[int]) -> Tensor:
        """Several cases in stored units, `(B, C, *S)`, or `(B, ...)` for what is no image."""

    def to_size(self, size: tuple[int, ...]) -> "Column":
        """The same images on a grid of `size`."""

    def as_kind(self, kind: Kind) -> "Column":
        """The same numbers read as another kind."""

    def hashed(self, row: int) -> str:
        """sha256 of what is stored (array or file), the same on every machine."""

    def stamp(self, row: int) -> str:
        """The name of a copy of the decoded image (`copies.stamp_of`); "" where it lies in memory."""

    def source(self, row: int) -> str:
        """Where the case lies, for messages."""


@dataclass(frozen=True)
class ArrayColumn:
    """Cases in memory.

    Attributes:
        data: `(N, C, *S)` for images and masks, `(N, ...)` for all else.
        kind: see `Kind`.
        name: where it comes from, for messages.
        affines: `(N, 4, 4)` or None.
        modality, range: as in `Image`.
    """

    data: Tensor
    kind: Kind
    name: str = "array"
    affines: Tensor | None = None
    modality: str | None = None
    range: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def image(self, row: int) -> Image:
        affine = None if self.affines is None else self.affines[row]
        return Image(self.data[row], affine, self.modality, self.range)

    def stack(self, rows: Sequence[int]) -> Tensor:
        return self.data[torch.as_tensor(rows, dtype=torch.long)]

    def to_size(self, size: tuple[int, ...]) -> "ArrayColumn":
        old = tuple(self.data.shape[2:])
        if self.kind not in ("image", "mask") or old == size:
            return self
        if len(old) != len(size):
            raise wrong_axes(self.name, old, size)
        nearest = self.kind == "mask"
        parts = [resize(part, size, nearest) for part in self.data.split(256)]
        affines = self.affines
        if affines is not None:
            first = Image(self.data[0], torch.eye(4, dtype=torch.float64))
            step = resized(first, size, nearest).affine
            assert step is not None
            affines = affines @ step
        return replace(self, data=torch.cat(parts), affines=affines)

    def as_kind(self, kind: Kind) -> "ArrayColumn":
        return replace(self, kind=kind)

    def hashed(self, row: int) -> str:
        return content_hash(self.data[row])

    def stamp(self, row: int) -> str:
        return ""

    def source(self, row: int) -> str:
        return self.name


@dataclass(frozen=True)
class FileColumn:
    """Cases on disk, one path each (a file, or the folder of a DICOM series).

    Decoding runs in threads; decoded images are kept in memory, and beyond that as copies on disk (`Kept`).

    Attributes:
        paths: one for each case, also for messages.
        kind: see `Kind`.
        notice: is told what readers had to decide.
        size: grid to resize to.
        members: the files of each case where these are several (DICOM series), else ().
    """

    paths: tuple[Path, ...]
    kind: Kind
    notice: Callable[[str], None] = lambda line: None
    size: tuple[int, ...] | None = None
    members: tuple[tuple[Path, ...], ...] = ()
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)
    digests: dict[int, str] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    def _key(self, row: int) -> Path | int:
        """What an image is kept by: a file that many rows name is read once."""
        return row if self.members else self.paths[row]

    def image(self, row: int) -> Image:
        return self.kept(
            self._key(row),
            lambda notice: self._decoded(row, notice),
            lambda: self.stamp(row),
            self.notice,
        )

    def _decoded(self, row: int, notice: Callable[[str], None]) -> Image:
        with fitting(self.paths[row]):
            image = self._read(row, notice)
        broken = int((~torch.isfinite(image.data)).sum()) if image.data.is_floating_point() else 0
        if broken:
            raise UserError(
                f"{self.paths[row]}: holds {broken} NaN or infinite voxels; mend or remove it"
            )
        if self.kind == "mask":
            image = _as_labels(image, self.paths[row], notice)
        if self.size is not None:
            if len(image.size) != len(self.size):
                raise wrong_axes(str(self.paths[row]), image.size, self.size)
            image = resized(image, self.size, nearest=self.kind == "mask")
        return image

    def _read(self, row: int, notice: Callable[[str], None]) -> Image:
        if self.members:
            from .formats.dicom import read_files

            return read_files(self.members[row], notice)
        return read_image(self.paths[row], labels=self.kind == "mask", notice=notice)

    def stack(self, rows: Sequence[int]) -> Tensor:
        kept = all(self._key(row) in self.kept.images for row in rows)
        images = [self.image(row) for row in rows] if kept else in_threads(self.image, rows)
        return together(self, rows, images)

    def to_size(self, size: tuple[int, ...]) -> "FileColumn":
        return replace(self, size=size, kept=Kept())

    def as_kind(self, kind: Kind) -> "FileColumn":
        return replace(self, kind=kind, kept=Kept())

    def _files(self, row: int) -> list[Path]:
        """Every file that an image is read from."""
        path = self.paths[row]
        if self.members:
            return sorted(self.members[row])
        if path.is_dir():
            return sorted(p for p in path.rglob("*") if p.is_file())
        return [path, *_beside(path)]

    def hashed(self, row: int) -> str:
        if row not in self.digests:
            digest = hashlib.sha256()
            for file in self._files(row):
                with file.open("rb") as stream:
                    digest.update(hashlib.file_digest(stream, "sha256").digest())
            self.digests[row] = digest.hexdigest()
        return self.digests[row]

    def stamp(self, row: int) -> str:
        return stamp_of(self._files(row), self.kind, self.size)

    def source(self, row: int) -> str:
        return str(self.paths[row])


def _beside(header: Path) -> list[Path]:
    """Files that hold the voxels of a header: of .img the .hdr and the other way round, of .mhd what it names."""
    if ending(header) in (".mha", ".mhd", *NRRD):
        with contextlib.suppress(UserError):  # which reading the image tells
            return list(header_of(header).beside)
        return []
    other = {".hdr": (".img", ".IMG", ".img.gz"), ".img": (".hdr", ".HDR", ".mat")}
    names = (header.with_suffix(end) for end in other.get(header.suffix.lower(), ()))
    return [file for file in names if file.is_file()]


def wrong_axes(where: str, have: tuple[int, ...], asked: tuple[int, ...]) -> UserError:
    """What to tell of images whose axes a size does not fit."""
    cut = "; --slices axial, coronal or sagittal cuts volumes" if len(have) == 3 else ""
    cut = "; --size takes as many sides as the images have" if len(have) < len(asked) else cut
    return UserError(
        f"{where}: has {len(have)} axes {have}, but the size asked for is {asked}{cut}"
    )


def together(column: Column, rows: Sequence[int], images: Sequence[Image]) -> Tensor:
    """The images of several rows as one tensor.

    Raises:
        UserError: they differ in shape.
    """
    data = [image.data for image in images]
    for row, one in zip(rows, data, strict=True):
        if one.shape != data[0].shape:
            raise UserError(
                f"{column.source(row)}: shape {tuple(one.shape)} differs from "
                f"{tuple(data[0].shape)} of {column.source(rows[0])}; --size resizes"
            )
    return torch.stack(data)


def in_threads(work: Callable[[int], T], rows: Sequence[int]) -> list[T]:
    """`work` of every row, in order, on a few threads where there is more than one row."""
    if len(rows) < 2:
        return [work(row) for row in rows]
    with ThreadPoolExecutor(max_workers=min(8, len(rows))) as pool:
        return list(pool.map(work, rows))


HAIR = 1e-3
"""Numbers of a mask that miss whole ones by no more than this are these, stored by way of a slope."""


def _as_labels(image: Image, path: Path, notice: Callable[[str], None]) -> Image:
    """Labels per voxel: whole numbers from 0, one channel; grey stored as three equal colours is one."""
    data = image.data
    if len(data) == 3 and bool((data == data[:1]).all()):
        data = data[:1]
    if len(data) != 1:
        raise UserError(f"{path}: a mask has one channel, found {len(data)}")
    if data.is_floating_point():
        whole = data.round()
        off = float((data - whole).abs().max())
        if off > HAIR:
            raise UserError(
                f"{path}: a mask must hold whole numbers, and these miss them by up to {off:.3g}; "
                "was it scaled or interpolated?"
            )
        if off:
            notice(f"{path}: the numbers of the mask miss whole ones by up to {off:.1g}; rounded")
        data = whole.long()
    if int(data.min()) < 0:
        raise UserError(f"{path}: a mask holds label {int(data.min())}; labels are 0, 1, 2 ...")
    return replace(image, data=data, range=None)


def content_hash(data: Tensor) -> str:
    """sha256 over type, shape and bytes of a tensor."""
    array = np.ascontiguousarray(data.numpy())
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()
