"""`radiffuse compare`: families of generative models trained as long as each other on the same data, and measured."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import papers
from ..applications.evaluation.asked import Asked
from ..applications.evaluation.judge import Judge, judge
from ..applications.generation.measured import (
    classes_found,
    network_calls,
    parameters,
    seconds_an_image,
)
from ..applications.generation.sampling import drawn_labels, generate, kept_in
from ..data.apart import check_apart
from ..data.dataset import Cases
from ..data.files import check_folder, read_json, replacing, write_json
from ..errors import UsageError, UserError
from ..metrics.features import extract
from ..metrics.joined import MEMBERS
from ..report.pictures import write_grid
from ..report.trilemma import axes_of, page, triangle
from ..runs.run import Run, open_run
from ..training import checkpoint
from ..training.progress import say
from . import evaluate, parsing, train
from .source import open_source
from .train_flags import order

FAMILIES = ("ddpm", "gan", "vae", "flow", "ebm")
FEWEST_TRAINED, FEWEST_HELD_OUT, FEWEST_DRAWN = 200, 128, 128
ACROSS = 10


@dataclass(frozen=True)
class Flags:
    """What to compare.

    Attributes:
        data: file or folder of the data.
        out: folder of the comparison; each family is a run below it. The same command goes on where it was cut.
        minutes: of training, of each family.
        families: methods of generation from images alone.
        preset: of every recipe: small, paper or tiny.
        count: images drawn of each family.
        seed: image k depends on this and on k alone.
        map: key=column words.
        size: size every image is brought to, as --size 64 64.
        range: LOW HIGH, stored values that become -1 and 1.
        split: val or test; the held-out one where left out.
    """

    data: str = ""
    out: Path | None = None
    minutes: float = 30.0
    families: tuple[str, ...] = FAMILIES
    preset: str = "small"
    count: int = 1000
    seed: int = 0
    map: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    range: tuple[float, ...] = ()
    split: str = ""


def run(arguments: Sequence[str]) -> None:
    """Train, measure, and write compare.json, compare.html, triangle.svg and sheet.png."""
    flags = parsing.parse(Flags, arguments, "radiffuse compare")
    out = _checked(flags)
    train_cases, held_out = _data(flags, out)
    records = {}
    for number, family in enumerate(flags.families):
        say(f"{family}: {number + 1} of {len(flags.families)} families")
        train.run([*_words(flags, out, family), "--resume"])
        _share_features(out, family)
        records[family] = _evaluated(flags, out / family, held_out)
    opened = {family: open_run(out / family) for family in flags.families}
    cache = out / flags.families[0] / "features"
    real = judge(train_cases, held_out, cache=cache, members=MEMBERS)
    found = {
        family: _measured(flags, opened[family], records[family], real, train_cases, held_out)
        for family in flags.families
    }
    _write(flags, out, records, found, real)


def _checked(flags: Flags) -> Path:
    """Refuse what cannot be compared before anything is trained.

    Raises:
        UsageError: a flag is missing or out of range, a method is no family of images alone.
    """
    if not flags.data or flags.out is None:
        raise UsageError(f"--{'out' if flags.data else 'data'} is missing")
    parsing.positive({"--minutes": flags.minutes, "--count": flags.count})
    if len(set(flags.families)) != len(flags.families) or not flags.families:
        raise UsageError("--families: name each family once")
    for family in flags.families:
        task = papers.by_id(family).load().task
        if task.name != "generation" or task.reads != ("image",):
            raise UsageError(
                f"--families {family}: is no model of images alone; take some of {', '.join(FAMILIES)}, sde, ncsn"
            )
    if flags.count < FEWEST_DRAWN:
        raise UsageError(
            f"--count {flags.count}: distances need {FEWEST_DRAWN} drawn images or more"
        )
    check_folder(flags.out)
    check_apart(flags.out, flags.data)
    return flags.out


def _words(flags: Flags, out: Path, family: str) -> list[str]:
    """The words of `radiffuse train` for a family."""
    words = [family, "--preset", flags.preset, "--data", flags.data, "--out", str(out / family)]
    for name in ("map", "size", "range"):
        if values := getattr(flags, name):
            words += [f"--{name}", *map(str, values)]
    return [*words, "--train.minutes", str(flags.minutes)]


def _data(flags: Flags, out: Path) -> tuple[Cases, Cases]:
    """Training and held-out cases.

    Raises:
        UserError: there are too few to compare by.
    """
    asked = order(_words(flags, out, flags.families[0]))
    cases = open_source(asked.data, asked.recipe)
    training = cases.split("train")
    held_out = cases.split(flags.split) if flags.split else cases.held_out()
    if len(training) < FEWEST_TRAINED or len(held_out) < FEWEST_HELD_OUT:
        raise UserError(
            f"{cases.source}: {len(training)} training and {len(held_out)} held-out images are too few; families "
            f"are compared from {FEWEST_TRAINED} and {FEWEST_HELD_OUT} on"
        )
    return training, held_out


def _share_features(out: Path, family: str) -> None:
    """Give a run the feature networks that an earlier one trained on the same images."""
    here = out / family / "features"
    for other in sorted(out.glob("*/features")):
        if other != here and not here.exists():
            shutil.copytree(other, here)


def _evaluated(flags: Flags, folder: Path, held_out: Cases) -> dict[str, Any]:
    """metrics.json of a run; measured where it is not there, or of another model, number, seed or other images."""
    file = folder / "metrics.json"
    if file.is_file():
        record = read_json(file)
        settings = record.get("settings", {})
        same = (settings.get("count"), settings.get("seed")) == (flags.count, flags.seed)
        same = same and record["data"]["held_out"]["fingerprint"] == held_out.fingerprint
        run = open_run(folder)
        # by the sampler of the run, and not with --steps or --set
        same = same and settings.get("steps") == getattr(run.recipe, "steps", None)
        same = same and "--set" not in record.get("command", "")
        if same and record.get("model_sha256") == run.model_sha256:
            return record
    split = ["--split", flags.split] if flags.split else []
    evaluate.run([str(folder), "--count", str(flags.count), "--seed", str(flags.seed), *split])
    return read_json(file)


def _measured(
    flags: Flags, run: Run, record: dict[str, Any], real: Judge, training: Cases, held_out: Cases
) -> dict[str, Any]:
    """What the evaluation does not measure of a run, and its images."""
    recipe, objective = run.recipe, run.objective
    asked = Asked(
        count=flags.count,
        seed=flags.seed,
        cache=run.path / "features",
        model=run.model_sha256,
    )
    labels = drawn_labels(recipe, training, flags.count, flags.seed)
    kept = kept_in(asked, recipe, training)
    images = generate(recipe, objective, flags.count, labels, asked, kept).clamp(-1, 1)
    method = dict(record["method"])
    classes: dict[str, Any] = {}
    if real.labels is not None and len(real.labels.unique()) > 1:
        truth = held_out.batch(range(len(held_out)))["label"]
        features = extract(real.network, images)
        names = training.class_names
        classes = classes_found(
            real.train_features, real.labels, real.held_out_features, truth, features, names
        )
        method |= {key: classes[key] for key in ("classes_found", "rare_classes_found")}
    for batch in (1, 64):
        method[f"seconds_batch_{batch}"] = seconds_an_image(recipe, objective, batch)
    return {
        "method": method,
        "images": images,
        "calls": network_calls(recipe, objective, flags.seed),
        "parameters": parameters(objective),
        "steps": _steps(run.path),
        **({k: classes[k] for k in ("classifier_accuracy", "shares")} if classes else {}),
    }


def _steps(folder: Path) -> int | None:
    """Training steps of a run whose checkpoint is still there."""
    newest = checkpoint.newest(folder)
    return None if newest is None else checkpoint.read_facts(newest).step


def _write(
    flags: Flags,
    out: Path,
    records: dict[str, dict[str, Any]],
    found: dict[str, dict[str, Any]],
    real: Judge,
) -> None:
    """compare.json, the triangle, the sheet and the page."""
    order_ = torch.randperm(len(real.held_out), generator=torch.Generator().manual_seed(flags.seed))
    rows = [
        real.held_out[order_[:ACROSS]],
        *(each.pop("images")[:ACROSS] for each in found.values()),
    ]
    write_grid(out / "sheet.png", [image.numpy() for row in rows for image in row], ACROSS)
    first = next(iter(records.values()))
    baseline, reference = first["baseline"], first["reference"]
    for each in found.values():
        each["axes"] = axes_of(each["method"], baseline, reference)
    record = {
        "data": first["data"]["source"],
        "train": len(real.train),
        "held_out": len(real.held_out),
        "minutes": flags.minutes,
        "count": flags.count,
        "settings": json.loads(json.dumps(dataclasses.asdict(flags), default=str)),
        "features": first["features"],
        "environment": first["environment"],
        "families": found,
        "baseline": baseline,
        "reference": reference,
    }
    write_json(out / "compare.json", record)
    for name, text in (
        ("triangle.svg", triangle({name: each["axes"] for name, each in found.items()}) + "\n"),
        ("compare.html", page(record, out)),
    ):
        with replacing(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    say(f"{out / 'compare.html'}: {len(found)} families compared")
