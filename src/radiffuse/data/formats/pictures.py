"""PNG, JPEG, TIFF and BMP: what a file may be, read upright, and written."""

import contextlib
import errno
import io
import math
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import SimpleITK as sitk
import tifffile
from PIL.PngImagePlugin import PngInfo, putchunk

from ...errors import UserError
from ..files import replacing
from ..image import Image
from ..made import NAME, Made
from .picture_values import Reading, values
from .stored import as_tensor, ending, silent
from .tiff_strips import check_strips

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
"""What is opened, whatever the ending of the file says; other readers of Pillow start programs."""

MOST_PIXELS = 89_478_485
"""Pixels of the largest picture that is decoded: a quarter of a GiB in 8 bit colour."""

_OPENING = threading.Lock()


def read_picture(
    path: Path, *, labels: bool = False, notice: Callable[[str], None] = silent
) -> Image:
    """One PNG, JPEG, TIFF, BMP or GIF, upright: `(C, rows, columns)`, grey or red, green and blue.

    The range is that of the bits stored; signed, 32 bit and float numbers declare none.

    Args:
        path: the file; its content says the format.
        labels: the picture is a mask: the number stored for a pixel is its label, also where
            a palette or few bits would give it another brightness.
        notice: is told what became of transparency, and which numbers are the labels.

    Raises:
        UserError: another format, damaged, too large, several pages, or colours not known here.
    """
    try:
        with _opened(path) as file:
            _check_size(path, file)
            _one_page(path, file, notice)
            array, top = values(Reading(path, labels, notice), file)
    except UserError:
        raise
    except Exception as error:  # what damaged headers raise in Pillow has no end
        raise UserError(
            f"{path}: cannot be read as a picture "
            f"({' '.join(str(error).split())[:160] or type(error).__name__})"
        ) from None
    limit = None if top is None else (0.0, float(top))
    return Image(as_tensor(array.transpose(2, 0, 1)), range=limit, format=ending(path))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[PIL.ImageFile.ImageFile]:
    """The picture with its header read and nothing decoded."""
    # A stream: of a path Pillow maps the file, and then takes the rows of a turned TIFF for columns.
    with path.open("rb") as stream:
        try:
            # Filters of warnings are the process's, and pictures are read in threads.
            with _OPENING, warnings.catch_warnings():
                warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
                file = PIL.Image.open(stream, formats=FORMATS)
        except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as error:
            raise _too_large(path, str(error).split(" exceeds")[0]) from None
        except PIL.UnidentifiedImageError:
            raise UserError(f"{path}: cannot be read as a picture ({_what_it_is(path)})") from None
        with file:
            yield file


def _check_size(path: Path, file: PIL.ImageFile.ImageFile) -> None:
    """What a header declares, before pixels are decoded.

    Raises:
        UserError: more pixels than are read, or strips that do not hold them.
    """
    if file.width * file.height > MOST_PIXELS:
        raise _too_large(path, f"{file.width} x {file.height} pixels")
    if file.format == "TIFF":
        check_strips(path)


def _too_large(path: Path, size: str) -> UserError:
    return UserError(f"{path}: {size}; more than {MOST_PIXELS} are not read; cut it into tiles")


def _what_it_is(path: Path) -> str:
    """A few words on a file that was not opened; no more than its first bytes and tags are read."""
    with path.open("rb") as stream:
        start = stream.read(16)
    PIL.Image.init()
    names = [
        name for name, (_, accept) in PIL.Image.OPEN.items() if accept and accept(start) is True
    ]
    if "TIFF" in names:
        try:
            with tifffile.TiffFile(path) as tiff:
                page = tiff.pages.first
                return (
                    f"a TIFF of {page.samplesperpixel} samples a pixel, {page.bitspersample} bit "
                    f"{page.dtype}, {_name(page.photometric)}, which is not known here"
                )
        except Exception:  # as in `read_picture`
            return "a damaged TIFF"
    if names and names[0] in FORMATS:
        return f"a damaged {names[0]}"
    if names:
        return f"it looks like {names[0]}; known are {', '.join(FORMATS)}"
    return f"its content is none of {', '.join(FORMATS)}"


def _name(member: object) -> str:
    return str(getattr(member, "name", member))


def _one_page(path: Path, file: PIL.ImageFile.ImageFile, notice: Callable[[str], None]) -> None:
    """Refuse several pages; smaller copies of the first page are none."""
    pages = getattr(file, "n_frames", 1)
    if pages > 1 and file.format == "MPO":
        notice(f"{path}: holds {pages} pictures; only the first, the photograph, is read")
        return
    if file.format == "TIFF":
        with tifffile.TiffFile(path) as tiff:
            copies = [
                isinstance(page, tifffile.TiffPage) and page.is_reduced for page in tiff.pages
            ]
            planes = _planes(tiff)
        if planes > 1:
            raise UserError(
                f"{path}: holds a volume of {planes} planes, and a picture is one; write it as .nii.gz"
            )
        if copies[0]:
            raise UserError(
                f"{path}: begins with a small copy of its picture; write the picture alone, or first"
            )
        pages -= sum(copies)
    if pages > 1:
        raise UserError(
            f"{path}: holds {pages} pages, and a picture is one; write one file a page, "
            "or a volume as .nii.gz"
        )


def _planes(tiff: tifffile.TiffFile) -> int:
    """Planes behind the first directory of a TIFF: of ImageDepth, or of a stack that ImageJ names once."""
    first = tiff.pages[0]
    if not isinstance(first, tifffile.TiffPage):
        return 1
    if first.imagedepth > 1 or len(tiff.pages) > 1:
        return first.imagedepth
    return max(1, math.prod(tiff.series[0].shape) // max(1, math.prod(first.shape)))


def write_picture(image: Image, path: Path, made: Made | None = None) -> None:
    """Write 8 or 16 bit grey or RGB (16 bit colour as PNG or TIFF), or float grey (TIFF).

    What made it stands in text chunks (PNG: Software, Description, Comment), in the description (TIFF), or in the
    comment (JPEG).

    Raises:
        UserError: values, channels or axes that the format cannot hold.
    """
    array = image.data.cpu().numpy()
    if len(image.size) != 2 or len(array) not in (1, 3):
        raise UserError(
            f"{path}: a picture has one or three channels and two axes, found {array.shape}; "
            "write .nii.gz"
        )
    deep = (image.range is not None and image.range[1] > 255) or array.max() > 255
    whole = not image.data.dtype.is_floating_point
    if whole and (array.min() < 0 or array.max() > 65535):
        raise UserError(f"{path}: values {array.min()} to {array.max()} do not fit a picture")
    if whole:
        array = array.astype(np.uint16 if deep else np.uint8)
    elif ending(path) not in (".tif", ".tiff"):
        raise UserError(f"{path}: float values do not fit a picture; write .tif or .nii.gz")
    if len(array) == 3 and not whole:
        raise UserError(f"{path}: colour pictures hold whole numbers; write .nii.gz")
    grey_or_colour = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    if image.range == (0, 1) and whole:
        grey_or_colour = grey_or_colour.astype(bool)
    if len(array) == 3 and deep:
        _write_deep_colour(np.ascontiguousarray(grey_or_colour), path, made)
        return
    # Written to a file at once, Pillow takes half a JPEG on a full disk for a whole one.
    content = io.BytesIO()
    picture = PIL.Image.fromarray(np.ascontiguousarray(grey_or_colour))
    kind = PIL.Image.registered_extensions()[path.suffix.lower()]
    picture.save(content, format=kind, **_told(kind, made))
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _told(kind: str, made: Made | None) -> dict[str, Any]:
    """What made a picture, as Pillow's writer of that format takes it."""
    if made is None:
        return {}
    if kind == "PNG":
        return {"pnginfo": _chunks(made)}
    if kind == "TIFF":
        return {"description": f"{made.line}\n{made.json}", "software": NAME}
    return {"comment": f"{made.line}\n{made.json}"} if kind == "JPEG" else {}


def _chunks(made: Made) -> PngInfo:
    chunks = PngInfo()
    chunks.add_text("Software", f"{NAME} {made.version}".strip())
    chunks.add_text("Description", made.line)
    chunks.add_text("Comment", made.json)
    return chunks


def _write_deep_colour(array: np.ndarray, path: Path, made: Made | None) -> None:
    """`(rows, columns, 3)` of 16 bit, which Pillow cannot write."""
    kind = ending(path)
    if kind not in (".png", ".tif", ".tiff"):
        raise UserError(f"{path}: {kind} holds 8 bit colour; write .png, .tif or .nii.gz")
    with replacing(path) as temporary:
        if kind != ".png":
            told = None if made is None else f"{made.line}\n{made.json}"
            tifffile.imwrite(temporary, array, photometric="rgb", description=told)
            return
        try:
            sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(temporary))
        except RuntimeError as error:
            # ITK does not tell a full disk from other failures.
            full = shutil.disk_usage(temporary.parent).free < array.nbytes
            number = errno.ENOSPC if full else errno.EIO
            raise OSError(number, os.strerror(number)) from error
        if made is not None:
            _insert(temporary, _chunks(made))


def _insert(path: Path, chunks: PngInfo) -> None:
    """Put text chunks behind the header (8 bytes of signature, 25 of IHDR) of a PNG that says nothing yet."""
    content, told = path.read_bytes(), io.BytesIO()
    for kind, data, *_ in chunks.chunks:
        putchunk(told, kind, data)
    path.write_bytes(content[:33] + told.getvalue() + content[33:])
