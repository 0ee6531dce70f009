"""Augmentation of what a critic sees, its probability adapted (StyleGAN2-ADA, Karras et al. 2020)."""

import math

import torch
from torch import Tensor, nn

from .augment import moved, rotation

__all__ = ["Adaptive"]


class Adaptive(nn.Module):
    """Random changes of images, each done to a case with probability p; the same law for real and made images.

    A mirror along each axis, a turn, a change of size, a shift, of brightness and of contrast. While p < 1 the
    untouched image is the likeliest of all, so that the law of the images can be told from that of their changed
    copies and the generator is not led to make changed ones (section 2.2): nothing leaks. Every change has a
    gradient to the image.

    p rises while more than `target` of the pairs are told apart (net of errors) and falls else, by 1 within `pace`
    images. It is kept with the weights.

    Args:
        target: the mean of sign(D(real) - D(made)) to be held; 0: nothing is changed. The source holds that of
            sign(D(real)) at 0.6, for its critic judges no pairs.
        pace: images that take p from 0 to 1, 500,000 in the source.
        most: highest p; the source's code has none, and its section 2.2 says that changes begin to leak above 0.8.
    """

    share: Tensor

    def __init__(self, target: float, pace: int = 500_000, most: float = 0.8) -> None:
        super().__init__()
        self.target, self.pace, self.most = target, pace, most
        self.register_buffer("share", torch.zeros(()))

    @torch.no_grad()
    def told(self, margin: Tensor) -> None:
        """Adapt p to D(real) - D(made) of pairs (B,)."""
        if self.target:
            step = float(torch.sign(_net(margin) - self.target))
            self.share.add_(step * len(margin) / self.pace).clamp_(0, self.most)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, *S), changed by draws of torch's global generator."""
        p = float(self.share)
        if not self.target or p == 0:
            return x
        batch, axes = len(x), x.ndim - 2
        for axis in range(axes):
            x = torch.where(_shaped(_some(p / 2, batch), x), x.flip(axis + 2), x)
        matrix = torch.eye(axes).repeat(batch, 1, 1)
        for plane in range(axes - 1):
            angle = (2 * torch.rand(batch) - 1) * math.pi * _some(p, batch)
            matrix = matrix @ rotation(angle, axes, plane, plane + 1)
        size = torch.exp(0.2 * math.log(2) * torch.randn(batch) * _some(p, batch))
        shift = 0.125 * torch.randn(batch, axes) * _some(p, batch)[:, None]
        if axes > 1:
            x = moved(x, matrix * size[:, None, None], shift)
        brighter = 0.2 * torch.randn(batch) * _some(p, batch)
        contrast = torch.exp(0.5 * math.log(2) * torch.randn(batch) * _some(p, batch))
        return x * _shaped(contrast, x) + _shaped(brighter, x)


def _net(margin: Tensor) -> Tensor:
    """Pairs told apart less those told the wrong way, as a share."""
    return margin.float().sign().mean()


def _some(p: float, batch: int) -> Tensor:
    """True for each case with probability p."""
    return torch.rand(batch) < p


def _shaped(values: Tensor, x: Tensor) -> Tensor:
    return values.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
