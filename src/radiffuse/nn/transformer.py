"""DiT: a plain transformer on patches (Peebles & Xie 2023), for any number of axes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import beside, depth_to_space, space_to_depth, zeroed
from .embed import Conditioning, waves

__all__ = ["DiT"]


class _Block(nn.Module):
    """Attention and MLP, each with adaLN-zero: shift, scale and gate from the embedding."""

    def __init__(self, width: int, heads: int, embedding: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.modulate = zeroed(nn.Linear(embedding, 6 * width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, ratio * width),
            nn.GELU(approximate="tanh"),
            nn.Linear(ratio * width, width),
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        parts = self.modulate(embedding)[:, None].chunk(6, dim=-1)
        shift, scale, gate, shift_2, scale_2, gate_2 = parts
        x = x + gate * self._attend(self.norm(x) * (1 + scale) + shift)
        return x + gate_2 * self.mlp(self.norm(x) * (1 + scale_2) + shift_2)

    def _attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*qkv.unbind(0))
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class DiT(nn.Module):
    """Diffusion transformer with the conditions and the calling convention of `UNet`.

    Positions are sines and cosines of each axis, computed for the size at hand, so a trained
    network takes any size divisible by `patch` (`stride`).

    Args:
        axes, channels, condition, classes, vector, twice: as `UNet`.
        width: channels of a token, divisible by 2 * axes and by `heads`.
        depth: number of blocks.
        heads: attention heads.
        patch: side of a patch.
        ratio: width of the MLP over `width`.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        patch: int = 4,
        condition: int = 0,
        classes: int = 0,
        vector: int = 0,
        twice: bool = False,
        ratio: int = 4,
    ) -> None:
        super().__init__()
        self.axes, self.patch, self.stride = axes, patch, patch
        self.classes = classes
        self.conditioning = Conditioning(width, classes, vector)
        self.axes, self.seen = axes, channels + condition
        self.enter = nn.Linear((channels + condition) * patch**axes, width)
        self.position = nn.Linear(axes * 64, width)
        self.blocks = nn.ModuleList(_Block(width, heads, width, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = zeroed(nn.Linear(width, 2 * width))
        self.leave = zeroed(nn.Linear(width, channels * patch**axes * (2 if twice else 1)))

    def _positions(self, size: torch.Size, like: Tensor) -> Tensor:
        lines = [torch.linspace(0, 1, side, device=like.device) for side in size]
        grid = torch.meshgrid(*lines, indexing="ij")
        features = [waves(axis.flatten(), 64, highest=128.0) for axis in grid]
        return self.position(torch.cat(features, dim=1).to(like.dtype))

    def forward(
        self,
        x: Tensor,
        clock: Tensor,
        label: Tensor | None = None,
        vector: Tensor | None = None,
        image: Tensor | None = None,
    ) -> Tensor:
        """As `UNet.forward`."""
        x = beside(x, image, self.axes, self.seen, self.stride)
        embedding = self.conditioning(clock, label, vector)
        folded = space_to_depth(x, self.patch)
        h = self.enter(folded.flatten(2).transpose(1, 2))
        h = h + self._positions(folded.shape[2:], h)
        for block in self.blocks:
            h = block(h, embedding)
        shift, scale = self.modulate(embedding)[:, None].chunk(2, dim=-1)
        h = self.leave(self.norm(h) * (1 + scale) + shift)
        h = h.transpose(1, 2).reshape(len(x), -1, *folded.shape[2:])
        return depth_to_space(h, self.patch)
