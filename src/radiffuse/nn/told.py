"""Networks told a vector: as channels at the input, as a token that voxels attend to, or both."""

from typing import Literal

import torch
from torch import Tensor, nn

from .unet import UNet

__all__ = ["Told", "ToldBy"]

ToldBy = Literal["both", "channels", "attention", "none"]


class Told(nn.Module):
    """A U-Net told a vector c by constant channels and by cross-attention (Pinaya et al. 2022, hybrid conditioning).

    The one token is c itself. A softmax over one token is 1, so that attention adds the same value at every voxel: a
    bias that c steers, beside the channels that convolutions see.

    Args:
        unet: made with `condition` of `length` more channels where c comes as channels, and with a `context` of
            `length` where it is a token.
        length: of c.
        by: how c is told.
    """

    def __init__(self, unet: UNet, length: int, by: ToldBy = "both") -> None:
        super().__init__()
        self.unet, self.length, self.by, self.stride = unet, length, by, unet.stride

    @staticmethod
    def needs(length: int, by: ToldBy) -> dict[str, int]:
        """Channels and length of tokens that the U-Net must be made with."""
        channels = length if by in ("both", "channels") else 0
        return {"condition": channels, "context": length if by in ("both", "attention") else 0}

    def forward(
        self, x: Tensor, clock: Tensor, vector: Tensor, image: Tensor | None = None
    ) -> Tensor:
        """x (B, C, *S), clock (B,), vector (B, length), image (B, C_c, *S); (B, C, *S)."""
        vector = vector.to(x)
        if self.by in ("both", "channels"):
            constant = vector.reshape(*vector.shape, *[1] * (x.ndim - 2))
            channels = constant.expand(*vector.shape, *x.shape[2:])
            image = channels if image is None else torch.cat([image, channels], 1)
        context = vector.unsqueeze(1) if self.by in ("both", "attention") else None
        return self.unet(x, clock, image=image, context=context)
