"""Presets of `fast-anomaly`: networks and training of both stages."""

from typing import Any

from ..presets import PRECONDITIONED, TRAINING

__all__ = ["FIRST", "SECOND", "SMALL_CODES", "TINY_CODES"]

_ADAM: dict[str, Any] = {"warmup": 0, "betas": (0.9, 0.999), "ema": (0.0,)}
_SMALL: dict[str, Any] = {
    "batch": 16,
    "learning_rate": 1e-3,
    "warmup": 50,
    "cooldown": 0.3,
    "ema": (0.05,),
}

FIRST: dict[str, dict[str, Any]] = {
    "paper": {**_ADAM, "steps": 100_000, "batch": 256, "learning_rate": 5e-4},
    "small": {**_SMALL, "minutes": 10.0},
    "tiny": {**TRAINING["tiny"], "steps": 20},
}
"""Options of the first stage by preset."""

SECOND: dict[str, dict[str, Any]] = {
    "paper": {**_ADAM, "steps": 300_000, "batch": 256, "learning_rate": 2.5e-5},
    "small": {**_SMALL, "minutes": 20.0},
    "tiny": {**TRAINING["tiny"], "steps": 20},
}
"""Options of the second stage by preset."""

SMALL_CODES: dict[str, Any] = {
    **PRECONDITIONED,
    "codes": 256,
    "latent_channels": 4,
    "coder_width": 32,
    "coder_multiples": (1, 2),
    "coder_blocks": 1,
    "coder_patch": 2,
    "perceptual": 0.0,
    "adversarial": 0.0,
    "standardised": "channels",
    "width": 48,
    "multiples": (1, 2),
    "blocks": 1,
    "attention": (1,),
    "trained": 0.65,
    "every": 10,
    "sampler": "ddim",
    "steps": 50,
}
"""Codes of a quarter of the resolution; every tenth step of the window, 50 steps of DDIM."""

TINY_CODES: dict[str, Any] = {
    **SMALL_CODES,
    "codes": 32,
    "coder_width": 8,
    "width": 16,
    "multiples": (1, 1),
    "attention": (),
    "every": 50,
    "steps": 5,
}
