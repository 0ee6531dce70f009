"""Presets of the denoising methods: networks, chains and training."""

from typing import Any

from ..presets import PRECONDITIONED, averaged
from ..presets import TINY as TINY_NETWORK
from ..presets import TRAINING as SHARED

__all__ = ["OCT_SMALL", "OCT_TRAINING", "PET_SMALL", "PET_TRAINING", "TINY"]

_OTHERS: dict[str, dict[str, Any]] = {
    "small": {**SHARED["small"], "batch": 8},
    "tiny": {**SHARED["tiny"], "batch": 4},
}

OCT_TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 20_000,
        "batch": 2,
        "learning_rate": 1e-4,
        "warmup": 0,
        "cooldown": 1.0,
        "betas": (0.5, 0.999),
        "clip": 0.0,
        "ema": (0.0,),
    },
    **_OTHERS,
}
"""Training of `oct-ddpm`."""

PET_TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        **SHARED["paper"],
        "steps": 200_000,
        "batch": 16,
        "learning_rate": 1e-4,
        "warmup": 0,
        "ema": averaged(0.9999, 200_000),
    },
    **_OTHERS,
}
"""Training of `pet-ddpm`."""

OCT_SMALL: dict[str, Any] = {
    "window": 96,
    "crops": 4,
    "multiples": (1, 2, 4, 4),
    "blocks": 1,
    "attention": (),
    "patch": 2,
    "dropout": 0.0,
    **PRECONDITIONED,
}
"""The small preset of `oct-ddpm`."""

PET_SMALL: dict[str, Any] = {
    "window": 64,
    "crops": 4,
    "width": 32,
    "multiples": (1, 2, 4, 4),
    "blocks": 1,
    **PRECONDITIONED,
    "neighbours": 0,
    "renoise": True,
    "steps": 100,
    "samples": 4,
}
"""The small preset of `pet-ddpm`."""

TINY: dict[str, Any] = {**TINY_NETWORK, **PRECONDITIONED, "window": 16, "crops": 2}
"""What the tiny presets of both share."""
