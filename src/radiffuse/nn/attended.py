"""A U-Net whose class label enters the attention, beside the embedding of the time."""

import torch
from torch import Tensor, nn

from .unet import UNet

__all__ = ["AttendedLabel"]


class AttendedLabel(nn.Module):
    r"""The label as keys and values of every attention (Sanchez et al. 2022).

    The embedding e of a label, zero for "no label", goes through two layers; the rows of the outer
    product $e e^T$ are the tokens that voxels attend to. The U-Net adds a label embedding to that of the
    time as well, as always.

    Args:
        unet: made with `classes` and `context` = `length`.
        length: of e.
    """

    def __init__(self, unet: UNet, length: int) -> None:
        super().__init__()
        self.unet, self.classes, self.stride = unet, unet.classes, unet.stride
        self.label = nn.Embedding(unet.classes + 1, length, padding_idx=unet.classes)
        self.mix = nn.Sequential(nn.Linear(length, length), nn.SiLU(), nn.Linear(length, length))

    def forward(self, x: Tensor, clock: Tensor, label: Tensor | None = None) -> Tensor:
        """x (B, C, *S), clock (B,), label (B,) int64, `classes` = none; returns (B, C, *S)."""
        if label is None:
            label = torch.full(clock.shape, self.classes, device=x.device)
        e = self.mix(self.label(label))
        return self.unet(x, clock, label=label, context=e.unsqueeze(2) * e.unsqueeze(1))
