"""The later stages of a run: each a run of its own in a folder of the run."""

from pathlib import Path
from typing import Any

from ..data.records import Manifest, read_record
from ..errors import UserError
from ..training.checkpoint import MODEL, load_model, model_sha256

__all__ = ["load_later"]


def load_later(objective: Any, run: Path) -> None:
    """Read the weights of the later stages of a run into its objective.

    Raises:
        UserError: a stage has not been trained to its end, its file is damaged, or it was trained after another model
            than the one before it.
    """
    before = run / MODEL
    for name, stage in objective.later.items():
        model = run / name / MODEL
        if not model.is_file():
            raise UserError(
                f"{run / name}: training has not finished ({MODEL} is missing); "
                "run the same train command again with --resume"
            )
        load_model(stage, model)
        told = read_record(run / name / "manifest.json", Manifest)
        named = told.get("model_sha256", [])
        if model_sha256(model) not in ([named] if isinstance(named, str) else named):
            raise UserError(
                f"{model}: is not the model that its manifest.json names; put the right one back"
            )
        if told.get("after") != model_sha256(before):
            raise UserError(
                f"{model}: was trained after another {before.relative_to(run)} than the one here; put the right one "
                "back, or train again"
            )
        before = model
