"""`--tile` and `--overlap`: networks called by overlapping tiles, so that memory does not grow with a volume."""

from collections.abc import Sequence
from typing import Any

from ..diffusion.tiling import by_tiles
from ..errors import UsageError
from ..nn import UNet
from ..runs.run import Run
from ..training.progress import say

__all__ = ["in_tiles", "told_of"]


def in_tiles(opened: Run, tile: Sequence[int], overlap: float) -> Run:
    """The run with its U-Nets called by tiles (`tiling.by_tiles`); changes them in place.

    Args:
        opened: a run; codes of a latent diffusion are decoded in parts too.
        tile: sides of a tile in voxels, one for all axes or one for each; () leaves images whole.
        overlap: of neighbouring tiles, as a share of their side.

    Raises:
        UsageError: there is no U-Net, or tiles do not fit it.
    """
    if not 0 <= overlap < 1:
        raise UsageError(f"--overlap {overlap:g}: a share of the tile is needed, from 0 to below 1")
    if not tile:
        return opened
    modules = [m for player in opened.objective.players.values() for m in player.modules()]
    unets = [module for module in modules if isinstance(module, UNet)]
    if not unets:
        raise UsageError(f"--tile: {opened.config.method} has no U-Net that could be called so")
    latent = getattr(opened.objective, "latent", None)
    stride = latent.coder.stride if latent is not None else 1
    for unet in unets:
        sides = _sides(tile, unet, stride)
        by_tiles(unet, [side // stride for side in sides], overlap)
    if latent is not None and latent.coder.local:
        latent.tile = tuple(side // stride for side in sides)
    elif latent is not None:
        say(
            "note: --tile: this auto-encoder's norms or attention are of whole images, so that codes are decoded "
            "whole; one trained with --coder-local decodes them in parts, to the same images"
        )
    return opened


def _sides(tile: Sequence[int], unet: UNet, stride: int) -> tuple[int, ...]:
    """The sides of a tile in voxels, one an axis, that the network's strides divide.

    Args:
        stride: voxels a place that the network sees, of an auto-encoder.
    """
    sides = tuple(tile) * unet.axes if len(tile) == 1 else tuple(tile)
    given = " ".join(map(str, tile))
    if len(sides) != unet.axes:
        raise UsageError(
            f"--tile {given}: one side, or one for each of {unet.axes} axes, is needed"
        )
    strides = [stride * each for each in unet.strides]
    fits = [max(1, round(a / b)) * b for a, b in zip(sides, strides, strict=True)]
    if tuple(fits) != sides:
        near = " ".join(map(str, fits))
        raise UsageError(f"--tile {given}: sides must divide by the network's strides; take {near}")
    return sides


def told_of(tile: Sequence[int], overlap: float) -> dict[str, Any]:
    """What `predictions.json` says of it; nothing where images are whole."""
    return {"tile": list(tile), "overlap": overlap} if tile else {}
