"""One generator in two modes, by a normalisation that a label map switches (Kim et al. 2023, arXiv 2209.14566).

Told a map, every normalisation of its blocks is spatially adaptive (`spade`), and the generator paints what the map
says; told none, it is an ordinary instance normalisation with a scale and a shift of its own. Convolutions are shared.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv, cut_to, upsample, whole_strides
from .spade import Modulated, PaintedBlock

__all__ = ["SwitchedGenerator", "SwitchedNorm"]


class SwitchedNorm(Modulated):
    r"""Switchable SPADE, of instance-normalised features n: $\gamma(m)\,n + \beta(m)$, without m $\gamma n + \beta$.

    Args:
        axes, channels, labels, hidden: as `Modulated`.
    """

    def __init__(self, axes: int, channels: int, labels: int, hidden: int = 128) -> None:
        super().__init__(axes, channels, labels, hidden)
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor, m: Tensor | None) -> Tensor:
        """h (B, C, *L), m (B, labels, *S) or none; (B, C, *L)."""
        if m is None:
            return F.group_norm(h, h.shape[1], self.scale, self.shift)
        return self.modulated(F.group_norm(h, h.shape[1]), m)


class SwitchedGenerator(nn.Module):
    """Down `levels` times, two blocks, as many more that double the resolution, tanh; see the module.

    Args:
        axes: number of spatial axes.
        into, out: channels of the input and of what is made.
        labels: channels of the map.
        width: channels at full resolution; they double at each level.
        hidden: of the normalisations.
        levels: how often the resolution is halved.

    Attributes:
        stride: least sides of an image; others are continued by reflection and cut back.
    """

    def __init__(
        self,
        axes: int,
        into: int,
        out: int,
        labels: int,
        width: int = 64,
        hidden: int = 128,
        levels: int = 2,
    ) -> None:
        super().__init__()
        self.stride = 2**levels
        widths = [width * 2**level for level in range(levels + 1)]
        self.enter = conv(axes, into, width, size=7)
        self.down = nn.ModuleList(
            conv(axes, one, other, stride=2) for one, other in pairwise(widths)
        )
        wide = [widths[-1], widths[-1], *reversed(widths)]
        self.blocks = nn.ModuleList(
            PaintedBlock(axes, one, other, labels, hidden, SwitchedNorm)
            for one, other in pairwise(wide)
        )
        self.leave = conv(axes, width, out, size=7)

    def forward(self, x: Tensor, m: Tensor | None = None) -> Tensor:
        """x (B, into, *S), m (B, labels, *S) or none; (B, out, *S) in (-1, 1)."""
        size = x.shape[2:]
        h = self.enter(whole_strides(x, [self.stride] * len(size)))
        for layer in self.down:
            h = layer(F.relu(_normalised(h)))
        h = F.relu(_normalised(h))
        for number, block in enumerate(self.blocks):
            h = block(upsample(h) if number > 1 else h, m)
        return cut_to(torch.tanh(self.leave(F.relu(h))), size)


def _normalised(h: Tensor) -> Tensor:
    """Instance normalisation, any number of axes."""
    return F.group_norm(h, h.shape[1])
