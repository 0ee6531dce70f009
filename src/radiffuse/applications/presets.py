"""What the presets of several recipes share: networks, training, preconditioning."""

from typing import Any

__all__ = [
    "LOG_NORMAL",
    "PRECONDITIONED",
    "SMALL",
    "SMALL_CHAIN",
    "TINY",
    "TINY_CHAIN",
    "TRAINING",
    "averaged",
]

SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4, 6),
    "blocks": 1,
    "attention": (2, 3),
    "patch": 2,
    "dropout": 0.0,
}
"""The network of the small presets: useful after half an hour on two CPU cores."""


TINY: dict[str, Any] = {
    "width": 16,
    "multiples": (1, 2),
    "blocks": 1,
    "attention": (),
    "patch": 2,
    "dropout": 0.0,
}
"""The network of the tiny presets: trains and predicts in seconds, for tests."""


SMALL_CHAIN: dict[str, Any] = {
    "sampler": "dpm-solver",
    "grid": "karras",
    "start": 0.998,
    "stop": 0.003,
    "steps": 20,
}
"""The chain of the small presets of discrete betas: few steps, none where there is next to no signal or noise."""

TINY_CHAIN: dict[str, Any] = {"sampler": "ddim", "start": 0.998, "steps": 5}
"""The same for tests."""


TRAINING: dict[str, dict[str, Any]] = {
    # Ho et al. 2020, appendix B
    "paper": {"batch": 128, "learning_rate": 2e-4, "warmup": 5000, "betas": (0.9, 0.999)},
    # few steps: a high rate that ends at zero, and bf16, which halves their cost
    "small": {
        "batch": 32,
        "learning_rate": 1e-3,
        "warmup": 200,
        "cooldown": 0.3,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 30.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "warmup": 10, "steps": 100},
}


def averaged(decay: float, steps: int) -> tuple[float]:
    """The width of a power-function average that after `steps` steps is as wide as an exponential one.

    1 / ((1 - decay) steps), the standard deviation of exp(-(1 - decay) tau) over the length of the
    training; at most 0.25, near the widest there is.
    """
    return (round(min(1 / ((1 - decay) * steps), 0.25), 4),)


PRECONDITIONED: dict[str, Any] = {"predicts": "edm", "preconditioned": True, "loss": "karras"}
"""Karras et al. 2022, table 1: unit variance in and out of the network, at every noise level."""


LOG_NORMAL: dict[str, Any] = {
    **PRECONDITIONED,
    "process": "edm",
    "law": "log-normal",
    # EDM's (-1.2, 1.2) hardly trains the levels where the content of an image is decided
    "law_mean": -0.5,
    "law_std": 1.6,
    "stop": 0.0,
}
"""EDM (Karras et al. 2022, table 1), but for its law of sigma."""
