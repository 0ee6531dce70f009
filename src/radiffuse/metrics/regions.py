r"""Speckle measures in regions that nobody drew: contrast-to-noise ratio and equivalent looks.

Regions are blocks of the *reference*, the same for every image that is compared with it. Of the blocks
that do not overlap, a block is tissue if its mean lies above the middle between the 5th and the 95th
percentile of all block means. Signal: the tissue blocks of least coefficient of variation (deviation
over mean). Background: the blocks of least mean. Intensities are counted from black: a = (x + 1)/2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Regions", "activity_bias", "cnr", "enl", "homogeneous_regions"]

_TINY = 1e-8


@dataclass(frozen=True)
class Regions:
    """Blocks of one image.

    Attributes:
        side: of a block, in voxels.
        signal, background: numbers of the blocks, in the order of `blocks`.
    """

    side: int
    signal: Tensor
    background: Tensor


def blocks(image: Tensor, side: int) -> Tensor:
    """`(C, *S)` in [-1, 1] -> intensities `(blocks, side^axes)` float64, channels averaged."""
    x = (image.double().mean(dim=0) + 1) / 2
    axes = x.ndim
    for axis in range(axes):
        x = x.unfold(axis, side, side)
    return x.reshape(-1, side**axes)


def homogeneous_regions(reference: Tensor, side: int = 9, count: int = 8) -> Regions:
    """Regions of an image `(C, *S)`; `count` blocks of each kind at most (see the module)."""
    parts = blocks(reference, min(side, *reference.shape[1:]))
    mean, std = parts.mean(dim=1), parts.std(dim=1, correction=0)
    low, high = torch.quantile(mean, mean.new_tensor([0.05, 0.95]))
    tissue = (mean >= (low + high) / 2).nonzero()[:, 0]
    variation = std[tissue] / mean[tissue].clamp(min=_TINY)
    signal = tissue[variation.argsort(stable=True)[:count]]
    return Regions(
        min(side, *reference.shape[1:]), signal, mean.argsort(stable=True)[: min(count, len(mean))]
    )


def enl(images: Tensor, regions: Sequence[Regions]) -> Tensor:
    """Equivalent number of looks: mean over the signal blocks of mean^2 / variance, `(B,)`."""
    found = []
    for image, where in zip(images, regions, strict=True):
        parts = blocks(image, where.side)[where.signal]
        variance = parts.var(dim=1, correction=0).clamp(min=_TINY)
        found.append((parts.mean(dim=1) ** 2 / variance).mean())
    return torch.stack(found)


def cnr(images: Tensor, regions: Sequence[Regions]) -> Tensor:
    r"""Contrast to noise: mean over the signal blocks of $|m_f-m_b|/\sqrt{(v_f+v_b)/2}$, `(B,)`.

    m_b and v_b are mean and variance of all background blocks together.
    """
    found = []
    for image, where in zip(images, regions, strict=True):
        parts = blocks(image, where.side)
        signal, background = parts[where.signal], parts[where.background].flatten()
        variance = signal.var(dim=1, correction=0) + background.var(correction=0)
        gap = (signal.mean(dim=1) - background.mean()).abs()
        found.append((gap / (variance / 2).clamp(min=_TINY).sqrt()).mean())
    return torch.stack(found)


def activity_bias(images: Tensor, reference: Tensor, regions: Sequence[Regions]) -> Tensor:
    """Relative error of the mean intensity of the signal blocks, `(B,)`; 0 is unbiased."""
    found = []
    for image, true, where in zip(images, reference, regions, strict=True):
        ours, theirs = (blocks(x, where.side)[where.signal].mean() for x in (image, true))
        found.append((ours - theirs) / theirs.clamp(min=_TINY))
    return torch.stack(found)
