"""Segmentation by a network that has seen made pairs alone."""

from ...task import Task

__all__ = ["SYNTHETIC"]

SYNTHETIC = Task(
    "synthetic",
    reads=("image", "mask"),
    optional=("tissue", "shares"),
    writes=("mask", "probability", "expected"),
    given=("image",),
    raw=("probability", "expected"),
    evaluation="radiffuse.applications.segmentation.synthetic.evaluate:evaluate_synthetic",
    title="Segmentation from made pairs",
    shown=("dice", "hd95", "surface_dice", "ece"),
    page="radiffuse.applications.segmentation.synthetic.page:section",
)
"""Reads "image" (B, C, *S) in [-1, 1], "mask" int64 (B, 1, *S), the labels 1 to L that are segmented, and, where the
data have it, all else: "tissue" int64 (B, 1, *S), 0 outside, or "shares" (B, 1 + T, *S), of every voxel as an image,
outside first. Writes as segmentation does; there is one answer, so "expected" is "probability"."""
