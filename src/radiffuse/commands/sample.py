"""`radiffuse sample RUN`: draw new images, each from its own seed.

Sample k with --seed s starts from `derive(s, k)` alone: it comes out the same on any number of processes
and in any batch, to the bit with `--batch 1` and but for rounding in larger ones. A sample that an
earlier command wrote into --out is kept, so that the same command goes on after an interruption.
"""

import dataclasses
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from ..applications.evaluation.progress import progress_bar
from ..applications.latent.covariates import settings_of
from ..data.formats.by_ending import natural_ending, save_like
from ..data.image import Image
from ..data.made import Made
from ..diffusion.noise import derive
from ..errors import UsageError, UserError, did_you_mean
from ..report.private import said as said_of_privacy
from ..runs.named import found_run
from ..runs.run import Run, open_run, read_run_config
from ..training import processes
from ..training.memory import check_prediction
from ..training.options import Precision
from ..training.progress import say
from . import parsing
from .away import Away, away_from
from .backbones import CHAIN, PDB, trace_sheet, write_chain
from .lock import writing
from .pictures import SHEET, diverged, not_finite, template, write_sheet
from .predictions import Folder
from .tiles import in_tiles, told_of
from .written import listed, made_by

SMALLER = "lower --batch, or name --tile (volumes), or train with a smaller --width or --size"

_BESIDE = {"synthetic": ("mask",)}
"""What is drawn beside images, by task."""


@dataclass(frozen=True)
class Flags:
    """What to draw.

    Attributes:
        run: run folder of a trained generative method, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        count: number of samples.
        out: folder to write.
        steps: network evaluations of the sampler; the recipe's own number where left out.
        set: field=value words, settings of the recipe that only prediction reads.
        seed: sample k depends on this and on k alone.
        batch: samples drawn at once, for speed and memory; one differs by rounding alone, with 1 not at all.
        precision: of the networks; bf16 is faster where the processor knows it, and rounds.
        tile: sides of overlapping tiles, one or one an axis, by which networks see images, for volumes that do
            not fit into memory whole; whole where left out.
        overlap: of neighbouring tiles, as a share of their side.
        labels: class of each sample, number or name, used in turn (class-conditional runs).
        covariates: NAME=NUMBER words, what every sample is told (runs with covariates); others are drawn.
        away: draw again what lies nearer to a training image than this share of what is usual, as 0.6
            (docs/privacy.md); what that costs is said.
        away_from: data to keep away from; those of the training where left out.
    """

    run: Annotated[Path, tyro.conf.Positional]
    count: int
    out: Path
    steps: int | None = None
    set: tuple[str, ...] = ()
    seed: int = 0
    batch: int = 16
    precision: Precision = "fp32"
    tile: tuple[int, ...] = ()
    overlap: float = 0.25
    labels: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--label"])] = ()
    covariates: tuple[str, ...] = ()
    away: float | None = None
    away_from: str | None = None


def run(arguments: Sequence[str]) -> None:
    """Draw the samples that are not there yet, then write `predictions.json` and `sheet.png`."""
    flags = parsing.parse(Flags, arguments, "radiffuse sample")
    parsing.positive({"--count": flags.count, "--steps": flags.steps, "--batch": flags.batch})
    flags = dataclasses.replace(flags, run=found_run(flags.run))
    read_run_config(flags.run)
    with writing(flags.out, "radiffuse sample"):
        _fill(flags, arguments)


def _fill(flags: Flags, arguments: Sequence[str]) -> None:
    """Fill the folder, which no other command writes into."""
    processes.start()
    opened = open_run(flags.run)
    if opened.drawn is None:
        raise UserError(
            f"{flags.run}: {opened.config.method} predicts from cases; "
            f"use `radiffuse predict {flags.run} --data PATH --out DIR`"
        )
    opened = opened.with_steps(flags.steps).with_settings(parsing.pairs(flags.set, "--set"))
    opened = in_tiles(opened.with_precision(flags.precision), flags.tile, flags.overlap)
    opened = _told(opened, flags.covariates)
    labels = _labels(opened, flags.labels)
    away = away_from(opened, flags.away, flags.away_from)
    settings = {
        "method": opened.config.method,
        "preset": opened.config.preset,
        "model_sha256": opened.model_sha256,
        "steps": getattr(opened.recipe, "steps", None),
        "set": sorted(flags.set),
        "seed": flags.seed,
        "precision": flags.precision,
        **told_of(flags.tile, flags.overlap),
        "labels": labels,
        **({"covariates": sorted(flags.covariates)} if flags.covariates else {}),
        **({"away": away.share, "away_from": away.fingerprint} if away else {}),
    }
    if (line := said_of_privacy(opened.manifest.get("private") or {})) and processes.is_main():
        say(f"note: {opened.path} is {line}")
    like, chains = template(opened), CHAIN in opened.recipe.task.writes
    ending = PDB if chains else natural_ending(like)
    ending = "" if ending == ".dcm" and not like.flat else ending  # a folder
    beside = (*getattr(opened.recipe, "also", ()), *_BESIDE.get(opened.recipe.task.name, ()))
    keys = (CHAIN if chains else "image", *beside)
    entries: list[dict[str, Any]] = [
        {
            "case": f"sample-{k:05d}",
            "files": {
                key: f"sample-{k:05d}{'' if key == keys[0] else f'-{key}'}{ending}" for key in keys
            },
            "seed": derive(flags.seed, k),
            **({"label": labels[k % len(labels)]} if labels else {}),
        }
        for k in range(flags.count)
    ]
    _say_covariates(opened, entries)
    folder = Folder(flags.out, flags.run, settings, ["sample", *arguments])
    done = folder.begin(
        {file for each in entries for file in each["files"].values()}, beside=[SHEET]
    )
    with folder.going_on():
        _draw(opened, entries, like, flags, folder, done, away)
    if away and away.drawn:
        say(f"note: {away.told}")
    processes.barrier()
    if processes.is_main():
        every = {*done, *(entry["case"] for entry in entries)}
        folder.gather(sorted(every, key=lambda case: (len(case), case)), done)
        shown = [f for each in entries for key, f in each["files"].items() if key != "mask"]
        (trace_sheet if chains else write_sheet)(flags.out, [flags.out / file for file in shown])
        print(f"{flags.count} samples in {flags.out}; {flags.out / SHEET} shows them")


def _draw(
    opened: Run,
    entries: Sequence[dict[str, Any]],
    like: Image,
    flags: Flags,
    folder: Folder,
    done: Container[str],
    away: Away | None,
) -> None:
    """Draw this process's share of the samples that are not done, batch by batch."""
    share = processes.share(len(entries), processes.rank(), processes.world())
    missing = [(k, entries[k]) for k in share if entries[k]["case"] not in done]
    if missing:
        _estimate(opened, [entry for _, entry in missing], flags)
    networks = opened.objective.players.values()
    with progress_bar("sampling", len(missing), networks) as said:
        for first in range(0, len(missing), flags.batch):
            number = missing[first][0]
            part = [entry for _, entry in missing[first : first + flags.batch]]
            folder.keep(f"{number:06d}", part)
            made = _drawn(opened, part) if away is None else away(partial(_drawn, opened), part)
            _say_covariates(opened, part)  # of the seeds that were drawn last
            for row, entry in enumerate(part):
                one = {key: value[row] for key, value in made.items()}
                if key := not_finite({key: one[key] for key in entry["files"]}):
                    raise diverged(opened, entry["case"], key)
                _save(like, one, entry, flags.out, made_by(opened, "synthetic"))
            folder.note(f"{number:06d}", part)
            said(first + len(part))


def _save(
    like: Image, drawn: dict[str, Tensor], entry: dict[str, Any], out: Path, made: Made
) -> None:
    """Write the files of one entry, and note their hashes in it."""
    entry["written"] = []
    for key, file in entry["files"].items():
        if key == CHAIN:
            write_chain(drawn, out / file)
        else:
            name = "sample" if key == "image" else f"sample, {key}"
            path = out / (file if like.format != ".dcm" else f"{file.removesuffix('.dcm')}.dcm")
            save_like(like, drawn[key], path, labels=key == "mask", made=replace(made, what=name))
        entry["written"] += listed(out, file, key, "sample", made)


def _drawn(opened: Run, entries: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """What is drawn for some entries, by key."""
    batch = {"seed": torch.tensor([entry["seed"] for entry in entries])}
    if "label" in entries[0]:
        batch["label"] = torch.tensor([entry["label"] for entry in entries])
    assert opened.drawn is not None
    return opened.drawn(opened.objective, batch)


def _estimate(opened: Run, entries: Sequence[dict[str, Any]], flags: Flags) -> None:
    """Say what memory the samples take.

    Raises:
        UserError: more than is free.
    """
    at_once, last = min(flags.batch, len(entries)), getattr(opened.recipe, "last", None)
    line = check_prediction(
        opened.objective.players,
        lambda many: _drawn(opened, [entries[k % len(entries)] for k in range(many)]),
        at_once,
        SMALLER,
        None if last is None else partial(last, opened.objective),
    )
    if line and processes.is_main():
        print(f"note: {line}", file=sys.stderr)


def _told(opened: Run, words: tuple[str, ...]) -> Run:
    """The run, its samples told these covariates; a notice where one lies outside of what was trained.

    Raises:
        UsageError: the run has no covariates, none of that name, or a value is no number.
    """
    if not words:
        return opened
    if not getattr(opened.recipe, "names", ()):
        raise UsageError(f"--covariates: {opened.path} was trained without covariates")
    given = settings_of(words, opened.recipe.names)
    for line in opened.recipe.law.outside(given):
        say(f"note: {line}")
    recipe = dataclasses.replace(opened.recipe, covariates=words)
    return dataclasses.replace(opened, recipe=recipe)


def _say_covariates(opened: Run, entries: Sequence[dict[str, Any]]) -> None:
    """Write beside each sample what it is told."""
    names = getattr(opened.recipe, "names", ())
    if names and entries:
        values = opened.recipe.values(torch.tensor([entry["seed"] for entry in entries]))
        for entry, row in zip(entries, values.tolist(), strict=True):
            entry["covariates"] = dict(zip(names, row, strict=True))


def _labels(opened: Run, words: Sequence[str]) -> list[int]:
    """Class numbers of `--labels`; every class in turn where a conditional run gets none.

    Raises:
        UsageError: the run has no classes, or not that one.
    """
    classes = getattr(opened.recipe, "classes", 0)
    if not words:
        return list(range(classes))
    if not classes:
        raise UsageError(f"--labels: {opened.path} was trained without classes")
    names = opened.manifest.get("data", {}).get("facts", {}).get("class_names", [])
    return [_label(word, classes, names) for word in words]


def _label(word: str, classes: int, names: Sequence[str]) -> int:
    if word in names:
        return list(names).index(word)
    if word.isdecimal() and int(word) < classes:
        return int(word)
    hint = did_you_mean(word, names, f"there are 0 to {classes - 1} {', '.join(names)}".rstrip())
    raise UsageError(f"--labels {word}: the run has no such class; {hint}")
