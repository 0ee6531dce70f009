"""The four networks: of noise, the generator, two critics."""

from typing import Any

from torch import nn

from ....nn import UNet
from ....nn.critic import Remembering
from ....nn.switched import SwitchedGenerator
from ...parts import network_of
from .objective import LABELS

__all__ = ["players_of"]


def players_of(recipe: Any) -> dict[str, Any]:
    """What `Vessels` is made of, by name; generator and critics begin with weights of N(0, 0.02^2)."""
    axes = len(recipe.size)
    unet = UNet(axes, 1, recipe.width, **recipe.unet_shape())
    shape = (recipe.generator_width, recipe.hidden, recipe.generator_levels)
    generator = SwitchedGenerator(axes, 2, 1, LABELS, *shape)
    critics = {
        name: Remembering(
            axes, 1, recipe.critic_width, recipe.critic_levels, recipe.size, recipe.kept
        )
        for name in ("judge_masks", "judge_images")
    }
    for module in (generator, *critics.values()):
        _begin(module)
    network = network_of(unet, recipe.schedule(), "noise", 1.0, preconditioned=False)
    return {"network": network, "generator": generator, **critics}


def _begin(module: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02^2)."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and "weight" in name:
            nn.init.normal_(parameter, std=0.02)
