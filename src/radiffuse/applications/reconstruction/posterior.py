"""How a reconstruction draws: the prior as the chain sees it, and the solver that walks."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.averaging import Averaging
from ...diffusion.complex_images import Parts, TwoChannels
from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise, Seeded
from ...diffusion.sample import Sampler
from ...diffusion.sample.grids import karras
from ...diffusion.tiling import Padded
from ...diffusion.units import Affine
from ...errors import UserError
from ...inverse import Slicewise, ThroughPlane
from ...inverse.conditioned import Conditioned
from .solvers import DATA_STD, SOLVERS

__all__ = ["check_solver", "prior_denoiser", "walk"]

TOLD = 0.4
"""Noise level, of images in [0, 1], from which on a chain's estimates count for the posterior's mean:
above, a Gaussian is too rough a model of what is known."""


def walk(
    recipe: Any, objective: Any, acquired: Acquired, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """A draw of each case, and what its chain says of the posterior's mean (the draw itself where none)."""
    check_solver(recipe)
    denoiser = prior_denoiser(recipe, objective, acquired.first)
    noise = Seeded(seeds)
    with torch.no_grad():
        if recipe.solver == "paper":
            x = recipe.chain(denoiser, acquired, noise)
            return x, x
        times = karras(denoiser.schedule, recipe.steps, start=recipe.trained_to(denoiser), stop=0.0)
        start, times = recipe.begin(denoiser.schedule, times, acquired.first, noise)
        sampler = general_solver(recipe, denoiser, acquired, noise)
        asked = sampler.denoiser
        if not (isinstance(asked, Conditioned) and asked.has_mean):
            x = sampler(start, times)
            return x, x
        sampler.denoiser = told = Averaging(asked, TOLD)
        x = sampler(start, times)
        return x, told.expected(x)


def prior_denoiser(recipe: Any, objective: Any, like: Tensor) -> Denoiser:
    """The trained network as a denoiser of images in [0, 1] under the chain's schedule.

    Args:
        objective: holds the network.
        like: images (B, 1, *S), real or complex. Volumes are denoised slice by slice by a network of
            slices (`Slicewise`).

    Raises:
        UserError: `values` does not go with the images that the network was trained on, or the
            number of axes does not.
    """
    network: Denoiser = recipe.denoiser(objective).eval()
    body = objective.network.backbone
    axes, known = like.dim() - 2, len(recipe.size)
    seen = list(like.shape[2:])
    if axes == known + 1:
        del seen[recipe.slice_axis]
    # what knows its stride along each axis continues images itself, as in training, but for those shorter than it
    strides = tuple(getattr(body, "strides", ()))
    whole = len(strides) == len(seen) and all(n >= s for n, s in zip(seen, strides, strict=True))
    padded: Denoiser = network if whole else Padded(network, int(getattr(body, "stride", 1)))
    if axes == known + 1:
        padded = Slicewise(padded, axis=recipe.slice_axis)
    elif axes != known:
        raise UserError(
            f"the prior knows images of {known} axes, these have {axes}: train one on such images"
        )
    if not like.is_complex():
        if like.shape[1] != recipe.channels:
            known, here = recipe.channels, like.shape[1]
            if known == 2:
                raise UserError(
                    f"a prior of 2 channels cannot serve values={recipe.values} with images of {here}: one trained on "
                    "complex images takes --set values=channels"
                )
            raise UserError(
                f"images have {here} channels, and the prior was trained on {known}; convert them"
            )
        return Affine(padded, recipe.chain_schedule())
    fits = recipe.channels % 2 == 0 if recipe.values == "channels" else recipe.channels == 1
    if not fits:
        raise UserError(
            f"a prior of {recipe.channels} channels cannot serve values={recipe.values}: one trained on "
            "grey images takes --set values=parts, one on complex images --set values=channels"
        )
    if recipe.values == "channels":
        return TwoChannels(Affine(padded, recipe.chain_schedule(), factor=1.0, offset=0.0))
    return Parts(Affine(padded, recipe.chain_schedule()))


def general_solver(recipe: Any, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Sampler:
    """The general solver that `solver` names, of volumes with what ties their slices."""
    measurement = acquired.measurement
    sampler = SOLVERS[recipe.solver](denoiser, measurement, noise, acquired.first)
    if recipe.through_plane:
        sampler.denoiser = ThroughPlane(
            denoiser, measurement, recipe.through_plane, DATA_STD, axis=recipe.slice_axis
        )
    return sampler


def check_solver(recipe: Any) -> None:
    """Refuse a paper's algorithm where it is none, and slices tied by another solver than DDS.

    Raises:
        UserError: says what to set.
    """
    if recipe.solver == "paper" and recipe.measurement not in recipe.PAPER_SOLVES:
        raise UserError(
            f"{recipe.paper.id} solves {' and '.join(recipe.PAPER_SOLVES)}, not "
            f"{recipe.measurement}; take a general solver, e.g. --set solver=probed highest=5"
        )
    if recipe.through_plane and recipe.solver != "dds":
        raise UserError("through_plane ties slices within --set solver=dds; set both")
