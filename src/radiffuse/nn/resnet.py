"""Residual networks that read an image (He et al. 2016), for any number of axes."""

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv, downsample

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """Maps (B, C, *S) to features (B, `out`, *S / `stride`).

    Group norm stands where the original has batch norm: a case then never depends on its batch, and
    averaged weights need no statistics of their own. The stem pools by the mean.

    Args:
        axes, channels: of the image.
        width: channels of the first stage; each later stage doubles them and halves the resolution.
        blocks: residual blocks of each stage: (2, 2, 2, 2) is a ResNet-18, (3, 4, 6, 3) with
            `bottleneck` a ResNet-50.
        bottleneck: blocks of three convolutions that put out four times their width.
        stem: factor by which the first layer shrinks the image: 1, 2 or 4.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        width: int = 64,
        blocks: Sequence[int] = (2, 2, 2, 2),
        bottleneck: bool = False,
        stem: int = 4,
    ) -> None:
        super().__init__()
        self.stride = stem * 2 ** (len(blocks) - 1)
        self.pool = stem // 2 if stem > 1 else 1
        kernel = 7 if stem == 4 else 3
        self.enter = conv(axes, channels, width, kernel, 2 if stem > 1 else 1)
        self.norm = _norm(width)
        layers: list[nn.Module] = []
        now = width
        for stage, count in enumerate(blocks):
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(_Block(axes, now, width * 2**stage, stride, bottleneck))
                now = width * 2**stage * (4 if bottleneck else 1)
        self.layers = nn.Sequential(*layers)
        self.out = now

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.enter(x)))
        return self.layers(downsample(h) if self.pool > 1 else h)

    def pooled(self, x: Tensor) -> Tensor:
        """The mean of the features over space, (B, `out`)."""
        return self(x).flatten(2).mean(dim=2)


class _Block(nn.Module):
    """Two convolutions of 3, or 1-3-1 with a bottleneck, beside a skip."""

    def __init__(self, axes: int, into: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        kinds = ((1, 1), (3, stride), (1, 1)) if bottleneck else ((3, stride), (3, 1))
        widths = [into, *[width] * (len(kinds) - 1), out]
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for (size, step), before, after in zip(kinds, widths, widths[1:], strict=False):
            self.convs.append(conv(axes, before, after, size, step))
            self.norms.append(_norm(after))
        same = stride == 1 and into == out
        self.skip = nn.Identity() if same else conv(axes, into, out, 1, stride)
        # the branch begins as nothing, so that deep networks train from the first step
        nn.init.zeros_(self.norms[-1].get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for number, (convolution, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(convolution(F.relu(h) if number else h))
        return F.relu(h + self.skip(x))


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(max(1, channels // 8), 32), channels)
