"""The eight networks of SynDiff."""

from typing import Any

from torch import nn

from ...nn import UNet
from ...nn.critic import PairCritic, PatchCritic
from ...nn.generator import Direct, LatentUNet, ResNet
from .adversarial import KEYS, OTHER

__all__ = ["players_of"]


def players_of(recipe: Any) -> dict[str, nn.Module]:
    """For each modality: a diffusive generator, a translator, a critic of states and one of patches."""
    channels = {"source": recipe.source_channels, "target": recipe.target_channels}
    axes, wide, patch = len(recipe.size), recipe.critic_width, recipe.patch
    players: dict[str, nn.Module] = {}
    for key in KEYS:
        here, there = channels[key], channels[OTHER[key]]
        unet = _unet(recipe, here, there, recipe.width, vector=recipe.mapped)
        players[f"diffuse_{key}"] = LatentUNet(unet, recipe.latent, recipe.mapped)
        players[f"translate_{key}"] = _translator(recipe, there, here)
        players[f"judge_{key}"] = PairCritic(axes, here, wide, recipe.critic_levels, patch)
        players[f"patch_{key}"] = PatchCritic(axes, here, wide, recipe.patch_levels, patch)
    return players


def _unet(recipe: Any, channels: int, condition: int, width: int, vector: int = 0) -> UNet:
    levels = recipe.unet_shape()
    return UNet(len(recipe.size), channels, width, **levels, condition=condition, vector=vector)


def _translator(recipe: Any, into: int, out: int) -> nn.Module:
    width = recipe.translator_width
    if recipe.translator == "unet":
        return Direct(_unet(recipe, out, into, width), out, squash=True)
    return ResNet(len(recipe.size), into, out, width, recipe.translator_blocks, recipe.patch)
