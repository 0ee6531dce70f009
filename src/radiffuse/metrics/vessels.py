"""How well vessels were found, inside a field of view: overlap, ranking of voxels, and centrelines."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["best_threshold", "centreline_dice", "found", "ranked"]


def found(mask: Tensor, truth: Tensor, inside: Tensor) -> dict[str, float]:
    """ "dice", "sensitivity" and "precision" of one case; NaN where there is nothing to divide by.

    Args:
        mask, truth, inside: bool (*S); voxels outside are left out.
    """
    a, b = mask[inside], truth[inside]
    both, of_mask, of_truth = (float(n) for n in ((a & b).sum(), a.sum(), b.sum()))
    return {
        "dice": _ratio(2 * both, of_mask + of_truth),
        "sensitivity": _ratio(both, of_truth),
        "precision": _ratio(both, of_mask),
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def centreline_dice(mask: Tensor, truth: Tensor, inside: Tensor) -> float:
    r"""$2 T_p T_s/(T_p + T_s)$ (clDice, Shit et al. 2021): shares of the centreline of each that lies in the other.

    Args:
        mask, truth, inside: bool (*S), two or three axes. NaN where both are empty.
    """
    from skimage.morphology import skeletonize

    a, b = ((each & inside).cpu().numpy() for each in (mask, truth))
    if not a.any() and not b.any():
        return float("nan")
    if not a.any() or not b.any():
        return 0.0
    one, other = skeletonize(a) > 0, skeletonize(b) > 0
    precise, sensitive = float(b[one].mean()), float(a[other].mean())
    return _ratio(2 * precise * sensitive, precise + sensitive)


def ranked(score: Tensor, truth: Tensor, inside: Tensor) -> float:
    """Area under the ROC curve of voxels: how often a vessel's scores above another's; NaN if all are of one kind."""
    from sklearn.metrics import roc_auc_score

    wanted, told = truth[inside].cpu().numpy(), score[inside].double().cpu().numpy()
    if wanted.all() or not wanted.any():
        return float("nan")
    return float(roc_auc_score(wanted, told))


def best_threshold(score: Tensor, truth: Tensor, inside: Tensor, levels: int = 256) -> float:
    """The threshold above which voxels of all cases together have the highest Dice, of `levels` quantiles."""
    told, wanted = score[inside].double(), truth[inside].double()
    order = told.argsort(descending=True)
    told, hits = told[order], wanted[order].cumsum(0)
    places = torch.tensor(np.linspace(1, len(told), levels).round().astype(int) - 1).unique()
    dice = 2 * hits[places] / (places + 1 + wanted.sum())
    place = int(places[dice.argmax()])
    after = min(place + 1, len(told) - 1)
    return float((told[place] + told[after]) / 2)
