"""What the presets of the reconstructions share."""

from typing import Any

from ..presets import LOG_NORMAL, SMALL, TINY, averaged

__all__ = ["SMALL_PRIOR", "TINY_PRIOR", "UNSAMPLED", "trained"]

_LEVELS: dict[str, Any] = {**LOG_NORMAL, "sigma_max": 0.0}

SMALL_PRIOR: dict[str, Any] = {**SMALL, **_LEVELS}
"""A small network of EDM's levels."""

TINY_PRIOR: dict[str, Any] = {**TINY, **_LEVELS}
"""The same for tests."""

UNSAMPLED: dict[str, Any] = {
    # the deviation of either part of what masks of 4 and 8 leave out of brains and hearts, in [0, 1]
    "data_std": 0.05,
    "law": "log-normal",
    "law_mean": -3.0,
    "law_std": 1.6,
    "mask": "gaussian-columns",
    "calibration": 0,
    "noise": 0.01,
    "sampler": "dpm-solver-sde",
    "grid": "karras",
    "start": 0.95,
    "stop": 0.005,
    "samples": 4,
}
"""The chain of a small network of what was not sampled, and its scans."""


def trained(steps: int, batch: int, decay: float = 0.0, **more: Any) -> dict[str, Any]:
    """Options of a training loop whose exponential average decays so; 0 = the last weights."""
    return {
        "steps": steps,
        "batch": batch,
        "ema": averaged(decay, steps) if decay else (0.0,),
        **more,
    }
