r"""Filtered back-projection of parallel and fan beams (Kak & Slaney 1988, chapter 3).

Parallel (eq. 3.2): $f = \sum_\theta \Delta\theta\, (p_\theta * h)(x\cos\theta + y\sin\theta)$ with the ramp
h. Fan with a straight detector at the centre, source distance D (eq. 3.4.2):

$$ f = \sum_\beta \frac{\Delta\beta}{2 U^2} \Big(\frac{D\,p_\beta}{\sqrt{D^2+u^2}} * h\Big)(s / U), \qquad
   U = (D + t) / D, $$

s and t the pixel's coordinates across and along the central ray.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import UserError
from .radon import Fan, Geometry

__all__ = ["cosine", "fbp", "hamming", "hann", "ramp", "shepp_logan"]

Window = Callable[[Tensor], Tensor]


def ramp(frequency: Tensor) -> Tensor:
    """No window: 1 up to the Nyquist frequency (`frequency` = 1)."""
    return torch.ones_like(frequency)


def shepp_logan(frequency: Tensor) -> Tensor:
    """sin(pi f / 2) / (pi f / 2)."""
    return torch.sinc(frequency / 2)


def cosine(frequency: Tensor) -> Tensor:
    """cos(pi f / 2)."""
    return torch.cos(math.pi * frequency / 2)


def hamming(frequency: Tensor) -> Tensor:
    """0.54 + 0.46 cos(pi f)."""
    return 0.54 + 0.46 * torch.cos(math.pi * frequency)


def hann(frequency: Tensor) -> Tensor:
    """(1 + cos(pi f)) / 2."""
    return (1 + torch.cos(math.pi * frequency)) / 2


def _filtered(sinogram: Tensor, spacing: float, window: Window) -> Tensor:
    """Each view convolved with the windowed ramp, sampled in space (eq. 61), so that its mean is right."""
    count = sinogram.shape[-1]
    length = 2 ** math.ceil(math.log2(2 * count))
    n = torch.fft.fftfreq(length, 1 / length, dtype=torch.float64)
    odd = n.long() % 2 == 1
    kernel = torch.where(odd, -1 / (math.pi * n.clamp(min=0.5) * spacing) ** 2, 0.0)
    kernel = torch.where(odd & (n < 0), -1 / (math.pi * n * spacing) ** 2, kernel)
    kernel[0] = 1 / (4 * spacing**2)
    response = torch.fft.fft(kernel).real * spacing
    response = response * window(torch.fft.fftfreq(length, 0.5, dtype=torch.float64).abs())
    response = response.to(sinogram.device, sinogram.real.dtype)
    out = torch.fft.ifft(torch.fft.fft(sinogram, length) * response)[..., :count]
    return out if sinogram.is_complex() else out.real


def _widths(angles: tuple[float, ...], period: float) -> list[float]:
    """The share of each view: half the gaps to its neighbours modulo `period`; a wedge without
    views (over five median gaps) is given to nobody."""
    order = sorted(range(len(angles)), key=lambda k: angles[k] % period)
    at = [angles[k] % period for k in order]
    gaps = [(b - a) % period for a, b in zip(at, [*at[1:], at[0] + period], strict=True)]
    median = sorted(gaps)[len(gaps) // 2]
    gaps = [gap if gap <= 5 * median or median == 0 else median for gap in gaps]
    shares = [0.0] * len(angles)
    for place, k in enumerate(order):
        shares[k] = (gaps[place] + gaps[place - 1]) / 2
    return shares


def fbp(sinogram: Tensor, geometry: Geometry, window: Window = ramp) -> Tensor:
    """Reconstruct an image from its line integrals by filtered back-projection.

    Args:
        sinogram: (B, C, *, angles, detectors), line integrals in pixel lengths.
        geometry: `Parallel` (any angles; modulo pi) or `Fan` (views all around).
        window: of the ramp filter, a function of the frequency in units of Nyquist's.

    Returns:
        (B, C, *, H, W). A pixel beyond the detector's ends counts zero there.

    Raises:
        UserError: fewer than two views, a fan without views all around, a sinogram of another shape.
    """
    count, fan = len(geometry.angles), isinstance(geometry, Fan)
    if tuple(sinogram.shape[-2:]) != (count, geometry.detectors):
        raise UserError(
            f"a sinogram of shape {tuple(sinogram.shape)} does not fit the geometry: its last two "
            f"axes must be {(count, geometry.detectors)}"
        )
    shares = _widths(geometry.angles, 2 * math.pi if fan else math.pi)
    if count < 2 or (fan and sum(shares) < 0.95 * 2 * math.pi):
        raise UserError(
            f"filtered back-projection from {count} views over {math.degrees(sum(shares)):.0f} "
            "degrees: give two views at least, and for a fan views all around (360 degrees)"
        )
    position = geometry.positions().to(sinogram.device, sinogram.real.dtype)
    distance = geometry.distance if isinstance(geometry, Fan) else math.inf
    weight = (1 + (position / distance) ** 2).rsqrt()
    filtered = _filtered(sinogram * weight, geometry.spacing, window)
    height, width = geometry.size
    x = torch.arange(width).to(position) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height).to(position)[:, None]
    image = filtered.new_zeros(*sinogram.shape[:-2], height, width)
    for view, (angle, share) in enumerate(zip(geometry.angles, shares, strict=True)):
        across = x * math.cos(angle) + y * math.sin(angle)
        magnified = 1 + (y * math.cos(angle) - x * math.sin(angle)) / distance
        place = across / magnified / geometry.spacing + (geometry.detectors - 1) / 2
        seen = _interpolated(filtered[..., view, :], place)
        image = image + seen * (share * (0.5 if fan else 1.0) / magnified**2)
    return image


def _interpolated(row: Tensor, place: Tensor) -> Tensor:
    """row (..., N) at the fractional indices `place` (H, W), linearly, zero outside: (..., H, W)."""
    last = row.shape[-1] - 1
    low = place.floor()
    out = torch.zeros((), dtype=row.dtype, device=row.device)
    for k in (low, low + 1):
        weight = (1 - (place - k).abs()) * ((k >= 0) & (k <= last))
        out = out + weight * row[..., k.clamp(0, last).long()]
    return out
