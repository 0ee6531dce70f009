"""`calibration.json` of a run: what images set after training, kept with its model."""

from pathlib import Path
from typing import Any

from ..applications import fields
from ..data.files import write_json
from ..data.records import FORMAT, Calibrated, read_record
from ..errors import UserError

__all__ = ["CALIBRATION", "with_calibration", "write_calibration"]

CALIBRATION = "calibration.json"


def write_calibration(run: Path, recipe: Any, model_sha256: str, **about: Any) -> None:
    """Write what a calibrated recipe holds, and of which cases it is."""
    found = {name: getattr(recipe, name) for name in recipe.CALIBRATED}
    found["model_sha256"] = model_sha256
    write_json(run / CALIBRATION, {"format": FORMAT, **about, **found})


def with_calibration(recipe: Any, run: Path, model_sha256: str) -> Any:
    """The recipe with what was calibrated of this model.

    Raises:
        UserError: nothing was, or of another model.
    """
    path, again = run / CALIBRATION, "run the same train command again with --resume"
    if not path.is_file():
        raise UserError(f"{path}: is missing: no {recipe.CALIBRATION} was set; {again}")
    record = read_record(path, Calibrated)
    if record["model_sha256"] != model_sha256:
        raise UserError(f"{path}: is of another model than the one beside it; {again}")
    missing = [name for name in recipe.CALIBRATED if record.get(name) is None]
    if missing:
        raise UserError(f"{path}: `{missing[0]}` is missing; {again}")
    return fields.replaced(recipe, {name: record[name] for name in recipe.CALIBRATED}, str(path))
