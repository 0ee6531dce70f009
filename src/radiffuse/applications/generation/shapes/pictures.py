r"""What a picture says of a shape: silhouette and masked intensity, repeated along depth.

Tensors of shapes are (B, C, D, *P), depth first, P the sides of a picture.
"""

import torch
from torch import Tensor

from ....errors import UserError
from ...sizes import sides

__all__ = ["depth_first", "pictured", "silhouette_of", "thickness", "tiled", "turned_back"]


def depth_first(volume: Tensor, axis: int) -> Tensor:
    """(B, C, *S) with the axis that pictures look along, 0 being the first of S, in front of the others."""
    return volume.movedim(2 + axis, 2)


def turned_back(volume: Tensor, axis: int) -> Tensor:
    """Undoes `depth_first`."""
    return volume.movedim(2, 2 + axis)


def thickness(shape: Tensor) -> Tensor:
    r"""Share of the depth that lies inside, (B, 1, *P) in [0, 1]: $\frac1D\sum_d [s_d > 0]$, s (B, 1, D, *P)."""
    return (shape > 0).float().mean(2)


def tiled(picture: Tensor, depth: int) -> Tensor:
    """A picture (B, C, *P) repeated along a new axis behind the channels, (B, C, depth, *P)."""
    return picture.unsqueeze(2).expand(*picture.shape[:2], depth, *picture.shape[2:])


def silhouette_of(picture: Tensor) -> Tensor:
    """Where a picture (B, C, *P) in [-1, 1] is not black, (B, 1, *P) bool.

    Raises:
        UserError: its border is not, so that black is not the background.
    """
    seen = (picture > -1).any(1, keepdim=True)
    border = torch.ones(seen.shape[2:], dtype=torch.bool, device=seen.device)
    border[tuple([slice(1, -1)] * border.ndim)] = False
    if bool((seen[..., border].float().flatten(1).mean(1) > 0.5).any()):
        raise UserError(
            "the picture has no black background that shows where the shape is; name its mask with --map "
            "picture_mask=COLUMN"
        )
    return seen


def pictured(picture: Tensor, mask: Tensor | None) -> Tensor:
    """Silhouette m and masked intensity m y of a picture x in [-1, 1], y = (x + 1)/2: (B, 1 + C, *P) in [0, 1].

    Args:
        picture: (B, C, *P).
        mask: labels (B, 1, *P), not 0 inside; None: where the picture is not black.

    Raises:
        UserError: picture and mask differ in size, or black does not tell the shape from the background.
    """
    if mask is not None and mask.shape[2:] != picture.shape[2:]:
        raise UserError(
            f"picture is {sides(picture.shape[2:])} and picture_mask is {sides(mask.shape[2:])}: they must "
            "be of one size"
        )
    inside = (silhouette_of(picture) if mask is None else mask != 0).to(picture)
    return torch.cat([inside, inside * (picture + 1) / 2], 1)
