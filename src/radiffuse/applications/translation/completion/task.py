"""Completion: whatever contrasts a case lacks, from those it has."""

from ...task import Task

__all__ = ["COMPLETION"]

COMPLETION = Task(
    "completion",
    reads=(),
    optional=("mask",),
    subset="contrasts",
    evaluation="radiffuse.applications.translation.completion.evaluate:evaluate_completion",
    beside=True,
    title="Missing contrasts",
    shown=("psnr", "ssim", "crps", "coverage_90", "psnr_single", "lesion_psnr"),
    page="radiffuse.applications.translation.completion.page:section",
)
"""Every image column is a contrast, grey, (B, 1, *S) in [-1, 1], under a name of the user's choice; all of a case
lie on one grid. "mask" marks lesions for the evaluation. A case to predict has at least one contrast and lacks at
least one; a key "KEY_given" (B,), 0 or 1, says which cases of a batch have KEY where not all have. Written is what a
case lacks."""
