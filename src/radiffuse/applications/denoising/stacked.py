"""Slices of a volume told with those beside them, as channels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data.neighbours import neighbour

__all__ = ["beside"]


def beside(volume: Tensor, offsets: Sequence[int]) -> Tensor:
    """A volume, and behind its channels the same moved by each of `offsets` along the last axis.

    Beyond an end stands the slice at the opposite offset (see `data.neighbours`).

    Args:
        volume: `(B, C, *S)`.
        offsets: e.g. (-1, 1).

    Returns:
        `(B, (1 + len(offsets)) C, *S)`.
    """
    side = volume.shape[-1]
    places = [[neighbour(range(side), k, offset) for k in range(side)] for offset in offsets]
    moved = [volume[..., torch.tensor(place, device=volume.device)] for place in places]
    return torch.cat([volume, *moved], dim=1)
