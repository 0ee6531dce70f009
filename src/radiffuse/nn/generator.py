"""Generators: networks that make an image from an image in one pass, with or without a latent."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import (
    Residual,
    conv,
    cut_to,
    depth_to_space,
    groups,
    space_to_depth,
    upsample,
    whole_strides,
)
from .unet import UNet

__all__ = ["Direct", "FromLatent", "Guess", "LatentUNet", "ResNet"]


class LatentUNet(nn.Module):
    """A U-Net steered by a random latent: adaptive group norm of every block from (time, latent).

    The latent z is normalised and passed through a small network (StyleGAN's mapping), then enters
    the U-Net as its vector condition; the output is squashed by tanh.

    Args:
        unet: a U-Net with a vector condition of length `mapped`.
        latent: length of z.
        mapped: width of the mapping.
    """

    def __init__(self, unet: UNet, latent: int = 100, mapped: int = 256) -> None:
        super().__init__()
        self.unet, self.latent, self.stride = unet, latent, unet.stride
        lengths = (latent, mapped, mapped, mapped)
        layers: list[nn.Module] = []
        for before, after in pairwise(lengths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.mapping = nn.Sequential(*layers)

    def forward(self, x: Tensor, clock: Tensor, z: Tensor, image: Tensor | None = None) -> Tensor:
        """x (B, C, *S), clock (B,), z (B, latent), image (B, C_c, *S) or none; (B, C, *S) in (-1, 1)."""
        z = z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)
        return torch.tanh(self.unet(x, clock, vector=self.mapping(z), image=image))


class FromLatent(nn.Module):
    """An image of a class from a random latent alone, after StyleGAN (Karras et al. 2019).

    A learned constant of the coarsest grid is doubled by residual blocks, whose norms are scaled and shifted by a
    mapping of (latent, class); tanh at the end.

    Args:
        axes, channels: of the image.
        size: its sides; those that the strides do not divide are cut from a larger image.
        classes: number of classes.
        width: channels of the finest level, doubled in each coarser one, to 8 times at most.
        levels: how often the constant is doubled.
        latent: length of the latent.
        patch: side of the blocks of voxels that the last layer makes at once.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        size: Sequence[int],
        classes: int,
        width: int = 32,
        levels: int = 4,
        latent: int = 64,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.size, self.latent, self.patch = tuple(size), latent, patch
        widths = [width * min(2**level, 8) for level in reversed(range(levels + 1))]
        coarsest = [-(-side // (patch * 2**levels)) for side in size]
        self.constant = nn.Parameter(torch.randn(1, widths[0], *coarsest))
        self.of_class = nn.Embedding(classes, latent)
        length = 4 * width
        self.mapping = nn.Sequential(
            nn.Linear(2 * latent, length), nn.SiLU(), nn.Linear(length, length), nn.SiLU()
        )
        self.blocks = nn.ModuleList(
            Residual(axes, before, after, length, resample=1) for before, after in pairwise(widths)
        )
        self.leave_norm = nn.GroupNorm(groups(width), width)
        self.leave = conv(axes, width, channels * patch**axes)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """z (B, latent), label int64 (B,); (B, C, *S) in (-1, 1)."""
        told = self.mapping(torch.cat([z, self.of_class(label)], 1))
        h = self.constant.expand(len(z), *self.constant.shape[1:])
        for block in self.blocks:
            h = block(h, told)
        h = self.leave(F.silu(self.leave_norm(h)))
        return cut_to(torch.tanh(depth_to_space(h, self.patch)), self.size)


class Direct(nn.Module):
    """A U-Net that maps an image to an image, with no noise and no time.

    Args:
        unet: a U-Net with an image condition; its own input is left empty.
        squash: end in tanh.
    """

    def __init__(self, unet: UNet, channels: int, squash: bool = False) -> None:
        super().__init__()
        self.unet, self.channels, self.squash, self.stride = unet, channels, squash, unet.stride

    def forward(self, image: Tensor) -> Tensor:
        """image (B, C_c, *S); returns (B, C, *S)."""
        empty = image.new_zeros(len(image), self.channels, *image.shape[2:])
        out = self.unet(empty, image.new_zeros(len(image)), image=image)
        return torch.tanh(out) if self.squash else out


class Guess(nn.Module):
    """Mean and deviation of every voxel of an image, from another image.

    Args:
        unet: a U-Net of 2 C channels with an image condition.
        channels: C.
        least: smallest deviation.
    """

    def __init__(self, unet: UNet, channels: int, least: float = 0.01) -> None:
        super().__init__()
        self.direct, self.least, self.stride = Direct(unet, 2 * channels), least, unet.stride

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, C_c, *S); two tensors (B, C, *S) in float32."""
        mean, spread = self.direct(image).float().chunk(2, 1)
        return mean, self.least + F.softplus(spread)


class ResNet(nn.Module):
    """The residual translator of CycleGAN (Zhu et al. 2017): twice down, blocks, twice up, tanh.

    Args:
        axes: number of spatial axes.
        into, out: channels of the two images.
        width: channels at full resolution, 4 times as many in the blocks.
        blocks: residual blocks.
        patch: fold blocks of this side into channels first (less arithmetic).
    """

    def __init__(
        self, axes: int, into: int, out: int, width: int = 64, blocks: int = 6, patch: int = 1
    ) -> None:
        super().__init__()
        self.patch, self.stride = patch, 4 * patch
        side = 7 if patch == 1 else 3
        self.enter = conv(axes, into * patch**axes, width, size=side)
        self.down = nn.ModuleList(
            conv(axes, width * 2**level, 2 * width * 2**level, stride=2) for level in range(2)
        )
        self.first, self.second = (
            nn.ModuleList(conv(axes, 4 * width, 4 * width) for _ in range(blocks)) for _ in range(2)
        )
        self.up = nn.ModuleList(
            conv(axes, 4 * width // 2**level, 2 * width // 2**level) for level in range(2)
        )
        self.leave = conv(axes, width, out * patch**axes, size=side)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, into, *S); returns (B, out, *S) in (-1, 1)."""
        size = x.shape[2:]
        x = whole_strides(x, [self.stride] * len(size))
        h = F.relu(_normalised(self.enter(space_to_depth(x, self.patch))))
        for layer in self.down:
            h = F.relu(_normalised(layer(h)))
        for first, second in zip(self.first, self.second, strict=True):
            h = h + _normalised(second(F.relu(_normalised(first(h)))))
        for layer in self.up:
            h = F.relu(_normalised(layer(upsample(h))))
        return cut_to(torch.tanh(depth_to_space(self.leave(h), self.patch)), size)


def _normalised(h: Tensor) -> Tensor:
    """Instance normalisation, any number of axes."""
    return F.group_norm(h, h.shape[1])
