"""What the presets of the reconstructions share."""

from typing import Any

from ..presets import LOG_NORMAL, SMALL, TINY, averaged

__all__ = ["SMALL_PRIOR", "TINY_PRIOR", "trained"]

_LEVELS: dict[str, Any] = {**LOG_NORMAL, "sigma_max": 0.0}

SMALL_PRIOR: dict[str, Any] = {**SMALL, **_LEVELS}
"""A small network of EDM's levels."""

TINY_PRIOR: dict[str, Any] = {**TINY, **_LEVELS}
"""The same for tests."""


def trained(steps: int, batch: int, decay: float = 0.0, **more: Any) -> dict[str, Any]:
    """Options of a training loop whose exponential average decays so; 0 = the last weights."""
    return {
        "steps": steps,
        "batch": batch,
        "ema": averaged(decay, steps) if decay else (0.0,),
        **more,
    }
