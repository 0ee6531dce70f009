"""`--tile` and `--overlap`: networks called by overlapping tiles, so that memory does not grow with a volume."""

from collections.abc import Sequence
from typing import Any

from ..diffusion.tiling import by_tiles
from ..errors import UsageError
from ..nn import UNet
from ..runs.run import Run

__all__ = ["in_tiles", "told_of"]


def in_tiles(opened: Run, tile: Sequence[int], overlap: float) -> Run:
    """The run with its U-Nets called by tiles (`tiling.by_tiles`); changes them in place.

    Args:
        opened: a run.
        tile: sides of a tile, one for all axes or one for each; () leaves images whole.
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
    for unet in unets:
        by_tiles(unet, _sides(tile, unet), overlap)
    return opened


def _sides(tile: Sequence[int], unet: UNet) -> tuple[int, ...]:
    """The sides of a tile, one an axis, that the network's strides divide."""
    sides = tuple(tile) * unet.axes if len(tile) == 1 else tuple(tile)
    given = " ".join(map(str, tile))
    if len(sides) != unet.axes:
        raise UsageError(
            f"--tile {given}: one side, or one for each of {unet.axes} axes, is needed"
        )
    fits = [max(1, round(a / b)) * b for a, b in zip(sides, unet.strides, strict=True)]
    if tuple(fits) != sides:
        near = " ".join(map(str, fits))
        raise UsageError(f"--tile {given}: sides must divide by the network's strides; take {near}")
    return sides


def told_of(tile: Sequence[int], overlap: float) -> dict[str, Any]:
    """What `predictions.json` says of it; nothing where images are whole."""
    return {"tile": list(tile), "overlap": overlap} if tile else {}
