"""What a picture of vessels is before a network sees it: one channel, its field of view, its grey values evened."""

import numpy as np
import torch
from torch import Tensor

from ....diffusion.schedule import expand
from ....errors import UserError
from ....nn.blocks import cut_to, downsample, resized, whole_strides
from ...recipe import Batch

__all__ = [
    "channel_of",
    "evened",
    "field_of",
    "found_field",
    "grey",
    "within",
    "without_vessels",
]

_RIM = 0.08
"""Outside a field of view nothing is brighter than this share of the picture's 99 % quantile."""
_LEAST = 0.05
"""A field of view takes at least this share of the picture."""
_EDGE = 4
"""Voxels of a field of view next to its rim, whose shadow is as thin and dark as a vessel."""
_FLAT = 0.01
"""Deviation, of grey values from -1 to 1, below which a neighbourhood is flat."""


def channel_of(channel: int, channels: int) -> int:
    """The channel that is read of images with so many: `channel`, or where that is -1 the only one, or green of three.

    Raises:
        UserError: they have none of that number, or it must be named.
    """
    channel = channel if channel >= 0 else {1: 0, 3: 1}.get(channels, -1)
    if channel < 0:
        raise UserError(f"images of {channels} channels: name the one to read with --channel")
    if channel >= channels:
        what = "grey (1 channel)" if channels == 1 else f"of {channels} channels"
        raise UserError(
            f"--channel {channel}: the images are {what}, numbered from 0; leave --channel out"
        )
    return channel


def grey(image: Tensor, channel: int, channels: int) -> Tensor:
    """The channel that is read, (B, 1, *S).

    Raises:
        UserError: the images have another number of channels than those of training.
    """
    if image.shape[1] != channels:
        what = {1: "grey (1 channel)", 3: "in colour (3 channels)"}
        here, there = (what.get(n, f"of {n} channels") for n in (image.shape[1], channels))
        raise UserError(
            f"these images are {here}, and the model was trained on images {there}, of which it reads channel "
            f"{channel}; give it images like those it was trained on"
        )
    return image[:, channel : channel + 1].float()


def field_of(batch: Batch) -> Tensor:
    """Where the pictures are pictures, bool (B, 1, *S): "fov_mask", or as `found_field` has it.

    Raises:
        UserError: a field of view is empty, or of another size than its picture.
    """
    image = batch["image"]
    inside = batch["fov_mask"] > 0 if "fov_mask" in batch else found_field(image)
    if inside.shape[2:] != image.shape[2:]:
        raise UserError("image and fov_mask differ in size; --size resizes both")
    shares = inside.flatten(1).double().mean(1)
    if float(shares.min()) < _LEAST:
        where = "of fov_mask" if "fov_mask" in batch else "found by brightness"
        raise UserError(
            f"no field of view: that {where} takes {100 * float(shares.min()):.0f} % of the picture; map the column "
            "that holds it with --map fov_mask=COLUMN, or leave the picture out"
        )
    return inside


def within(inside: Tensor) -> Tensor:
    """A field of view without its edge, bool (B, 1, *S); whole where it ends with the picture, or is hardly wider."""
    inner = _highest((~inside).float(), 2 * _EDGE + 1) < 0.5
    wide = inner.flatten(1).sum(1) > inside.flatten(1).sum(1) / 2
    return torch.where(expand(wide, inside), inner, inside)


def found_field(image: Tensor) -> Tensor:
    """The largest bright region of each picture with its holes filled, bool (B, 1, *S); all where no rim is dark."""
    from scipy.ndimage import binary_fill_holes, label

    found = []
    for bright in ((image.float() + 1) / 2).amax(1).cpu().numpy():
        above = bright > _RIM * np.quantile(bright, 0.99)
        regions, count = label(above)
        if count > 1:
            above = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
        found.append(torch.from_numpy(binary_fill_holes(above)))
    return torch.stack(found)[:, None].to(image.device)


def evened(x: Tensor, inside: Tensor, cell: int) -> Tensor:
    """Grey values less their local mean, over three local deviations, kept to [-1, 1]; 0 outside.

    Mean and deviation are over cells of the field of view, linear between their middles. A deviation counts at least
    as much as their mean over the field, so that the noise of places without vessels is not raised to their contrast.

    Args:
        x: (B, 1, *S).
        inside: bool (B, 1, *S).
        cell: side of a cell, voxels.
    """
    size = x.shape[2:]
    cell = min(cell, *size)
    weight = inside.to(x)
    parts = torch.cat([weight, weight * x, weight * x.square()], dim=1)
    whole = whole_strides(parts, [cell] * len(size))
    n, first, second = cut_to(resized(downsample(whole, cell), whole.shape[2:]), size).split(1, 1)
    n = n.clamp_min(1e-3)
    mean = first / n
    deviation = (second / n - mean.square()).clamp_min(_FLAT**2).sqrt()
    typical = (deviation * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)
    deviation = deviation.maximum(expand(typical, x))
    return ((x - mean) / (3 * deviation)).clamp(-1, 1) * weight


def without_vessels(x: Tensor, side: int, dark: bool, share: float = 0.25) -> Tensor:
    """Pictures with what is thin and dark (or bright) taken out, by morphology alone: no label is asked.

    A closing by a box of `side` voxels fills what is thinner; the `share` of voxels that it raises most, and their
    neighbours, are replaced by the mean of the others around them, with the fine texture of another place.

    Args:
        x: (B, 1, *S).
    """
    sign = 1.0 if dark else -1.0
    smooth = _mean(sign * x, 3)
    raised = -_highest(-_highest(smooth, side), side) - smooth
    most = raised.flatten(1).quantile(1 - share, dim=1)
    kept = 1 - _highest((raised > expand(most.clamp_min(1e-6), raised)).to(x), 3)
    around = 2 * side + 1
    mean = _mean(kept * x, around) / _mean(kept, around).clamp_min(1e-2)
    texture = kept * (x - mean)
    axes = tuple(range(2, x.ndim))
    elsewhere = texture.roll([n // 2 for n in x.shape[2:]], axes)
    return kept * x + (1 - kept) * (mean + elsewhere)


def _windows(x: Tensor, axis: int, side: int) -> Tensor:
    """The `side` voxels about each along one axis, as a last axis; the border goes on."""
    before = (side - 1) // 2
    place = torch.arange(-before, x.shape[axis] + side - 1 - before, device=x.device)
    return x.index_select(axis, place.clamp(0, x.shape[axis] - 1)).unfold(axis, side, 1)


def _highest(x: Tensor, side: int) -> Tensor:
    """The maximum over a box."""
    for axis in range(2, x.ndim):
        x = _windows(x, axis, side).amax(-1)
    return x


def _mean(x: Tensor, side: int) -> Tensor:
    """The mean over a box."""
    for axis in range(2, x.ndim):
        x = _windows(x, axis, side).mean(-1)
    return x
