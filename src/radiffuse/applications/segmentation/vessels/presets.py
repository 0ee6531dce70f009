"""Presets of the vessels: networks and training."""

from typing import Any

from ...presets import TINY as TINY_NETWORK
from ...presets import TRAINING as SHARED

__all__ = ["SMALL", "TINY", "TRAINING"]

SMALL: dict[str, Any] = {
    "width": 16,
    "multiples": (1, 2, 4),
    "blocks": 1,
    "attention": (),
    "patch": 2,
    "window": 64,
    "crops": 2,
    "even": 32,
    "light": 60,
    # an even cycle teaches the empty mask first, and a thousand steps do not leave it (DRIVE, 821 steps)
    "balanced": True,
    # a strong cycle settles for vessels that are bright, before the critic has seen that they are dark (599 steps)
    "cycle": 1.0,
    "adversarial": 0.5,
    "generator_width": 16,
    # thin vessels are lost at a quarter of a sub-image's resolution
    "generator_levels": 1,
    "hidden": 16,
    "critic_width": 16,
}
"""The small preset of `darl`."""

TINY: dict[str, Any] = {
    **{name: value for name, value in TINY_NETWORK.items() if name != "dropout"},
    "width": 8,
    "phases": 1,
    "window": 16,
    "even": 16,
    "light": 60,
    "generator_width": 4,
    "generator_levels": 1,
    "hidden": 4,
    "critic_width": 4,
    "critic_levels": 2,
    "kept": 8,
}
"""Its tiny preset."""

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 243_150,
        "batch": 1,
        "learning_rate": 5e-6,
        "betas": (0.5, 0.999),
        "warmup": 0,
        "clip": 0.0,
        "ema": (0.0,),
        "mirror": (0, 1),
    },
    "small": {
        "batch": 4,
        "learning_rate": 2e-4,
        "betas": (0.5, 0.999),
        "warmup": 50,
        "clip": 0.0,
        "cooldown": 0.3,
        "ema": (0.05,),
        "mirror": (0, 1),
        "minutes": 40.0,
    },
    "tiny": {**SHARED["tiny"], "betas": (0.5, 0.999)},
}
"""Training of `darl`."""
