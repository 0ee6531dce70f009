"""Predictions beside healthy cases: what `evaluate` learned of a run's maps and scores, applied."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..applications.anomaly.evaluate import deciding
from ..data.records import Metrics, read_record
from ..errors import UserError
from ..metrics.detection import level_at, p_values
from ..runs.run import Run

__all__ = ["beside_healthy", "calibration_name"]

Outputs = dict[str, Tensor]


def beside_healthy(opened: Run) -> tuple[Run, Callable[[Outputs], Outputs], str]:
    """The run with the threshold that `threshold=healthy` asks for, what adds "p_value" (B,), a notice.

    Both come from `calibration` in RUN/metrics.json, written by `radiffuse evaluate RUN`; without one
    of this model and these settings there are no p-values. Runs of other tasks stay as they are.

    Raises:
        UserError: the threshold is asked for, and was never fitted.
    """
    recipe = opened.recipe
    if recipe.task.name != "anomaly":
        return opened, lambda outputs: outputs, ""
    found, trouble = _calibration(opened)
    if found is None:
        if recipe.threshold == "healthy":
            raise UserError(f"threshold=healthy: {trouble}")
        return opened, lambda outputs: outputs, f"no p-values: {trouble}"
    if recipe.threshold == "healthy":
        opened = replace(
            opened, recipe=replace(recipe, level=level_at(found["voxels"], recipe.rate))
        )
    scores = torch.tensor(found["healthy_scores"])

    def judged(outputs: Outputs) -> Outputs:
        return {**outputs, "p_value": p_values(outputs["score"].cpu(), scores)}

    return opened, judged, ""


def calibration_name(opened: Run) -> str | None:
    """Names what `beside_healthy` judges by, so that no folder mixes two; None where there is none."""
    found = _calibration(opened)[0] if opened.recipe.task.name == "anomaly" else None
    if found is None:
        return None
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def _calibration(opened: Run) -> tuple[dict[str, Any] | None, str]:
    """What was fitted to healthy cases, or why there is nothing of use."""
    path = opened.path / "metrics.json"
    first = f"run `radiffuse evaluate {opened.path}` first"
    if not path.is_file():
        return None, f"nothing was fitted to healthy cases yet; {first}"
    record = read_record(path, Metrics)
    found = record.get("calibration", {})
    fitted = found.get("voxels") and found.get("healthy_scores")
    if record.get("model_sha256") != opened.model_sha256 or not fitted:
        reason = found.get("refused", "it is of another model")
        return None, f"{path} does not serve ({reason}); {first}"
    now = deciding(opened.recipe)
    for name, value in record.get("settings", {}).get("deciding", {}).items():
        if now.get(name) != value:
            return None, (
                f"{path} was fitted with {name}={value}, not {now.get(name)}; give `radiffuse "
                "evaluate` the same --set and --steps"
            )
    return found, ""
