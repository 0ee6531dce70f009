"""How much packed bytes expand to, counted piece by piece before a library unpacks all of them."""

import zlib
from pathlib import Path
from typing import BinaryIO

from ...errors import UserError

__all__ = ["ANY", "LARGE", "MOST_PACKED", "MOST_RATIO", "RAW", "check_expansion", "unpacked_bytes"]

MOST_PACKED = 1032
"""Bytes that one byte of deflate (gzip, zip, PNG) can hold."""
LARGE, MOST_RATIO = 1 << 28, 225
"""What unpacks to more bytes than LARGE and to more than MOST_RATIO times itself holds no measured image. Masks of
1436 adrenal glands expand 221 times; zeros, as of a bomb, about 1000 times."""
RAW, ANY = -zlib.MAX_WBITS, 32 + zlib.MAX_WBITS
"""Deflate without a frame; with that of zlib or gzip."""
_PIECE = 1 << 20


def check_expansion(declared: int, stored: int, path: Path | str) -> None:
    """Refuse what unpacks to far more than any image of that many packed bytes.

    Args:
        declared: bytes once unpacked.
        stored: bytes packed.
        path: for messages.

    Raises:
        UserError: more than `LARGE` bytes, and more than `MOST_RATIO` times those stored.
    """
    if declared > LARGE and declared > MOST_RATIO * stored:
        raise UserError(
            f"{path}: would unpack to {declared / 2**30:.3g} GiB from {stored} bytes, which no measured image "
            "does; mend it, or unpack it yourself"
        )


def unpacked_bytes(stream: BinaryIO, most: int, window: int = ANY) -> int:
    """How many bytes a stream of deflate holds; counting ends where there are more than `most`.

    Args:
        stream: at the beginning of the packed bytes.
        most: the largest count that matters.
        window: `ANY`, or `RAW` where there is no frame of zlib or gzip.

    Raises:
        zlib.error: damaged.
        EOFError: cut short.
    """
    unpacker = zlib.decompressobj(window)
    count, packed = 0, stream.read(_PIECE)
    while packed and count <= most:
        count += len(unpacker.decompress(packed, _PIECE))
        packed = unpacker.unconsumed_tail or (b"" if unpacker.eof else stream.read(_PIECE))
    if not unpacker.eof and count <= most:
        raise EOFError("packed bytes end too early")
    return count
