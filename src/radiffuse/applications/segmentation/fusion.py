"""One label map from several: vote, and STAPLE (Warfield et al. 2004)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...diffusion.label_maps import encode, likeliest

__all__ = ["frequencies", "staple", "vote"]

_UNDECIDED = 255


_MOST_ITERATIONS = 100


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
