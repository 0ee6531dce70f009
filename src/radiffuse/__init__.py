"""Radiffuse: diffusion models for medical images.

`import radiffuse` is light: public names are loaded when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES: dict[str, str] = {
    name: module
    for module, names in {
        "data.dataset": ("Cases", "Facts", "open_cases"),
        "data.image": ("Image",),
        "diffusion.denoiser": ("Denoiser",),
        "diffusion.network": ("Network",),
        "errors": ("UsageError", "UserError"),
        "diffusion.kernels": ("ancestral", "diffuse", "reverse"),
        "training.options": ("TrainOptions",),
        "papers": ("PAPERS", "Paper"),
        "diffusion.parametrization": ("CLEAN", "FLOW", "NOISE", "SCORE", "VELOCITY", "Predicts"),
        "runs.run": ("Run", "open_run"),
        "diffusion.schedule": (
            "EDM",
            "VE",
            "VP",
            "Cosine",
            "Discrete",
            "Rectified",
            "Schedule",
            "SubVP",
        ),
    }.items()
    for name in names
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'radiffuse' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
