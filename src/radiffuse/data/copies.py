"""Copies of decoded images on disk, for data that are larger than the memory.

They lie in one folder that only the user may read: `RADIFFUSE_CACHE`, or radiffuse in the user's folder of
caches. It holds at most `RADIFFUSE_CACHE_GIB` (64), and 0 means none. A copy is named by a hash of what it was
made from, so that another file, or the same one changed, never meets it.
"""

import contextlib
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import UserError
from .files import user_cache
from .image import Image

__all__ = ["Copies", "copies", "named", "stamp_of"]

MADE_BY = "copies 5"
"""Another one where images are decoded differently: copies of before are made again."""
USUAL_GIB = 64
SPARE = 1 << 30
"""Bytes of the disk that are left alone."""
DAY = 86_400


def stamp_of(files: Iterable[Path], *about: object) -> str:
    """A name for what is made from `files` in the way that `about` says; another one once a file changes.

    Raises:
        OSError: a file is not there.
    """
    digest = hashlib.sha256(repr((MADE_BY, about)).encode())
    for path in files:
        stat = path.stat()
        told = (str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        digest.update(repr(told).encode(errors="surrogateescape"))
    return digest.hexdigest()


def named(stamp: str, *about: object) -> str:
    """A name for what is made from the image `stamp` in the way that `about` says; "" of no name."""
    return stamp and hashlib.sha256(repr((MADE_BY, stamp, about)).encode()).hexdigest()


@dataclass
class Copies:
    """A folder of copies up to a size; where there is no more room, the least recently used go first.

    What this process has read or written stays, so that an epoch over too much data does not throw out
    what the next one begins with.

    Attributes:
        folder: made where it is needed; None: no copies.
        most: bytes.
    """

    folder: Path | None
    most: int
    _sizes: dict[str, int] | None = field(default=None, repr=False)
    _mine: set[str] = field(default_factory=set, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to look for."""
        with self._lock:
            return not self._known()

    def image(self, stamp: str) -> tuple[Image, list[str]] | None:
        """The image kept as `stamp`, its voxels mapped from disk, and what was told of it.

        None where there is no copy, or a damaged one, which goes.
        """
        path = self._path(f"{stamp}.safetensors")
        if path is None:
            return None
        try:
            with safe_open(path, framework="pt") as stored:
                found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                words = stored.metadata() or {}
                image, lines = _image(found, words), json.loads(words["told"])
        except (OSError, SafetensorError, KeyError, ValueError):
            self._forget(path.name)
            return None
        self._use(path)
        return image, lines

    def keep(self, stamp: str, image: Image, told: Sequence[str] = ()) -> None:
        """Keep a copy of `image` and what a reader told of it, where there is room."""

        def write(path: Path) -> None:
            tensors = {"data": image.data.contiguous()}
            if image.affine is not None:
                tensors["affine"] = image.affine.contiguous()
            save_file(tensors, path, metadata={**_words(image), "told": json.dumps(list(told))})

        size = image.data.numel() * image.data.element_size() + 1024
        self._written(f"{stamp}.safetensors", size, write)

    def file(self, name: str, size: int, write: Callable[[BinaryIO], None]) -> Path | None:
        """The file `name` of `size` bytes, made by `write` where it is not there; None without room."""
        path = self._path(name)
        if path is not None and path.is_file() and path.stat().st_size == size:
            self._use(path)
            return path

        def fill(part: Path) -> None:
            with part.open("wb") as stream:
                write(stream)

        return self._written(name, size, fill)

    def room_for(self, size: int) -> bool:
        """Whether so many bytes could be kept, if older copies go."""
        if self.folder is None or size > self.most:
            return False
        there = next((p for p in (self.folder, *self.folder.parents) if p.is_dir()), None)
        return there is not None and shutil.disk_usage(there).free >= size + SPARE

    # --- the folder ------------------------------------------------------------------------------

    def _path(self, name: str) -> Path | None:
        with self._lock:
            return self.folder / name if self.folder and name in self._known() else None

    def _known(self) -> dict[str, int]:
        """Names and sizes of the copies there are; what was left half written a day ago goes."""
        if self._sizes is None:
            self._sizes = {}
            with contextlib.suppress(OSError):
                for entry in os.scandir(self.folder) if self.folder else ():
                    stat = entry.stat(follow_symlinks=False)
                    if not entry.name.endswith(".part"):
                        self._sizes[entry.name] = stat.st_size
                    elif time.time() - stat.st_mtime > DAY:
                        os.unlink(entry.path)
        return self._sizes

    def _use(self, path: Path) -> None:
        if path.name not in self._mine:
            self._mine.add(path.name)
            with contextlib.suppress(OSError):
                os.utime(path)

    def _forget(self, name: str) -> None:
        with self._lock, contextlib.suppress(OSError):
            assert self.folder is not None
            self._known().pop(name, None)
            (self.folder / name).unlink()

    def _written(self, name: str, size: int, write: Callable[[Path], None]) -> Path | None:
        """The file `name`, written beside its place first; None where there is no room or the disk says no."""
        if self.folder is None or not self._make_room(size):
            return None
        part = self.folder / f"{secrets.token_hex(8)}.part"
        try:
            write(part)
            os.replace(part, self.folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            return None
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        with self._lock:
            self._known()[name] = (self.folder / name).stat().st_size
            self._mine.add(name)
        return self.folder / name

    def _make_room(self, size: int) -> bool:
        assert self.folder is not None
        if not self.room_for(size):
            return False
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if hasattr(os, "getuid") and self.folder.stat().st_uid != os.getuid():
                    return False
            except OSError:
                return False
            known = self._known()
            over = sum(known.values()) + size - self.most
            if over <= 0:
                return True
            for name in self._others_by_age():
                over -= known.pop(name)
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
                if over <= 0:
                    return True
            return False

    def _others_by_age(self) -> list[str]:
        """Copies that this process has not used, the one used longest ago first."""
        assert self.folder is not None
        ages: dict[str, float] = {}
        for name in self._known():
            if name not in self._mine:
                with contextlib.suppress(OSError):
                    ages[name] = (self.folder / name).stat().st_mtime
        return sorted(ages, key=lambda name: ages[name])


def _words(image: Image) -> dict[str, str]:
    """What an image tells beside its numbers, as text."""
    told = {"modality": image.modality, "format": image.format, "own": image.own}
    words = {name: text for name, text in told.items() if text is not None}
    if image.world:
        words["world"] = image.world
    if image.labels:
        words["labels"] = json.dumps(image.labels)
    if image.range is not None:
        words["range"] = f"{image.range[0].hex()} {image.range[1].hex()}"
    if image.frame_seconds is not None:
        words["frame_seconds"] = image.frame_seconds.hex()
    if image.files:
        words["files"] = json.dumps([os.fspath(file) for file in image.files])
    if not image.placed:
        words["placed"] = "no"
    if image.two_axes:
        words["two_axes"] = "yes"
    if image.frames is not None:
        words["frames"] = " ".join(map(str, image.frames))
    return words


def _image(tensors: dict, words: dict[str, str]) -> Image:
    low_high = [float.fromhex(word) for word in words.get("range", "").split()]
    seconds = words.get("frame_seconds")
    return Image(
        tensors["data"],
        tensors.get("affine"),
        words.get("modality"),
        (low_high[0], low_high[1]) if low_high else None,
        words.get("format"),
        None if seconds is None else float.fromhex(seconds),
        words.get("own"),
        tuple(Path(file) for file in json.loads(words.get("files", "[]"))),
        tuple(map(int, words["frames"].split())) if "frames" in words else None,
        placed="placed" not in words,
        world=words.get("world", ""),
        labels=tuple(map(tuple, json.loads(words.get("labels", "[]")))),
        two_axes="two_axes" in words,
    )


_OPENED: dict[tuple[str, str], Copies] = {}


def copies() -> Copies:
    """The copies that the environment names.

    Raises:
        UserError: `RADIFFUSE_CACHE_GIB` is no number.
    """
    named = os.environ.get("RADIFFUSE_CACHE", "")
    said = os.environ.get("RADIFFUSE_CACHE_GIB", "") or str(USUAL_GIB)
    if (named, said) not in _OPENED:
        try:
            gib = float(said)
        except ValueError:
            gib = math.nan
        if not 0 <= gib < math.inf:
            raise UserError(f"RADIFFUSE_CACHE_GIB={said}: is no number of GiB, 0 or more")
        folder = Path(named) if named else _usual()
        _OPENED[named, said] = Copies(folder if gib else None, int(gib * 2**30))
    return _OPENED[named, said]


def _usual() -> Path | None:
    """Where copies lie; None where the user has no home."""
    with contextlib.suppress(UserError):
        return user_cache()
    return None
