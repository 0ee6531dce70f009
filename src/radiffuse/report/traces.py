"""Traces of protein backbones as PNG files: each chain from three sides, blue at its first residue, red at its last.

Chains are (N, 3) C-alpha places in Angstrom. Imports no torch.
"""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw

from .pictures import write_tiles

__all__ = ["trace", "write_traces"]

_SIDE = 160
_FINE = 3
_MARGIN = 0.08
_SIDES = ((0, 1, 2), (1, 2, 0), (2, 0, 1))
"""Axes to the right, up, and towards the viewer."""


def trace(chain: np.ndarray, given: np.ndarray | None = None) -> np.ndarray:
    """One chain from three sides, (rows, columns, 3) uint8; residues that were given (N,) are drawn thick and black.

    The longest extent of the chain lies across the picture; what is nearer is drawn later.
    """
    chain = np.asarray(chain, dtype=np.float64)
    turned = (chain - chain.mean(0)) @ np.linalg.svd(chain - chain.mean(0))[2].T
    half = max(float(np.abs(turned).max()), 1e-3) / (1 - _MARGIN)
    marked = np.zeros(len(chain), bool) if given is None else np.asarray(given) > 0.5
    return np.concatenate([_side(turned / half, axes, marked) for axes in _SIDES], axis=1)


def _side(chain: np.ndarray, axes: tuple[int, int, int], marked: np.ndarray) -> np.ndarray:
    right, up, near = axes
    size = _SIDE * _FINE
    flat = (chain[:, [right, up]] * (1, -1) + 1) * size / 2
    picture = Picture.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(picture)
    order = np.argsort(chain[:-1, near] + chain[1:, near])
    for k in order.tolist():
        hue = 2 / 3 * (1 - k / max(len(chain) - 2, 1))
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.85, 0.85))
        both = bool(marked[k] and marked[k + 1])
        line = [tuple(flat[k]), tuple(flat[k + 1])]
        draw.line(line, fill="white", width=(8 if both else 5) * _FINE)
        draw.line(line, fill="black" if both else colour, width=(5 if both else 3) * _FINE)
    return np.asarray(picture.resize((_SIDE, _SIDE), Picture.Resampling.LANCZOS))


def write_traces(
    path: Path,
    chains: Sequence[np.ndarray],
    given: Sequence[np.ndarray | None] | None = None,
    columns: int = 2,
) -> None:
    """Write chains in rows of `columns`, each from three sides."""
    marks = [None] * len(chains) if given is None else given
    write_tiles(path, [trace(c, m) for c, m in zip(chains, marks, strict=True)], columns)
