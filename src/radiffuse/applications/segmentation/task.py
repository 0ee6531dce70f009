"""Segmentation: the label of every voxel, drawn as often as one likes."""

from ..task import Task

__all__ = ["SEGMENTATION"]

SEGMENTATION = Task(
    "segmentation",
    reads=("image", "mask"),
    writes=("mask", "probability", "expected"),
    given=("image",),
    raw=("probability", "expected"),
    evaluation="radiffuse.applications.segmentation.evaluate:evaluate_segmentation",
    title="Segmentation",
    shown=(
        *("dice", "hd95", "surface_dice", "generalised_energy", "ece"),
        "uncertainty_error_correlation",
    ),
)
"""Writes "mask" int64 (B, 1, *S), labels 0 (background) to L; "probability" (B, L, *S), that of the
labels 1 to L. Both are of one draw: several draws make an ensemble. "expected", like "probability", is what
the draw's chain tells of the ensemble's probability; its mean over draws is the estimate of it."""
