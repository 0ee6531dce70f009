r"""Label maps as numbers and back, and one map from several: vote, STAPLE, likeliest label.

A label map is int64 (B, 1, *S) with labels 0 (background) to L. Foreground probabilities are
(B, L, *S), channel l - 1 for label l; what they leave of 1 is the background's.
"""

import torch
from torch import Tensor

__all__ = ["distribution", "encode", "likeliest", "probabilities"]


def encode(mask: Tensor, count: int, absent: float) -> Tensor:
    """One channel for each of the labels 1 to `count`: 1 where it is, `absent` elsewhere.

    Args:
        mask: (B, 1, *S).

    Returns:
        float32 (B, count, *S).
    """
    labels = torch.arange(1, count + 1, device=mask.device)
    here = mask == labels.reshape(count, *[1] * (mask.dim() - 2))
    return torch.where(here, 1.0, absent)


def probabilities(x: Tensor, absent: float) -> Tensor:
    """Foreground probabilities (B, L, *S) of a real-valued x that `encode` would have made.

    Each channel is moved to [0, 1] and kept there; where labels together exceed 1 they share it.
    """
    p = ((x - absent) / (1 - absent)).clamp(0, 1)
    return p / p.sum(1, keepdim=True).clamp_min(1)


def distribution(foreground: Tensor) -> Tensor:
    """Probabilities of all labels, background first, (B, L + 1, *S), from those of the foreground."""
    return torch.cat([(1 - foreground.sum(1, keepdim=True)).clamp_min(0), foreground], dim=1)


def likeliest(foreground: Tensor) -> Tensor:
    """The likeliest label (B, 1, *S); with one label: where its probability exceeds 0.5."""
    return distribution(foreground).argmax(1, keepdim=True)
