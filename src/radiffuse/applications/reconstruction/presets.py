"""What the presets of the reconstructions share."""

from typing import Any

from .. import adversarial
from ..presets import LOG_NORMAL, SMALL, TINY, averaged

__all__ = [
    "ADVERSARIAL",
    "COMPLEX_LAW",
    "SELF_SMALL",
    "SELF_TINY",
    "SMALL_PRIOR",
    "TINY_PRIOR",
    "UNSAMPLED",
    "trained",
]

# A measurement settles what is decided at high levels; what it leaves open is decided at low ones. With 180 steps
# on brains of 64 x 64 (lgg128, R = 4) the law (-0.5, 1.6) of generation gave 28.0 dB, this one 31.2.
_LEVELS: dict[str, Any] = {**LOG_NORMAL, "sigma_max": 0.0, "law_mean": -2.0, "law_std": 1.2}

SMALL_PRIOR: dict[str, Any] = {**SMALL, **_LEVELS}
"""A small network of EDM's levels."""

TINY_PRIOR: dict[str, Any] = {**TINY, **_LEVELS}
"""The same for tests."""

COMPLEX_LAW: dict[str, Any] = {"law_mean": -2.7}
"""The same levels of images whose magnitudes reach 1: half of those of images in [-1, 1]."""

_SELF: dict[str, Any] = {
    **COMPLEX_LAW,
    "data_std": 0.2,
    "levels": 0,
    "highest": 2.0,
    "compared": "left-out",
}

SELF_SMALL: dict[str, Any] = {
    **SMALL_PRIOR,
    **_SELF,
    "steps": 50,
    "repeats": 3,
    "filters": 16,
    "unrolls": 2,
    "pairs": 8,
    "scans": 200,
}
"""`self-score`: fewer levels, and a small law of interpolators."""

SELF_TINY: dict[str, Any] = {
    **TINY_PRIOR,
    **_SELF,
    "steps": 4,
    "repeats": 1,
    "filters": 8,
    "layers": 2,
    "unrolls": 1,
    "scans": 16,
    "coils": 3,
    "acceleration": 2.0,
    "refinements": 0,
}
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


ADVERSARIAL: dict[str, dict[str, Any]] = {
    "paper": trained(150_000, batch=4, decay=0.999, **adversarial.TRAINING["paper"]),
    "small": {**adversarial.TRAINING["small"], "batch": 8, "minutes": 30.0},
    "tiny": adversarial.TRAINING["tiny"],
}
"""Training of `adadiff`."""
