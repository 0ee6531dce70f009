"""Presets of the translations: networks, chains and training."""

from typing import Any

from .. import adversarial
from ..presets import PRECONDITIONED, averaged
from ..presets import TINY as TINY_NETWORK
from ..presets import TRAINING as SHARED

__all__ = [
    *(
        "COMPLETION_SMALL",
        "COMPLETION_TINY",
        "COMPLETION_TRAINING",
        "CONVERSION",
        "SMALL",
        "TINY",
        "TRAINING",
    ),
]

CONVERSION: dict[str, dict[str, Any]] = {
    "paper": {
        **SHARED["paper"],
        "steps": 1_000_000,
        "batch": 4,
        "learning_rate": 1e-4,
        "warmup": 0,
        "ema": averaged(0.9999, 1_000_000),
        "mirror": (0, 1),
    },
    "small": {**SHARED["small"], "batch": 8},
    "tiny": SHARED["tiny"],
}
"""Training of `ddpm-conversion`."""

SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4, 4),
    "blocks": 1,
    "attention": (3,),
    "patch": 2,
    "formulation": "sde",
    "stretch": 1.0,
    # at 25 the chain begins where the mean brightness still shows (7 deviations at 128 x 128)
    "base": 250.0,
    "guess": 16,
    "law": "log-normal",
    "law_mean": -1.3,
    "law_std": 1.5,
    "sampler": "dpm-solver",
    "grid": "karras",
    "steps": 15,
    "stop": 0.03,
    "corrections": 1,
    "samples": 8,
}
"""The small preset of `ddpm-conversion`."""

TINY: dict[str, Any] = {
    **TINY_NETWORK,
    "formulation": "sde",
    "stretch": 1.0,
    **PRECONDITIONED,
    "sampler": "heun",
    "grid": "karras",
    "steps": 4,
    "stop": 0.01,
    "corrections": 1,
    "samples": 2,
}
"""Its tiny preset."""

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        **adversarial.TRAINING["paper"],
        "steps": 1_250_000,
        "batch": 1,
        "ema": averaged(0.999, 1_250_000),
    },
    "small": {**adversarial.TRAINING["small"], "batch": 2, "minutes": 40.0},
    "tiny": adversarial.TRAINING["tiny"],
}
"""Training of `syndiff`."""

COMPLETION_TRAINING: dict[str, dict[str, Any]] = {
    "paper": {**SHARED["paper"], "steps": 1_300_000, "ema": averaged(0.999, 1_300_000)},
    "small": {**SHARED["small"], "batch": 8, "warmup": 50},
    "tiny": SHARED["tiny"],
}
"""Training of `umm-csgm`."""

COMPLETION_SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4, 4),
    "blocks": 1,
    "attention": (3,),
    "patch": 2,
    "guess": 16,
    "sigma_max": 80.0,
    "law": "log-normal",
    "law_mean": -1.3,
    "law_std": 1.5,
    "sampler": "dpm-solver",
    "grid": "karras",
    "steps": 8,
    "stop": 0.1,
    "samples": 8,
}
"""The small preset of `umm-csgm`."""

COMPLETION_TINY: dict[str, Any] = {
    **TINY_NETWORK,
    **PRECONDITIONED,
    "sigma_max": 80.0,
    "law": "log-normal",
    "law_mean": -0.5,
    "law_std": 1.6,
    "sampler": "heun",
    "grid": "karras",
    "steps": 4,
    "stop": 0.0,
    "samples": 2,
}
"""Its tiny preset."""
