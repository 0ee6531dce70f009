"""`radiffuse train METHOD`: train a recipe on data, or go on with an interrupted training."""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .. import papers
from ..applications import fields
from ..applications.departures import departures
from ..data.apart import check_apart
from ..data.cases import with_any_size, with_one_range
from ..data.checks import check_classes, check_pairs, none_held_out
from ..data.dataset import Cases, check_trainable
from ..data.files import check_folder
from ..data.records import Manifest, read_record
from ..data.unpaired import check_lent
from ..diffusion.noise import derive
from ..errors import UsageError, UserError, printable
from ..runs import config
from ..runs.config import Config
from ..runs.first import load_first
from ..runs.run import CONFIG, MANIFEST, about, command_line, read_run_config, record_model
from ..training import checkpoint, processes
from ..training.batches import Readable
from ..training.loop import train
from ..training.memory import check_memory, check_weights
from ..training.options import TrainOptions
from ..training.progress import spelled
from . import parsing
from .begins import begun_too_late, check_begins
from .calibrate import calibrate, set_aside
from .first import first_stage, with_coder_of, with_kept_codes
from .latents import look_at_latents
from .later import later_stages
from .lock import writing
from .prior import adopt, refuse_foreign
from .private import begun, public, refuse
from .sides import left_right
from .source import check_keys, open_source, prepared
from .train_flags import Order, order

FOUND = ("orientation", "codes")
"""What is found in the data, and an older version did not write."""


def run(arguments: Sequence[str], cases: Cases | None = None) -> None:
    """Open the data, fit the recipe to them, write what the run is made with, and train.

    Args:
        arguments: the words after `radiffuse train`.
        cases: to train on, in place of the data that the words name.
    """
    asked = order(arguments)
    if cases is not None:
        asked = dataclasses.replace(asked, data=dataclasses.replace(asked.data, path=""))
    if not asked.resume:
        check_apart(asked.out, asked.data.path)
    if asked.prior is not None:
        read_run_config(asked.prior)
    if asked.first is not None and asked.first.private:
        raise UsageError("--first.private: an auto-encoder is not trained privately")
    with writing(asked.out, "radiffuse train"):
        if asked.prior is not None:
            adopt(asked, asked.prior, command_line(["train", *arguments]))
        else:
            _train(with_coder_of(asked), arguments, cases)


def _train(asked: Order, arguments: Sequence[str], given: Cases | None) -> None:
    """Train on the data that were asked for, or on those given."""
    opened = (
        open_source(asked.data, asked.recipe) if given is None else prepared(given, asked.recipe)
    )
    cases = with_one_range(opened, asked.recipe.task.alike)
    if getattr(asked.recipe, "ANY_SIZE", False):
        cases = with_any_size(cases)
    check_trainable(cases)
    check_keys(asked.method, asked.recipe, cases.keys, asked.data)
    check_pairs(cases, asked.recipe.task.paired, asked.method)
    check_lent(cases, asked.recipe.task.unpaired)
    facts = cases.facts()
    axes = max((len(size) for size in facts.size.values()), default=0)
    asked, mirrored = left_right(asked, arguments, cases.orientation, axes)
    _check_views(asked.train, cases)
    if processes.is_main():
        for line in (*cases.notices, *none_held_out(cases), *mirrored):
            print(f"note: {printable(line)}", file=sys.stderr)
    if asked.train.private:
        refuse(asked, cases)
        facts = public(facts, asked.recipe)
    if "label" in asked.recipe.task.reads:
        check_classes(cases.split("train"), facts.classes)
    recipe = asked.recipe.fitted(facts)
    training, aside = _suitable(asked.method, recipe, cases.split("train")), None
    if hasattr(recipe, "calibrated"):
        training, aside = set_aside(training, cases, recipe)
    unseen = aside or _unseen(cases)
    made_with = _made_with(asked, recipe, cases, arguments)
    first: dict[str, str] = {}
    learned, staged = training, hasattr(recipe, "coded")
    if asked.first is not None:
        if checkpoint.started(asked.out) and not asked.resume:
            checkpoint.refuse_started(asked.out)
        with _told_to_resume(asked.out):
            learned, unseen = (recipe.coded(c) if staged else c for c in (training, unseen))
            recipe, first = first_stage(asked, recipe, learned, unseen, made_with, _check_folder)
        made_with = _made_with(asked, recipe, cases, arguments)
    _check_folder(asked, made_with, cases.fingerprint)
    if processes.is_main():
        for line in getattr(recipe, "notices", list)():
            print(f"note: {line}", file=sys.stderr)
    check_weights(recipe.objective, asked.train)
    torch.manual_seed(derive(asked.train.seed, "weights"))
    objective = recipe.objective()
    check_begins(objective, asked.train)
    if first:
        load_first(objective, asked.out, {"first": first})
    read: Readable = training
    if first:
        read = with_kept_codes(objective, learned, asked.train)
    elif hasattr(objective, "learns_from"):
        read = objective.learns_from(training)
        if processes.is_main() and (told := getattr(read, "told", "")):
            print(f"note: {told}", file=sys.stderr)
    whole = not asked.train.private  # which takes one patient at a time
    if whole and (line := check_memory(objective, read, asked.train)) and processes.is_main():
        print(f"note: {line}", file=sys.stderr)
    manifest = about(cases, facts, made_with) | ({"first": first} if first else {})
    how: dict[str, Any] = {}
    if asked.train.private:
        manifest, how = begun(asked, objective, training, manifest)
    if processes.is_main():
        config.write_config(asked.out / CONFIG, made_with)
        record_model(asked.out, manifest, checkpoint.models_at(asked.out / checkpoint.MODEL))
    if processes.is_main():
        for line in filter(None, (chosen(asked, arguments), departs(made_with))):
            print(f"note: {line}", file=sys.stderr)
    with _told_to_resume(asked.out):
        train(
            objective,
            read,
            asked.train,
            asked.out,
            resume=asked.resume,
            **{"about": manifest, "record": partial(record_model, asked.out, manifest), **how},
        )
        for line in begun_too_late(objective) if processes.is_main() else ():
            print(f"note: {line}", file=sys.stderr)
        if asked.later:
            later_stages(asked, recipe, objective, training, made_with, _check_folder)
    if aside is not None:
        calibrate(recipe, objective, aside, asked.out)
    if first and processes.is_main():
        look_at_latents(asked.out, learned, unseen)


def _check_views(options: TrainOptions, cases: Cases) -> None:
    """Refuse views of what is no image.

    Raises:
        UsageError: names the options.
    """
    asked = [name for name in ("mirror", "turn", "zoom", "shift") if getattr(options, name)]
    if asked and not (cases.image_keys or cases.mask_keys):
        raise UsageError(
            f"--train.{asked[0]}: views are of images, and {cases.source} has {', '.join(cases.keys)}; leave it"
        )


@contextlib.contextmanager
def _told_to_resume(out: Path) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; nothing is lost: the same command with --resume goes on in {out}"
        ) from None


def _made_with(asked: Order, recipe: Any, cases: Cases, arguments: Sequence[str]) -> Config:
    """The configuration of the run."""
    return Config(
        method=asked.method,
        preset=asked.preset,
        recipe=fields.plain(recipe),
        train=fields.plain(asked.train),
        data=dataclasses.replace(
            asked.data,
            range=dict(cases.ranges),
            orientation=cases.orientation,
            codes=cases.codes,
        ),
        fitted=_changed(asked.recipe, recipe),
        command=command_line(["train", *arguments]),
        first=fields.plain(asked.first) if asked.first is not None else {},
        later={name: fields.plain(options) for name, options in asked.later.items()},
    )


def chosen(asked: Order, arguments: Sequence[str]) -> str:
    """What was chosen where no preset was named, and how long it takes; "" where one was."""
    if any(parsing.option(arguments, flag) for flag in ("--preset", "--config")):
        return ""
    steps, seconds = asked.train.budget()
    long = (
        f"{steps:,.0f} step{'' if steps == 1 else 's'}" if math.isinf(seconds) else spelled(seconds)
    )
    return (
        f"no --preset was named, so it is {asked.preset}: {long} of training (--train.minutes N changes it); "
        "--preset paper is what the paper did"
    )


def departs(made_with: Config) -> str:
    """In what the preset `small` departs from its paper, in one line; "" for the others."""
    found = departures(papers.by_id(made_with.method)) if made_with.preset == "small" else None
    return f"{made_with.name} departs from its paper: {found.small}" if found else ""


def _suitable(method: str, recipe: Any, cases: Cases) -> Cases:
    """The training cases a recipe takes; what it leaves out for `UNFIT` is said.

    Raises:
        UserError: fewer than two remain.
    """
    choose = getattr(recipe, "suitable", None)
    if choose is None:
        return cases
    kept = cases.kept(choose)
    lost = len(cases) - len(kept)
    if lost and (unfit := getattr(recipe, "UNFIT", "")):
        case = min(set(cases.ids) - set(kept.ids))
        which = case if lost == 1 else f"{case} and {lost - 1} more"
        line = (
            f"{cases.source}: {lost} of {len(cases)} training cases are left out ({which}): {unfit}"
        )
        if len(kept) < 2:
            raise UserError(line)
        if processes.is_main():
            print(f"note: {printable(line)}", file=sys.stderr)
    elif len(kept) < 2:
        regions = ", --learns regions takes what lies outside the masks"
        raise UserError(
            f"{cases.source}: {method} trains on healthy cases only (label {recipe.healthy}, or an "
            f"empty mask), and {len(kept)} of {len(cases)} training cases are; --healthy N says "
            f"which label is healthy{regions if hasattr(recipe, 'learns') else ''}"
        )
    return kept


def _unseen(cases: Cases) -> Cases:
    """Cases that are not trained on, where there are any."""
    return cases.held_out() if set(cases.split_of) != {"train"} else cases


def _changed(before: Any, after: Any) -> tuple[str, ...]:
    names = [f.name for f in dataclasses.fields(before)]
    return tuple(name for name in names if getattr(before, name) != getattr(after, name))


def _check_folder(asked: Order, made_with: Config, fingerprint: str = "") -> None:
    """Refuse to overwrite a run, or to resume one of another configuration or of other data, where they are known.

    Raises:
        UserError: says which field differs, or how to go on.
    """
    out = asked.out
    check_folder(out)
    if not checkpoint.started(out):
        return refuse_foreign(out)
    if not asked.resume:
        checkpoint.refuse_started(out)
    earlier = read_run_config(out)
    if earlier.method != asked.method:
        raise UserError(f"{out}: is a run of {earlier.method}, not of {asked.method}")
    if earlier.preset != asked.preset:
        raise UserError(
            f"{out}: was made with --preset {earlier.preset}, now it is {asked.preset}; resume with the "
            "same, or take another --out"
        )
    # fields that an older version did not write are at their defaults
    options = fields.build(TrainOptions, earlier.train, where=f"{out / CONFIG}: [train]")
    recipe = fields.recorded(type(asked.recipe), earlier.recipe, where=f"{out / CONFIG}: [recipe]")
    data = fields.plain(made_with.data)
    _compare(out, "data", {"slices": earlier.data.slices}, {"slices": data["slices"]})
    found = {name: data[name] for name in FOUND if not getattr(earlier.data, name)}
    # data may have moved: the loop refuses a checkpoint of other contents
    moved = {"path": data["path"], "names": data["names"]}
    _compare(out, "data", {**fields.plain(earlier.data), **found, **moved}, data)
    _same_data(out, fingerprint)
    # last, for much of it follows from the data
    _compare(out, "recipe", fields.plain(recipe), made_with.recipe)
    _compare(out, "train", options.fixed(), asked.train.fixed())
    if asked.first is not None and earlier.first:
        first = fields.build(TrainOptions, earlier.first, where=f"{out / CONFIG}: [first]")
        _compare(out, "first", first.fixed(), asked.first.fixed())
    for name, options in asked.later.items():
        its = fields.build(
            TrainOptions, earlier.later.get(name, {}), where=f"{out / CONFIG}: [later.{name}]"
        )
        _compare(out, f"later.{name}", its.fixed(), options.fixed())


def _same_data(out: Path, fingerprint: str) -> None:
    """Refuse to go on with data of other contents than a run began with.

    Raises:
        UserError: they differ.
    """
    path = out / MANIFEST
    known = read_record(path, Manifest).get("data", {}) if path.is_file() else {}
    before = known.get("fingerprint")
    if fingerprint and before and before != fingerprint:
        raise UserError(
            f"{out}: was trained on data of other contents than --data names now; resume with the same, or take "
            "another --out"
        )


def _compare(out: Path, table: str, old: Any, new: Any) -> None:
    for name in sorted(set(old) | set(new)):
        if old.get(name) != new.get(name):
            raise UserError(
                f"{out}: was made with {table}.{name} = {old.get(name)!r}, now it is "
                f"{new.get(name)!r}; resume with the same settings, or take another --out"
            )
