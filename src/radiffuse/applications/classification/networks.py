"""The networks of DiffMIC: the classifier that guides, and the denoiser of label vectors."""

from typing import Any

from ...diffusion.network import Network
from ...errors import UserError
from ...nn.dual import DualPrior, window_sides
from ...nn.labels import LabelNetwork
from ..parts import predicts_named
from ..sizes import sides

__all__ = ["check_patches", "network_of", "prior_of"]

DATA_STD = 0.5
"""Deviation of y_0 - mu that "edm" assumes; entries lie in [-1, 1]."""


def prior_of(recipe: Any) -> DualPrior:
    """The classifier of global and local view."""
    return DualPrior(
        len(recipe.size),
        recipe.channels,
        recipe.classes,
        blocks=recipe.prior_blocks,
        bottleneck=recipe.bottleneck,
        crop=recipe.crop,
        patches=recipe.patches,
        top=recipe.top,
        likely=recipe.likely,
        width=recipe.width,
        stem=recipe.stem,
    )


def network_of(recipe: Any) -> Network:
    """The denoiser of label vectors, told the image."""
    steps = recipe.timesteps
    backbone = LabelNetwork(
        len(recipe.size),
        recipe.channels,
        recipe.classes,
        steps,
        recipe.features,
        blocks=recipe.blocks,
        width=recipe.width,
        stem=recipe.stem,
    )
    return Network(
        backbone,
        recipe.schedule(),
        predicts_named(recipe.predicts, DATA_STD),
        clock=lambda t, alpha, sigma: t * steps,
    )


def check_patches(recipe: Any) -> None:
    """Refuse images in which the patches have no room.

    Raises:
        UserError: says what would fit.
    """
    stride = recipe.stem * 2 ** (len(recipe.prior_blocks) - 1)
    if min(recipe.size) < max(recipe.crop, stride):
        raise UserError(
            f"images of {sides(recipe.size)} are smaller than a patch ({recipe.crop}) or the "
            f"network's stride ({stride}); use larger images (--size), or lower --crop, --stem or "
            "--prior-blocks"
        )
    grid = [-(-side // stride) for side in recipe.size]
    places = 1
    for cells, side in zip(grid, window_sides(grid, recipe.size, recipe.crop), strict=True):
        places *= cells - side + 1
    if places < recipe.patches:
        raise UserError(
            f"images of {sides(recipe.size)} have room for {places} patches of {recipe.crop} at "
            f"stride {stride}, not {recipe.patches}; lower --patches, --crop or --stem"
        )
