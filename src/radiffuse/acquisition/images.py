"""Measurements that are images themselves: of lower resolution, noisy, or with holes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from ..diffusion.noise import Seeded, derive
from ..inverse import Measurement, RicianMeasurement
from ..operators import BlockMean, Identity, Mask
from .base import Acquired

__all__ = ["Holes", "LowResolution", "Noisy"]


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


@dataclass(frozen=True)
class Holes:
    """Images of which a part was lost: y = m x + m n, m one mask for all channels.

    Attributes:
        hole: "pixels", each lost by itself; "box", one box with sides of equal share at a random place.
        lost: share of the pixels, in (0, 1).
        noise: standard deviation of n.
    """

    hole: Literal["pixels", "box"] = "pixels"
    lost: float = 0.5
    noise: float = 0.0

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired:
        """Measure images (B, C, *S) in [0, 1]; the plain reconstruction takes the nearest pixel."""
        size = tuple(image.shape[2:])
        kept = torch.stack([self._kept(size, derive(seed, "hole")) for seed in seeds])
        operator = Mask(kept.to(image.device))
        n = Seeded(derive(seed, "noise") for seed in seeds)(image)
        y = operator(image + self.noise * n)
        nearest = [_nearest(one, mask[0]) for one, mask in zip(y, kept, strict=True)]
        share, ones = 1 / kept.flatten(1).float().mean(1), torch.ones(len(image))
        measurement = Measurement(y, operator, self.noise)
        return Acquired(measurement, torch.stack(nearest), ones, share, operator.adjoint)

    def _kept(self, size: tuple[int, ...], seed: int) -> Tensor:
        """(1, *S), boolean; one pixel at least is kept, and one lost."""
        draw = np.random.default_rng(seed)
        if self.hole == "pixels":
            order = torch.from_numpy(draw.permutation(int(np.prod(size)))).reshape(1, *size)
            return order >= min(max(1, round(self.lost * order.numel())), order.numel() - 1)
        kept = torch.ones(1, *size, dtype=torch.bool)
        share = self.lost ** (1 / len(size))
        sides = [min(max(1, round(share * n)), n - 1) for n in size]
        corner = [int(draw.integers(n - side + 1)) for n, side in zip(size, sides, strict=True)]
        kept[0][tuple(slice(a, a + side) for a, side in zip(corner, sides, strict=True))] = False
        return kept


def _nearest(image: Tensor, kept: Tensor) -> Tensor:
    """An image (C, *S) whose lost pixels have the value of the nearest that was kept, (*S)."""
    places = distance_transform_edt(~kept.numpy(), return_distances=False, return_indices=True)
    return image[(slice(None), *torch.from_numpy(places).to(image.device))]
