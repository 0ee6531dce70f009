"""What a purification stands beside: a median filter, JPEG, fewer bits, and diffusion with a prior of such images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from scipy import ndimage
from torch import Tensor

from ....diffusion.kernels import diffuse
from ....diffusion.noise import Seeded, derive
from ....diffusion.sample import DDPM, grids
from ....errors import UserError
from ...sizes import sides
from .attacks import Defence

__all__ = ["Filter", "filters", "jpeg", "median", "quantised", "through_prior"]


@dataclass(frozen=True)
class Filter:
    """A defence with one setting.

    Attributes:
        settings: those that are tried, the weakest first.
        of: setting -> defence.
        random: whether it draws.
    """

    settings: Sequence[Any]
    of: Callable[[Any], Defence]
    random: bool = False


def filters(shape: Sequence[int], prior: tuple[Any, Any] | None = None) -> dict[str, Filter]:
    """Those that suit images of `shape` (C, *S): JPEG knows pictures of one or three channels alone.

    Args:
        shape: of an image.
        prior: recipe and objective of a generative run.

    Raises:
        UserError: the prior is of images of another shape.
    """
    found = {
        "median": Filter((3, 5, 7, 9, 11, 13), lambda side: lambda x, _: median(x, side)),
        "bits": Filter((6, 5, 4, 3, 2, 1), lambda bits: lambda x, _: quantised(x, bits)),
    }
    if _is_picture(shape):
        found["jpeg"] = Filter((95, 85, 75, 50, 25, 10), lambda q: lambda x, _: jpeg(x, q))
    if prior is not None:
        found["diffusion"] = Filter(LEVELS, through_prior(*prior, shape), random=True)
    return found


def median(x: Tensor, side: int) -> Tensor:
    """The median of `side` voxels along every axis, each channel for itself (Xu et al. 2018)."""
    window = (1, 1, *[side] * (x.ndim - 2))
    return torch.from_numpy(ndimage.median_filter(x.cpu().numpy(), window, mode="mirror")).to(x)


def quantised(x: Tensor, bits: int) -> Tensor:
    """x in [0, 1] in 2^bits values (Xu et al. 2018)."""
    steps = 2**bits - 1
    return (x * steps).round() / steps


def jpeg(x: Tensor, quality: int) -> Tensor:
    """Pictures (B, 1 or 3, H, W) in [0, 1] after JPEG of that quality, by Pillow (Guo et al. 2018)."""
    stored = (x * 255).round().byte().movedim(1, -1).cpu().numpy()
    made = []
    for image in stored:
        with io.BytesIO() as file:
            Picture.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
                file, "JPEG", quality=quality
            )
            made.append(np.asarray(Picture.open(file)).reshape(image.shape))
    return torch.from_numpy(np.stack(made)).movedim(-1, 1).to(x) / 255


def _is_picture(shape: Sequence[int]) -> bool:
    channels, *size = shape
    return channels in (1, 3) and len(size) == PICTURE


PICTURE = 2
"""Axes of what JPEG stores."""
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
"""Noise over signal, of images in [-1, 1], from which the prior brings an image back."""
CALLS = 5
"""Network calls of that."""


def through_prior(recipe: Any, objective: Any, shape: Sequence[int]) -> Callable[[float], Defence]:
    """Noise to a level and back by the reverse chain of a prior, in `CALLS` steps (Nie et al. 2022, DiffPure).

    Args:
        recipe, objective: of a generative run.
        shape: (C, *S) of the images.

    Raises:
        UserError: the prior is of images of another shape.
    """
    known = (recipe.channels, *recipe.size)
    if known != tuple(shape):
        raise UserError(
            f"the prior was trained on images of {sides(known)}, and the classifier on {sides(shape)}; train "
            f"it with --size {' '.join(map(str, shape[1:]))} on the same data"
        )
    denoiser = recipe.denoiser(objective).eval()

    def of(level: float) -> Defence:
        t = denoiser.schedule.time(-torch.tensor(level, dtype=torch.float64).log())

        def defence(x: Tensor, seeds: list[int]) -> Tensor:
            noise = Seeded(derive(seed, "diffusion") for seed in seeds)
            x_t = diffuse(denoiser.schedule, 2 * x - 1, t, noise(x))
            with torch.no_grad():
                back = DDPM(denoiser, noise)(x_t, grids.uniform(CALLS, float(t)))
            return ((back + 1) / 2).clamp(0, 1)

        return defence

    return of
