"""A classifier that knows the noise level: the encoder half of the U-Net."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .blocks import Residual, conv, space_to_depth
from .embed import Conditioning

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """Logits of the class of a noisy image, for classifier guidance (Dhariwal & Nichol 2021).

    Args:
        axes, channels, width, multiples, patch: as `UNet`.
        classes: number of classes.
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        classes: int,
        width: int = 32,
        multiples: Sequence[int] = (1, 2, 4),
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.conditioning = Conditioning(4 * width)
        self.enter = conv(axes, channels * patch**axes, width)
        self.blocks, now = nn.ModuleList(), width
        for level, multiple in enumerate(multiples):
            resample = -1 if level else 0
            self.blocks.append(Residual(axes, now, multiple * width, 4 * width, resample))
            now = multiple * width
        self.norm = nn.GroupNorm(min(32, now // 8) or 1, now)
        self.leave = nn.Linear(now, classes)

    def forward(self, x: Tensor, clock: Tensor) -> Tensor:
        """x (B, C, *S), clock (B,); returns logits (B, classes)."""
        embedding = self.conditioning(clock)
        h = self.enter(space_to_depth(x, self.patch))
        for block in self.blocks:
            h = block(h, embedding)
        pooled = torch.nn.functional.silu(self.norm(h)).flatten(2).mean(dim=2)
        return self.leave(pooled)
