"""Reconstruction: an image from a measurement, by a prior learned from images alone, or from measurements."""

from dataclasses import replace

from ..task import Task

__all__ = ["RECONSTRUCTION", "WITHOUT_REFERENCES"]

RECONSTRUCTION = Task(
    "reconstruction",
    reads=("image",),
    writes=("image", "unmeasured", "unexplained", "residual", "acceleration"),
    given=("kspace", "image"),
    raw=("magnitude", "expected", "unmeasured", "unexplained", "deviation"),
    intervals=("image", "magnitude"),
    evaluation="radiffuse.applications.reconstruction.evaluate:evaluate_reconstruction",
    title="Reconstruction",
    shown=(
        *("psnr", "ssim", "nmse", "psnr_sample", "psnr_mean_of_draws", "crps"),
        *("coverage90", "coverage90_conformal", "coverage90_body", "coverage90_body_conformal"),
    ),
    page="radiffuse.applications.reconstruction.page:section",
)
"""Training reads images. Prediction reads k-space, and writes "magnitude" in its units instead of
"image", or images whose measurement it simulates. Where the solver says it, "expected"
is what a draw's chain tells of the posterior's mean."""

WITHOUT_REFERENCES = replace(
    RECONSTRUCTION,
    reads=(),
    optional=("image", "kspace"),
    beside=True,
    evaluation="radiffuse.applications.reconstruction.unreferenced.evaluate:evaluate_without_references",
)
"""The same for a method that trains on undersampled scans: k-space, or images that are measured first."""
