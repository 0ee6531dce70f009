"""The network of VoxelMorph: a plain U-Net from two images to a displacement field."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv, cut_to, space_to_depth, upsample, whole_strides
from .warp import enlarged

__all__ = ["FieldUNet"]


class FieldUNet(nn.Module):
    """U-Net of strided convolutions and leaky rectifiers (Balakrishnan et al. 2019), no norms.

    Args:
        axes: number of spatial axes n; the field has as many channels.
        channels: channels of the input.
        encoder: channels at each resolution, the first at full; each further one halves it.
        decoder: channels on the way up, one a doubling; what is left follows at full resolution.
        convolutions: of each level.
        patch: fold blocks of this side into channels at the input; the field is made on that coarser
            grid and enlarged linearly.
        start: standard deviation of the last layer's first weights; the field starts near zero.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        convolutions: int = 1,
        patch: int = 1,
        start: float = 0.02,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.stride = patch * 2 ** (len(encoder) - 1)

        def level(into: int, out: int, stride: int = 1) -> nn.Module:
            sizes = [(into, out, stride)] + [(out, out, 1)] * (convolutions - 1)
            return nn.Sequential(
                *(layer for i, o, s in sizes for layer in (conv(axes, i, o, stride=s), _Leaky()))
            )

        self.down, self.up, self.full = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        now = channels * patch**axes
        for place, wide in enumerate(encoder):
            self.down.append(level(now, wide, 2 if place else 1))
            now = wide
        skips = list(encoder[:-1])[::-1]
        for wide, skip in zip(decoder, skips, strict=False):
            self.up.append(level(now + skip, wide))
            now = wide
        for wide in decoder[len(skips) :]:
            self.full.append(level(now, wide))
            now = wide
        self.leave = conv(axes, now, axes)
        for name, parameter in self.leave.named_parameters():
            nn.init.normal_(parameter, std=start) if name == "weight" else nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S) to the field (B, n, *S) in voxels.

        Raises:
            ValueError: sides shorter than the stride; others that it does not divide are continued and cut back.
        """
        size = x.shape[2:]
        x = space_to_depth(whole_strides(x, [self.stride] * len(size)), self.patch)
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skips.pop()
        for level in self.up:
            x = level(torch.cat([upsample(x), skips.pop()], dim=1))
        for level in self.full:
            x = level(x)
        return cut_to(enlarged(self.leave(x), self.patch), size)


class _Leaky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.2)
