"""`radiffuse predict RUN`: one file per case and output key, in the format of the input."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from .. import processes
from ..data.dataset import Cases
from ..data.image import Image
from ..errors import UserError
from ..files import read_json, write_json
from ..noise import derive
from ..run import Run, open_run
from ..tasks.base import Task
from . import parsing
from .pictures import write_output
from .predictions import Folder
from .source import check_given, open_source, source_of


@dataclass(frozen=True)
class Flags:
    """What to predict.

    Attributes:
        run: run folder of a finished training.
        out: folder to write.
        data: file or folder of the data; those of the training where left out.
        map: key=column words; those of the training where left out.
        split: train, val or test; test where left out, or val where there is no test.
        samples: draws per case; they differ by their seeds.
        steps: network evaluations of the sampler; the recipe's own number where left out.
        seed: a case's draw depends on this, its name and the draw's number alone.
        batch: cases at once; changes nothing but speed and memory.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    data: str | None = None
    map: tuple[str, ...] = ()
    split: str | None = None
    samples: int = 1
    steps: int | None = None
    seed: int = 0
    batch: int = 16


def run(arguments: Sequence[str]) -> None:
    """Predict every case of the split, then write `predictions.json`."""
    flags = parsing.parse(Flags, arguments, "radiffuse predict")
    parsing.positive({"--samples": flags.samples, "--steps": flags.steps, "--batch": flags.batch})
    processes.start()
    opened = open_run(flags.run)
    method = opened.config.method
    if opened.generative:
        raise UserError(
            f"{flags.run}: {method} makes images from nothing but seeds; "
            f"use `radiffuse sample {flags.run} --count N --out DIR`"
        )
    opened = opened.with_steps(flags.steps)
    source = source_of(opened.config, flags.data, flags.map)
    every = open_source(source)
    cases = every.held_out() if flags.split is None else every.split(flags.split)
    check_given(method, opened.recipe, cases.keys, source)
    settings = {
        "method": method,
        "model_sha256": opened.model_sha256,
        "data": cases.fingerprint,
        "split": cases.split_of[0],
        "samples": flags.samples,
        "steps": flags.steps,
        "seed": flags.seed,
    }
    folder = Folder(flags.out, flags.run, settings, ["predict", *arguments])
    folder.begin()
    with folder.going_on():
        entries = list(_predict(opened, cases, flags))
    part = flags.out / f".part-{processes.rank()}.json"
    write_json(part, entries)
    processes.barrier()
    if processes.is_main():
        parts = [flags.out / f".part-{rank}.json" for rank in range(processes.world())]
        folder.finish([entry for part in parts for entry in read_json(part)])
        for part in parts:
            part.unlink()
        print(f"{len(cases)} cases predicted in {flags.out}")


def _predict(opened: Run, cases: Cases, flags: Flags) -> Iterator[dict[str, Any]]:
    """Predict this process's share of the cases, and say what was written for each."""
    mine = processes.share(len(cases), processes.rank(), processes.world())
    raw = opened.recipe.task.raw
    for sample in range(flags.samples):
        for first in range(mine.start, mine.stop, flags.batch):
            rows = range(first, min(first + flags.batch, mine.stop))
            seeds = [derive(flags.seed, cases.ids[row], sample) for row in rows]
            batch = {**cases.batch(rows), "seed": torch.tensor(seeds)}
            batch = {key: value.to(opened.device) for key, value in batch.items()}
            outputs = opened.recipe.predict(opened.objective, batch)
            for place, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
                name = cases.ids[row] + (f"-{sample:02d}" if flags.samples > 1 else "")
                entry = {"case": cases.ids[row], "patient": cases.patients[row], "seed": seed}
                like = _like(cases, row, opened.recipe.task)
                written = {
                    key: write_output(value[place], like, flags.out / f"{name}-{key}", key in raw)
                    for key, value in outputs.items()
                }
                files = {key: item for key, item in written.items() if isinstance(item, str)}
                values = {key: item for key, item in written.items() if not isinstance(item, str)}
                yield {**entry, "files": files, "values": values}


def _like(cases: Cases, row: int, task: Task) -> Image:
    """The stored image whose type, range and geometry the outputs take."""
    keys = [key for key in (*task.reads, *cases.image_keys) if key in cases.image_keys]
    if keys:
        return cases.image(row, keys[0])
    size = cases.batch([row])[task.given[0]].shape[2:]
    return Image(torch.zeros(1, *size), None, range=(0.0, 1.0), format=".nii.gz")
