"""The threshold that healthy images set after training: on which of them, and how it is kept in the run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..applications.evaluation.asked import spread
from ..applications.recipe import Batch
from ..data.dataset import Cases
from ..data.splits import parted
from ..diffusion.noise import derive
from ..errors import UserError
from ..runs.calibration import write_calibration
from ..training import processes
from ..training.checkpoint import MODEL, model_sha256
from ..training.objective import device_of
from ..training.progress import say

__all__ = ["calibrate", "set_aside"]

SHARE, MOST, BATCH = 0.1, 256, 16
"""Share of the training patients set aside; cases at most; of these at once."""


def set_aside(training: Cases, cases: Cases, recipe: Any) -> tuple[Cases, Cases]:
    """Cases to train on, and healthy ones of other patients to calibrate on, that nothing is measured by.

    The second are of the split val where the split test is measured; otherwise of a tenth of the training
    patients, who are not trained on then.

    Args:
        training: healthy cases of the split train.
        cases: all.
        recipe: says which are healthy.

    Raises:
        UserError: there are too few healthy patients.
    """
    if {"val", "test"} <= set(cases.split_of):
        healthy = cases.split("val").kept(recipe.suitable)
        if len(healthy):
            return training, healthy
    if len(set(training.patients)) < 2:
        raise UserError(
            f"{cases.source}: all healthy training cases (label {recipe.healthy}, or an empty mask) are of one "
            "patient; a threshold of healthy cases needs another patient than those trained on"
        )
    rest, apart = parted(training.patients, SHARE, "calibration")
    return training.take(rest), training.take(apart)


def calibrate(recipe: Any, objective: Any, healthy: Cases, out: Path) -> None:
    """Set the threshold by up to 256 of the healthy cases, and write it to the run."""
    if not processes.is_main():
        return
    cases = healthy.take(spread(len(healthy), MOST))
    device = device_of(objective)
    for player in objective.players.values():
        player.eval()

    def batches() -> Iterator[Batch]:
        for first in range(0, len(cases), BATCH):
            rows = range(first, min(first + BATCH, len(cases)))
            seeds = [derive(0, "calibration", cases.ids[row]) for row in rows]
            image = cases.batch(rows)["image"].to(device)
            yield {"image": image, "seed": torch.tensor(seeds)}

    found = recipe.calibrated(objective, batches())
    patients, split = len(set(cases.patients)), sorted(set(cases.split_of))
    about = {"cases": len(cases), "patients": patients, "split": split}
    write_calibration(out, found, model_sha256(out / MODEL), **about)
    say(
        f"{out}: threshold of healthy images set by {len(cases)} cases of {patients} patients ({split[0]}), "
        "who are in no training and no metric"
    )
