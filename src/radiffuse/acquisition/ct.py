"""Transmission tomography: line integrals with photon noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.noise import derive
from ..errors import UserError
from ..inverse import Measurement
from ..operators import Fan, Mask, Parallel, Radon, fbp, views
from ..operators.tomography import hann
from .base import Acquired

__all__ = ["CT"]


@dataclass(frozen=True)
class CT:
    r"""Transmission tomography with photon noise.

    $N \sim \mathrm{Poisson}(I_0 e^{-a p})$, $p = A x$ in pixel lengths; the line integrals $-\log(N/I_0)/a$
    have variance $1/(a^2 N)$. y and A both carry the weights $\sqrt{N/I_0}$, which make the noise white
    with standard deviation $1/(a\sqrt{I_0})$.

    Attributes:
        views: number of angles, over 180 degrees (parallel) or 360 (fan).
        beam: the geometry.
        photons: I_0, photons a detector element and view.
        absorption: a times the width of the image: the largest line integral in nepers.
    """

    views: int = 20
    beam: Literal["parallel", "fan"] = "parallel"
    photons: float = 1e5
    absorption: float = 4.0

    def geometry(self, size: tuple[int, ...]) -> Parallel | Fan:
        """The rays for images of `size` (the last two axes).

        Raises:
            UserError: fewer than 2 views.
        """
        if self.views < 2:
            raise UserError(f"{self.views} views are too few for tomography: give 2 at least")
        plane = (size[-2], size[-1])
        if self.beam == "parallel":
            return Parallel(plane, views(self.views))
        return Fan(plane, views(self.views, 2 * math.pi), distance=2.0 * max(plane))

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired:
        """Measure images (B, C, *, H, W) in [0, 1]."""
        geometry = self.geometry(tuple(image.shape[2:]))
        radon = Radon(geometry)
        a = self.absorption / max(geometry.size)
        rate = self.photons * torch.exp(-a * radon(image).cpu().double())
        counted = torch.stack(
            [
                torch.poisson(row, generator=torch.Generator().manual_seed(derive(seed, "photons")))
                for row, seed in zip(rate, seeds, strict=True)
            ]
        ).clamp(min=1)
        sinogram = (-torch.log(counted / self.photons) / a).to(image)
        least = 1 / (a * math.sqrt(self.photons))
        weights = (counted / self.photons).sqrt().to(image)

        def back(y: Tensor) -> Tensor:
            return fbp(y / weights, geometry, hann)

        share = torch.full((len(image),), math.prod(geometry.size) / sinogram[0].numel())
        measurement = Measurement(weights * sinogram, Mask(weights) @ radon, least)
        return Acquired(measurement, back(measurement.y), torch.ones(len(image)), share, back)
