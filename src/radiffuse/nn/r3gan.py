"""The networks of R3GAN (Huang et al. 2024): residual bottlenecks without norms, alike in generator and critic."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    coarsest,
    conv,
    cut_to,
    depth_to_space,
    downsample,
    space_to_depth,
    upsample,
    whole_strides,
    zeroed,
)

__all__ = ["Bottleneck", "FromNoise", "ToValue"]

_SLOPE = 0.2
_GROUP, _EXPAND = 16, 2


class Bottleneck(nn.Module):
    """x + a convolution of one voxel, one of three in groups of 16 channels, one of one voxel.

    Twice as many channels inside, leaky rectifiers between, no norm; the last convolution begins at zero, so that
    a stack of blocks begins as the identity (the "fix-up" of section 4.2).

    Args:
        axes: number of spatial axes.
        channels: of the image.
    """

    def __init__(self, axes: int, channels: int) -> None:
        super().__init__()
        inside = _EXPAND * channels
        together = max(1, inside // _GROUP)
        self.enter = conv(axes, channels, inside, size=1)
        self.mix = conv(axes, inside, inside, groups=math.gcd(together, inside))
        self.leave = zeroed(conv(axes, inside, channels, size=1))

    def forward(self, x: Tensor) -> Tensor:
        h = self.mix(F.leaky_relu(self.enter(x), _SLOPE))
        return x + self.leave(F.leaky_relu(h, _SLOPE))


class FromNoise(nn.Module):
    """An image from a latent: learned patterns on the coarsest grid, scaled channel by channel, then doubled.

    Args:
        axes, channels: of the image.
        size: its sides; those that the strides do not divide are cut from a larger image.
        widths: channels of each level, finest first.
        blocks: bottlenecks a level.
        latent: length of the latent.
        patch: side of the blocks of voxels that the last layer makes at once.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        latent: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.size, self.latent, self.patch = tuple(size), latent, patch
        coarse = coarsest(size, patch * 2 ** (len(widths) - 1))
        last = widths[-1]
        self.patterns = nn.Parameter(torch.randn(1, last, *coarse))
        self.scales = nn.Linear(latent, last, bias=False)
        self.levels = nn.ModuleList(_stack(axes, width, blocks) for width in reversed(widths))
        changes = pairwise(reversed(widths))
        self.changes = nn.ModuleList(conv(axes, *pair, size=1) for pair in changes)
        self.leave = conv(axes, widths[0], channels * patch**axes, size=1)

    def forward(self, z: Tensor) -> Tensor:
        """z (B, latent); (B, C, *S)."""
        scales = self.scales(z)
        h = self.patterns * scales.reshape(*scales.shape, *[1] * len(self.size))
        h = self.levels[0](h)
        for change, level in zip(self.changes, self.levels[1:], strict=True):
            h = level(upsample(change(h)))
        return cut_to(depth_to_space(self.leave(h), self.patch), self.size)


class ToValue(nn.Module):
    """The mirror image of `FromNoise`: an image halved level by level, weighed by learned patterns, one number.

    Args:
        axes, channels, size, widths, blocks, patch: as `FromNoise`.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        patch: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.strides = (patch * 2 ** (len(widths) - 1),) * axes
        coarse = coarsest(size, patch * 2 ** (len(widths) - 1))
        self.enter = conv(axes, channels * patch**axes, widths[0], size=1)
        self.levels = nn.ModuleList(_stack(axes, width, blocks) for width in widths)
        self.changes = nn.ModuleList(conv(axes, *pair, size=1) for pair in pairwise(widths))
        self.patterns = nn.Parameter(torch.randn(1, widths[-1], *coarse) / math.prod(coarse) ** 0.5)
        self.leave = nn.Linear(widths[-1], 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S); (B,)."""
        h = self.enter(space_to_depth(whole_strides(x, self.strides), self.patch))
        h = self.levels[0](h)
        for change, level in zip(self.changes, self.levels[1:], strict=True):
            h = level(change(downsample(h)))
        return self.leave((h * self.patterns).flatten(2).sum(2))[:, 0]


def _stack(axes: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Bottleneck(axes, width) for _ in range(blocks)))
