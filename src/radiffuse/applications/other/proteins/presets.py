"""Presets of `smcdiff`: networks, chains and training."""

from typing import Any

from ...presets import PRECONDITIONED
from ...presets import TRAINING as SHARED

__all__ = ["SMALL", "TINY", "TRAINING"]

_LEVELS: dict[str, Any] = {
    **PRECONDITIONED,
    # bonds are decided at a hundredth of the width of a chain, where 30 of 1024 steps lie
    "law": "log-normal",
    "law_mean": -1.5,
    "law_std": 1.5,
}

SMALL: dict[str, Any] = {
    **_LEVELS,
    "width": 48,
    "steps": 200,
    "particles": 16,
}
TINY: dict[str, Any] = {
    **_LEVELS,
    "width": 16,
    "layers": 2,
    "steps": 8,
    "particles": 4,
    "motif": "5-12",
}

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 1_000_000,
        "batch": 16,
        "learning_rate": 1e-4,
        "warmup": 0,
        "clip": 0.0,
        "betas": (0.9, 0.999),
        "ema": (0.0,),
    },
    # distances in bf16 would lose the bonds
    "small": {**SHARED["small"], "batch": 8, "minutes": 40.0, "precision": "fp32"},
    "tiny": SHARED["tiny"],
}
