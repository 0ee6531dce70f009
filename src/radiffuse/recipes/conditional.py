"""What recipes share whose condition is an image: grids that agree, and a diffusion told an image."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from ..denoise import Given, Network
from ..errors import UserError
from ..nn import UNet
from ..noise import Seeded
from ..objective import Denoising
from ..sample import prior
from .base import Batch

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["check_stride", "conditioned_unet", "joined", "one_size", "told"]


def one_size(facts: "Facts", keys: Sequence[str]) -> tuple[int, ...]:
    """The spatial size that the images (or masks) `keys` share.

    Raises:
        UserError: a key is missing, or two differ in size.
    """
    for key in keys:
        if key not in facts.size:
            there = ", ".join(facts.size) or "none"
            raise UserError(
                f"the data have no image {key} (there are: {there}); --map {key}=COLUMN"
            )
    first = keys[0]
    for key in keys[1:]:
        if facts.size[key] != facts.size[first]:
            one, other = _sides(facts.size[first]), _sides(facts.size[key])
            numbers = " ".join(str(side) for side in facts.size[first])
            raise UserError(
                f"{first} is {one} and {key} is {other}: they must be of one size; "
                f"resize both with --size {numbers}"
            )
    return tuple(facts.size[first])


def check_stride(size: Sequence[int], stride: int, flags: str) -> None:
    """Refuse images that the network cannot halve as often as it does.

    Raises:
        UserError: says which size would fit, and which `flags` lower the stride.
    """
    if any(side % stride for side in size):
        fits = " ".join(str(max(stride, round(side / stride) * stride)) for side in size)
        what = "are smaller than" if min(size) < stride else "do not divide by"
        raise UserError(
            f"images of {_sides(size)} {what} this network's stride {stride}; "
            f"resize with --size {fits}, or change {flags}"
        )


def _sides(size: Sequence[int]) -> str:
    return " x ".join(str(side) for side in size)
