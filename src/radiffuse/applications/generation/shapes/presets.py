"""Presets of `dispr`: networks, chains and training."""

from typing import Any

from ...presets import LOG_NORMAL
from ...presets import TINY as TINY_NETWORK
from ...presets import TRAINING as SHARED

__all__ = ["SMALL", "TINY", "TRAINING"]

PRECONDITIONED = {
    **{key: LOG_NORMAL[key] for key in ("predicts", "preconditioned", "loss", "law")},
    "outside": -1.0,
    "learned_variance": False,
    "whole_depth": False,
}
"""x_0 of -1 and 1, whose root mean square is 1, and EDM's parametrisation."""

SMALL: dict[str, Any] = {
    **PRECONDITIONED,
    "width": 24,
    "multiples": (1, 2, 3),
    "attention": (),
    "patch": 2,
    # what a picture leaves open is decided at much noise: large shapes show through it
    "law_mean": 0.5,
    "law_std": 1.6,
    "sampler": "dpm-solver",
    "grid": "karras",
    "start": 0.97,
    "stop": 0.006,
    "steps": 10,
    "samples": 8,
}
TINY: dict[str, Any] = {
    **PRECONDITIONED,
    **TINY_NETWORK,
    "law_mean": 0.5,
    "law_std": 1.6,
    "sampler": "ddim",
    "start": 0.97,
    "steps": 5,
    "samples": 3,
}

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "steps": 45_000,
        "batch": 1,
        "learning_rate": 1e-4,
        "warmup": 0,
        "clip": 0.0,
        "betas": (0.9, 0.999),
        "ema": (0.0,),
    },
    # convolutions of small volumes are slower in bf16 than in fp32
    "small": {**SHARED["small"], "batch": 8, "warmup": 50, "precision": "fp32"},
    "tiny": SHARED["tiny"],
}
