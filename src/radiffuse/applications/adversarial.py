"""The fields of adversarial diffusions of few large steps (see `large_steps`), and what their presets share."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .backbone import UNetFields
from .ranges import Rule, at_least, more_than

__all__ = ["SMALL", "TINY", "TRAINING", "AdversarialFields"]

SMALL: dict[str, Any] = {
    "width": 32,
    "multiples": (1, 2, 4),
    "blocks": 1,
    "attention": (2,),
    "patch": 2,
    "mapped": 128,
    "critic_width": 24,
    "critic_levels": 4,
}
"""The networks of the small presets."""

TINY: dict[str, Any] = {
    "width": 16,
    "multiples": (1, 2),
    "blocks": 1,
    "attention": (),
    "patch": 2,
    "latent": 8,
    "mapped": 16,
    "critic_width": 8,
    "critic_levels": 2,
}
"""The same for tests."""

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "learning_rate": 1e-4,
        "betas": (0.5, 0.9),
        "warmup": 0,
        "clip": 0.0,
        "cooldown": 1.0,
    },
    "small": {
        "learning_rate": 2e-4,
        "betas": (0.5, 0.9),
        "warmup": 50,
        "clip": 0.0,
        "cooldown": 0.5,
        "precision": "bf16",
        "ema": (0.05,),
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "betas": (0.5, 0.9), "warmup": 10, "steps": 100},
}
"""Training by preset, but for its length."""


@dataclass(frozen=True)
class AdversarialFields(UNetFields):
    """A generator told a latent, and a critic of successive states; the defaults are Özbey et al. 2022."""

    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(("timesteps", "latent", "mapped", "penalty_every"), at_least(1)),
        **dict.fromkeys(("critic_width", "critic_levels"), at_least(1)),
        "penalty": at_least(0),
        "generator_rate": more_than(0),
    }

    timesteps: int = 4
    """Large steps of the diffusion, T."""
    width: int = 64
    """Channels of the generators' first level."""
    latent: int = 100
    """Length of the latent z."""
    mapped: int = 256
    """Width of the latent's mapping network."""
    critic_width: int = 64
    """Channels of the critics' first layer."""
    critic_levels: int = 6
    """How often the critics of states halve the resolution."""
    penalty: float = 1.0
    """Factor of the R1 penalty, gamma."""
    penalty_every: int = 10
    """Steps between penalties."""
    generator_rate: float = 1.6
    """Learning rate of the generators over that of the critics (1.6e-4 over 1e-4)."""
