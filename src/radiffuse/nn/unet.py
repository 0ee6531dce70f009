"""The U-Net: one network for 1-D, 2-D and 3-D images."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .blocks import (
    Attention,
    Crossed,
    Factor,
    Residual,
    beside,
    conv,
    cut_to,
    depth_to_space,
    groups,
    space_to_depth,
    whole_strides,
    zeroed,
)
from .embed import Conditioning

__all__ = ["UNet"]


class _Stage(nn.Module):
    """A residual block, and attention behind it where the level attends."""

    def __init__(self, residual: Residual, attention: nn.Module | None) -> None:
        super().__init__()
        self.residual, self.attention = residual, attention
        self.keeps_size = residual.resample == 0

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor | None = None) -> Tensor:
        h = self.residual(h, embedding)
        return h if self.attention is None else self.attention(h, context)


def _factor(halved: Sequence[int], left: int) -> Factor:
    """By what a level resamples each axis, where `left` more levels follow that halve; 2: all alike."""
    factor = tuple(2 if times > left else 1 for times in halved)
    return 2 if set(factor) == {2} else factor


class UNet(nn.Module):
    """U-Net as in ADM (Dhariwal & Nichol 2021): residual up and down blocks, adaptive group norm.

    Leaner than ADM where that costs nothing: the change of width happens inside the resampling
    blocks, at the lower resolution, and each level's blocks are matched one to one by skips.

    Args:
        axes: number of spatial axes, 1 to 3.
        channels: channels of the image (in and out).
        width: channels of the first level.
        multiples: width of each level over `width`; each level halves the resolution.
        blocks: residual blocks a level, on the way down and on the way up.
        attention: levels (0 = finest) that attend, the middle with the coarsest; one more than the
            coarsest: the middle.
        patch: fold blocks of this side into channels before the first level (less arithmetic).
        condition: channels of an image condition, concatenated at the input.
        classes: number of classes, 0 for none (label = classes means "no label").
        vector: length of a vector condition, 0 for none.
        twice: output twice the channels (learned variance).
        dropout: in every residual block.
        recompute: gradient checkpointing: less memory, one more forward pass.
        context: length of the tokens that attending levels attend to beside the voxels, 0 for none.
        crossed: they attend to the tokens in a step of their own (`Crossed`).
        head: channels of a head of attention.
        out: channels of the output, where they are not those of the image.
        halved: how often each axis is halved, by the last levels that halve at all; () as often as the
            others. So a short axis, or one of thick slices, keeps its resolution.

    Sides that do not divide by `strides` are continued by reflection, and the output is cut back; `stride` is
    the largest of these.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        width: int = 64,
        multiples: Sequence[int] = (1, 2, 4),
        blocks: int = 2,
        attention: Sequence[int] = (2,),
        patch: int = 1,
        condition: int = 0,
        classes: int = 0,
        vector: int = 0,
        twice: bool = False,
        dropout: float = 0.0,
        recompute: bool = False,
        context: int = 0,
        out: int = 0,
        crossed: bool = False,
        head: int = 64,
        halved: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.patch, self.recompute = patch, recompute
        self.axes, self.seen = axes, channels + condition
        self.stride = patch * 2 ** (len(multiples) - 1)
        last = len(multiples) - 1
        halved = tuple(halved) or (last,) * axes
        if len(halved) != axes or not all(0 <= times <= last for times in halved):
            raise ValueError(f"halved {halved}: {axes} numbers from 0 to {last} are needed")
        self.strides = tuple(patch * 2**times for times in halved)
        length = 4 * width
        self.classes = classes
        self.conditioning = Conditioning(length, classes, vector)
        folded = patch**axes
        self.enter = conv(axes, (channels + condition) * folded, width)

        def block(into: int, wide: int, resample: int, attends: bool, factor: Factor = 2) -> _Stage:
            residual = Residual(axes, into, wide, length, resample, dropout, factor)
            if not attends:
                return _Stage(residual, None)
            if crossed:
                return _Stage(residual, Crossed(axes, wide, context, head))
            return _Stage(residual, Attention(axes, wide, head, context))

        widths = [multiple * width for multiple in multiples]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        now = width
        for level, wide in enumerate(widths):
            if level > 0:
                self.down.append(block(now, wide, -1, False, _factor(halved, last - level)))
                now = wide
            for _ in range(blocks):
                self.down.append(block(now, wide, 0, level in attention))
                now = wide
        mixes = len(widths) - 1 in attention or len(widths) in attention
        self.middle = nn.ModuleList([block(now, now, 0, mixes), block(now, now, 0, False)])
        for level, wide in reversed(list(enumerate(widths))):
            for _ in range(blocks):
                self.up.append(block(2 * wide, wide, 0, level in attention))
            if level > 0:
                factor = _factor(halved, last - level)
                self.up.append(block(wide, widths[level - 1], 1, False, factor))
        now = widths[0]
        self.leave_norm = nn.GroupNorm(groups(now), now)
        self.leave = zeroed(conv(axes, now, (out or channels * (2 if twice else 1)) * folded))

    def forward(
        self,
        x: Tensor,
        clock: Tensor,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        image: Tensor | None = None,
        context: Tensor | None = None,
    ) -> Tensor:
        """x (B, C, *S), clock (B,), label (B,) int64, vector (B, V), image (B, C_c, *S),
        context (B, N, D).

        Raises:
            ValueError: see `blocks.beside` and `blocks.whole_strides`.
        """
        size = x.shape[2:]
        x = whole_strides(beside(x, image, self.axes, self.seen), self.strides)
        embedding = self.conditioning(clock, label, vector)
        h = self.enter(space_to_depth(x, self.patch))
        skips: list[Tensor] = []
        for stage in self.down:
            h = self._run(stage, h, embedding, context)
            if stage.keeps_size:
                skips.append(h)
        for stage in self.middle:
            h = self._run(stage, h, embedding, context)
        for stage in self.up:
            if stage.keeps_size:
                h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(stage, h, embedding, context)
        h = self.leave(nn.functional.silu(self.leave_norm(h)))
        return cut_to(depth_to_space(h, self.patch), size)

    def _run(
        self, stage: nn.Module, h: Tensor, embedding: Tensor, context: Tensor | None
    ) -> Tensor:
        if self.recompute and self.training:
            return checkpoint(stage, h, embedding, context, use_reentrant=False)
        return stage(h, embedding, context)
