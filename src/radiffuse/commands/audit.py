"""`radiffuse audit RUN`: how much of its training data a generative model gives away."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from .. import __version__
from ..applications.evaluation.asked import Asked
from ..applications.generation.privacy.audit import PICTURE, Examined, audit
from ..applications.generation.sampling import drawn_labels, generate
from ..data.apart import check_apart
from ..data.dataset import Cases
from ..data.files import check_folder, read_json, write_json
from ..data.formats.by_ending import read_image
from ..data.records import Predictions, read_record
from ..errors import UsageError, UserError, printable
from ..report.audit import write_audit
from ..runs.named import found_run
from ..runs.run import Run, command_line, environment, open_run, read_run_config
from ..training.progress import say
from . import parsing
from .lock import writing
from .pictures import template
from .source import as_trained, check_axes, open_source, source_of

RECORD, PAGE = "audit.json", "audit.html"
FEW = 100
"""Samples below which a notice says how little can be excluded."""


@dataclass(frozen=True)
class Flags:
    """What to audit.

    Attributes:
        run: run folder of a trained generative method, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        out: folder to write: audit.json, audit.html, copies.png; it keeps what was trained on the way.
        data: file or folder of other people's images of the same kind; the run's own held-out cases where left out.
        map: key=column words for --data.
        count: samples to draw.
        images: folder that `radiffuse sample` wrote, whose samples are looked at in place of new ones.
        cases: members, and as many others, that attacks are tried on.
        shadows: models to train as the run was, each on half of the people, for the likelihood-ratio attack; even.
            Each takes as long as the run did.
        steps: network evaluations of the sampler; the recipe's own number where left out.
        seed: of all draws.
        batch: samples drawn at once.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path
    data: str | None = None
    map: tuple[str, ...] = ()
    count: int = 500
    images: Path | None = None
    cases: int = 256
    shadows: int = 0
    steps: int | None = None
    seed: int = 0
    batch: int = 16


def run(arguments: Sequence[str]) -> None:
    """Measure, write the record and the page, and print the verdict."""
    flags = parsing.parse(Flags, arguments, "radiffuse audit")
    parsing.positive({"--count": flags.count, "--cases": flags.cases, "--batch": flags.batch})
    parsing.positive({"--steps": flags.steps})
    if flags.shadows < 0 or flags.shadows % 2:
        raise UsageError(
            f"--shadows {flags.shadows}: name 0 or an even number, of halves of the people"
        )
    check_folder(flags.out)
    flags = replace(flags, run=found_run(flags.run))
    made_with = read_run_config(flags.run)
    check_apart(flags.out, made_with.data.path if flags.data is None else flags.data)
    with writing(flags.out, "radiffuse audit"):
        _audit(flags, arguments)


def _audit(flags: Flags, arguments: Sequence[str]) -> None:
    opened = open_run(flags.run).with_steps(flags.steps)
    if flags.shadows and (opened.manifest.get("private") or opened.config.distilled):
        what = "distilled" if opened.config.distilled else "trained privately"
        raise UserError(
            f"{flags.run}: --shadows trains models as the run was, and this one was {what}"
        )
    if not opened.generative:
        raise UserError(
            f"{flags.run}: {opened.config.method} draws no images from noise alone; an audit is of methods that do"
        )
    train, held_out = _own(opened)
    if flags.data is not None:
        source = source_of(opened.config, flags.data, flags.map)
        held_out = as_trained(open_source(source, opened.recipe), opened)
        check_axes(opened, held_out, source)
        say(f"note: {flags.data} stands for people who were not trained on; that it is of one law with the training "
            "data is assumed")  # fmt: skip
    samples, told = _samples(flags, opened, train)
    if len(samples) < FEW:
        say(
            f"note: {len(samples)} samples: copies rarer than 1 in {max(1, len(samples) // 3)} stay unseen"
        )
    flags.out.mkdir(parents=True, exist_ok=True)
    examined = Examined(
        opened.recipe, opened.objective, samples, told, train, held_out, opened.options
    )
    record = audit(
        examined, flags.out, cases=flags.cases, shadow_models=flags.shadows, seed=flags.seed
    )
    record |= {
        "name": opened.config.name,
        "run": str(flags.run),
        "model_sha256": opened.model_sha256,
        "command": command_line(["audit", *arguments]),
        "version": __version__,
        "environment": environment(),
    }
    write_json(flags.out / RECORD, record)
    write_audit(flags.out / PAGE, record, flags.out / PICTURE)
    for line in record["notices"]:
        print(f"note: {printable(line)}", file=sys.stderr)
    print("\n".join(printable(line) for line in record["verdict"]))
    print(f"page: {flags.out / PAGE}")


def _own(opened: Run) -> tuple[Cases | None, Cases | None]:
    """Training and held-out cases of the run; None where they are not at hand, and a notice says so."""
    try:
        every = open_source(source_of(opened.config, None, ()), opened.recipe)
    except UserError as error:
        why = str(error).partition("; name data with")[0]
        say(f"note: {why}; copies, membership and attributes cannot be measured without them")
        return None, None
    known = opened.manifest.get("data", {}).get("fingerprint")
    if known and every.fingerprint != known:
        say(
            "note: the data at the place of the training data have changed since; they are taken for them"
        )
    splits = set(every.split_of)
    kept = next((name for name in ("test", "val") if name in splits), None)
    return every.split("train"), None if kept is None else every.split(kept)


def _samples(flags: Flags, opened: Run, train: Cases | None) -> tuple[Tensor, Tensor | None]:
    """Samples in [-1, 1] and their labels: read, or drawn."""
    if flags.images is not None:
        return _read(flags.images, opened)
    classes = getattr(opened.recipe, "classes", 0)
    labels = None if train is None else drawn_labels(opened.recipe, train, flags.count, flags.seed)
    if labels is None and classes:
        labels = torch.arange(flags.count) % classes
    asked = Asked(seed=flags.seed, batch=flags.batch)
    name = f"{opened.model_sha256[:12]}-{flags.seed}-{getattr(opened.recipe, 'steps', 0)}"
    kept = flags.out / "samples" / name
    drawn = generate(opened.recipe, opened.objective, flags.count, labels, asked, kept)
    return drawn.clamp(-1, 1), labels


def _read(folder: Path, opened: Run) -> tuple[Tensor, Tensor | None]:
    """The samples of a folder of `radiffuse sample`.

    Raises:
        UserError: there are none, or another model drew them.
    """
    found: dict[str, Any] = read_record(folder / "predictions.json", Predictions)
    if found["settings"].get("model_sha256") != opened.model_sha256:
        raise UserError(f"{folder}: another model than {opened.path} drew these samples")
    low, high = template(opened).range or (0.0, 255.0)
    entries = found["predictions"]
    files = [next(iter(entry["files"].values())) for entry in entries]
    if not files:
        raise UserError(f"{folder}: holds no sample")
    images = torch.stack([read_image(folder / file).data.float() for file in files])
    labels = [entry.get("label") for entry in read_json(folder / "predictions.json")["predictions"]]
    told = None if None in labels else torch.tensor(labels)
    return (2 * (images - low) / (high - low) - 1).clamp(-1, 1), told
