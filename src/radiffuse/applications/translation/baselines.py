"""The baselines of translation: direct regression, and a pix2pix-like GAN."""

import dataclasses
from typing import Any

import torch

from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...diffusion.windows import Windows
from ...nn.critic import PatchCritic
from ..evaluation.asked import Asked
from ..supervised import InWindows, Pix2Pix, Regression, direct_unet, trained

__all__ = ["trained_baselines"]


def trained_baselines(train: Cases, windows: Windows | None, asked: Asked) -> dict[str, Any]:
    """Direct regression and a pix2pix-like GAN, trained as long as the run in its folder."""
    options = asked.budget()
    facts = train.facts()
    size = facts.size["target"] if windows is None else windows.size
    axes = len(size)
    into, out = facts.channels["source"], facts.channels["target"]
    given, made = ("source",), "target"

    def network() -> torch.nn.Module:
        torch.manual_seed(derive(options.seed, "baseline"))
        return direct_unet(axes, into, out, size)

    torch.manual_seed(derive(options.seed, "critic"))
    critic = PatchCritic(axes, into + out, 32, 1 if min(size) < 32 else 2, 2)
    kinds = {
        "regression": (Regression(network(), given, made), options),
        "pix2pix": (
            Pix2Pix(network(), critic, given, made),
            dataclasses.replace(options, betas=(0.5, 0.9), learning_rate=2e-4),
        ),
    }
    return {
        name: trained(
            objective if windows is None else InWindows(objective, windows, made),
            train, its, asked.run / f"baseline-{name}",
        )
        for name, (objective, its) in kinds.items()
    }  # fmt: skip
