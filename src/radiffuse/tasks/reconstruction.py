"""Reconstruction: an image from a measurement, by a prior learned from images alone."""

from .base import Task

__all__ = ["RECONSTRUCTION"]

RECONSTRUCTION = Task(
    "reconstruction",
    reads=("image",),
    writes=("image", "magnitude", "unmeasured", "residual"),
    given=("kspace", "image"),
    raw=("magnitude", "unmeasured"),
)
"""Training reads images. Prediction reads k-space, or images whose measurement it simulates."""
