"""Reconstruction: an image from a measurement, by a prior learned from images alone."""

from .base import Task

__all__ = ["RECONSTRUCTION"]

RECONSTRUCTION = Task(
    "reconstruction",
    reads=("image",),
    writes=("image", "unmeasured", "residual"),
    given=("kspace", "image"),
    raw=("magnitude", "unmeasured", "deviation"),
)
"""Training reads images. Prediction reads k-space, and writes "magnitude" in its units instead of
"image", or images whose measurement it simulates."""
