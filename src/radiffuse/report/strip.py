"""Tiles of a case side by side: grey values, maps in colours, labels. Imports no torch."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ..data.files import replacing
from ..data.shown import Pixels, flat, pixels

__all__ = [
    *(
        "COLOURS",
        "FOLDER",
        "GAP",
        "colour_of",
        "enlarged",
        "grey",
        "heat",
        "labelled",
        "side_by_side",
    ),
    "write_strip",
]

FOLDER = "pictures"
GAP, SIDE = 3, 208
LARGEST, _SMALL = 192, 96
"""Pixels of a tile that a strip holds; up to which it is kept to the bit."""
_FEW = 16
"""Colours up to which a picture is one of labels, whose edges stay."""


def _palette(count: int) -> Pixels:
    """Of labels 0, 1, 2 ...: black, five that are told apart by any eye, and hues far from each other."""
    chosen = [
        (0, 0, 0),
        (66, 133, 190),
        (222, 122, 60),
        (240, 226, 200),
        (94, 170, 110),
        (190, 90, 160),
    ]
    for k in range(count - len(chosen)):
        part = colorsys.hsv_to_rgb(
            (0.12 + 0.618034 * k) % 1, (0.85, 0.55)[k % 2], (0.95, 0.75)[k // 2 % 2]
        )
        red, green, blue = (round(255 * each) for each in part)
        chosen.append((red, green, blue))
    return np.array(chosen, np.uint8)


COLOURS = _palette(65)
"""Of labels; from the 65th on they repeat, but for the background."""


def grey(image: Pixels) -> Pixels:
    """`(C, *S)` in [-1, 1]."""
    return pixels(image)


def heat(image: Pixels, most: float) -> Pixels:
    """`(1, *S)` from 0 (black) over red and yellow to `most` (white)."""
    value = np.clip(np.asarray(flat(image), np.float32) / max(most, 1e-12), 0, 1)
    parts = np.clip(np.stack([3 * value, 3 * value - 1, 3 * value - 2], -1), 0, 1)
    return (255 * parts).round().astype(np.uint8)


def labelled(mask: Pixels) -> Pixels:
    """`(1, *S)` of labels in colours."""
    labels = np.asarray(flat(mask)).astype(np.int64)
    return COLOURS[np.where(labels > 0, 1 + (labels - 1) % (len(COLOURS) - 1), 0)]


def enlarged(tile: Pixels) -> Pixels:
    """Smoothly, to `SIDE` rows at least; a picture of few colours keeps its edges."""
    scale = max(1.0, SIDE / tile.shape[0])
    few = len(np.unique(tile.reshape(-1, 3), axis=0)) <= _FEW
    return _resized(tile, scale, Picture.Resampling.NEAREST if few else Picture.Resampling.BICUBIC)


def _resized(tile: Pixels, scale: float, how: Picture.Resampling) -> Pixels:
    rows, columns = tile.shape[:2]
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return np.asarray(Picture.fromarray(tile).resize(size, how))


def side_by_side(row: Sequence[Pixels]) -> Pixels:
    """Tiles of one height, grey lines between."""
    gap = np.full((row[0].shape[0], GAP, 3), 128, np.uint8)
    return np.concatenate([part for tile in row for part in (tile, gap)][:-1], axis=1)


def write_strip(path: Path, row: Sequence[Pixels]) -> tuple[str, list[int]]:
    """Write tiles, brought to the height of the first and to `LARGEST` at most; the file's name and their widths.

    Args:
        path: without its ending.
        row: the tiles.
    """
    rows = min(row[0].shape[0], LARGEST)
    tiles = [_resized(tile, rows / tile.shape[0], Picture.Resampling.BOX) for tile in row]
    kept = {"lossless": True} if rows <= _SMALL else {"quality": 70}
    file = path.with_name(f"{path.name}.webp")
    with replacing(file) as temporary:
        Picture.fromarray(side_by_side(tiles)).save(temporary, format="WEBP", **kept)
    return file.name, [tile.shape[1] for tile in tiles]


def colour_of(label: int) -> str:
    """The colour of a label in HTML."""
    return f"#{labelled(np.full((1, 1, 1), label))[0, 0].tobytes().hex()}"
