"""How far drawn shapes are from the true one, case by case and per patient."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from ....metrics.calibration import crps
from ....metrics.classification import bootstrap
from ....metrics.estimate import Metric, average_per_patient
from ....metrics.morphology import roughness, surface, volume
from .pictures import depth_first, thickness

__all__ = ["iou", "measure", "morphology"]

_MORPHOLOGY = {"volume": volume, "surface": surface, "roughness": roughness}


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Voxels in both over voxels in either (n,), of bool (n, *); 1 where both are empty."""
    both, either = (
        (f(a, b)).flatten(1).sum(1).double() for f in (torch.logical_and, torch.logical_or)
    )
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)


def _dice(a: Tensor, b: Tensor) -> Tensor:
    both = (a & b).flatten(1).sum(1).double()
    return 2 * both / (a.flatten(1).sum(1) + b.flatten(1).sum(1)).clamp_min(1)


def morphology(shapes: Tensor, spacings: Sequence[Sequence[float]]) -> dict[str, Tensor]:
    """Volume, surface and roughness (n,) float64 of shapes (n, 1, *S), bool."""
    return {
        name: torch.tensor(
            [of(shape[0], step) for shape, step in zip(shapes, spacings, strict=True)],
            dtype=torch.float64,
        )
        for name, of in _MORPHOLOGY.items()
    }


def measure(
    draws: Tensor,
    truth: Tensor,
    patients: Sequence[str],
    spacings: Sequence[Sequence[float]],
    axis: int,
) -> dict[str, Metric]:
    r"""Measures of K shapes a case against the truth, each the mean over the draws where nothing else is said.

    `iou`; `volume_error`, `surface_error` and `roughness_error`, $|x - x^*|/x^*$; `roughness_ratio`, $x/x^*$,
    less than 1 where shapes are too smooth; `silhouette_dice`, of the projections along `axis`; `volume_crps`,
    the continuous ranked probability score of the volume over the true one, of one shape its error. Of several
    draws also `pairwise_iou`, between draws, and `spread_over_error`,
    $\sqrt{(1 + 1/K)\,\overline{s^2}} / \sqrt{\overline{(\bar x - x^*)^2}}$ of the volume: 1 where draws spread as far
    as their mean is wrong.

    Args:
        draws: bool (K, n, 1, *S).
        truth: bool (n, 1, *S).
        patients, spacings: of the n cases.
        axis: that pictures look along.
    """
    true = morphology(truth, spacings)
    each = [morphology(shapes, spacings) for shapes in draws]
    found = {"iou": torch.stack([iou(shapes, truth) for shapes in draws]).mean(0)}
    for name, its in true.items():
        ratio = torch.stack([one[name] for one in each]) / its
        found[f"{name}_error"] = (ratio - 1).abs().mean(0)
        if name == "roughness":
            found["roughness_ratio"] = ratio.mean(0)
    seen = thickness(depth_first(truth, axis)) > 0
    projected = [thickness(depth_first(shapes, axis)) > 0 for shapes in draws]
    found["silhouette_dice"] = torch.stack([_dice(one, seen) for one in projected]).mean(0)
    relative = torch.stack([one["volume"] for one in each]) / true["volume"]
    if len(draws) > 1:
        found["volume_crps"] = crps(relative[..., None], torch.ones_like(true["volume"])[:, None])
        pairs = [iou(draws[i], draws[j]) for i, j in combinations(range(len(draws)), 2)]
        found["pairwise_iou"] = torch.stack(pairs).mean(0)
    else:
        found["volume_crps"] = (relative[0] - 1).abs()
    made = {name: average_per_patient(values.tolist(), patients) for name, values in found.items()}
    if len(draws) > 1:
        volumes = torch.stack([one["volume"] for one in each])
        spread = _SpreadOverError(volumes, true["volume"])
        made |= bootstrap({"spread_over_error": spread}, patients)
    return made


class _SpreadOverError:
    """Weights (R, n) -> (R,); see `measure`.

    Args:
        volumes: of the draws (K, n).
        true: of the truth (n,).
    """

    def __init__(self, volumes: Tensor, true: Tensor) -> None:
        self.spread = (1 + 1 / len(volumes)) * volumes.var(0)
        self.error = (volumes.mean(0) - true) ** 2

    def __call__(self, weights: Tensor) -> Tensor:
        return torch.sqrt((weights @ self.spread) / (weights @ self.error))
