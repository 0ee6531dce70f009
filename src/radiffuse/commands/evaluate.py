"""`radiffuse evaluate RUN`: the method and its honest baseline, per patient, as JSON."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from .. import __version__
from ..applications.evaluate import evaluate
from ..data.apart import check_apart
from ..data.cases import Cases
from ..data.files import check_file, write_json
from ..data.planes import Cut
from ..report.private import said
from ..report.table import apart
from ..runs.named import card_of, found_run, home_of
from ..runs.run import command_line, environment, open_run, read_run_config
from ..training import processes
from ..training.checkpoint import sweep
from ..training.progress import say
from . import parsing
from .beside import runs_beside
from .chosen import Chosen
from .columns import aligned
from .lock import writing
from .nodes import NodeFlags
from .prior import prior_beside
from .source import (
    asked_cases,
    check_axes,
    check_keys,
    data_of,
    own_cases,
    validation_cases,
)

PICTURES = "pictures"


@dataclass(frozen=True)
class Flags(NodeFlags):
    """What to measure.

    Attributes:
        run: run folder of a finished training, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        data: file or folder of the data, or dicomweb://... or dimse://...; those of the training where left out.
        map: key=column words; those of the training where left out.
        size: size every image is brought to, as --size 64 64; that of the training where left out.
        range: LOW HIGH, stored values that become -1 and 1; the training's where left out.
        slices: where volumes are cut into slices, each a case of its patient: axial, coronal, sagittal, or
            axis 0, 1 or 2 of the array; as in training where left out.
        split: train, val or test. Where left out: test, or val where there is no test; other data
            than those of the training, which name no splits, are all measured.
        out: JSON file to write; RUN/metrics.json where left out, of a packed model NAME-metrics/metrics.json here.
            Pictures go to a folder beside it.
        count: generated images to measure (generative methods).
        steps: network evaluations of the sampler; the recipe's own number where left out.
        samples: draws per case (methods that average draws); the recipe's own number where left out.
        set: field=value words, settings of the recipe that only prediction reads.
        seed: sample k depends on this and on k alone.
        chosen: which series of DICOM data are read, and what is shown of their names.
        batch: cases at once, for speed and memory; a case differs by rounding alone, with 1 not at all.
        beside: other runs to measure on the same cases (of missing contrasts: runs of one source and one target).
        prior: run of a generative method on the same data, by which images are purified beside (purification).
        weights: an Inception-v3 (FID's, ImageNet's) or ResNet-50 (RadImageNet's) of yours, as safetensors.
    """

    run: Annotated[Path, tyro.conf.Positional]
    data: str | None = None
    map: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    range: tuple[float, ...] = ()
    slices: Cut | None = None
    split: str | None = None
    out: Path | None = None
    count: int | None = None
    steps: int | None = None
    samples: int | None = None
    set: tuple[str, ...] = ()
    seed: int = 0
    batch: int = 16
    chosen: Annotated[Chosen, tyro.conf.OmitArgPrefixes] = field(default_factory=Chosen)
    beside: tuple[Path, ...] = ()
    prior: Path | None = None
    weights: Path | None = None


def run(arguments: Sequence[str], cases: Cases | None = None) -> None:
    """Measure, and write `metrics.json`.

    Args:
        arguments: the words after `radiffuse evaluate`.
        cases: to measure on, in place of the data that the words name.
    """
    flags = parsing.parse(Flags, arguments, "radiffuse evaluate")
    parsing.positive({"--count": flags.count, "--steps": flags.steps, "--batch": flags.batch})
    parsing.positive({"--samples": flags.samples})
    flags = dataclasses.replace(flags, run=found_run(flags.run))
    out = flags.out or home_of(flags.run, "metrics") / "metrics.json"
    check_file(out)
    made_with = read_run_config(flags.run)
    if flags.out is not None and cases is None:
        check_apart(out.parent, made_with.data.path if flags.data is None else flags.data)
    with contextlib.ExitStack() as locks:
        for folder in _written(flags.run, out):
            locks.enter_context(writing(folder, "radiffuse evaluate"))
        _measure(flags, out, arguments, cases)


def _home(run: Path, out: Path) -> Path:
    """Where feature networks and trained baselines are kept: the run, or beside `out` where that is a packed model."""
    return run if card_of(run) is None else out.parent


def _written(run: Path, out: Path) -> list[Path]:
    """The folders an evaluation writes into: beside `out`, and what is kept, where that can be."""
    home = _home(run, out)
    same = out.parent.resolve() == home.resolve()
    return [out.parent] if same or not os.access(home, os.W_OK) else [out.parent, home]


def _measure(flags: Flags, out: Path, arguments: Sequence[str], given: Cases | None) -> None:
    """Measure, in folders that no other command writes into."""
    processes.start()
    home = _home(flags.run, out)
    if processes.is_main() and os.access(home, os.W_OK):
        sweep(home)
    opened = open_run(flags.run).with_steps(flags.steps)
    if (line := said(opened.manifest.get("private") or {})) and processes.is_main():
        say(
            f"note: {opened.path} is {line}; what is measured and shown here reads images anew, outside of that"
        )
    settings = parsing.pairs(flags.set, "--set")
    settings |= {} if flags.samples is None else {"samples": str(flags.samples)}
    opened = opened.with_settings(settings)
    source, cases = data_of(flags, opened, given)
    if "kspace" not in {*opened.recipe.task.given} & {*cases.keys}:
        check_keys(opened.config.method, opened.recipe, cases.keys, source)
    check_axes(opened, cases, source)
    prior = None if flags.prior is None else prior_beside(flags.prior, opened)
    held_out = asked_cases(cases, flags.split, source, opened)
    command = command_line(["evaluate", *arguments])
    own = own_cases(cases, source, opened)
    record = evaluate(
        opened.recipe,
        opened.objective,
        own.split("train"),
        held_out,
        count=flags.count,
        seed=flags.seed,
        batch=flags.batch,
        folder_for_pictures=out.parent / PICTURES,
        command=command,
        cache=home / "features",
        trained=opened.budget,
        validation=validation_cases(own),
        prior=prior,
        model=opened.model_sha256,
        weights=flags.weights,
        **runs_beside(opened, flags.beside),
    )
    if not processes.is_main():
        return
    made_by = {
        "run": str(flags.run),
        "id": opened.config.method,
        "name": opened.config.name,
        "model_sha256": opened.model_sha256,
        "split": held_out.split_of[0],
        "shown": list(opened.recipe.task.shown),
        **({"slices": held_out.volumes.plane} if held_out.volumes else {}),
        "version": __version__,
        "environment": environment(),
    }
    write_json(out, {**record, **made_by})
    print(_table(record, opened.config.name))
    if widen := record.get("settings", {}).get("widen"):
        print(
            f"90 % intervals cover 90 % of the body {widen:.3g} times as wide: --set widen={widen:.3g}"
        )
    print(f"metrics: {out}")


def _table(record: dict[str, Any], name: str) -> str:
    """The method by its `name`, baselines and reference side by side, and why a number is missing."""
    made = record.get("made", {})
    main, others = apart(record)
    record = {k: v for k, v in record.items() if k in ("method", "baseline", "reference")} | others
    order = ("method", "baseline", *others, "reference")
    who = [name for name in order if name in record]
    metrics = list(dict.fromkeys(metric for name in who for metric in record[name]))
    titles = {"method": name, "baseline": f"baseline: {main}" if main else "baseline"}
    rows = [["", *(titles.get(each, each) for each in who)]]
    rows += [[metric, *(_cell(record[name].get(metric, {})) for name in who)] for metric in metrics]
    lines = aligned(rows)
    reasons: dict[str, list[str]] = {}
    for metric in metrics:
        for value in (record[name].get(metric, {}) for name in who):
            if "refused" in value and metric not in reasons.setdefault(value["refused"], []):
                reasons[value["refused"]].append(metric)
    lines += [f"no {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    lines += [f"{name}  {_cell(value)}" for name, value in made.items()]
    return "\n".join(lines)


def _cell(value: dict[str, Any]) -> str:
    if "mean" not in value:
        return "-"
    interval = value.get("ci95")
    spread = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    return f"{value['mean']:.4g}{spread}"
