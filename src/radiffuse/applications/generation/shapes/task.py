"""Shapes from pictures: a volume, inside and outside, from one picture of it."""

from ...task import Task

__all__ = ["SHAPES"]

SHAPES = Task(
    "shapes",
    reads=("mask",),
    optional=("picture", "picture_mask", "label"),
    writes=("mask", "expected"),
    given=("picture", "mask"),
    raw=("expected",),
    pictures=("picture", "picture_mask"),
    evaluation="radiffuse.applications.generation.shapes.evaluate:evaluate_shapes",
    title="Shapes from pictures",
    shown=(
        *("iou", "volume_error", "surface_error", "roughness_error", "silhouette_dice"),
        *("volume_crps", "spread_over_error", "pairwise_iou", "macro_f1", "macro_f1_gain"),
    ),
)
"""Reads "mask" int64 (B, 1, *S), 1 inside, and, where the data have pictures of it, "picture" (B, C, *P) in
[-1, 1] and "picture_mask" int64 (B, 1, *P), its silhouette. Writes "mask", one shape that fits, and "expected"
float (B, 1, *S) in [0, 1], the same shape before its threshold, whose mean over draws is the share inside."""
