"""Transmission tomography: line integrals with photon noise, and with metal in their way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from ..diffusion.noise import derive
from ..errors import UserError
from ..inverse import Measurement
from ..operators import Fan, Mask, Parallel, Radon, fbp, views
from ..operators.tomography import hann
from .base import Acquired

__all__ = ["CT"]

MOST_METAL = 0.25
"""Share of an image from which on metal is taken for a mistake."""


@dataclass(frozen=True)
class CT:
    r"""Transmission tomography with photon noise.

    $N \sim \mathrm{Poisson}(I_0 e^{-a p})$, $p = A x$ in pixel lengths; the line integrals $-\log(N/I_0)/a$
    have variance $1/(a^2 N)$. y and A both carry the weights $\sqrt{N/I_0}$, which make the noise white
    with standard deviation $1/(a\sqrt{I_0})$.

    Rays through metal measure nothing: their weight is 0, so that no value of y or of A x depends on what
    lies inside the metal. The plain reconstruction interpolates along the detector there (Kalender et al. 1987).

    Attributes:
        views: number of angles, over 180 degrees (parallel) or 360 (fan).
        beam: the geometry.
        photons: I_0, photons a detector element and view.
        absorption: a times the width of the image: the largest line integral in nepers.
        implants: metal discs put into each image, where it is bright.
        metal: voxels above this value are metal, and those beside them; 0 = none.
    """

    views: int = 20
    beam: Literal["parallel", "fan"] = "parallel"
    photons: float = 1e5
    absorption: float = 4.0
    implants: int = 0
    metal: float = 0.0

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
        """Measure images (B, C, *, H, W) in [0, 1].

        Raises:
            UserError: fewer than 2 views, or more metal than a body has.
        """
        geometry = self.geometry(tuple(image.shape[2:]))
        radon = Radon(geometry)
        a = self.absorption / max(geometry.size)
        metal = self.inside(image, seeds).to(image.device)
        if float(most := metal.flatten(1).float().mean(1).max()) > MOST_METAL:
            raise UserError(
                f"{most:.0%} of an image would be metal: set implants lower, or metal higher"
            )
        seen = radon(metal.to(image)) == 0
        rate = self.photons * torch.exp(-a * radon(image.masked_fill(metal, 0.0)).cpu().double())
        counted = torch.stack(
            [
                torch.poisson(row, generator=torch.Generator().manual_seed(derive(seed, "photons")))
                for row, seed in zip(rate, seeds, strict=True)
            ]
        ).clamp(min=1)
        sinogram = (-torch.log(counted / self.photons) / a).to(image)
        least = 1 / (a * math.sqrt(self.photons))
        weights = (counted / self.photons).sqrt().to(image) * seen
        divisor = torch.where(seen, weights, 1.0)

        def back(y: Tensor) -> Tensor:
            return fbp(y / divisor, geometry, hann)

        measurement = Measurement(weights * sinogram, Mask(weights) @ radon, least)
        first = fbp(_bridged(measurement.y / divisor, seen), geometry, hann)
        share = image[0].numel() / seen.flatten(1).sum(1).cpu()
        return Acquired(measurement, first, torch.ones(len(image)), share, back)

    def inside(self, image: Tensor, seeds: Sequence[int]) -> Tensor:
        """Where images (B, C, *, H, W) are metal, boolean."""
        found = np.zeros(tuple(image.shape), dtype=bool)
        known = image.cpu().numpy()
        if self.metal:
            beside = np.ones((*[1] * (image.ndim - 2), 3, 3), dtype=bool)
            found |= binary_dilation(known > self.metal, beside)
        for row, seed in enumerate(seeds if self.implants else ()):
            draw = np.random.default_rng(derive(seed, "implants"))
            for _ in range(self.implants):
                found[row] |= _disc(known[row], draw)
        return torch.from_numpy(found)


def _disc(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """A disc of 2 to 4 % of the shorter side, at a random place where the image (C, *, H, W) is bright."""
    plane = image.mean(axis=tuple(range(image.ndim - 2)))
    height, width = plane.shape
    y, x = draw.choice(np.argwhere(plane >= plane.mean()))
    radius = draw.uniform(0.02, 0.04) * min(height, width)
    rows, columns = np.ogrid[:height, :width]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def _bridged(sinogram: Tensor, seen: Tensor) -> Tensor:
    """A sinogram (B, C, *, views, detectors), each view interpolated linearly where it was not seen."""
    if bool(seen.all()):
        return sinogram
    at = np.arange(sinogram.shape[-1])
    known = seen.reshape(-1, len(at)).cpu().numpy()
    filled = sinogram.reshape(-1, len(at)).cpu().numpy().copy()
    for row, kept in zip(filled, known, strict=True):
        row[~kept] = np.interp(at[~kept], at[kept], row[kept]) if kept.any() else 0.0
    return torch.from_numpy(filled).reshape(sinogram.shape).to(sinogram)
