"""Training of SynDiff by preset."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = ["TRAINING"]

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "batch": 1,
        "learning_rate": 1e-4,
        "betas": (0.5, 0.9),
        "warmup": 0,
        "clip": 0.0,
        "cooldown": 1.0,
    },
    "small": {
        "batch": 2,
        "learning_rate": 2e-4,
        "betas": (0.5, 0.9),
        "warmup": 50,
        "clip": 0.0,
        "cooldown": 0.5,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 40.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "betas": (0.5, 0.9), "warmup": 10, "steps": 100},
}
