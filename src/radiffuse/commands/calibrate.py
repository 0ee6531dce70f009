"""What images set after training, a threshold or a strength: which of them, and how it is kept in the run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..applications.evaluation.aside import apart
from ..applications.evaluation.asked import spread
from ..applications.recipe import Batch
from ..data.dataset import Cases
from ..diffusion.noise import derive
from ..errors import UserError
from ..runs.calibration import write_calibration
from ..training import processes
from ..training.checkpoint import MODEL, model_sha256
from ..training.objective import device_of
from ..training.progress import say

__all__ = ["calibrate", "set_aside"]

MOST, BATCH = 256, 16
"""Cases at most, where the recipe says no other number (`CALIBRATED_BY`); of these at once."""


def set_aside(training: Cases, cases: Cases, recipe: Any) -> tuple[Cases, Cases]:
    """Cases to train on, and suitable ones of other patients to calibrate on, that nothing is measured by.

    The second are of the split val where the split test is measured; otherwise `apart` from the training.

    Args:
        training: suitable cases of the split train.
        cases: all.
        recipe: says which are suitable, where not all are.

    Raises:
        UserError: there are too few such patients.
    """
    choose = getattr(recipe, "suitable", None)
    if {"val", "test"} <= set(cases.split_of):
        unseen = cases.split("val")
        unseen = unseen if choose is None else unseen.kept(choose)
        if len(unseen):
            return training, unseen
    if len(set(training.patients)) < 2:
        which = f"healthy (label {recipe.healthy}, or an empty mask) " if choose else ""
        raise UserError(
            f"{cases.source}: all {which}training cases are of one patient; the {recipe.CALIBRATION} needs another "
            "patient than those trained on"
        )
    return apart(training)


def calibrate(recipe: Any, objective: Any, aside: Cases, out: Path) -> None:
    """Set what the recipe calibrates by some of the cases, and write it to the run."""
    if not processes.is_main():
        return
    cases = aside.take(spread(len(aside), getattr(recipe, "CALIBRATED_BY", MOST)))
    device = device_of(objective)
    for player in objective.players.values():
        player.eval()

    def batches() -> Iterator[Batch]:
        for first in range(0, len(cases), BATCH):
            rows = range(first, min(first + BATCH, len(cases)))
            seeds = [derive(0, "calibration", cases.ids[row]) for row in rows]
            told = {key: value.to(device) for key, value in cases.batch(rows).items()}
            yield {**told, "seed": torch.tensor(seeds)}

    found = recipe.calibrated(objective, batches())
    patients, split = len(set(cases.patients)), sorted(set(cases.split_of))
    about = {"cases": len(cases), "patients": patients, "split": split}
    write_calibration(out, found, model_sha256(out / MODEL), **about)
    say(
        f"{out}: {recipe.CALIBRATION} set by {len(cases)} cases of {patients} patients ({split[0]}), "
        "who are in no training and no metric"
    )
