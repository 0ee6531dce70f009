"""Presets of `dispr`: networks, chains and training."""

from typing import Any

from ...labels import LABELS
from ...presets import TINY as TINY_NETWORK
from ...presets import TRAINING as SHARED

__all__ = ["SMALL", "TINY", "TRAINING"]

SMALL: dict[str, Any] = {
    **LABELS,
    "whole_depth": False,
    "width": 24,
    "multiples": (1, 2, 3),
    "attention": (),
    "patch": 2,
    "scale": 0.1,
    # sigma over alpha, of x_0 of -1 and 1, at which a few voxels show, and whole shapes
    "law_mean": 3.0,
    "law_std": 1.8,
    "sampler": "dpm-solver",
    "grid": "karras",
    "start": 0.97,
    "stop": 0.006,
    "steps": 10,
    "samples": 8,
}
TINY: dict[str, Any] = {
    **LABELS,
    **TINY_NETWORK,
    "whole_depth": False,
    "law_mean": 2.0,
    "law_std": 1.8,
    "sampler": "ddim",
    "start": 0.98,
    "steps": 6,
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
