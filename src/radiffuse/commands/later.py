"""The stages after a run's own training, each a run of its own in a folder of the run, which goes on by --resume."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..applications import fields
from ..applications.evaluation.progress import progress_bar
from ..data.cases import Cases
from ..data.files import read_json
from ..errors import UserError
from ..runs.config import Config
from ..training import checkpoint
from ..training.checkpoint import MODEL, model_sha256
from ..training.objective import device_of
from .first import perceptual_of
from .stage import train_stage
from .train_flags import Order

__all__ = ["later_stages"]


def later_stages(
    asked: Order,
    recipe: Any,
    objective: Any,
    training: Cases,
    made_with: Config,
    check: Callable[[Order, Config], None],
) -> None:
    """Train the later stages one by one; each reads what those before it have made.

    Args:
        asked: the command.
        recipe: fitted; says what a stage learns from.
        objective: of the run, trained; its `later` are the objectives of the stages.
        training: cases of the run.
        made_with: the run's configuration; those of the stages are made of it.
        check: refuses a folder that holds something else.
    """
    before = asked.out / MODEL
    device = device_of(objective)
    settled(objective.players)
    for name, stage in objective.later.items():
        options, folder = asked.later[name], asked.out / name
        own = dataclasses.replace(made_with, train=fields.plain(options), first={}, later={})
        check(dataclasses.replace(asked, out=folder, train=options, first=None, later={}), own)
        _check_after(folder, before)
        with torch.no_grad(), progress_bar(name, recipe.pairs) as done:
            data = recipe.later_data(name, objective, training, folder, options.seed, done)
        if getattr(stage, "perceives", False):
            stage.perceive = perceptual_of(training, folder)
        options = dataclasses.replace(options, batch=min(options.batch, len(data)))
        after = {"after": model_sha256(before)}
        train_stage(name, asked, stage, data, options, folder, own, after)
        for player in stage.players.values():
            player.to(device)
        settled(stage.players)
        before = folder / MODEL


def _check_after(folder: Path, before: Path) -> None:
    """Refuse a stage that was trained after another model than lies before it now.

    Raises:
        UserError: says what to remove.
    """
    manifest = folder / "manifest.json"
    if not checkpoint.started(folder) or not manifest.is_file():
        return
    was = read_json(manifest).get("after")
    if was not in (None, model_sha256(before)):
        raise UserError(
            f"{folder}: was trained after another {before}; remove it and the stages after it, and --resume trains "
            "them anew"
        )


def settled(players: dict[str, torch.nn.Module]) -> None:
    """Networks as they predict, which learn no more."""
    for player in players.values():
        player.eval().requires_grad_(False)
