"""`evaluate --beside RUN`: other runs measured on the same cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, UserError
from ..runs.named import found_run
from ..runs.run import Run, open_run
from .subset import subset_of

__all__ = ["runs_beside"]

KEYS = ("source", "target")


def runs_beside(opened: Run, paths: Sequence[Path]) -> dict[str, Any]:
    """What an evaluation is told of other runs: "beside", by name the recipe, its objective, and two contrasts.

    Args:
        opened: the run that is measured.
        paths: runs of the same data in the same units: of one source and one target each where the method makes
            missing images, else of the same application, of which no contrasts are told.

    Raises:
        UsageError: the method is not measured beside other runs.
        UserError: there is no such run, or one of other data.
    """
    if not paths:
        return {}
    if not opened.recipe.task.beside:
        raise UsageError(
            f"--beside: {opened.config.method} is measured beside its own baselines alone"
        )
    if not opened.recipe.task.subset:
        return {"beside": _alike(opened, paths)}
    keys = subset_of(opened.recipe)
    ours = opened.config.data
    names = {ours.map.get(key, key): key for key in keys}
    found: dict[str, Any] = {}
    for path in paths:
        other = open_run(found_run(path))
        data, method = other.config.data, other.config.method
        columns = [data.map.get(key, "") for key in KEYS]
        if method == opened.config.method or not set(columns) <= set(names):
            raise UserError(
                f"{path}: is a run of {method}, and one that makes one of {', '.join(names)} from another is needed"
            )
        source, target = (names[column] for column in columns)
        if data.path != ours.path:
            raise UserError(f"{path}: was trained on {data.path}, not on {ours.path}")
        for key, own in zip(KEYS, (source, target), strict=True):
            if tuple(data.range[key]) != tuple(ours.range[own]):
                raise UserError(
                    f"{path}: reads {own} from {data.range[key]}, and {opened.path} from {ours.range[own]}; "
                    "train both with one --range"
                )
        name = method if method not in found else f"{method} {path.name}"
        found[name] = (other.recipe, other.objective, source, target)
    return {"beside": found}


def _alike(opened: Run, paths: Sequence[Path]) -> dict[str, Any]:
    """Runs of the same application and the same data, by name the recipe and its objective.

    Raises:
        UserError: a run of another application, of other data or in other units.
    """
    ours = opened.config.data
    found: dict[str, Any] = {}
    for path in paths:
        other = open_run(found_run(path))
        data, method = other.config.data, other.config.method
        task = opened.recipe.task.name
        if method == opened.config.method or other.recipe.task.name != task:
            raise UserError(f"{path}: is a run of {method}, and another method of {task} is needed")
        if (data.path, dict(data.map), dict(data.range)) != (
            ours.path,
            dict(ours.map),
            dict(ours.range),
        ):
            raise UserError(
                f"{path}: was trained on other data than {opened.path}, or reads them by another --map or --range"
            )
        name = method if method not in found else f"{method} {path.name}"
        found[name] = (other.recipe, other.objective)
    return found
