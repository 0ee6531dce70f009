"""Measure a trained method beside its honest baseline: what `radiffuse evaluate` writes.

One form for every application, JSON-able as it is:

    {"method": {metric: {"mean", "ci95": [low, high], "n", "per_patient": {id: value}}},
     "baseline": {...}, "reference": {...}, "data": {...}, "command": ..., ...}

A metric that cannot be given is {"refused": reason, "n": n}.
"""

import pkgutil
from dataclasses import fields
from typing import Any

from ..data.dataset import Cases
from ..errors import UserError
from .evaluation.asked import Asked

__all__ = ["evaluate"]


def evaluate(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, **options: Any
) -> dict[str, Any]:
    """Measure a recipe by the function of its task.

    Args:
        recipe, objective: a trained method.
        train, held_out: its data.
        options: fields of `Asked`, and what the task's function takes beside them.

    Raises:
        UserError: this task has no evaluation.
    """
    task = recipe.task
    if not task.evaluation:
        raise UserError(f"{task.name} has no evaluation")
    measure = pkgutil.resolve_name(task.evaluation)
    shared = {field.name for field in fields(Asked)}
    asked = Asked(**{key: value for key, value in options.items() if key in shared})
    special = {key: value for key, value in options.items() if key not in shared}
    return measure(recipe, objective, train, held_out, asked, **special)
