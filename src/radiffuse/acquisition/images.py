"""Measurements that are images themselves: of lower resolution, or noisy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.noise import Seeded, derive
from ..inverse import Measurement, RicianMeasurement
from ..operators import BlockMean, Identity
from .base import Acquired

__all__ = ["LowResolution", "Noisy"]


@dataclass(frozen=True)
class LowResolution:
    """Images at a lower resolution: means over blocks.

    Attributes:
        factor: side of a block, one number for every axis.
        noise: standard deviation of the noise in the small image.
    """

    factor: int = 2
    noise: float = 0.0

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired:
        """Measure images (B, C, *S) in [0, 1]."""
        axes = image.dim() - 2
        operator = BlockMean((self.factor,) * axes)
        small = operator(image)
        y = small + self.noise * Seeded(derive(seed, "noise") for seed in seeds)(small)
        return self.read(y)

    def read(self, y: Tensor) -> Acquired:
        """Take small images (B, C, *S)."""
        operator = BlockMean((self.factor,) * (y.dim() - 2))
        block = self.factor ** (y.dim() - 2)

        def back(y: Tensor) -> Tensor:
            return block * operator.adjoint(y)

        share, ones = torch.full((len(y),), float(block)), torch.ones(len(y))
        return Acquired(Measurement(y, operator, self.noise), back(y), ones, share, back)


@dataclass(frozen=True)
class Noisy:
    r"""Images with additive Gaussian noise, or Rician: $|x + n_1 + i n_2|$.

    Attributes:
        noise: standard deviation s of n.
        law: of the noise.
    """

    noise: float = 0.1
    law: Literal["gaussian", "rician"] = "gaussian"

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired:
        """Measure images (B, C, *S) in [0, 1]."""
        first = Seeded(derive(seed, "noise") for seed in seeds)
        second = Seeded(derive(seed, "noise", "imaginary") for seed in seeds)
        y = image + self.noise * first(image)
        if self.law == "rician":
            y = torch.hypot(y, self.noise * second(image))
        return self.read(y)

    def read(self, y: Tensor) -> Acquired:
        """Take noisy images (B, C, *S)."""
        ones = torch.ones(len(y))
        kind = RicianMeasurement if self.law == "rician" else Measurement
        measurement = kind(y, Identity(), self.noise)
        return Acquired(measurement, y, ones, ones, measurement.A.adjoint)
