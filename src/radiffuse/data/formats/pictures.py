"""PNG, JPEG, TIFF and BMP through Pillow."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image

from ...errors import UserError
from ..files import replacing
from ..image import Image
from .stored import as_tensor, ending, silent


def read_picture(path: Path, *, notice: Callable[[str], None] = silent) -> Image:
    """PNG, JPEG, TIFF, BMP: `(C, rows, columns)`, 8 or 16 bit grey, float grey, or RGB."""
    try:
        with PIL.Image.open(path) as file:
            pages = getattr(file, "n_frames", 1)
            if pages > 1:
                notice(f"{path}: holds {pages} pages; only the first is read")
            file.load()
            picture: PIL.Image.Image = file
            mode = picture.mode
            if mode == "P":
                opaque = "transparency" not in picture.info
                picture = picture.convert("RGB" if opaque else "RGBA")
            elif mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                picture = picture.convert("RGB")
            if picture.mode in ("RGBA", "LA", "PA"):
                notice(f"{path}: transparency (alpha) is dropped; colours behind it are kept")
            array = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, EOFError, PIL.Image.DecompressionBombError) as error:
        raise UserError(
            f"{path}: cannot be read as a picture ({' '.join(str(error).split())[:160]})"
        ) from None
    if array.ndim == 3:
        array = array[..., :1] if array.shape[2] == 2 else array[..., :3]
        array = array.transpose(2, 0, 1)
    else:
        array = array[None]
    limits = {"b1": (0.0, 1.0), "u1": (0.0, 255.0), "u2": (0.0, 65535.0)}
    limit = limits.get(array.dtype.kind + str(array.dtype.itemsize))
    if mode.startswith("I") and limit is None and array.min() >= 0 and array.max() <= 65535:
        limit = (0.0, 65535.0)
    return Image(as_tensor(array), range=limit, format=ending(path))


def write_picture(image: Image, path: Path) -> None:
    """Write 8 or 16 bit grey, 8 bit RGB, or float grey (TIFF)."""
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
    if len(array) == 3 and array.dtype != np.uint8:
        raise UserError(f"{path}: colour pictures hold 8 bit; write .nii.gz")
    grey_or_colour = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    if image.range == (0, 1) and whole:
        grey_or_colour = grey_or_colour.astype(bool)
    # Written to a file at once, Pillow takes half a JPEG on a full disk for a whole one.
    content = io.BytesIO()
    picture = PIL.Image.fromarray(np.ascontiguousarray(grey_or_colour))
    picture.save(content, format=PIL.Image.registered_extensions()[path.suffix.lower()])
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
