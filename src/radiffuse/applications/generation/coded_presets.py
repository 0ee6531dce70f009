"""Presets of latent diffusions: networks and training of both stages."""

from typing import Any

from ..presets import PRECONDITIONED

__all__ = ["FIRST", "SECOND", "SMALL"]

SMALL: dict[str, Any] = {
    "coder_blocks": 1,
    "coder_patch": 2,
    "coder_local": True,
    "kl": 1e-6,
    "adversarial": 0.005,
    "adversarial_after": 300,
    "critic_levels": 2,
    "standardised": "channels",
    "blocks": 1,
    "attention": (1,),
    **PRECONDITIONED,
    "filtered": True,
    "sampler": "dpm-solver",
    "grid": "karras",
    "start": 0.998,
    "stop": 0.003,
    "steps": 20,
}
"""Of a small auto-encoder and a small network of its codes."""

_FAST: dict[str, Any] = {
    "batch": 8,
    "learning_rate": 1e-3,
    "warmup": 100,
    "cooldown": 0.3,
    "ema": (0.05,),
}
_TRIAL: dict[str, Any] = {"batch": 4, "learning_rate": 2e-3, "warmup": 5, "steps": 30}
_ADAM: dict[str, Any] = {"warmup": 0, "betas": (0.9, 0.999), "ema": (0.0,), "mirror": (0,)}

FIRST: dict[str, dict[str, Any]] = {
    "paper": {**_ADAM, "steps": 634_800, "batch": 1, "learning_rate": 5e-5},
    "small": {**_FAST, "minutes": 12.0},
    "tiny": _TRIAL,
}
"""Options of the first stage by preset."""

SECOND: dict[str, dict[str, Any]] = {
    "paper": {
        **_ADAM,
        "steps": 198_375,
        "batch": 4,
        "learning_rate": 2.5e-5,
        "weight_decay": 0.01,
    },
    "small": {**_FAST, "minutes": 18.0},
    "tiny": _TRIAL,
}
"""Options of the second stage by preset."""
