"""Measure a trained method beside its honest baseline: what `radiffuse evaluate` writes.

One form for every application, JSON-able as it is:

    {"method": {metric: {"mean", "ci95": [low, high], "n", "per_patient": {id: value}}},
     "baseline": {...}, "reference": {...}, "data": {...}, "command": ..., ...}

A metric that cannot be given is {"refused": reason, "n": n}.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from ..data.dataset import Cases
from ..errors import UserError
from .anomaly.evaluate import evaluate_anomaly
from .classification.evaluate import evaluate_classification
from .denoising.evaluate import evaluate_denoising
from .evaluation.asked import Asked
from .evaluation.judge import Judge, judge
from .generation.evaluate import evaluate_generation
from .generation.quality import quality_against_steps
from .reconstruction.evaluate import evaluate_reconstruction
from .registration.evaluate import evaluate_registration
from .segmentation.evaluate import evaluate_segmentation
from .translation.evaluate import evaluate_translation

__all__ = [
    "EVALUATIONS",
    "Asked",
    "Judge",
    "evaluate",
    "evaluate_anomaly",
    "evaluate_classification",
    "evaluate_generation",
    "evaluate_reconstruction",
    "evaluate_registration",
    "evaluate_segmentation",
    "evaluate_translation",
    "judge",
    "quality_against_steps",
]

EVALUATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "generation": evaluate_generation,
    "translation": evaluate_translation,
    "reconstruction": evaluate_reconstruction,
    "anomaly": evaluate_anomaly,
    "classification": evaluate_classification,
    "registration": evaluate_registration,
    "segmentation": evaluate_segmentation,
    "denoising": evaluate_denoising,
}
"""The evaluation of each task by its name."""


def evaluate(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, **options: Any
) -> dict[str, Any]:
    """Measure a recipe by the function of its task.

    Args:
        recipe, objective: a trained method.
        train, held_out: its data.
        options: fields of `Asked`, and what the task's function takes beside them.

    Raises:
        UserError: this task has no evaluation yet.
    """
    name = recipe.task.name
    if name not in EVALUATIONS:
        raise UserError(f"evaluation of {name} is not there yet; there is {', '.join(EVALUATIONS)}")
    shared = {field.name for field in fields(Asked)}
    asked = Asked(**{key: value for key, value in options.items() if key in shared})
    special = {key: value for key, value in options.items() if key not in shared}
    return EVALUATIONS[name](recipe, objective, train, held_out, asked, **special)
