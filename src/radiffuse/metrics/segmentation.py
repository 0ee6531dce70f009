"""Label maps that come as draws or probabilities: distance of the laws, calibration, doubt and error."""

import torch
from torch import Tensor

from ..diffusion.label_maps import distribution
from .classification import ece

__all__ = ["doubt_of", "errors_in_doubtful_tenth", "generalised_energy", "voxel_ece"]


def generalised_energy(draws: Tensor, references: Tensor, labels: int) -> Tensor:
    r"""$2E[d(S,Y)] - E[d(S,S')] - E[d(Y,Y')]$ with d = 1 - IoU, per case, (B,).

    Means over all pairs, equal ones too (Kohl et al. 2018). d is the mean over labels 1 to
    `labels`; a label in neither map counts as agreement. With one reference the last term is 0.

    Args:
        draws: label maps (K, B, 1, *S).
        references: label maps (M, B, 1, *S).
    """
    return (
        2 * _distance(draws, references, labels)
        - _distance(draws, draws, labels)
        - _distance(references, references, labels)
    )


def _distance(one: Tensor, other: Tensor, labels: int) -> Tensor:
    """Mean of 1 - IoU over pairs and labels, (B,)."""
    total = torch.zeros(one.shape[1], dtype=torch.float64, device=one.device)
    for label in range(1, labels + 1):
        a, b = ((each == label).flatten(2).double() for each in (one, other))
        both = torch.einsum("kbv,mbv->kmb", a, b)
        either = a.sum(2)[:, None] + b.sum(2)[None] - both
        total += torch.where(either > 0, 1 - both / either.clamp_min(1), 0.0).mean((0, 1))
    return total / labels


def voxel_ece(foreground: Tensor, mask: Tensor) -> float:
    """Expected calibration error (`classification.ece`) over all voxels, background included.

    Args:
        foreground: (B, L, *S).
        mask: the truth (B, 1, *S).
    """
    probability = distribution(foreground.double()).movedim(1, -1).flatten(0, -2)
    return float(ece(probability.cpu(), mask.flatten().cpu()))


def doubt_of(foreground: Tensor) -> Tensor:
    """p (1 - p) summed over all labels, (B, 1, *S): the doubt of one network's probabilities."""
    p = distribution(foreground)
    return (p * (1 - p)).sum(1, keepdim=True)


def errors_in_doubtful_tenth(doubt: Tensor, wrong: Tensor) -> float:
    """Share of the wrong voxels that lie in the tenth of greatest doubt; NaN where none is wrong."""
    flat, errors = doubt.flatten(), wrong.flatten().double()
    top = flat.argsort(descending=True, stable=True)[: max(1, len(flat) // 10)]
    return float(errors[top].sum() / errors.sum())
