"""The network of a generative recipe: a U-Net, or a transformer of patches."""

import math
from typing import Any

from ...nn import DiT, UNet
from ..recipe import check_fitted

__all__ = ["body_of"]


def body_of(recipe: Any, twice: bool) -> UNet | DiT:
    """A new backbone; `twice`: with as many channels again, for a learned variance.

    Raises:
        UserError: the recipe has not been fitted to data.
    """
    classes = recipe.classes if recipe.conditional else 0
    condition = recipe.channels if recipe.filtered else 0
    if recipe.backbone == "unet":
        return recipe.unet(classes=classes, twice=twice, condition=condition)
    check_fitted(recipe, "channels", "size")
    return DiT(
        len(recipe.size),
        recipe.channels,
        recipe.width,
        recipe.blocks,
        heads=math.gcd(recipe.width, max(1, recipe.width // 64)),
        patch=recipe.patch,
        condition=condition,
        classes=classes,
        twice=twice,
    )
