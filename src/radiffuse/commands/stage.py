"""The training of a stage of a run: a run of its own in a folder of it."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..data.records import FORMAT
from ..runs import config
from ..runs.config import Config
from ..runs.run import CONFIG, record_model
from ..training import processes
from ..training.batches import Readable
from ..training.loop import train
from ..training.memory import check_memory
from ..training.options import TrainOptions
from .begins import begun_too_late
from .train_flags import Order

__all__ = ["train_stage"]

NOTHING: Mapping[str, str] = {}


def train_stage(
    name: str,
    asked: Order,
    objective: Any,
    data: Readable,
    options: TrainOptions,
    folder: Path,
    made_with: Config,
    about: Mapping[str, str] = NOTHING,
) -> None:
    """Say what it takes, write what it is made with, and train.

    Args:
        name: of the stage, for what is said.
        asked: the command.
        objective: of the stage.
        data: to train on.
        options: of the loop.
        folder: of the stage.
        made_with: its configuration.
        about: more for its manifest.
    """
    if (line := check_memory(objective, data, options)) and processes.is_main():
        print(f"note: {name}: {line}", file=sys.stderr)
    named = {"method": asked.method, "preset": asked.preset, "command": made_with.command}
    manifest = {"format": FORMAT, **named, **about}
    if processes.is_main():
        config.write_config(folder / CONFIG, made_with)
    record = partial(record_model, folder, manifest)
    train(objective, data, options, folder, resume=asked.resume, about=manifest, record=record)
    if processes.is_main():
        for line in begun_too_late(objective):
            print(f"note: {name}: {line}", file=sys.stderr)
