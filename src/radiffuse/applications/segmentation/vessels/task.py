"""Segmentation of vessels by a network that has seen no label."""

from ...task import Task

__all__ = ["VESSELS"]

VESSELS = Task(
    "vessels",
    reads=("image",),
    optional=("background", "fov_mask"),
    writes=("mask", "probability"),
    given=("image",),
    raw=("probability",),
    evaluation="radiffuse.applications.segmentation.vessels.evaluate:evaluate_vessels",
    title="Vessels without labels",
    shown=("dice", "auc", "cldice", "sensitivity", "precision"),
)
"""Reads "image" (B, C, *S) in [-1, 1]; where the data have them "background" (B, C, *S), pictures without vessels, of
whom does not matter, and "fov_mask" int64 (B, 1, *S), 1 inside the field of view. Writes "mask" int64 (B, 1, *S), 1
where a vessel is, and "probability" (B, 1, *S). "mask" is not read in training; evaluation compares with it."""
