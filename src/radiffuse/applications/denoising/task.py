"""Denoising: an image from a noisy one of the same anatomy."""

from ..task import Task

__all__ = ["DENOISING"]

DENOISING = Task(
    "denoising",
    reads=(),
    optional=("clean", "noisy", "mr"),
    writes=("denoised",),
    given=("noisy", "clean"),
    paired=("noisy", "clean", "mr"),
    alike=("noisy", "clean"),
    evaluation="radiffuse.applications.denoising.evaluate:evaluate_denoising",
    title="Denoising",
    shown=("psnr", "ssim", "cnr", "enl", "deviation_correlation"),
    page="radiffuse.applications.denoising.page:section",
)
"""A recipe says which of "clean", "noisy" and "mr" its training needs. Prediction takes "noisy", or
makes it from "clean" as the recipe's simulation says. "noisy" and "clean" lie on one grey scale."""

FROM_CLEAN = (
    "the images are taken for clean ones: noise is added to them, and the answer is made from that; --map "
    "noisy=COLUMN takes a column for images that are noisy themselves"
)
"""What a prediction from clean images says."""
