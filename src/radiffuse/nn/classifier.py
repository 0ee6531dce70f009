"""A classifier that knows the noise level: the encoder half of the U-Net."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Attention, Residual, conv, groups, space_to_depth, whole_strides
from .embed import Conditioning

__all__ = ["AttentionPool", "Classifier"]


class AttentionPool(nn.Module):
    """A weighted mean over all voxels: each head of channels looks where it finds what it seeks.

    The classifiers of Dhariwal & Nichol 2021 end in attention as well. A plain mean hides what fills
    a hundredth of a busy image: on embedded brains with lesions of 11 mm, a classifier that ended in one
    told clean sick images from healthy ones with AUROC 0.65 after 186 steps, with this 0.80 after 140.

    Args:
        axes: number of spatial axes.
        channels: of the features.
        head: channels that share their weights.
    """

    def __init__(self, axes: int, channels: int, head: int = 32) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // head))
        self.weigh = conv(axes, channels, self.heads, size=1)

    def forward(self, h: Tensor) -> Tensor:
        """h (B, C, *S); returns (B, C)."""
        weights = self.weigh(h).flatten(2).softmax(2)
        features = h.flatten(2).unflatten(1, (self.heads, -1))
        return (features * weights[:, :, None]).sum(3).flatten(1)


class Classifier(nn.Module):
    """Logits of the class of a noisy image, for classifier guidance (Dhariwal & Nichol 2021).

    The down path of their U-Net. The papers that lead by one take width 32, four blocks a level and, of
    images of 256 pixels, six levels that attend at 32, 16 and 8: each voxel of the last level has seen
    the whole image. With the defaults it has seen 34 pixels.

    Args:
        axes, channels, width, multiples, patch: as `UNet`.
        classes: number of classes.
        blocks: residual blocks a level beside the one that halves the resolution; the finest has one or more.
        attention: levels (0 = finest) whose blocks attend; with any, the middle behind the last attends too.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        classes: int,
        width: int = 32,
        multiples: Sequence[int] = (1, 2, 4),
        patch: int = 1,
        blocks: int = 0,
        attention: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.patch = patch
        self.conditioning = Conditioning(4 * width)
        self.enter = conv(axes, channels * patch**axes, width)
        self.blocks, now = nn.ModuleList(), width

        def add(wide: int, resample: int = 0, attends: bool = False) -> int:
            self.blocks.append(Residual(axes, now, wide, 4 * width, resample))
            if attends:
                self.blocks.append(Attention(axes, wide, hessian=True))
            return wide

        for level, multiple in enumerate(multiples):
            if level > 0:
                now = add(multiple * width, -1)
            for _ in range(blocks if level > 0 else max(1, blocks)):
                now = add(multiple * width, attends=level in attention)
        if attention:
            now = add(now, attends=True)
            now = add(now)
        self.norm = nn.GroupNorm(groups(now), now)
        self.pool = AttentionPool(axes, now)
        self.leave = nn.Linear(now, classes)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        """x (B, C, *S), clock (B,); returns logits (B, classes)."""
        return self.leave(self.pool(self.features(x, clock)))

    def features(self, x: Tensor, clock: Tensor) -> Tensor:
        """What is pooled, (B, C', *S') at the resolution of the last level."""
        embedding = self.conditioning(clock)
        x = whole_strides(x, [self.patch] * (x.ndim - 2))
        h = self.enter(space_to_depth(x, self.patch))
        for block in self.blocks:
            h = block(h, embedding) if isinstance(block, Residual) else block(h)
        return F.silu(self.norm(h))
