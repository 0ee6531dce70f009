"""Cartesian MRI with coils and phase: simulated from images, or read from k-space."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..diffusion.noise import Seeded, derive
from ..errors import UserError
from ..inverse import Measurement
from ..operators import Coils, Fourier, LinearOperator, Mask, RealPart
from ..operators.coils import birdcage, espirit
from ..operators.masks import (
    Sampling,
    equispaced_columns,
    gaussian_columns,
    gaussian_points,
    poisson_disc,
    radial,
    uniform_columns,
    uniform_points,
)
from .base import Acquired
from .kspace import (
    Widths,
    calibration_widths,
    check_kspace,
    noise_level,
    rows,
    smooth_phase,
    windowed,
)
from .refine import refined

__all__ = ["MASKS", "MRI", "MaskName"]

MaskName = Literal[
    "gaussian-columns",
    "uniform-columns",
    "equispaced-columns",
    "gaussian-points",
    "uniform-points",
    "poisson-disc",
    "radial",
]
MASKS: dict[str, Callable[[tuple[int, ...], float, int, Iterable[int]], Sampling]] = {
    "gaussian-columns": gaussian_columns,
    "uniform-columns": uniform_columns,
    "equispaced-columns": equispaced_columns,
    "gaussian-points": gaussian_points,
    "uniform-points": uniform_points,
    "poisson-disc": poisson_disc,
    "radial": radial,
}


@dataclass(frozen=True)
class MRI:
    r"""Cartesian MRI, $y_k = M F c_k e^{i\varphi} x + n$.

    Sensitivities and the smooth phase $\varphi$ are estimated from the scan, as they have to be with a
    real one: from the calibration region (ESPIRiT, and the phase of the combined low-resolution
    image), then together with the image from all that was sampled (`refined`). The operator's maps
    hold both, so that x is real but for what the estimate misses.

    Attributes:
        mask: the sampling pattern.
        acceleration: points / sampled points.
        calibration: width of the sampled centre; 0 = 8 lines, or 16 x 16 points in two directions.
        coils: simulated coils; 1 has sensitivity 1 everywhere.
        noise: standard deviation of real and imaginary parts of k-space, where images reach 1.
        phase: standard deviation of the simulated phase in radians.
        real: whether the unknown image is real (else complex).
        demodulated: whether the operator's maps hold the estimated phase. Not for a complex unknown
            whose prior knows phases itself.
        refinements: turns of `refined`; 0 = maps of the calibration region alone.
        deviation: over the voxels of images that measured scans are scaled to, that of a prior's; 0 = no
            prior is known, images reach about 1.
    """

    mask: MaskName = "gaussian-columns"
    acceleration: float = 4.0
    calibration: int = 0
    coils: int = 8
    noise: float = 0.01
    phase: float = 1.0
    real: bool = True
    demodulated: bool = True
    refinements: int = 4
    deviation: float = 0.0

    @property
    def centre(self) -> int:
        """Width of the calibration region of a simulation."""
        return self.calibration or (8 if self.mask.endswith("columns") else 16)

    def simulate(self, image: Tensor, seeds: Sequence[int], scan: Sequence[int] = ()) -> Acquired:
        """Measure images (B, 1, *S) in [0, 1]; complex ones have their own phase.

        Args:
            image: to measure.
            seeds: of mask and noise, and of phase and coils.
            scan: of phase and coils, where other slices share them.

        Raises:
            UserError: a mask that cannot be, or images with more than one channel.
        """
        if image.shape[1] != 1:
            raise UserError(f"MRI is simulated from grey images, not {image.shape[1]} channels")
        size, scan = tuple(image.shape[2:]), scan or seeds
        sampling = MASKS[self.mask](
            size, self.acceleration, self.centre, [derive(seed, "mask") for seed in seeds]
        )
        phase = torch.ones((), dtype=torch.complex64)
        if not image.is_complex():
            phase = smooth_phase(size, self.phase, [derive(seed, "phase") for seed in scan])
        maps = torch.ones(len(image), 1, *size, dtype=torch.complex64)
        if self.coils > 1:
            maps = birdcage(size, self.coils, [derive(seed, "coils") for seed in scan])
        full = Fourier(len(size))(Coils(maps)(image.cpu() * phase))
        noise = Seeded(derive(seed, "noise") for seed in seeds)(full)
        kspace = Mask(sampling.mask)(full + self.noise * noise)
        return self._acquired(kspace, sampling.mask, self.noise, image)

    def read(self, kspace: Tensor) -> Acquired:
        """Take measured k-space (B, K, *S), centred, zero where nothing was sampled.

        The low-resolution image is scaled to `deviation`: a prior tells structure from noise by its contrast,
        and knows that of its training images. Without one its 99.5 % quantile becomes 0.9.

        Raises:
            UserError: k-space that is real, empty, not finite, not centred, or without calibration lines.
        """
        mask = check_kspace(kspace)
        centre = calibration_widths(mask, kspace.shape[1] > 1)
        low = Fourier(kspace.dim() - 2).adjoint(windowed(kspace, centre))
        bright = low.abs().square().sum(1).sqrt().flatten(1)
        if self.deviation:
            scale = bright.std(1) / self.deviation
        else:
            scale = torch.quantile(bright, 0.995, dim=1) / 0.9
        kspace = kspace / rows(scale, kspace)
        std = float(noise_level(kspace, mask))
        acquired = self._acquired(kspace, mask, std, kspace.real[:, :1])
        return replace(acquired, scale=scale)

    def _acquired(self, kspace: Tensor, mask: Tensor, std: float, like: Tensor) -> Acquired:
        rows = zip(kspace.split(1), mask.split(1), strict=True)
        several = kspace.shape[1] > 1
        maps = torch.cat([self._maps(y, calibration_widths(m, several)) for y, m in rows])
        if several or self.real:  # the phase of a complex image of one coil is its own
            maps = refined(maps, kspace, mask, std, self.real, self.refinements)
        axes = kspace.dim() - 2
        operator: LinearOperator = Mask(mask) @ Fourier(axes) @ Coils(maps)
        if self.real:
            operator = operator @ RealPart()
        y = kspace.to(like.device)
        ones = torch.ones(len(kspace))
        measured = mask.expand(len(kspace), *mask.shape[1:]).flatten(1).float().mean(1)
        measurement = Measurement(y, operator, std)
        first, back = operator.adjoint(y), operator.adjoint
        return Acquired(measurement, first, ones, 1 / measured, back, maps, mask)

    def _maps(self, kspace: Tensor, centre: Widths) -> Tensor:
        """Sensitivities times the phase of the low-resolution image."""
        kspace = kspace.cpu()
        maps = torch.ones_like(kspace)
        if kspace.shape[1] > 1:
            maps = espirit(kspace, centre, kernel=min(5, *centre), threshold=0.01, crop=0.0)
        if not self.demodulated:
            return maps
        low = Coils(maps).adjoint(Fourier(kspace.dim() - 2).adjoint(windowed(kspace, centre)))
        return maps * torch.sgn(low)
