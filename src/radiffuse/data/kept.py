"""Decoded images that are asked for again: in memory up to a number of bytes, beyond it as copies on disk."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from threading import Lock

from .copies import copies
from .host import free_bytes
from .image import Image

Notice = Callable[[str], None]

__all__ = ["Kept", "bytes_of", "most_held"]

LEAST_HELD, SHARE, MOST_HELD = 1 << 28, 16, 1 << 32
"""One column holds a 16th of the free memory, and between 256 MiB and 4 GiB, of decoded images."""


@cache
def most_held() -> int:
    """Bytes of decoded images that one column holds in memory, and of arrays that are read whole."""
    return min(max(free_bytes() // SHARE, LEAST_HELD), MOST_HELD)


def bytes_of(image: Image) -> int:
    """What the voxels of an image take."""
    return image.data.numel() * image.data.element_size()


@dataclass
class Kept:
    """Images used last, up to `most` bytes (None: `most_held`); each is made by one thread alone.

    What does not fit is copied to disk and mapped from there, where the data have a name on disk.
    """

    most: int | None = None
    images: OrderedDict[Hashable, Image] = field(default_factory=OrderedDict)
    used: int = 0
    lock: Lock = field(default_factory=Lock)
    making: dict[Hashable, Lock] = field(default_factory=dict)

    def __call__(
        self,
        key: Hashable,
        make: Callable[[Notice], Image],
        stamp: Callable[[], str] = lambda: "",
        hear: Notice = lambda line: None,
    ) -> Image:
        """The image of `key`.

        Args:
            key: of the image in memory.
            make: decodes it, and tells what a reader had to decide.
            stamp: the name of its copy on disk (`copies.stamp_of`); "": it has none.
            hear: is told what the reader had to decide, by a copy too.
        """
        with self.lock:
            mine = self.making.setdefault(key, Lock())
        with mine:
            with self.lock:
                if key in self.images:
                    self.images.move_to_end(key)
                    return self.images[key]
            name = "" if copies().empty else self._name(stamp)
            if name and (found := copies().image(name)) is not None:
                image, told = found
                for line in told:
                    hear(line)
                return image
            lines: list[str] = []

            def note(line: str) -> None:
                lines.append(line)
                hear(line)

            image = make(note)
            size = bytes_of(image)
            if self.used + size > self._most and (name := name or self._name(stamp)):
                copies().keep(name, image, lines)
            self._hold(key, image, size)
            return image

    @property
    def _most(self) -> int:
        return most_held() if self.most is None else self.most

    def _name(self, stamp: Callable[[], str]) -> str:
        with suppress(OSError):  # the file is gone; reading it will say so
            return stamp()
        return ""

    def _hold(self, key: Hashable, image: Image, size: int) -> None:
        with self.lock:
            self.images[key] = image
            self.used += size
            while self.images and self.used > self._most:
                self.used -= bytes_of(self.images.popitem(last=False)[1])
