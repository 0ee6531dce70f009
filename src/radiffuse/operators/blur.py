"""Smoothing by a Gaussian."""

import math

import torch
from torch import Tensor

__all__ = ["blurred"]


def blurred(x: Tensor, fwhm: float) -> Tensor:
    """`(B, C, *S)` smoothed by a Gaussian of `fwhm` voxels (full width at half maximum), a point
    spread function; voxels beyond the border do not count. 0 leaves the image as it is."""
    if fwhm <= 0:
        return x
    std = fwhm / math.sqrt(8 * math.log(2))
    for axis in range(2, x.ndim):
        place = torch.arange(x.shape[axis], dtype=torch.float64)
        weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * std**2))
        weights = (weights / weights.sum(dim=1, keepdim=True)).to(x)
        x = torch.tensordot(x.movedim(axis, -1), weights, dims=([-1], [1])).movedim(-1, axis)
    return x
