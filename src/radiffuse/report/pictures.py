"""Panels of images as PNG files: one grey window for all, every pixel enlarged, none smoothed.

Arrays are `(C, *S)` in [-1, 1]; volumes are shown by their middle slices in three planes, standing
upright (`data.shown`). Imports no torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from ..data.files import replacing
from ..data.shown import Pixels, is_volume, pixels
from .layer import KEPT, VOLUMES, compressed

_GAP = 2
_TEXT = 16
_HALF_LINE = 60
_SMALL = 160


def write_grid(path: Path, images: Sequence[Pixels], columns: int) -> None:
    """Write images `(C, *S)` in rows of `columns`; the first volumes as volumes too, for the viewer (`volumes`)."""
    write_tiles(path, [pixels(image) for image in images], columns)
    for old in path.parent.glob(f"{KEPT}/{path.stem}-*.nii.gz"):
        old.unlink()
    for place, image in enumerate(images[: max(columns, VOLUMES)]):
        if is_volume(image):
            name = f"{path.stem}-{place:02d}-{columns:02d}.nii.gz"
            packed = compressed(
                np.asarray(image[0], np.float64), np.eye(4), -1.0, 1.0, labels=False
            )
            with replacing(path.parent / KEPT / name) as temporary:
                temporary.write_bytes(packed)


def write_tiles(path: Path, tiles: Sequence[Pixels], columns: int) -> None:
    """Write what `pixels` made, in rows of `columns`."""
    _save(path, _grid(tiles, columns))


def write_pairs(
    path: Path, left: Sequence[Pixels], right: Sequence[Pixels], notes: Sequence[str], columns: int
) -> None:
    """Write pairs side by side, a line of text under each."""
    pairs = []
    for one, other in zip(left, right, strict=True):
        both = [_legible(_enlarged(pixels(image))) for image in (one, other)]
        gap = np.full((both[0].shape[0], _GAP, 3), 128, np.uint8)
        pairs.append(np.concatenate([both[0], gap, both[1]], axis=1))
    rows, wide = pairs[0].shape[:2]
    down = -(-len(pairs) // columns)
    step_y, step_x = rows + _TEXT, wide + 6 * _GAP
    sheet = Picture.new("RGB", (columns * step_x - 6 * _GAP, down * step_y), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (pair, note) in enumerate(zip(pairs, notes, strict=True)):
        y, x = place // columns * step_y, place % columns * step_x
        sheet.paste(Picture.fromarray(pair), (x, y))
        draw.text((x + 2, y + rows + 2), note, fill="black")
    _save(path, sheet)


def _grid(tiles: Sequence[Pixels], columns: int) -> Picture.Image:
    tiles = [_enlarged(tile) for tile in tiles]
    rows, wide = tiles[0].shape[:2]
    across, down = min(columns, len(tiles)), -(-len(tiles) // columns)
    size = (across * (wide + _GAP) - _GAP, down * (rows + _GAP) - _GAP)
    sheet = Picture.new("RGB", size, (40, 40, 40))
    for place, tile in enumerate(tiles):
        y, x = place // columns * (rows + _GAP), place % columns * (wide + _GAP)
        sheet.paste(Picture.fromarray(tile), (x, y))
    return sheet


def _enlarged(tile: Pixels) -> Pixels:
    """Each pixel twice in both directions, for small images; never interpolated."""
    return tile.repeat(2, axis=0).repeat(2, axis=1) if max(tile.shape[:2]) <= _SMALL else tile


def _legible(tile: Pixels) -> Pixels:
    """As wide as half a line of text needs, by whole pixels."""
    times = -(-_HALF_LINE // tile.shape[1])
    return tile.repeat(times, axis=0).repeat(times, axis=1)


def _save(path: Path, picture: Picture.Image) -> None:
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)
