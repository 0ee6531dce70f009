"""What the numbers of an opened picture mean: depth, palette, transparency, which way is up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageFile
import PIL.ImageOps
import tifffile

from ...errors import UserError
from .stored import check_bytes

_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "I", "F")
"""Grey, palettes and RGB, as Pillow names them, beside its "I;16" in several orders of bytes."""
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_WHITE_IS_ZERO, _MULTIPLIED = 0, 1
_UNSIGNED, _SIGNED = 1, 2


@dataclass(frozen=True)
class Reading:
    """One picture being read.

    Attributes:
        path: the file, for messages and for what Pillow does not keep.
        labels: it is a mask; numbers as stored, not brightness.
        notice: is told what was decided.
    """

    path: Path
    labels: bool
    notice: Callable[[str], None]

    def refused(self, why: str) -> UserError:
        """The one line for the user."""
        return UserError(f"{self.path}: {why}")

    def say(self, what: str) -> None:
        """A notice about this file."""
        self.notice(f"{self.path}: {what}")


@dataclass(frozen=True)
class Samples:
    """What a header declares.

    Attributes:
        bits: bits of one sample.
        count: samples a pixel.
        kind: 1 unsigned, 2 signed, 3 float (the numbers of TIFF).
        white_is_zero: grey falls as numbers rise.
        multiplied: colours are stored times their alpha.
    """

    bits: int
    count: int
    kind: int = _UNSIGNED
    white_is_zero: bool = False
    multiplied: bool = False

    @property
    def top(self) -> int | None:
        """White: 1 for one bit, 255 for 2, 4 (which Pillow stretches) and 8; None if not declared."""
        if self.kind != _UNSIGNED or self.bits > 16:
            return None
        return max(2**self.bits - 1, 255) if self.bits > 1 else 1

    @property
    def unit(self) -> int:
        """What Pillow makes of a stored 1: of 2 and 4 bit grey it makes 8 bit."""
        return 255 // (2**self.bits - 1) if self.bits in (2, 4) else 1


def values(reading: Reading, file: PIL.ImageFile.ImageFile) -> tuple[np.ndarray, int | None]:
    """The numbers of a picture, `(rows, columns, 1 or 3)`, and the number that is white.

    Args:
        reading: what is read, and what for.
        file: the picture, not decoded yet.

    Returns:
        The array, black = 0, upright; and what its highest value stands for, None where the file
        declares none (signed, 32 bit, float).

    Raises:
        UserError: colours or samples not known here.
    """
    if file.mode not in _MODES and not file.mode.startswith("I;16"):
        raise reading.refused(f"{file.mode} colours are not read; write grey or RGB")
    samples = _declared(reading, file)
    if file.format == "PNG":
        bits = file.width * file.height * samples.bits * samples.count
        check_bytes(bits // 8, reading.path, reading.path.stat().st_size, packed=True)
    orientation = file.getexif().get(PIL.ExifTags.Base.Orientation, 1)
    deep_tiff = samples.bits > 8 and file.format == "TIFF"
    if (
        not deep_tiff
    ):  # of which Pillow decodes but a few, by way of a library that prints on stderr
        file.load()
    if file.mode in ("P", "PA"):
        return _of_palette(reading, file), 255
    if deep_tiff:
        array = _deep_tiff(reading, file, orientation)
    elif samples.bits > 8 and samples.count > 1:
        array = _upright(_deep_png(reading, file, samples), orientation)
    else:
        array = _plain(file)
    array = _black_is_zero(reading, np.atleast_3d(array), samples, file.mode)
    if samples.kind == _SIGNED and samples.bits == 8:
        array = array.view(np.int8)
    array = _seen(reading, array, samples, file.info.get("transparency"))
    if reading.labels and samples.unit > 1:
        reading.say(
            f"{samples.bits} bit: labels are the numbers stored, up to {2**samples.bits - 1}"
        )
        array = array // samples.unit
    return array, samples.top


def _declared(reading: Reading, file: PIL.ImageFile.ImageFile) -> Samples:
    """Depth and meaning of the samples, from the header; refuses samples that would get lost."""
    bands = len(file.getbands())
    with reading.path.open("rb") as stream:
        start = stream.read(30)
    if file.format == "PNG":
        if start[12:16] != b"IHDR":
            raise ValueError("a PNG that does not begin with its header")
        return Samples(start[24], _PNG_SAMPLES[start[25]])
    if file.format == "BMP":
        bits = start[24 if start[14] == 12 else 28]  # of a pixel; the header of OS/2 is 12 long
        if bits != {"1": 1, "L": 8}.get(file.mode, bits):
            raise reading.refused(
                f"{bits} bit BMP with a palette of {'two' if file.mode == '1' else 'few'} greys, "
                "which Pillow misreads; write PNG"
            )
    if file.format != "TIFF":
        return Samples(1 if file.mode == "1" else 8, bands)
    defaults = {258: 1, 277: 1, 339: _UNSIGNED, 262: 1, 338: 0}
    bits, count, kind, photometric, extra = (_tag(file, *item) for item in defaults.items())
    if count != bands:
        raise reading.refused(
            f"{count} samples a pixel, of which {abs(count - bands)} are of unknown meaning; "
            "write grey or RGB"
        )
    return Samples(bits, count, kind, photometric == _WHITE_IS_ZERO, extra == _MULTIPLIED)


def _tag(file: PIL.ImageFile.ImageFile, number: int, default: int) -> int:
    """A tag of a TIFF, one whole number or the same number for each sample."""
    value = file.tag_v2.get(number, default)  # type: ignore[attr-defined]
    several = set(value) if isinstance(value, tuple) else {value}
    if len(several) != 1 or not isinstance(one := several.pop(), int):
        raise ValueError(f"TIFF tag {number} is {value}")
    return one


def _plain(file: PIL.ImageFile.ImageFile) -> np.ndarray:
    """Grey or RGB, with or without alpha, as Pillow decodes it."""
    picture = PIL.ImageOps.exif_transpose(file)
    if picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    return np.asarray(picture)


def _deep_tiff(reading: Reading, file: PIL.ImageFile.ImageFile, orientation: int) -> np.ndarray:
    """More than 8 bit, upright: Pillow cuts colour to 8 bit and swaps bytes of some that are MM."""
    with tifffile.TiffFile(reading.path) as tiff:
        page = tiff.pages.first
        if page.compression in tifffile.TIFF.DECOMPRESSORS and page.bitspersample in (16, 32):
            array = page.asarray()
            array = np.moveaxis(array, 0, -1) if page.axes.startswith("S") else array
            return _upright(array, orientation)
        little, compression = tiff.byteorder == "<", tifffile.COMPRESSION(page.compression).name
    if len(file.getbands()) == 1 and (little or file.mode.startswith("I;16")):
        return np.asarray(PIL.ImageOps.exif_transpose(file))
    raise reading.refused(
        f"{page.bitspersample} bit with {compression} compression is read where "
        "the package imagecodecs is installed; or write it without compression"
    )


def _deep_png(reading: Reading, file: PIL.ImageFile.ImageFile, samples: Samples) -> np.ndarray:
    """16 bit colour, not turned. Pillow keeps the first byte of each number; it is asked twice.

    The second time it is told the other order of bytes, so that it keeps what was the second byte.
    """
    if samples.count == 2:
        raise reading.refused("16 bit grey with transparency is not read; write grey or RGB")
    with PIL.Image.open(reading.path, formats=("PNG",)) as again:
        ((codec, extents, offset, order),) = again.tile
        if order != f"{again.mode};16B":
            raise ValueError(f"Pillow decodes {again.mode} as {order}")
        again.tile = [(codec, extents, offset, f"{again.mode};16L")]  # type: ignore[list-item]
        second = np.asarray(again)
    return np.asarray(file).astype(np.uint16) << 8 | second


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """`(rows, columns, ...)` turned as an EXIF orientation says."""
    if orientation == 1:
        return array
    rows, columns = array.shape[:2]
    places = PIL.Image.fromarray(np.arange(rows * columns, dtype=np.int32).reshape(rows, columns))
    places.getexif()[PIL.ExifTags.Base.Orientation] = orientation
    turned = np.asarray(PIL.ImageOps.exif_transpose(places))
    return array.reshape(rows * columns, -1)[turned]


def _black_is_zero(reading: Reading, array: np.ndarray, samples: Samples, mode: str) -> np.ndarray:
    """Grey that rises with brightness; of a mask nobody knows whether it was drawn so."""
    if not samples.white_is_zero:
        return array
    if reading.labels:
        raise reading.refused(
            "a mask with white as zero, so that labels and what is seen disagree; "
            "write it with black as zero"
        )
    if mode in ("1", "L"):  # Pillow did
        return array
    if samples.top is None:
        raise reading.refused("white is zero, but what is black is not declared")
    return (samples.top - array.astype(np.int32)).astype(np.uint16)


def _seen(
    reading: Reading, array: np.ndarray, samples: Samples, key: int | tuple[int, ...] | None
) -> np.ndarray:
    """Grey or RGB without transparency, be it a channel or one colour, the key."""
    top = samples.top or 1
    if array.shape[2] in (2, 4):
        over_black = samples.multiplied and samples.bits > 8  # Pillow divides 8 bit
        return opaque(reading, array[..., :-1], array[..., -1:], top, over_black)
    if key is None or reading.labels:
        return array
    # Pillow has 255 for a single bit, which is 1 here.
    clear = (array == np.minimum(np.array(key) * samples.unit, top)).all(axis=2, keepdims=True)
    return opaque(reading, array, np.where(clear, 0, top), top)


def opaque(
    reading: Reading, colours: np.ndarray, alpha: np.ndarray, top: int, over_black: bool = False
) -> np.ndarray:
    """Colours without alpha; what shows through is black, as around a field of view.

    `over_black`: the colours are multiplied by alpha already.
    """
    if bool((alpha == top).all()):
        reading.say("its alpha is opaque everywhere and is dropped")
        return colours
    if reading.labels:
        raise reading.refused("a mask that is transparent in places; write labels alone")
    if not alpha.any():
        raise reading.refused("transparent everywhere, nothing is seen; write it without alpha")
    reading.say("transparent in places (alpha); black is put behind it")
    if over_black:
        return colours
    return ((colours.astype(np.int64) * alpha + top // 2) // top).astype(colours.dtype)


def _of_palette(reading: Reading, file: PIL.ImageFile.ImageFile) -> np.ndarray:
    """Colours of a palette, one channel where all of it is grey; of a mask the indices."""
    picture = PIL.ImageOps.exif_transpose(file)
    picture.apply_transparency()
    palette = np.array(picture.getpalette("RGBA"), dtype=np.uint8).reshape(-1, 4)
    stored = np.atleast_3d(np.asarray(picture))
    index = stored[..., 0]
    if index.max() >= len(palette):
        raise reading.refused(f"damaged: colour {index.max()} of a palette that has {len(palette)}")
    grey = bool((palette[:, :1] == palette[:, 1:3]).all())
    if reading.labels and file.format == "GIF":
        if not grey:
            raise reading.refused(
                "a mask as coloured GIF, whose writers number colours anew in each file; write PNG"
            )
        return palette[index][..., :1]
    if reading.labels:
        if grey:
            _check_grey_labels(reading, np.unique(index), palette[:, 0])
        return index[..., None]
    colours = palette[index]
    alpha = stored[..., 1:] if stored.shape[2] == 2 else colours[..., 3:]
    colours = colours[..., : 1 if grey else 3]
    if stored.shape[2] == 1 and bool((palette[:, 3] == 255).all()):
        return colours
    return opaque(reading, colours, alpha, 255)


def _check_grey_labels(reading: Reading, used: np.ndarray, greys: np.ndarray) -> None:
    """Say that the index is the label, not the grey; refuse where they rank labels differently."""
    shown = greys[used].astype(int)
    if np.array_equal(shown, used):
        return
    if (np.diff(shown) <= 0).any():
        raise reading.refused(
            "a mask whose palette is grey, but not from dark to bright: is the label the index "
            "or the grey? write it without a palette"
        )
    reading.say("labels are the indices of its palette, not its greys")
