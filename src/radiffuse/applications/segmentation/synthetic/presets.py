"""Presets of brainspade: networks, and training of its four stages."""

from typing import Any

from ...generation.coded_presets import SMALL as CODED
from .stages import IMAGES, SEGMENTER

__all__ = ["SMALL", "TINY", "TRAINING"]

SMALL: dict[str, Any] = {
    **CODED,
    "coder_attends": False,
    "coder_width": 16,
    "coder_multiples": (1, 2),
    "critic_width": 16,
    "perceptual": 0.0,
    "likeness": "labels",
    "width": 48,
    "multiples": (1, 2),
    "eta": 0.0,
    "painter_width": 16,
    "painter_multiples": (4, 4, 2, 1),
    "painter_blocks": (1, 1, 1, 1),
    "painter_hidden": 32,
    "painter_patch": 2,
    "painter_perceptual": 0.0,
    "style": 16,
    "style_width": 16,
    "style_levels": 4,
    "judge_width": 24,
    "judge_levels": 2,
    "matching": 10 / 3,  # of three layers a scale
    "judge_scales": 2,
    "gate_width": 16,
    "discard": True,
}

TINY: dict[str, Any] = {
    **SMALL,
    "steps": 4,
    "adversarial_after": 2,
    "critic_levels": 1,
    "coder_width": 8,
    "critic_width": 8,
    "width": 16,
    "multiples": (1, 1),
    "painter_width": 8,
    "painter_multiples": (2, 1),
    "painter_blocks": (1, 1),
    "painter_hidden": 8,
    "style": 4,
    "style_width": 8,
    "style_levels": 2,
    "judge_width": 8,
    "judge_levels": 1,
    "matching": 5.0,
    "judge_scales": 1,
    "gate_width": 8,
    "segmenter_width": 8,
    "segmenter_multiples": (1, 2),
    "attempts": 3,
    "discard": False,
    "pairs": 16,
}

_ADAM: dict[str, Any] = {"warmup": 0, "betas": (0.9, 0.999), "ema": (0.0,)}
_FAST: dict[str, Any] = {"batch": 16, "learning_rate": 1e-3, "warmup": 50, "cooldown": 0.3}
_TRIAL: dict[str, Any] = {"batch": 4, "learning_rate": 2e-3, "warmup": 5, "steps": 8}

TRAINING: dict[str, dict[str, dict[str, Any]]] = {
    "first": {
        "paper": {**_ADAM, "steps": 100_000, "batch": 256, "learning_rate": 5e-5},
        "small": {**_FAST, "ema": (0.05,), "minutes": 5.0},
        "tiny": _TRIAL,
    },
    "train": {
        "paper": {**_ADAM, "steps": 200_000, "batch": 256, "learning_rate": 2.5e-5},
        "small": {**_FAST, "ema": (0.05,), "minutes": 15.0},
        "tiny": _TRIAL,
    },
    IMAGES: {
        "paper": {
            **_ADAM,
            "steps": 200_000,
            "batch": 32,
            "learning_rate": 1e-4,
            "betas": (0.0, 0.9),
            "clip": 0.0,
        },
        "small": {
            **_FAST,
            "batch": 8,
            "learning_rate": 2e-4,
            "betas": (0.0, 0.9),
            "ema": (0.0,),
            "minutes": 25.0,
        },
        "tiny": _TRIAL,
    },
    SEGMENTER: {
        "paper": {
            "steps": 50_000,
            "batch": 32,
            "learning_rate": 1e-3,
            "cooldown": 0.3,
            "ema": (0.05,),
        },
        "small": {**_FAST, "ema": (0.05,), "mirror": (1,), "minutes": 8.0},
        "tiny": _TRIAL,
    },
}
"""Options by stage and preset."""
