"""Training of DiffMIC by preset, and its smaller networks."""

from typing import Any

__all__ = ["SMALL", "TINY", "TRAINING"]

TRAINING: dict[str, dict[str, Any]] = {
    # of the fundus images: 1000 epochs of 80 batches, 40 of them of warm-up, after 15 of the classifier alone
    "paper": {
        "steps": 81_200,
        "batch": 32,
        "learning_rate": 1e-3,
        "warmup": 3200,
        "cooldown": 1.0,
        "betas": (0.9, 0.999),
        "clip": 1.0,
        "ema": (0.0,),
        "mirror": (0,),
    },
    "small": {
        "batch": 32,
        "learning_rate": 1e-3,
        "warmup": 100,
        "cooldown": 0.5,
        "weight_decay": 0.02,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 35.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 5, "steps": 60},
}

SMALL: dict[str, Any] = {
    "width": 32,
    "stem": 2,
    "prior_blocks": (1, 1, 1),
    "bottleneck": False,
    "crop": 16,
    "patches": 4,
    "likely": True,
    "blocks": (1, 1, 1),
    "features": 256,
    "predicts": "edm",
    "alone": 300,
    "prior_rate": 1.0,
    "turn": 15.0,
    "steps": 50,
    "draws": 20,
}
"""Useful after half an hour on two CPU cores."""

TINY: dict[str, Any] = {
    "width": 8,
    "stem": 2,
    "prior_blocks": (1, 1),
    "bottleneck": False,
    "crop": 4,
    "patches": 2,
    "likely": True,
    "blocks": (1, 1),
    "features": 32,
    "predicts": "edm",
    "timesteps": 100,
    "alone": 0,
    "prior_rate": 1.0,
    "turn": 10.0,
    "steps": 10,
    "draws": 4,
}
"""For tests."""
