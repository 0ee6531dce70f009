r"""Morphology of one shape: volume, surface, roughness, and what a classifier of shapes is told.

A shape is bool (*S), three axes; lengths are in units of `spacing`. The surface is that of marching cubes
(Lorensen & Cline 1987) at the level 1/2 of the voxels, slightly smoothed, for the stairs of voxels would add to it:
a ball of 10 voxels' radius has its area within 1 % so.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["FEATURES", "features", "roughness", "surface", "volume"]

FEATURES = (
    *("volume", "surface", "sphericity", "roughness", "convexity"),
    *("longest", "middle", "shortest", "box_1", "box_2", "box_3"),
)
"""What `features` gives, in order."""
_STAIRS, _BUMPS = 0.7, 2.0
"""Deviations (voxels) of the Gaussians that even the stairs of voxels, and the bumps of a surface."""


def volume(shape: Tensor, spacing: Sequence[float]) -> float:
    """Voxels inside times the volume of one."""
    return float(shape.sum()) * math.prod(spacing)


def surface(shape: Tensor, spacing: Sequence[float]) -> float:
    """Area of the surface; 0 of an empty shape. A shape that touches the edge of its volume is closed there."""
    from skimage.measure import marching_cubes, mesh_surface_area

    if not bool(shape.any()):
        return 0.0
    field = _smoothed(_padded(shape), _STAIRS)
    if field.max() <= 0.5:  # a voxel alone
        field = _padded(shape)
    corners, faces, _, _ = marching_cubes(field, 0.5, spacing=tuple(spacing))
    return float(mesh_surface_area(corners, faces))


def roughness(shape: Tensor, spacing: Sequence[float]) -> float:
    r"""Mean distance of the surface from a smoothed one: $|A\,\triangle\,A_\sigma|\,v / \text{surface}$.

    $A_\sigma$ is the shape smoothed by a Gaussian of 2 voxels and cut at 1/2, v the volume of a voxel. 0 of an
    empty shape.
    """
    area = surface(shape, spacing)
    if not area:
        return 0.0
    own = _padded(shape)
    changed = (_smoothed(own, _BUMPS) > 0.5) != (own > 0.5)
    return float(changed.sum()) * math.prod(spacing) / area


def features(shape: Tensor, spacing: Sequence[float]) -> Tensor:
    r"""`FEATURES` (11,) float64 of one shape; zeros of an empty one.

    Sphericity is $\pi^{1/3}(6V)^{2/3}/A$, convexity the volume over that of the convex hull, longest, middle and
    shortest are the deviations of the voxels along their principal axes, and the box is that of the volume's axes,
    its sides sorted: what a turn by a right angle changes is no feature.
    """
    if not bool(shape.any()):
        return torch.zeros(len(FEATURES), dtype=torch.float64)
    v, a = volume(shape, spacing), surface(shape, spacing)
    places = np.argwhere(shape.cpu().numpy()) * np.asarray(spacing)
    low, high = places.min(0), places.max(0) + np.asarray(spacing)
    centred = places - places.mean(0)
    axes = np.sqrt(np.linalg.eigvalsh(centred.T @ centred / len(places)).clip(0))[::-1]
    hull = _hull(shape, spacing)
    sphericity = math.pi ** (1 / 3) * (6 * v) ** (2 / 3) / a
    box = sorted((high - low).tolist(), reverse=True)
    numbers = [v, a, sphericity, roughness(shape, spacing), v / hull, *axes.tolist(), *box]
    return torch.tensor(numbers, dtype=torch.float64)


def _hull(shape: Tensor, spacing: Sequence[float]) -> float:
    """Volume of the convex hull of the voxels' corners."""
    from scipy.spatial import ConvexHull

    places = np.argwhere(_rim(shape.cpu().numpy()))
    corners = np.concatenate([places + np.asarray(step) for step in np.ndindex(*[2] * shape.ndim)])
    return float(ConvexHull(np.unique(corners, axis=0) * np.asarray(spacing)).volume)


def _rim(shape: np.ndarray) -> np.ndarray:
    """Voxels at the ends of their row along the last axis: no other has a corner of the hull."""
    inside = np.pad(shape, [(0, 0)] * (shape.ndim - 1) + [(1, 1)])
    return shape & ~(inside[..., :-2] & inside[..., 2:])


def _padded(shape: Tensor) -> np.ndarray:
    """The shape as 0 and 1 with enough empty space around it for the Gaussians."""
    places = shape.nonzero()
    inside = shape[tuple(slice(int(a), int(b) + 1) for a, b in zip(*_ends(places), strict=True))]
    return np.pad(inside.cpu().numpy().astype(np.float32), round(4 * _BUMPS))


def _ends(places: Tensor) -> tuple[list[int], list[int]]:
    return places.amin(0).tolist(), places.amax(0).tolist()


def _smoothed(field: np.ndarray, deviation: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(field, deviation)
