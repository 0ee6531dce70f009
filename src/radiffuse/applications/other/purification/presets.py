"""Training of the classifier behind the defence by preset, and its smaller networks."""

from typing import Any

from ...classification.presets import TRAINING as CLASSIFIERS

__all__ = ["SMALL", "TINY", "TRAINING"]

TRAINING: dict[str, dict[str, Any]] = {
    # 50 epochs of ISIC 2019 (25,331 images), at the rate of DiffMIC's ResNets
    "paper": {
        "steps": 40_000,
        "batch": 32,
        "learning_rate": 1e-3,
        "warmup": 800,
        "cooldown": 1.0,
    },
    "small": {**CLASSIFIERS["small"], "minutes": 8.0},
    "tiny": CLASSIFIERS["tiny"],
}

SMALL: dict[str, Any] = {
    "width": 32,
    "stem": 2,
    "blocks": (1, 1, 1),
    "turn": 15.0,
    "tv_iterations": 20,
}
"""Useful after some minutes on two CPU cores."""

TINY: dict[str, Any] = {
    "width": 8,
    "stem": 2,
    "blocks": (1, 1),
    "turn": 10.0,
    "repeats": 2,
    "tv_iterations": 5,
    "attack_steps": 2,
    "draws": 1,
}
"""For tests."""
