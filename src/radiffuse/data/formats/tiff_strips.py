"""Strips of a TIFF, counted before they are decoded: libtiff prints of damaged ones on the terminal."""

import io
import zlib
from pathlib import Path

import tifffile

from ...errors import UserError
from .packed import unpacked_bytes

__all__ = ["check_strips"]

_DEFLATED = (tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE)


def check_strips(path: Path) -> None:
    """Look at where the first page's strips or tiles lie, and unpack deflated ones to count their bytes.

    Raises:
        UserError: some lie outside of the file, or do not hold their share of the picture.
        Exception: what tifffile raises where the file is damaged.
    """
    size = path.stat().st_size
    with tifffile.TiffFile(path) as tiff, path.open("rb") as stream:
        page = tiff.pages.first
        if not isinstance(page, tifffile.TiffPage):
            return
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        wanted = _bytes_of_strips(page)
        if len(places) < len(wanted) or any(at < 0 or at + n > size for at, n in places):
            raise UserError(f"{path}: cannot be read as a picture (its strips are not all in it)")
        if page.compression not in _DEFLATED:
            return
        for (at, count), expected in zip(places, wanted, strict=False):
            stream.seek(at)
            try:
                held = unpacked_bytes(io.BytesIO(stream.read(count)), expected)
            except (zlib.error, EOFError):
                held = -1
            if held != expected:
                raise UserError(f"{path}: cannot be read as a picture (its strips are damaged)")


def _bytes_of_strips(page: tifffile.TiffPage) -> list[int]:
    """Bytes that each strip or tile holds once unpacked."""
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    samples = page.samplesperpixel // planes
    if page.is_tiled:
        across = -(-page.imagewidth // page.tilewidth)
        down = -(-page.imagelength // page.tilelength)
        row = -(-page.tilewidth * samples * page.bitspersample // 8)
        return [row * page.tilelength] * (across * down * planes)
    row = -(-page.imagewidth * samples * page.bitspersample // 8)
    high = page.rowsperstrip or page.imagelength
    rows = [min(high, page.imagelength - top) for top in range(0, page.imagelength, high)]
    return [row * n for n in rows] * planes
