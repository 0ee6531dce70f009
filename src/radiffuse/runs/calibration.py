"""`calibration.json` of a run: what healthy images set after training, kept with its model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.files import write_json
from ..data.records import FORMAT, Thresholds, read_record
from ..errors import UserError

__all__ = ["CALIBRATION", "with_calibration", "write_calibration"]

CALIBRATION = "calibration.json"


def write_calibration(run: Path, recipe: Any, model_sha256: str, **about: Any) -> None:
    """Write what a calibrated recipe holds, and of which cases it is."""
    found = {"healthy_levels": recipe.healthy_levels, "model_sha256": model_sha256}
    write_json(run / CALIBRATION, {"format": FORMAT, **about, **found})


def with_calibration(recipe: Any, run: Path, model_sha256: str) -> Any:
    """The recipe with what was calibrated of this model.

    Raises:
        UserError: nothing was, or of another model.
    """
    path, again = run / CALIBRATION, "run the same train command again with --resume"
    if not path.is_file():
        raise UserError(f"{path}: is missing: no threshold was set by healthy images; {again}")
    record = read_record(path, Thresholds)
    if record["model_sha256"] != model_sha256:
        raise UserError(f"{path}: is of another model than the one beside it; {again}")
    rows = tuple(tuple(float(value) for value in row) for row in record["healthy_levels"])
    return replace(recipe, healthy_levels=rows)
