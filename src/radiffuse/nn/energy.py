"""The energy of an image: a residual network without norms, smooth, so that its slope can be followed."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv, downsample, space_to_depth, whole_strides

__all__ = ["Energy"]


class _Block(nn.Module):
    """x + two convolutions behind smooth rectifiers."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(axes, width, width), conv(axes, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class Energy(nn.Module):
    """E(x), and images that chains of earlier steps ended at.

    Args:
        axes, channels: of the image.
        size: its sides; those that the strides do not divide are continued.
        widths: channels of each level, finest first.
        blocks: residual blocks a level.
        patch: side of the blocks of voxels folded into channels.
        kept: images that are kept, with the weights.
    """

    pool: Tensor
    filled: Tensor

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        patch: int,
        kept: int,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.strides = (patch * 2 ** (len(widths) - 1),) * axes
        self.enter = conv(axes, channels * patch**axes, widths[0])
        self.levels = nn.ModuleList(
            nn.Sequential(*(_Block(axes, width) for _ in range(blocks))) for width in widths
        )
        self.changes = nn.ModuleList(conv(axes, *pair, size=1) for pair in pairwise(widths))
        self.leave = nn.Linear(widths[-1], 1)
        self.register_buffer("pool", torch.zeros(kept, channels, *size))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S); (B,)."""
        h = self.enter(space_to_depth(whole_strides(x, self.strides), self.patch))
        h = self.levels[0](h)
        for change, level in zip(self.changes, self.levels[1:], strict=True):
            h = level(change(downsample(h)))
        voxels = math.prod(h.shape[2:])
        return self.leave(F.silu(h).flatten(2).sum(2) / voxels**0.5)[:, 0].float()

    @torch.no_grad()
    def begun(self, like: Tensor, restart: float) -> tuple[Tensor, Tensor]:
        """Where chains begin, (B, C, *S), and their places in the pool (B,): at kept images, or with probability
        `restart` (and while the pool is not full) at uniform noise."""
        x = 2 * torch.rand(like.shape) - 1
        places = torch.randint(len(self.pool), (len(like),))
        if int(self.filled) < len(self.pool):
            places = (int(self.filled) + torch.arange(len(like))) % len(self.pool)
        fresh = (torch.rand(len(like)) < restart) | (places >= int(self.filled))
        start = torch.where(
            fresh.reshape(-1, *[1] * (like.ndim - 1)),
            x,
            self.pool[places.to(self.pool.device)].cpu(),
        )
        return start.to(like), places

    @torch.no_grad()
    def keep(self, x: Tensor, places: Tensor) -> None:
        """Put the ends of chains back."""
        self.pool[places.to(self.pool.device)] = x.to(self.pool)
        self.filled.add_(len(x)).clamp_(max=len(self.pool))
