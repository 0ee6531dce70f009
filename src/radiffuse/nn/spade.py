r"""Images painted from label maps: spatially-adaptive normalisation (Park et al. 2019, arXiv 1903.07291).

An image is laid out by a map of labels and coloured by a style vector z. The map steers every normalisation of the
generator, voxel by voxel; z is its input, at the coarsest resolution. An encoder reads z from an image of that style.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from .blocks import conv, depth_to_space, space_to_depth, upsample

__all__ = ["SPADE", "Modulated", "PaintedBlock", "Painter", "StyleEncoder", "spectral"]

_SLOPE = 0.2


class Modulated(nn.Module):
    """Normalisation whose scale and shift are read from a label map; a subclass says how it normalises.

    gamma and beta are two convolutions behind a shared one; gamma begins at 1 for every map, beta at 0.

    Args:
        axes: number of spatial axes.
        channels: C of h.
        labels: channels of m.
        hidden: channels of the shared convolution.
    """

    def __init__(self, axes: int, channels: int, labels: int, hidden: int = 128) -> None:
        super().__init__()
        self.shared = conv(axes, labels, hidden)
        self.gamma, self.beta = conv(axes, hidden, channels), conv(axes, hidden, channels)
        for layer, start in ((self.gamma, 1.0), (self.beta, 0.0)):
            nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.constant_(layer.bias, start)  # type: ignore[arg-type]

    def modulated(self, normal: Tensor, m: Tensor) -> Tensor:
        """gamma(m) normal + beta(m), m (B, labels, *S) read at the nearest voxel."""
        told = F.relu(self.shared(F.interpolate(m, size=normal.shape[2:])))
        return self.gamma(told) * normal + self.beta(told)


class SPADE(Modulated):
    r"""Normalisation whose scale and shift are read from a label map m, voxel by voxel (equations 1 to 3):

    $$ \gamma_{c}(m)\,\frac{h_c - \mu_c}{\sigma_c} + \beta_{c}(m) $$

    with mean and deviation of each channel c over cases and voxels of the batch; in prediction their running averages.

    Args:
        axes, channels, labels, hidden: as `Modulated`.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, axes: int, channels: int, labels: int, hidden: int = 128) -> None:
        super().__init__(axes, channels, labels, hidden)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """h (B, C, *L), m (B, labels, *S) on any grid of the same extent, read at the nearest voxel; (B, C, *L)."""
        normal = F.batch_norm(h, self.mean, self.variance, training=self.training)
        return self.modulated(normal, m)


class PaintedBlock(nn.Module):
    """Residual block (figure 4): norm, ReLU, convolution, twice; a skip that changes width is normalised too.

    Args:
        axes, labels, hidden: as `Modulated`.
        into, out: channels.
        norm: which normalisation.
    """

    def __init__(
        self,
        axes: int,
        into: int,
        out: int,
        labels: int,
        hidden: int,
        norm: type[Modulated] = SPADE,
    ) -> None:
        super().__init__()
        middle = min(into, out)
        self.norms = nn.ModuleList(norm(axes, n, labels, hidden) for n in (into, middle))
        self.convs = nn.ModuleList([conv(axes, into, middle), conv(axes, middle, out)])
        self.norm_skip = norm(axes, into, labels, hidden) if into != out else None
        self.skip = conv(axes, into, out, size=1) if into != out else nn.Identity()
        spectral(self.convs)
        spectral(self.skip)

    def forward(self, h: Tensor, m: Tensor | None) -> Tensor:
        """h (B, into, *L), m as its norms take it; (B, out, *L)."""
        skip = self.skip(h if self.norm_skip is None else self.norm_skip(h, m))
        for norm, layer in zip(self.norms, self.convs, strict=True):
            h = layer(F.relu(norm(h, m)))
        return skip + h


class Painter(nn.Module):
    """An image in (-1, 1) from a label map and a style: blocks of `SPADE`, the resolution doubled between levels.

    Args:
        size: sides of images and maps.
        labels, channels: of maps and images.
        style: length of z.
        width: channels of the finest level.
        multiples: width of each level over `width`, coarsest first.
        blocks: of each level.
        hidden: see `SPADE`.
        patch: fold blocks of this side into channels (less arithmetic).

    Attributes:
        stride: what the sides must divide by.
    """

    def __init__(
        self,
        size: Sequence[int],
        labels: int,
        channels: int,
        style: int,
        width: int,
        multiples: Sequence[int] = (16, 16, 8, 4, 2, 1),
        blocks: Sequence[int] = (1, 2, 1, 1, 1, 1),
        hidden: int = 128,
        patch: int = 1,
    ) -> None:
        super().__init__()
        axes, widths = len(size), [multiple * width for multiple in multiples]
        folded = patch**axes
        self.patch, self.stride = patch, patch * 2 ** (len(widths) - 1)
        self.first = (widths[0], *(side // self.stride for side in size))
        self.enter = nn.Linear(style, math.prod(self.first))
        self.levels = nn.ModuleList()
        for (before, after), count in zip(pairwise([widths[0], *widths]), blocks, strict=True):
            wide = [before, *[after] * count]
            self.levels.append(
                nn.ModuleList(
                    PaintedBlock(axes, one, other, labels * folded, hidden)
                    for one, other in pairwise(wide)
                )
            )
        self.leave = conv(axes, widths[-1], channels * folded)

    def forward(self, m: Tensor, z: Tensor) -> Tensor:
        """m (B, labels, *S), z (B, style); (B, channels, *S)."""
        m = space_to_depth(m, self.patch)
        h = self.enter(z).reshape(len(z), *self.first)
        for number, level in enumerate(self.levels):
            h = upsample(h) if number else h
            for block in level:  # type: ignore[attr-defined]
                h = block(h, m)
        return torch.tanh(depth_to_space(self.leave(F.leaky_relu(h, _SLOPE)), self.patch))


class StyleEncoder(nn.Module):
    """Law of the style of an image, N(mu, s^2), and the styles last seen in training.

    Convolutions that halve the resolution, instance norm, and one linear layer (figure 14 of the paper).

    Args:
        size, channels: of the images.
        style: length of z.
        width: channels of the first convolution; they double in each, to 8 times at most.
        levels: convolutions.
        kinds: modalities, whose styles are kept apart.
        kept: styles kept of each.

    Attributes:
        means, deviations: (kinds, kept, style), of the styles kept.
        count: (kinds,), how many have been kept so far.
    """

    means: Tensor
    deviations: Tensor
    count: Tensor

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        style: int,
        width: int = 64,
        levels: int = 6,
        kinds: int = 1,
        kept: int = 64,
    ) -> None:
        super().__init__()
        widths = [channels, *(width * min(2**level, 8) for level in range(levels))]
        self.convs = nn.ModuleList(
            conv(len(size), one, other, stride=2) for one, other in pairwise(widths)
        )
        spectral(self.convs)
        places = math.prod(-(-side // 2**levels) for side in size)
        self.leave = nn.Linear(widths[-1] * places, 2 * style)
        for name, start in (("means", 0.0), ("deviations", 1.0)):
            self.register_buffer(name, torch.full((kinds, kept, style), start))
        self.register_buffer("count", torch.zeros(kinds, dtype=torch.int64))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, *S); mean and deviation of z, (B, style) each, float32."""
        h = x
        for layer in self.convs:
            h = layer(h)
            # one voxel has no deviation
            h = F.group_norm(h, h.shape[1]) if h[0, 0].numel() > 1 else h
            h = F.leaky_relu(h, _SLOPE)
        mean, log_variance = self.leave(h.flatten(1)).float().chunk(2, 1)
        return mean, (0.5 * log_variance.clamp(-30, 20)).exp()

    @torch.no_grad()
    def keep(self, mean: Tensor, deviation: Tensor, kind: Tensor) -> None:
        """Keep styles (B, style) of the modalities `kind` (B,) in place of the oldest."""
        for row, which in enumerate(kind.tolist()):
            place = int(self.count[which]) % self.means.shape[1]
            self.means[which, place], self.deviations[which, place] = mean[row], deviation[row]
            self.count[which] += 1

    def kept(self, kind: int, share: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of kept styles of a modality, one for each number of `share` (B,) in [0, 1)."""
        known = min(int(self.count[kind]), self.means.shape[1])
        rows = (share * max(known, 1)).long()
        return self.means[kind, rows], self.deviations[kind, rows]


def spectral(module: nn.Module) -> None:
    """Divide the weights of every convolution in `module` by their spectral norm (Miyato et al. 2018)."""
    for part in list(module.modules()):
        weight = getattr(part, "weight", None)
        if isinstance(weight, nn.Parameter) and weight.ndim > 1:
            spectral_norm(part)
