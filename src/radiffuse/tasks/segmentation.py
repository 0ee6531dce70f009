"""Segmentation: the label of every voxel, drawn as often as one likes."""

from .base import Task

__all__ = ["SEGMENTATION"]

SEGMENTATION = Task(
    "segmentation",
    reads=("image", "mask"),
    writes=("mask", "probability"),
    given=("image",),
    raw=("probability",),
)
"""Writes "mask" int64 (B, 1, *S), labels 0 (background) to L; "probability" (B, L, *S), that of the
labels 1 to L. Both are of one draw: several draws make an ensemble."""
