"""Losses of segmentation networks."""

import torch.nn.functional as F
from torch import Tensor

__all__ = ["segmentation_loss", "soft_dice_loss"]


def soft_dice_loss(foreground: Tensor, truth: Tensor) -> Tensor:
    """1 - 2 sum(p y) / (sum(p) + sum(y)) over batch and voxels, mean over labels (Milletari 2016).

    A label in neither costs nothing.

    Args:
        foreground, truth: (B, L, *S) in [0, 1].
    """
    axes = [0, *range(2, truth.dim())]
    both, total = (foreground * truth).sum(axes), (foreground + truth).sum(axes)
    return 1 - ((2 * both + 1) / (total + 1)).mean()


def segmentation_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy plus `soft_dice_loss`; logits and truth (B, L + 1, *S), background first."""
    return F.cross_entropy(logits, truth) + soft_dice_loss(logits.softmax(1)[:, 1:], truth[:, 1:])
