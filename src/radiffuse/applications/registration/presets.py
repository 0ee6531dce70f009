"""Networks and training of the presets of DiffuseMorph and DDM."""

from typing import Any

__all__ = ["SMALL", "TINY", "TRAINING"]

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 72_000,
        "batch": 1,
        "learning_rate": 2e-4,
        "betas": (0.5, 0.999),
        "warmup": 0,
        "clip": 0.0,
        "ema": (0.0,),
    },
    "small": {
        "batch": 16,
        "learning_rate": 1e-3,
        "warmup": 100,
        "cooldown": 0.3,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 35.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 10, "steps": 100},
}


SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4),
    "attention": (2,),
    "patch": 4,
    "encoder": (32, 32, 48, 48),
    "decoder": (48, 48, 32, 32),
    "convolutions": 1,
    "coarse": 2,
    "similarity": 10.0,
    "padding": "border",
    "clean": 0.5,
    "anchored": True,
    "turns": 30.0,
    "swapped": True,
}
"""Useful after half an hour on two CPU cores. Half of the cases are trained at the place of prediction,
which the noisy ones alone reach only after many more steps."""


TINY: dict[str, Any] = {
    **{"timesteps": 200, "beta_start": 1e-5, "beta_end": 0.1},
    **{"width": 16, "multiples": (1, 2), "attention": (), "patch": 2},
    **{
        "encoder": (8, 16, 16),
        "decoder": (16, 16, 8),
        "convolutions": 1,
        "frames": 3,
        "anchored": True,
    },
}
