"""Images as people look at them: grey values as pixels, volumes by their middle slices. Imports no torch."""

import io

import numpy as np
from PIL import Image as Picture

__all__ = ["Pixels", "flat", "is_volume", "pixels", "planes", "png"]

Pixels = np.ndarray


def pixels(image: Pixels) -> Pixels:
    """`(C, *S)` in [-1, 1] -> `(rows, columns, 3)` uint8; -1 is black, 1 is white.

    A volume shows its three planes (`planes`). Three channels are shown in colour, any other number
    by the first.
    """
    shown = np.asarray(image, dtype=np.float32)
    axes = shown.ndim - 1
    if axes == 1:
        shown = np.repeat(shown[:, None], 16, axis=1)
    elif axes == 3:
        shown = planes(shown)
    shown = shown if len(shown) == 3 else np.repeat(shown[:1], 3, axis=0)
    grey = np.clip((shown + 1) * 127.5, 0, 255).round().astype(np.uint8)
    return np.moveaxis(grey, 0, -1)


def is_volume(image: Pixels) -> bool:
    """Whether it is `(1, X, Y, Z)`."""
    axes = image.ndim - 1
    return axes == 3 and len(image) == 1


def flat(image: Pixels, black: float = 0.0) -> Pixels:
    """`(C, *S)` as a picture `(rows, columns)` of its first channel; a volume by its planes."""
    axes = image.ndim - 1
    shown: Pixels = (planes(image, black) if axes == 3 else image)[0]
    return shown


def planes(volume: Pixels, black: float = -1.0) -> Pixels:
    """`(C, X, Y, Z)` in RAS order -> `(C, rows, columns)`: its middle slices side by side.

    Axial (front up, right on the left), coronal (top up, right on the left) and sagittal (top up, front
    on the left), each in the middle of its height.
    """
    x, y, z = (side // 2 for side in volume.shape[1:])
    cut = [volume[..., z], volume[:, :, y], volume[:, x]]
    shown = [plane.transpose(0, 2, 1)[:, ::-1, ::-1] for plane in cut]
    rows = max(plane.shape[1] for plane in shown)
    margins = [(rows - plane.shape[1]) // 2 for plane in shown]
    framed = [
        np.pad(
            plane,
            ((0, 0), (above, rows - plane.shape[1] - above), (0, 0)),
            constant_values=black,
        )
        for plane, above in zip(shown, margins, strict=True)
    ]
    return np.concatenate(framed, axis=2)


def png(image: Pixels, least: int = 256) -> bytes:
    """`(C, *S)` in [-1, 1] as the bytes of a PNG, each pixel enlarged until the larger side has `least`."""
    shown = pixels(image)
    times = max(1, -(-least // max(shown.shape[:2])))
    held = io.BytesIO()
    Picture.fromarray(np.repeat(np.repeat(shown, times, 0), times, 1)).save(held, format="PNG")
    return held.getvalue()
