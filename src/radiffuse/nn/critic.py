"""Critics: networks that tell real images from made ones, for adversarial training."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import conv, downsample, space_to_depth, whole_strides
from .embed import Conditioning

__all__ = [
    "PairCritic",
    "PatchCritic",
    "ProjectionCritic",
    "Remembering",
    "ScaledCritic",
    "group_deviation",
]

_SLOPE = 0.2
_GROUP = 4


class PairCritic(nn.Module):
    """Judges two successive states of a diffusion, (x_s, x_t) with s < t: real or made.

    Residual blocks that halve the resolution, each told the time, then the deviation over groups of
    cases as one more channel and one logit (Xiao et al. 2022, denoising diffusion GANs).

    Args:
        axes: number of spatial axes.
        channels: channels of one state.
        width: channels before the first block; they double in each, to 8 times at most.
        levels: blocks.
        patch: fold blocks of this side into channels first (less arithmetic).

    The buffer `seen` counts training steps, so that a lazy penalty falls due at the same steps
    after an interruption.
    """

    def __init__(
        self, axes: int, channels: int, width: int = 64, levels: int = 6, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2**levels
        self.conditioning = Conditioning(4 * width)
        self.enter = conv(axes, 2 * channels * patch**axes, width, size=1)
        widths = [width * min(2**level, 8) for level in range(levels + 1)]
        self.blocks = nn.ModuleList(
            _Down(axes, before, after, 4 * width) for before, after in pairwise(widths)
        )
        self.last = conv(axes, widths[-1] + 1, widths[-1])
        self.leave = nn.Linear(widths[-1], 1)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x_s: Tensor, x_t: Tensor, clock: Tensor, exact: bool = False) -> Tensor:
        """x_s, x_t (B, C, *S), clock (B,); returns logits (B,).

        `exact` computes in float32 whatever the precision of training: the gradient of a gradient
        (R1) asks for it.
        """
        if exact:
            with torch.autocast(x_s.device.type, enabled=False):
                return self._judged(x_s.float(), x_t.float(), clock.float())
        return self._judged(x_s, x_t, clock)

    def _judged(self, x_s: Tensor, x_t: Tensor, clock: Tensor) -> Tensor:
        embedding = self.conditioning(clock)
        h = self.enter(_folded(torch.cat([x_s, x_t], dim=1), self.patch))
        for block in self.blocks:
            h = block(h, embedding)
        h = torch.cat([h, group_deviation(h)], dim=1)
        h = F.leaky_relu(self.last(h), _SLOPE)
        return self.leave(h.flatten(2).mean(dim=2))[:, 0]


class _Down(nn.Module):
    """Leaky residual block that halves the resolution; the time is added between convolutions."""

    def __init__(self, axes: int, into: int, out: int, embedding: int = 0) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = conv(axes, into, out), conv(axes, out, out)
        self.shift = nn.Linear(embedding, out) if embedding else None
        self.skip = conv(axes, into, out, size=1)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        h = self.conv_1(F.leaky_relu(x, _SLOPE))
        if self.shift is not None:
            shift = self.shift(embedding)
            h = h + shift.reshape(*shift.shape, *[1] * (h.ndim - 2))
        h = F.leaky_relu(h, _SLOPE)
        h = self.conv_2(downsample(h))
        return (h + self.skip(downsample(x))) / 2**0.5


def group_deviation(h: Tensor) -> Tensor:
    """Mean deviation of features over groups of 4 successive cases, as a channel (B, 1, *S).

    Karras et al. 2018: it shows a critic made images that are all alike. A last group may be
    smaller; a case alone has 0. Micro-batches that are multiples of 4 change nothing.
    """

    def channels() -> Iterator[Tensor]:
        for group in h.float().split(_GROUP):
            variance = group.var(dim=0, correction=0)
            deviation = torch.sqrt(variance + 1e-8).mean() - 1e-4
            yield deviation.expand(len(group), 1, *h.shape[2:])

    return torch.cat(list(channels())).to(h.dtype)


class ProjectionCritic(nn.Module):
    r"""Judges images told their class: $w^T\phi(x) + e_y^T\phi(x)$ (Miyato & Koyama 2018, cGANs with projection).

    Blocks of `PairCritic` without a time, and the deviation over groups of cases as one more channel.

    Args:
        axes, channels, width, levels, patch: as `PairCritic`.
        classes: number of classes.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        classes: int,
        width: int = 32,
        levels: int = 4,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2**levels
        self.enter = conv(axes, channels * patch**axes, width, size=1)
        widths = [width * min(2**level, 8) for level in range(levels + 1)]
        self.blocks = nn.ModuleList(_Down(axes, *pair) for pair in pairwise(widths))
        self.last = conv(axes, widths[-1] + 1, widths[-1])
        self.leave = nn.Linear(widths[-1], 1)
        self.of_class = nn.Embedding(classes, widths[-1])

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """x (B, C, *S), label int64 (B,); returns logits (B,)."""
        h = self.enter(_folded(x, self.patch))
        for block in self.blocks:
            h = block(h)
        h = torch.cat([h, group_deviation(h)], dim=1)
        found = F.leaky_relu(self.last(h), _SLOPE).flatten(2).mean(dim=2)
        return self.leave(found)[:, 0] + (self.of_class(label) * found).sum(1)


class PatchCritic(nn.Module):
    """Judges overlapping patches (Isola et al. 2017): logits on a coarse grid, instance norm.

    Args:
        axes, channels, patch: as `PairCritic`.
        width: channels of the first convolution.
        levels: convolutions that halve the resolution (3: patches of 70 pixels).
    """

    def __init__(
        self, axes: int, channels: int, width: int = 64, levels: int = 3, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, patch * 2**levels
        layers: list[nn.Module] = [conv(axes, channels * patch**axes, width, size=4, stride=2)]
        before = width
        for level in range(1, levels + 1):
            layers += [_instance(before)] if level > 1 else []
            after = width * min(2**level, 8)
            layers += [nn.LeakyReLU(_SLOPE)]
            layers += [conv(axes, before, after, size=4, stride=2 if level < levels else 1)]
            before = after
        layers += [_instance(before), nn.LeakyReLU(_SLOPE), conv(axes, before, 1, size=4)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S); returns logits (B, 1, *grid)."""
        return self.layers(_folded(x, self.patch))

    def stages(self, x: Tensor) -> list[Tensor]:
        """What each convolution but the last sees of x, rectified, and the logits."""
        found, h = [], _folded(x, self.patch)
        for layer in self.layers:
            h = layer(h)
            if isinstance(layer, nn.LeakyReLU):
                found.append(h)
        return [*found, h]


def _folded(x: Tensor, patch: int) -> Tensor:
    return space_to_depth(whole_strides(x, [patch] * (x.ndim - 2)), patch)


class Remembering(PatchCritic):
    """A patch critic that is shown made images of earlier steps too (Shrivastava et al. 2017, 50 images).

    The images are kept with the weights, so that a training that was stopped goes on as it would have.

    Args:
        axes, channels, width, levels: as `PatchCritic`.
        size: sides of the images.
        kept: how many are kept.
    """

    pool: Tensor
    count: Tensor

    def __init__(
        self,
        axes: int,
        channels: int,
        width: int,
        levels: int,
        size: Sequence[int],
        kept: int = 50,
    ) -> None:
        super().__init__(axes, channels, width, levels)
        self.register_buffer("pool", torch.zeros(kept, channels, *size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def remembered(self, made: Tensor) -> Tensor:
        """Of made images (B, C, *S) each, or with probability 1/2 an earlier one, whose place it takes."""
        shown = made.detach().clone()
        for row, image in enumerate(made.detach()):
            filled = int(self.count)
            place = int(torch.randint(len(self.pool), ()))
            if filled < len(self.pool):
                self.pool[filled] = image.to(self.pool)
                self.count += 1  # in place, as whoever puts buffers back expects
            elif torch.rand(()) < 0.5:
                shown[row], self.pool[place] = self.pool[place].to(shown), image.to(self.pool)
        return shown


class ScaledCritic(nn.Module):
    """Patch critics of an image at full, half, quarter ... resolution (Wang et al. 2018, pix2pixHD).

    Args:
        axes, channels, width, levels, patch: as `PatchCritic`.
        scales: critics.
    """

    def __init__(
        self, axes: int, channels: int, width: int, levels: int, scales: int, patch: int = 1
    ) -> None:
        super().__init__()
        self.critics = nn.ModuleList(
            PatchCritic(axes, channels, width, levels, patch) for _ in range(scales)
        )

    def forward(self, x: Tensor) -> list[list[Tensor]]:
        """x (B, C, *S); what `PatchCritic.stages` finds at each scale, logits last."""
        found = []
        for number, critic in enumerate(self.critics):
            x = downsample(x) if number else x
            found.append(critic.stages(x))  # type: ignore[operator]
        return found


def _instance(channels: int) -> nn.Module:
    """Instance normalisation, any number of axes."""
    return nn.GroupNorm(channels, channels, affine=False)
