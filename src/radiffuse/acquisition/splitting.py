"""Masks within masks: a part of what was sampled is left out, to be predicted from the rest."""

import torch
from torch import Tensor

from ..errors import UserError
from .kspace import calibration_widths

__all__ = ["centre_of", "resampled"]


def centre_of(mask: Tensor, several: bool) -> Tensor:
    """The calibration region of a mask (1, 1, *S), boolean."""
    region = torch.zeros_like(mask)
    inside = region
    for axis, width in enumerate(calibration_widths(mask, several), start=2):
        inside = inside.narrow(axis, mask.shape[axis] // 2 - width // 2, width)
    inside.fill_(True)
    return region


def resampled(
    mask: Tensor, centre: Tensor, kept: float, generator: torch.Generator | None = None
) -> Tensor:
    """P' strictly within P: some of what was sampled outside of the calibration region, and all of that region.

    Masks of whole lines (numbered along one axis) lose whole lines, others points.

    Args:
        mask, centre: boolean (B, 1, *S), what was sampled and its calibration region.
        kept: share of lines or points outside that stays, in (0, 1); at least one goes.
        generator: of the draw; None: the global one.

    Raises:
        UserError: nothing was sampled outside of the calibration region.
    """
    return torch.cat(
        [
            one & ~_left_out(one & ~inner, kept, generator)
            for one, inner in zip(mask.split(1), centre.split(1), strict=True)
        ]
    )


def _left_out(outside: Tensor, kept: float, generator: torch.Generator | None) -> Tensor:
    places = _places(outside)
    count = int(places.sum())
    if not count:
        raise UserError(
            "a scan has no sample outside of its calibration region, so that none can be left out: "
            "lower --acceleration or --calibration, or leave it out"
        )
    gone = max(1, count - round(kept * count))
    which = places.flatten().nonzero()[:, 0]
    chosen = which[torch.randperm(count, generator=generator)[:gone].to(which.device)]
    flat = torch.zeros_like(places).flatten()
    flat[chosen] = True
    return flat.reshape(places.shape) & outside


def _places(outside: Tensor) -> Tensor:
    """What is left out or stays as one: lines of a mask of whole lines, along whichever axis they are numbered, or
    points."""
    axes = range(2, outside.dim())
    for axis in reversed(axes):
        across = tuple(other for other in axes if other != axis)
        lines = outside.any(across, keepdim=True)
        if bool((outside == lines).all()):
            return lines
    return outside
