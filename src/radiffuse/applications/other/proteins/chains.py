"""Chains of a batch as the network sees them: C-alpha atoms about their mean in tens of Angstrom, and a mask."""

import torch
from torch import Tensor

__all__ = ["SCALE", "alphas", "chains", "lengths", "whole"]

SCALE = 10.0
"""Angstrom in a unit of the network."""
_ALPHA = 1


def alphas(coords: Tensor) -> Tensor:
    """C-alpha atoms (B, L, 3) of `coords` (B, L, 4, 3), or of (B, L, 3), which are these already."""
    return coords if coords.shape[-2] == coords.shape[1] else coords[:, :, _ALPHA]


def lengths(batch: dict[str, Tensor]) -> Tensor:
    """Residues of each case, (B,): what "length" says, or else as far as atoms are known."""
    if "length" in batch:
        return batch["length"].long()
    there = alphas(batch["coords"]).isfinite().all(-1)
    return (there * torch.arange(1, there.shape[1] + 1, device=there.device)).amax(1)


def whole(batch: dict[str, Tensor]) -> Tensor:
    """Which cases are one chain without a missing C-alpha, (B,) bool."""
    there, count = alphas(batch["coords"]).isfinite().all(-1), lengths(batch)
    inside = torch.arange(there.shape[1], device=there.device) < count[:, None]
    complete = (there | ~inside).all(1)
    if "residues" not in batch:
        return complete
    names = batch["residues"][..., 0]
    return complete & ((names == names[:, :1]) | ~inside).all(1)


def chains(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """x (B, N, 3), 0 beyond a chain's end, and mask (B, N), 1 up to there; N is the longest chain's."""
    count = lengths(batch)
    x = alphas(batch["coords"])[:, : int(count.max())]
    mask = (torch.arange(x.shape[1], device=x.device) < count[:, None]).to(x)
    x = torch.where(mask[..., None] > 0, x, 0.0)
    mean = x.sum(1, keepdim=True) / count[:, None, None]
    return (x - mean) * mask[..., None] / SCALE, mask
