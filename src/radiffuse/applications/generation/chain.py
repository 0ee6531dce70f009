"""The chain of a generative recipe: its sampler, its times, and the leap across what looks Gaussian."""

from typing import Any

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.filtered import wiener_of
from ...diffusion.noise import Noise
from ...diffusion.sample import First, GaussianFlow, Sampler
from ...diffusion.schedule import Schedule
from ..parts import SAMPLER_SETTINGS, SAMPLERS, check_start, grid_after_leap, grid_named

__all__ = ["grid_of", "sampler_of"]


def sampler_of(recipe: Any, denoiser: Denoiser, noise: Noise) -> Sampler:
    """The sampler that a recipe names, behind its leap where it has one."""
    names = SAMPLER_SETTINGS.get(recipe.sampler, ())
    settings = {name: getattr(recipe, name) for name in names}
    sampler = SAMPLERS[recipe.sampler](denoiser, noise, **settings)
    if not recipe.leap:
        return sampler
    flow = GaussianFlow(denoiser, wiener_of(recipe.spectrum, recipe.size).power)
    return First(flow, sampler)


def grid_of(recipe: Any, schedule: Schedule) -> Tensor:
    """The grid of times that a recipe names.

    Raises:
        UsageError: the chain cannot start where it should, or has no such grid.
    """
    check_start(recipe, schedule)
    chain = (recipe.steps, recipe.start, recipe.stop)
    if not recipe.leap:
        return grid_named(recipe.grid, schedule, *chain)
    strongest = float(wiener_of(recipe.spectrum, recipe.size).power.max()) ** 0.5
    return grid_after_leap(recipe.grid, schedule, *chain, recipe.leap * strongest)
