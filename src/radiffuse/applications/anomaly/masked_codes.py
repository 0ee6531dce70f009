"""Codes that are not healthy: found by the denoising steps, made anew, and where they lie in the image."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import diffuse
from ...diffusion.likelihood import step_kl
from ...diffusion.noise import Noise
from ...diffusion.sample import Sampler
from ...diffusion.schedule import Discrete
from ...inverse.project import Constrained, kept
from ...operators.blur import blurred

__all__ = ["divergence", "enlarged", "gate", "inpainted"]

LEAST = 0.01
"""A smoothed mask below this is none."""


@torch.no_grad()
def divergence(
    denoiser: Denoiser, schedule: Discrete, z: Tensor, steps: Sequence[int], noise: Noise
) -> Tensor:
    """K, (B, 1, *L) in nats: mean of `step_kl` from t to t - 1 over t and channels.

    Args:
        denoiser: E[z_0 given z_t].
        schedule: its chain.
        z: codes (B, C_z, *L).
        steps: t, 2 .. T each.
        noise: drawn anew for every t.
    """
    total = torch.zeros_like(z[:, :1])
    for step in steps:
        t, s = torch.tensor([step, step - 1], dtype=torch.float64) / schedule.steps
        z_t = diffuse(schedule, z, t, noise(z))
        total += step_kl(schedule, z_t, z, denoiser(z_t, t), t, s).mean(1, keepdim=True)
    return total / len(steps)


def inpainted(
    sampler: Callable[[Denoiser, Noise], Sampler],
    denoiser: Denoiser,
    z: Tensor,
    mask: Tensor,
    times: Tensor,
    noise: Noise,
) -> Tensor:
    """Codes z (B, C_z, *L), made anew down the `times` where the mask (B, 1, *L) is True, the same elsewhere.

    All of z is noised to times[0]; after every step the codes outside the mask are z under the noise of that time.
    """
    start = diffuse(denoiser.schedule, z, times[0], noise(z))
    return Constrained(sampler(denoiser, noise), kept(z, mask))(start, times)


def enlarged(x: Tensor, stride: int) -> Tensor:
    """Values of places (B, C, *L) at the size of the images, the same in all voxels of a place."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(stride, axis)
    return x


def gate(mask: Tensor, stride: int, width: float) -> Tensor:
    """A mask of codes (B, 1, *L) at the size of the images, smoothed, (B, 1, *S) in [0, 1], 0 below a hundredth.

    Args:
        mask: bool.
        stride: voxels a place.
        width: of the Gaussian, full at half maximum, places.
    """
    smooth = blurred(enlarged(mask.float(), stride), width * stride)
    return torch.where(smooth < LEAST, torch.zeros_like(smooth), smooth)
