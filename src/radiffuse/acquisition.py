r"""How a scanner measures: MRI, CT, low resolution, noise; simulated from images or read from files.

An acquisition turns images with values in [0, 1] into an `Acquired`: a `Measurement` $y = A x + n$ whose
noise is white with a known standard deviation, and the plain reconstruction from it. Case b draws
its mask, coils, phase and noise from seed b alone.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from .errors import UserError
from .inverse import Measurement
from .noise import Seeded, derive
from .operators import (
    BlockMean,
    Coils,
    Fan,
    Fourier,
    Identity,
    LinearOperator,
    Mask,
    Parallel,
    Radon,
    RealPart,
    fbp,
    views,
)
from .operators.coils import birdcage, espirit
from .operators.masks import (
    Sampling,
    equispaced_columns,
    gaussian_columns,
    gaussian_points,
    poisson_disc,
    radial,
    uniform_columns,
)
from .operators.tomography import hann

__all__ = [
    "CT",
    "MASKS",
    "MRI",
    "Acquired",
    "Acquisition",
    "LowResolution",
    "MaskName",
    "Noisy",
    "smooth_phase",
]

MaskName = Literal[
    "gaussian-columns",
    "uniform-columns",
    "equispaced-columns",
    "gaussian-points",
    "poisson-disc",
    "radial",
]
MASKS: dict[str, Callable[[tuple[int, ...], float, int, Iterable[int]], Sampling]] = {
    "gaussian-columns": gaussian_columns,
    "uniform-columns": uniform_columns,
    "equispaced-columns": equispaced_columns,
    "gaussian-points": gaussian_points,
    "poisson-disc": poisson_disc,
    "radial": radial,
}


Widths = tuple[int, ...]


@dataclass(frozen=True)
class Acquired:
    """What a reconstruction starts from.

    Attributes:
        measurement: y, A and the noise, of images with values in about [0, 1].
        first: the plain reconstruction (B, 1, *S): zero-filled, filtered back-projection, enlarged.
        scale: (B,), the stored value that 1 stands for.
        acceleration: (B,), unknowns over measured values.
        inverse: a cheap stand-in for A^+: A^H of MRI, filtered back-projection of CT.
        maps: coil sensitivities (B, K, *S) of MRI.
        mask: where k-space was sampled, (B, 1, *S), of MRI.
    """

    measurement: Measurement
    first: Tensor
    scale: Tensor
    acceleration: Tensor
    inverse: Callable[[Tensor], Tensor]
    maps: Tensor | None = None
    mask: Tensor | None = None


class Acquisition(Protocol):
    """Simulates a measurement of images (B, 1, *S) in [0, 1], one seed a case."""

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired: ...


@dataclass(frozen=True)
class MRI:
    r"""Cartesian MRI, $y_k = M F c_k e^{i\varphi} x + n$.

    Sensitivities and the smooth phase $\varphi$ are estimated from the calibration region (ESPIRiT,
    and the phase of the combined low-resolution image), as they have to be with a real scan; the
    operator's maps hold both, so that x is real but for what the estimate misses.

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
    """

    mask: MaskName = "gaussian-columns"
    acceleration: float = 4.0
    calibration: int = 0
    coils: int = 8
    noise: float = 0.01
    phase: float = 1.0
    real: bool = True
    demodulated: bool = True

    @property
    def centre(self) -> int:
        """Width of the calibration region of a simulation."""
        return self.calibration or (8 if self.mask.endswith("columns") else 16)

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired:
        """Measure images (B, 1, *S) in [0, 1]; complex ones have their own phase.

        Raises:
            UserError: a mask that cannot be, or images with more than one channel.
        """
        if image.shape[1] != 1:
            raise UserError(f"MRI is simulated from grey images, not {image.shape[1]} channels")
        size = tuple(image.shape[2:])
        sampling = MASKS[self.mask](
            size, self.acceleration, self.centre, [derive(seed, "mask") for seed in seeds]
        )
        phase = torch.ones((), dtype=torch.complex64)
        if not image.is_complex():
            phase = smooth_phase(size, self.phase, [derive(seed, "phase") for seed in seeds])
        maps = torch.ones(len(image), 1, *size, dtype=torch.complex64)
        if self.coils > 1:
            maps = birdcage(size, self.coils, [derive(seed, "coils") for seed in seeds])
        full = Fourier(len(size))(Coils(maps)(image.cpu() * phase))
        noise = Seeded(derive(seed, "noise") for seed in seeds)(full)
        kspace = Mask(sampling.mask)(full + self.noise * noise)
        return self._acquired(kspace, sampling.mask, self.noise, image)

    def read(self, kspace: Tensor) -> Acquired:
        """Take measured k-space (B, K, *S), centred, zero where nothing was sampled.

        Images are scaled so that the 99.5 % quantile of the low-resolution image is 0.9.

        Raises:
            UserError: k-space that is real, empty, not finite, not centred, or without calibration lines.
        """
        mask = check_kspace(kspace)
        centre = calibration_widths(mask, kspace.shape[1] > 1)
        low = Fourier(kspace.dim() - 2).adjoint(_windowed(kspace, centre))
        bright = low.abs().square().sum(1).sqrt().flatten(1)
        scale = torch.quantile(bright, 0.995, dim=1) / 0.9
        kspace = kspace / _rows(scale, kspace)
        std = float(noise_level(kspace, mask))
        acquired = self._acquired(kspace, mask, std, kspace.real[:, :1])
        return replace(acquired, scale=scale)

    def _acquired(self, kspace: Tensor, mask: Tensor, std: float, like: Tensor) -> Acquired:
        rows = zip(kspace.split(1), mask.split(1), strict=True)
        several = kspace.shape[1] > 1
        maps = torch.cat([self._maps(y, calibration_widths(m, several)) for y, m in rows])
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
        low = Coils(maps).adjoint(Fourier(kspace.dim() - 2).adjoint(_windowed(kspace, centre)))
        return maps * torch.sgn(low)


def smooth_phase(size: tuple[int, ...], std: float, seeds: Iterable[int]) -> Tensor:
    r"""$e^{i\varphi}$ (B, 1, *S): a sum of the lowest cosines of each axis, of `std` radians."""
    axes = [torch.linspace(0, math.pi, n) for n in size]
    fields = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        order = torch.randn([3] * len(size), generator=generator)
        order.flatten()[0] = 0
        field = order
        for axis in axes:
            waves = torch.cos(torch.outer(torch.arange(3.0), axis))
            field = torch.tensordot(field, waves, dims=([0], [0]))
        field = std * field / field.square().mean().sqrt().clamp(min=1e-9)
        fields.append(torch.polar(torch.ones_like(field), field))
    return torch.stack(fields)[:, None]


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.dim() - 1)).to(like.device)


def _windowed(kspace: Tensor, widths: Widths) -> Tensor:
    """The centre of k-space under a Hann window, zero elsewhere."""
    for axis, width in enumerate(widths, start=2):
        n = kspace.shape[axis]
        index = (torch.arange(n, device=kspace.device) - n // 2) / (min(width, n) / 2 + 1)
        window = torch.where(index.abs() < 1, torch.cos(math.pi / 2 * index) ** 2, 0.0)
        kspace = kspace * window.reshape([-1 if a == axis else 1 for a in range(kspace.dim())])
    return kspace


def check_kspace(kspace: Tensor) -> Tensor:
    """Where k-space (B, K, *S) was sampled, boolean (B, 1, *S).

    Raises:
        UserError: it is real, empty, not finite, or its energy does not lie in the middle.
    """
    shape = tuple(kspace.shape)
    if not kspace.is_complex() or kspace.dim() < 4:
        raise UserError(
            f"k-space of type {kspace.dtype} and shape {shape}: expected complex (coils, *space)"
        )
    if not bool(torch.isfinite(kspace.abs()).all()):
        raise UserError(
            "k-space holds NaN or infinite values; look for the broken line and leave it 0"
        )
    energy = kspace.abs().square().sum(1, keepdim=True)
    mask = energy > 0
    if not bool(mask.flatten(1).any(1).all()):
        raise UserError("k-space is zero everywhere: nothing was measured")
    brightest = energy.flatten(1).argmax(1)
    for axis, n in enumerate(shape[2:]):
        stride = math.prod(shape[3 + axis :])
        place = (brightest // stride) % n
        if bool(((place - n // 2).abs() > n // 4).any()):
            raise UserError(
                f"the brightest point of k-space lies at {int(place[0])} of {n} on axis {axis}, not "
                "in the middle: store it centred (fftshift), or check the order of its axes"
            )
    return mask


def calibration_widths(mask: Tensor, coils: bool = True, most: int = 64) -> Widths:
    """Widths of the fully sampled centre of (B, 1, *S) on each axis, the axes grown in turn.

    Args:
        coils: whether coil maps have to be estimated from it.
        most: the largest width that is of use.

    Raises:
        UserError: coil maps are needed, and an axis is narrower than 6.
    """
    sampled = mask.flatten(0, 1).all(0)
    size = sampled.shape
    widths, growing = [0] * sampled.dim(), True

    def full(candidate: list[int]) -> bool:
        region = sampled
        for axis, (n, width) in enumerate(zip(size, candidate, strict=True)):
            region = region.narrow(axis, n // 2 - width // 2, width)
        return bool(region.all())

    widths = [1] * sampled.dim() if full([1] * sampled.dim()) else widths
    while growing and widths[0]:
        growing = False
        for axis, n in enumerate(size):
            wider = [w + (a == axis) for a, w in enumerate(widths)]
            if wider[axis] <= min(most, n) and full(wider):
                widths, growing = wider, True
    if coils and min(widths) < 5:
        raise UserError(
            f"k-space is fully sampled only in its central {' x '.join(map(str, widths))} points; "
            "coil maps need 5 on every axis"
        )
    return tuple(widths)


def noise_level(kspace: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of real and imaginary parts: the median deviation of the outermost tenth.

    The sampled points farthest from the centre hold little but noise; what signal they hold makes
    the estimate too large, never too small.
    """
    distance = torch.zeros(kspace.shape[2:])
    for axis, n in enumerate(kspace.shape[2:]):
        d = (torch.arange(n) - n // 2) / (n / 2)
        distance = (
            distance + d.reshape([-1 if a == axis else 1 for a in range(distance.dim())]) ** 2
        )
    sampled = mask.flatten(0, 1).all(0).cpu()
    edge = torch.quantile(distance[sampled], 0.9) if bool(sampled.any()) else distance.max()
    outer = kspace.cpu()[..., sampled & (distance >= edge)]
    return torch.view_as_real(outer).abs().median() / 0.6745


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
        measurement = Measurement(y, Identity(), self.noise)
        return Acquired(measurement, y, ones, ones, measurement.A.adjoint)
