"""How far the borders of two structures lie apart: Hausdorff distance and surface Dice."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["hausdorff", "surface_dice", "surface_distances"]


def surface_distances(
    a: Tensor, b: Tensor, spacing: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """From each border voxel of a to the nearest of b, and from b to a, in units of `spacing`.

    A border voxel belongs to the structure and has a neighbour (sharing a face) that does not;
    beyond the picture's edge nothing does. Empty arrays where a or b is empty.

    Args:
        a, b: bool (*S).
        spacing: distance between neighbours along each axis.
    """
    from scipy.ndimage import distance_transform_edt

    borders = [_border(each.cpu().numpy().astype(bool)) for each in (a, b)]
    if not all(border.any() for border in borders):
        return np.zeros(0), np.zeros(0)
    to_a, to_b = (distance_transform_edt(~border, sampling=tuple(spacing)) for border in borders)
    return to_b[borders[0]], to_a[borders[1]]


def _absent(a: Tensor, b: Tensor) -> bool:
    return not bool(a.any()) and not bool(b.any())


def _border(structure: np.ndarray) -> np.ndarray:
    from scipy.ndimage import binary_erosion

    return structure & ~binary_erosion(structure)


def hausdorff(a: Tensor, b: Tensor, spacing: Sequence[float], share: float = 0.95) -> float:
    """The larger of both directions' `share` quantile of surface distances (HD95; 1: Hausdorff).

    NaN where both are empty. Where one alone is empty there is no distance: the picture's diagonal
    stands for it, so that a missed structure is not left out of the mean.

    Args:
        a, b, spacing: as in `surface_distances`.
    """
    if _absent(a, b):
        return math.nan
    there, back = surface_distances(a, b, spacing)
    if not len(there):
        sides = [n * step for n, step in zip(a.shape, spacing, strict=True)]
        return float(np.linalg.norm(sides))
    return float(max(np.quantile(there, share), np.quantile(back, share)))


def surface_dice(a: Tensor, b: Tensor, spacing: Sequence[float], tolerance: float) -> float:
    """Share of both borders' voxels within `tolerance` of the other border (Nikolov et al. 2021).

    NaN where both are empty, 0 where one is. Border voxels are counted, not areas.

    Args:
        a, b, spacing: as in `surface_distances`.
    """
    if _absent(a, b):
        return math.nan
    distances = np.concatenate(surface_distances(a, b, spacing))
    if not len(distances):
        return 0.0
    near = distances <= tolerance + 1e-9
    return float(torch.from_numpy(near).double().mean())
