"""N-dimensional building blocks; the one place where networks depend on the number of axes.

A convolution is chosen by `axes` (1, 2 or 3); everything else is written for (B, C, *S).
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .convolution import Conv3d

__all__ = [
    "Attention",
    "Crossed",
    "Factor",
    "Residual",
    "beside",
    "coarsest",
    "conv",
    "cut_to",
    "depth_to_space",
    "downsample",
    "groups",
    "resized",
    "space_to_depth",
    "upsample",
    "whole_strides",
    "zeroed",
]


def beside(x: Tensor, image: Tensor | None, axes: int, channels: int, stride: int = 1) -> Tensor:
    """What a network of images sees: x (B, C, *S), and behind its channels those of a condition.

    Args:
        x, image: see above; image is (B, C_c, *S) or None.
        axes, channels, stride: of the network; the channels of both together, one stride or one an axis.

    Raises:
        ValueError: complex numbers, another number of axes or channels, or sides that do not divide by `stride`.
    """
    if x.is_complex():
        raise ValueError("complex images; `diffusion.complex_images` shows a network their parts")
    if x.ndim != axes + 2:
        raise ValueError(f"images of {x.ndim - 2} axes for a network of {axes}")
    given = x.shape[1] + (0 if image is None else image.shape[1])
    if given != channels:
        raise ValueError(
            f"{given} channels of image and condition for a network of {channels} together"
        )
    if any(side % stride for side in x.shape[2:]):
        size = _by(x.shape[2:])
        raise ValueError(f"images of {size} do not divide by the network's stride {stride}")
    return x if image is None else torch.cat([x, image], dim=1)


_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: Conv3d}
_POOLS: dict[int, Callable[..., Tensor]] = {
    1: F.avg_pool1d,
    2: F.avg_pool2d,
    3: F.avg_pool3d,
}


def conv(
    axes: int, into: int, out: int, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    """A convolution over `axes` axes that keeps the spatial size (before striding)."""
    return _CONVOLUTIONS[axes](into, out, size, stride=stride, padding=size // 2, groups=groups)


def zeroed(module: nn.Module) -> nn.Module:
    """Set the parameters to 0, so that a residual branch begins as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


Factor = int | tuple[int, ...]
"""Of all spatial axes, or one for each."""


def downsample(x: Tensor, factor: Factor = 2) -> Tensor:
    """Mean over blocks of `factor` along every spatial axis; an axis of fewer voxels becomes one."""
    if isinstance(factor, int) and min(x.shape[2:]) < factor:
        factor = tuple(min(factor, side) for side in x.shape[2:])
    return _POOLS[x.ndim - 2](x, factor)


def upsample(x: Tensor, factor: Factor = 2) -> Tensor:
    """Repeat every voxel `factor` times along every spatial axis."""
    if isinstance(factor, tuple):
        return F.interpolate(x, scale_factor=[float(each) for each in factor], mode="nearest")
    return F.interpolate(x, scale_factor=float(factor), mode="nearest")


def coarsest(size: Sequence[int], stride: int) -> list[int]:
    """Sides of the grid on which a voxel stands for `stride` of an image of this size, continued where it must be."""
    return [-(-side // stride) for side in size]


def whole_strides(x: Tensor, strides: Sequence[int]) -> Tensor:
    """(B, C, *S) continued by reflection at the end of each axis to a multiple of its stride; `cut_to` cuts back.

    Raises:
        ValueError: a side is shorter than its stride.
    """
    size = x.shape[2:]
    missing = [-side % stride for side, stride in zip(size, strides, strict=True)]
    if not any(missing):
        return x
    if any(side < stride for side, stride in zip(size, strides, strict=True)):
        raise ValueError(
            f"images of {_by(size)} are smaller than the network's stride {_by(strides)}"
        )
    pads = [part for more in reversed(missing) for part in (0, more)]
    return F.pad(x, pads, mode="reflect")


def cut_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of (B, C, *S)."""
    for axis, side in enumerate(size, start=2):
        x = x.narrow(axis, 0, side)
    return x


def _by(size: Sequence[int]) -> str:
    return " x ".join(str(side) for side in size)


_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(x: Tensor, size: Sequence[int], corners: bool = False) -> Tensor:
    """(B, C, *S) on another grid of the same extent, linear between voxels along each axis.

    Args:
        size: sides of the new grid.
        corners: the outermost voxels of both grids lie on each other, in place of the outermost edges.
    """
    mode = _LINEAR[x.ndim - 2]
    return F.interpolate(x, size=list(size), mode=mode, align_corners=corners)


def space_to_depth(x: Tensor, block: int) -> Tensor:
    """(B, C, *S) -> (B, C block^n, *(S / block)); lossless. `depth_to_space` undoes it."""
    if block == 1:
        return x
    batch, channels, *size = x.shape
    axes = len(size)
    split = [n for side in size for n in (side // block, block)]
    x = x.reshape(batch, channels, *split)
    inner, outer = [3 + 2 * i for i in range(axes)], [2 + 2 * i for i in range(axes)]
    x = x.permute(0, 1, *inner, *outer)
    return x.reshape(batch, channels * block**axes, *[side // block for side in size])


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """The inverse of `space_to_depth`."""
    if block == 1:
        return x
    batch, channels, *size = x.shape
    axes = len(size)
    x = x.reshape(batch, channels // block**axes, *[block] * axes, *size)
    order = [i for axis in range(axes) for i in (2 + axes + axis, 2 + axis)]
    return x.permute(0, 1, *order).reshape(
        batch, channels // block**axes, *[side * block for side in size]
    )


def groups(channels: int) -> int:
    """Groups of a norm: of 8 channels or more, 32 at most, that divide the channels."""
    return math.gcd(min(32, max(1, channels // 8)), channels)


class Residual(nn.Module):
    """Residual block of ADM (Dhariwal & Nichol 2021): two convolutions, adaptive group norm.

    A block that resamples runs its first convolution and its skip at the lower of the two
    resolutions, where they cost 2^n times less.

    Args:
        axes: number of spatial axes.
        into, out: channels.
        embedding: length of the time-and-condition embedding; it scales and shifts the second norm.
        resample: +1 doubles, -1 halves the resolution inside the block, 0 keeps it.
        dropout: before the second convolution.
        factor: of the resampling, where an axis is not to be halved: (2, 2, 1).
    """

    def __init__(
        self,
        axes: int,
        into: int,
        out: int,
        embedding: int,
        resample: int = 0,
        dropout: float = 0.0,
        factor: Factor = 2,
    ) -> None:
        super().__init__()
        self.resample, self.factor = resample, factor
        self.norm_1 = nn.GroupNorm(groups(into), into)
        self.conv_1 = conv(axes, into, out)
        self.modulate = nn.Linear(embedding, 2 * out)
        self.norm_2 = nn.GroupNorm(groups(out), out)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = zeroed(conv(axes, out, out))
        self.skip = conv(axes, into, out, size=1) if into != out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.norm_1(x))
        if self.resample < 0:
            h, x = downsample(h, self.factor), downsample(x, self.factor)
        h, x = self.conv_1(h), self.skip(x)
        if self.resample > 0:
            h, x = upsample(h, self.factor), upsample(x, self.factor)
        scale, shift = self.modulate(embedding).chunk(2, dim=1)
        shape = (*scale.shape, *[1] * (h.ndim - 2))
        h = torch.addcmul(shift.reshape(shape), self.norm_2(h), 1 + scale.reshape(shape))
        return x + self.conv_2(self.dropout(F.silu(h)))


class Attention(nn.Module):
    """Self-attention over all voxels, heads of `head` channels, zero-initialised output.

    With a `context` of tokens of that length, voxels attend to these too: further keys and values
    (Nichol et al. 2022, GLIDE).

    Args:
        axes: number of spatial axes.
        channels: of the image.
        head: channels of a head.
        context: length of a token, 0 for none.
        hessian: its gradient has a gradient. A processor's kernel whose memory grows with the number of voxels and not
            with its square has none.
    """

    def __init__(
        self, axes: int, channels: int, head: int = 64, context: int = 0, hessian: bool = False
    ) -> None:
        super().__init__()
        self.hessian = hessian
        self.heads = math.gcd(channels, max(1, channels // head))
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.qkv = conv(axes, channels, 3 * channels, size=1)
        self.out = zeroed(conv(axes, channels, channels, size=1))
        self.told = nn.Linear(context, 2 * channels) if context else None

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C, *S), context (B, N, D); returns (B, C, *S)."""
        batch, channels, *size = x.shape
        qkv = self.qkv(self.norm(x)).reshape(batch, 3, self.heads, channels // self.heads, -1)
        qkv = qkv.transpose(-1, -2)
        # torch takes that kernel where channels of a head lie side by side
        q, k, v = (qkv if self.hessian else qkv.contiguous()).unbind(1)
        if self.told is not None and context is not None:
            told = self.told(context.to(x.dtype)).reshape(batch, -1, 2, *k.shape[1::2])
            told_k, told_v = told.permute(2, 0, 3, 1, 4)
            k, v = torch.cat([k, told_k], 2), torch.cat([v, told_v], 2)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(mixed.reshape(batch, channels, *size))


class Crossed(nn.Module):
    """Self-attention, cross-attention to tokens, and a gated layer, each a residual (Rombach et al. 2022).

    Args:
        axes: number of spatial axes.
        channels: of the image.
        context: length of a token.
        head: channels of a head.
    """

    def __init__(self, axes: int, channels: int, context: int, head: int = 64) -> None:
        super().__init__()
        self.itself = Attention(axes, channels, head)
        self.heads = self.itself.heads
        self.norm_cross, self.norm_mix = (
            nn.GroupNorm(groups(channels), channels) for _ in range(2)
        )
        self.query = conv(axes, channels, channels, size=1)
        self.told = nn.Linear(context, 2 * channels, bias=False)
        self.answer = zeroed(conv(axes, channels, channels, size=1))
        self.gated = conv(axes, channels, 8 * channels, size=1)
        self.mixed = zeroed(conv(axes, 4 * channels, channels, size=1))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x (B, C, *S), context (B, N, D); (B, C, *S).

        Raises:
            ValueError: no context.
        """
        if context is None:
            raise ValueError("this network is told by tokens, and none are given")
        x = self.itself(x)
        batch, channels, *size = x.shape
        q = self.query(self.norm_cross(x)).reshape(batch, self.heads, channels // self.heads, -1)
        told = self.told(context.to(x.dtype)).reshape(batch, -1, 2, *q.shape[1:3])
        k, v = told.permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q.transpose(-1, -2), k, v).transpose(-1, -2)
        x = x + self.answer(found.reshape(batch, channels, *size))
        value, gate = self.gated(self.norm_mix(x)).chunk(2, 1)
        return x + self.mixed(value * F.gelu(gate))
