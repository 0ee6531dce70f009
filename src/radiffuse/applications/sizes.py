"""Sizes of images: what a network can halve, and what must be of one size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import UserError

if TYPE_CHECKING:
    from ..data.dataset import Cases, Facts


__all__ = [
    "check_least",
    "check_mask",
    "check_same_size",
    "check_shape",
    "check_stride",
    "check_volumes",
    "halvings",
    "one_size",
    "sides",
]


def check_mask(cases: "Cases", key: str = "image") -> None:
    """Refuse masks of another size than the images that they mark, by the first case.

    Args:
        cases: with a column "mask", or without.
        key: of the images.

    Raises:
        UserError: names both.
    """
    if "mask" not in cases.keys or not len(cases):
        return
    image, mask = (cases.image(0, each).size for each in (key, "mask"))
    if image != mask:
        told = f"{key} is {sides(image)} and mask is {sides(mask)}"
        raise UserError(f"{cases.source}: {told}; --size resizes both")


def check_stride(size: Sequence[int], stride: int, flags: str) -> None:
    """Refuse images that the network cannot halve as often as it does.

    Raises:
        UserError: says which size would fit, and which `flags` lower the stride.
    """
    if any(side % stride for side in size):
        fits = " ".join(str(max(stride, round(side / stride) * stride)) for side in size)
        what = "are smaller than" if min(size) < stride else "do not divide by"
        raise UserError(
            f"images of {sides(size)} {what} this network's stride {stride}; "
            f"resize with --size {fits}, or change {flags}"
        )


def check_least(size: Sequence[int], strides: Sequence[int], flags: str) -> None:
    """Refuse images smaller than what a network makes one voxel of.

    Raises:
        UserError: says which size would fit, and which `flags` lower the stride.
    """
    if any(side < stride for side, stride in zip(size, strides, strict=True)):
        fits = " ".join(str(max(a, b)) for a, b in zip(size, strides, strict=True))
        of = sides(strides) if len(set(strides)) > 1 else strides[0]
        raise UserError(
            f"images of {sides(size)} are smaller than this network's stride {of}; resize with --size {fits}, "
            f"or change {flags}"
        )


THICK, LEAST = 2, 4
"""An axis is thick while its voxels are more than so many times the finest; a short one keeps so many voxels."""


def halvings(
    size: Sequence[int], spacing: Sequence[float], levels: int, patch: int
) -> tuple[int, ...]:
    """How often a network of `levels` halves each axis of volumes; () as often as it can, all alike.

    An axis of thick slices is left as it is while its voxels are more than twice as long as the shortest side
    of a voxel, as nnU-Net does (Isensee et al. 2021); an axis shorter than half of the longest keeps 4 voxels at
    the coarsest level. Pictures are always halved along both axes.

    Args:
        size: of the volumes.
        spacing: mm along each axis; () where it is not known.
        patch: folded into channels before the first level.
    """
    if len(size) != 3 or 1 in size:
        return ()
    times = []
    for axis, side in enumerate(size):
        allowed = levels - 1
        ratio = spacing[axis] / min(spacing) if spacing else 1.0
        while ratio > THICK * (1 + 1e-3) and allowed:
            ratio, allowed = ratio / 2, allowed - 1
        while 2 * side < max(size) and side < LEAST * patch * 2**allowed and allowed:
            allowed -= 1
        times.append(allowed)
    return () if set(times) == {levels - 1} else tuple(times)


def check_volumes(method: str, size: Sequence[int]) -> None:
    """Refuse images that are no volumes, for a method that is one of whole volumes.

    Raises:
        UserError: names a method that takes them.
    """
    if len(size) != 3:
        raise UserError(
            f"{method} denoises whole volumes, and these images are {sides(size)}; leave --slices out where "
            "they were cut from volumes, or take ddpm, whose networks are of any number of axes"
        )


def sides(size: Sequence[int]) -> str:
    """A size in words: 128 x 96."""
    return " x ".join(str(side) for side in size)


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
        check_same_size(first, facts.size[first], key, facts.size[key])
    return tuple(facts.size[first])


def check_shape(image: Tensor, channels: int, size: Sequence[int]) -> None:
    """Refuse images (B, C, *S) of another shape than those of training.

    Raises:
        UserError: says both numbers of channels, or both sizes.
    """
    if image.shape[1] != channels:
        raise UserError(
            f"images have {image.shape[1]} channels, and the model was trained on {channels}; convert them"
        )
    if tuple(image.shape[2:]) != tuple(size):
        raise UserError(
            f"images are {sides(image.shape[1:])}, and the model was trained on {sides((channels, *size))}; "
            f"use --size {' '.join(map(str, size))}"
        )


def check_same_size(first: str, size: Sequence[int], second: str, other: Sequence[int]) -> None:
    """Refuse two images (or masks) that must lie on each other and differ in size.

    Raises:
        UserError: says both sizes.
    """
    if tuple(size) != tuple(other):
        hint = f"resize both with --size {' '.join(map(str, size))}"
        if len(size) != len(other):
            hint = "one of them is not whole"
        elif sorted(size) == sorted(other):
            hint = "one of them is turned, and to resize them would squeeze it; turn it back"
        raise UserError(
            f"{first} is {sides(size)} and {second} is {sides(other)}: they must be of one size; {hint}"
        )
