r"""Multiscale diffusive and denoising aggregation (Wang et al. 2023, figure 1): a purification without a network.

Copies $I_s$ of the image at several scales go together through blocks of three steps,

$$ I_s \leftarrow I_s + \sigma z,\qquad
   u_s = \arg\min_u \tfrac12\|u-I_s\|^2 + w\,TV(u),\qquad
   I_s \leftarrow w_{-1}\,D u_{s-1} + w_0\,u_s + w_1\,U u_{s+1}, $$

with D and U the neighbouring scales brought to this one; their mean at the image's own size, smoothed, is the answer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ....data.transforms import resize
from ....diffusion.noise import Noise
from ....errors import UserError
from ....inverse.compressed import rof
from ....operators.blur import blurred

__all__ = ["aggregated", "check_unit", "purified", "pyramid"]

FWHM = 2.3548
"""Full width at half maximum of a Gaussian over its standard deviation."""


def purified(settings: Any, x: Tensor, noise: Noise) -> Tensor:
    """The image without what was added to it; no gradient, and no classifier, is asked.

    Args:
        settings: an `MDDA`: `scales`, `repeats`, `sigma`, `tv_weight`, `tv_iterations`, `aggregation`, `smooth` and
            `strength`.
        x: images (B, C, *S) in [0, 1].
        noise: of each case's own stream, so that a case does not depend on its batch.

    Returns:
        (B, C, *S) in [0, 1].

    Raises:
        UserError: values outside [0, 1].
    """
    check_unit(x)
    size = tuple(x.shape[2:])
    sigma, weight = (settings.strength * each for each in (settings.sigma, settings.tv_weight))
    levels = pyramid(x, settings.scales)
    for _ in range(settings.repeats):
        noisy = [level + sigma * noise(level) for level in levels]
        smooth = [rof(level, weight, settings.tv_iterations) for level in noisy]
        levels = aggregated(smooth, settings.aggregation)
    mean = torch.stack([_at(level, size) for level in levels]).mean(0)
    return blurred(mean, FWHM * settings.smooth).clamp(0, 1)


def pyramid(x: Tensor, scales: Sequence[float]) -> list[Tensor]:
    """Copies of x at each scale, an axis of at least one voxel: means when smaller, cubic when larger."""
    return [_at(x, [max(1, round(side * scale)) for side in x.shape[2:]]) for scale in scales]


def aggregated(levels: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
    """Every level with its neighbours, clipped to [0, 1].

    Args:
        levels: from the finest to the coarsest.
        weights: of the finer neighbour, of the level and of the coarser one; where one is missing the others are
            divided by their sum.
    """
    made = []
    for place, own in enumerate(levels):
        total, share = torch.zeros_like(own), 0.0
        for other, weight in zip((place - 1, place, place + 1), weights, strict=True):
            if 0 <= other < len(levels) and weight > 0:
                total, share = total + weight * _at(levels[other], own.shape[2:]), share + weight
        made.append((total / share).clamp(0, 1))
    return made


def check_unit(x: Tensor) -> None:
    """Refuse images that are not in [0, 1].

    Raises:
        UserError: says what they hold.
    """
    low, high = float(x.min()), float(x.max())
    if not -1e-6 <= low <= high <= 1 + 1e-6:
        raise UserError(
            f"purification and attacks take images in [0, 1], and these hold {low:.3g} to {high:.3g}; "
            "--range LOW HIGH names the stored values that become the ends of the scale"
        )


def _at(x: Tensor, size: Sequence[int]) -> Tensor:
    return resize(x, size, cubic=True)
