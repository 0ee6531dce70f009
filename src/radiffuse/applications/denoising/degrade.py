"""How images become noisy: counts of a tomograph, and noise of a known deviation."""

import torch
from torch import Tensor

from ...diffusion.noise import Noise, Seeded
from ...operators.blur import blurred

__all__ = ["low_counts", "noised"]


def low_counts(
    x: Tensor, counts: float | Tensor, psf: float = 0.0, noise: Noise | None = None
) -> Tensor:
    r"""An image of few counts from one of many, in the image's domain: $y = \mathrm{Poisson}(c\,Ga)/c$.

    With the activity a = (x + 1)/2, mean G a and variance G a / c a voxel. Of an image that is itself
    Poisson, keeping each count with a probability (thinning) gives the same law at fewer counts.
    A tomograph's noise is also correlated by its reconstruction; this one is white.

    Args:
        x: `(B, C, *S)` in [-1, 1]; -1 is no activity.
        counts: c, expected counts in a voxel of value 1; one number, or one a case `(B,)`.
        psf: width of G in voxels, see `blurred`.
        noise: a `Seeded` draws case by case; anything else: torch's global generator.

    Returns:
        `(B, C, *S)` in the units of x, not clipped.
    """
    c = torch.as_tensor(counts, device=x.device, dtype=x.dtype)
    c = c.reshape(-1, *[1] * (x.ndim - 1)) if c.ndim else c
    rates = (c * blurred((x + 1) / 2, psf)).clamp(min=0)
    if isinstance(noise, Seeded):
        rows = [torch.poisson(r.cpu(), g) for r, g in zip(rates, noise.generators, strict=True)]
        drawn = torch.stack(rows).to(rates)
    else:
        drawn = torch.poisson(rates)
    return 2 * drawn / c - 1


def noised(x: Tensor, std: float | Tensor, noise: Noise) -> Tensor:
    """x plus white Gaussian noise of deviation `std`, one number or one a case."""
    level = torch.as_tensor(std, device=x.device, dtype=x.dtype)
    level = level.reshape(-1, *[1] * (x.ndim - 1)) if level.ndim else level
    return x + level * noise(x)
