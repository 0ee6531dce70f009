r"""Label maps as numbers and back, and one map from several: vote, STAPLE, likeliest label.

A label map is int64 (B, 1, *S) with labels 0 (background) to L. Foreground probabilities are
(B, L, *S), channel l - 1 for label l; what they leave of 1 is the background's.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["distribution", "encode", "frequencies", "likeliest", "probabilities", "staple", "vote"]

_UNDECIDED = 255
_MOST_ITERATIONS = 100


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


def vote(draws: Tensor, count: int | None = None) -> Tensor:
    """The label most of the draws (K, B, 1, *S) give each voxel, (B, 1, *S); the lowest of a tie."""
    return likeliest(frequencies(draws, int(draws.max()) if count is None else count))


def frequencies(draws: Tensor, count: int) -> Tensor:
    """Share of the draws (K, B, 1, *S) that give each of the labels 1 to `count`, (B, count, *S)."""
    return torch.stack([encode(draw, count, 0.0) for draw in draws]).mean(0)


def staple(draws: Tensor) -> Tensor:
    """One label map from K by multi-label STAPLE, (K, B, 1, *S) -> (B, 1, *S).

    Weighs each map by its estimated reliability (Warfield et al. 2004; Rohlfing et al. 2003,
    SimpleITK), case by case; ties are decided by `vote`.
    """
    voted = vote(draws)
    fused = [_staple(draws[:, row, 0].cpu(), voted[row, 0].cpu()) for row in range(len(voted))]
    return torch.stack(fused)[:, None].to(draws.device)


def _staple(maps: Tensor, voted: Tensor) -> Tensor:
    import SimpleITK as sitk

    if bool((maps == maps[0]).all()):
        return maps[0]
    fuse = sitk.MultiLabelSTAPLEImageFilter()
    fuse.SetLabelForUndecidedPixels(_UNDECIDED)
    fuse.SetMaximumNumberOfIterations(_MOST_ITERATIONS)
    images: Sequence[sitk.Image] = [
        sitk.GetImageFromArray(each.to(torch.uint8).numpy()) for each in maps
    ]
    found = torch.from_numpy(sitk.GetArrayFromImage(fuse.Execute(images))).long()
    return torch.where(found == _UNDECIDED, voted, found)
