"""The power spectrum of images."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["power", "power_on", "radius", "rings"]

BINS = 32
"""Radial frequencies at which a spectrum is measured."""
AT_ONCE = 1 << 20
"""Voxels, or values of frequencies, in one part of the work."""
LEAST = 1e-6
"""Smallest power, so that no frequency is divided by zero."""


def radius(size: Sequence[int], half: bool) -> Tensor:
    """Frequencies of the Fourier transform of real images, cycles a voxel, (*S) or its half."""
    axes = [torch.fft.fftfreq(side, dtype=torch.float64) for side in size]
    if half:
        axes[-1] = torch.fft.rfftfreq(size[-1], dtype=torch.float64)
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([axis.square() for axis in grid]).sum(0).sqrt()


def rings(size: Sequence[int], count: int) -> Tensor:
    """The ring 0 .. count - 1 of each frequency of the whole transform, (*S) int64; of equal width."""
    at = radius(size, half=False) / (math.sqrt(len(size)) / 2)
    return (at * count).long().clamp(max=count - 1)


def power(images: Tensor) -> tuple[float, ...]:
    """The spectrum of images (N, C, *S): the square of their mean, then the power of radial frequencies.

    Power is |Fourier transform|^2 / voxels, averaged over images, channels and rings of equal
    width from 0 to sqrt(axes) / 2 cycles a voxel; white noise of deviation s has s^2 everywhere.
    """
    size = tuple(images.shape[2:])
    square = _mean_squares(images) / math.prod(size)
    ring, square = rings(size, BINS).flatten()[1:], square.flatten()
    sums = torch.zeros(BINS, dtype=torch.float64).index_add(0, ring, square[1:])
    count = torch.bincount(ring, minlength=BINS)
    centres = (np.arange(BINS) + 0.5) / BINS
    there = (count > 0).numpy()
    mean = float(square[0]) / math.prod(size)
    if not there.any():
        return (mean, *[LEAST] * BINS)
    logs = (sums[count > 0] / count[count > 0]).clamp_min(LEAST).log().numpy()
    levels = np.exp(np.interp(centres, centres[there], logs))
    return (mean, *(float(f"{value:.4g}") for value in levels))


def _mean_squares(images: Tensor) -> Tensor:
    """Mean of |Fourier transform|^2 over images (N, C, *S) and their channels, (*S) float64.

    A few images, and then a few frequencies, at a time: the rest of a sample of volumes is not needed.
    """
    count, channels, *size = images.shape
    axes, voxels = tuple(range(1, len(size) + 1)), math.prod(size)
    flat = images.reshape(count * channels, *size)
    squares = torch.empty(count * channels, voxels)
    step = max(1, AT_ONCE // voxels)
    for first in range(0, len(flat), step):
        part = torch.fft.fftn(flat[first : first + step].float(), dim=axes)
        squares[first : first + step] = part.abs().square().flatten(1)
    squares = squares.reshape(count, channels, voxels)
    step = max(1, AT_ONCE // (count * channels))
    means = [part.double().mean((0, 1)) for part in squares.split(step, dim=2)]
    return torch.cat(means).reshape(size)


def power_on(values: Sequence[float], size: Sequence[int]) -> Tensor:
    """The power of a measured spectrum on the grid of `torch.fft.rfftn` of images of `size`, float64."""
    rings = np.array(values[1:])
    centres = (np.arange(len(rings)) + 0.5) / len(rings)
    at = radius(size, half=True) / (math.sqrt(len(size)) / 2)
    found = torch.from_numpy(np.exp(np.interp(at.numpy(), centres, np.log(rings))))
    found.flatten()[0] = values[0] * math.prod(size)
    return found.clamp_min(LEAST)
