"""`radiffuse distill RUN --calls N --out RUN2`: teach a generative run to draw in few calls of its network."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from ..applications import fields
from ..applications.generation.distilled import (
    SOLVERS,
    as_teacher,
    refuse_teacher,
    student_of,
    teacher_of,
)
from ..data.dataset import Cases, check_trainable
from ..data.files import check_folder
from ..diffusion.noise import derive
from ..errors import UsageError, UserError, printable
from ..runs import config
from ..runs.config import Config, DataSource, located
from ..runs.named import found_run
from ..runs.run import CONFIG, Run, about, command_line, open_run, read_run_config, record_model
from ..training import checkpoint, processes
from ..training.checkpoint import MODEL, model_sha256
from ..training.distilling import Distilling, Teacher, Way
from ..training.loop import train
from ..training.options import TrainOptions
from ..training.solving import Solving
from . import parsing
from .lock import writing
from .prior import refuse_foreign
from .source import as_trained, open_source

PROG = "radiffuse distill"
MINUTES, WARMUP = 10.0, 50
"""Where nothing else is asked for: a third of what the small presets train for."""
EARLIER = 16
"""Calls of the first student of progressive distillation."""
MOST = 8
"""Calls that a solver is learned for at most."""
SOLVER_BATCH = 8
"""Chains in a step of a solver's training, which costs as much as many steps of a network's."""


@dataclass(frozen=True)
class Flags:
    """What to distill.

    Attributes:
        run: run folder of a trained generative method, or a model: a name of `radiffuse models`, model.zip, hf://OWNER/NAME.
        calls: calls of the network in which the student is to draw: 1, 2 or 4, and of solver and chain 2 to 8.
        out: run folder to write.
        way: how: flow-map (a network told where it is and where it goes), solver (times and weights of the steps
            alone), chain (these and the network, by the end of whole chains), consistency (a network that goes to the
            end, and back into noise), or progressive (steps halved in stages).
        data: where the training data lie now; as in the teacher's configuration where left out.
        resume: go on with the run in --out, if there is one.
    """

    run: Annotated[Path, tyro.conf.Positional]
    calls: int
    out: Path
    way: Way = "flow-map"
    data: str | None = None
    resume: bool = False


def run(arguments: Sequence[str], cases: Cases | None = None) -> None:
    """Open the teacher and its data, and train the student into a run folder of its own.

    Args:
        arguments: the words after `radiffuse distill`.
        cases: to train on, in place of the data that the words name.
    """
    flags: Any = parsing.parse(_flags(_defaults(arguments)), arguments, PROG)
    _check_calls(flags.way, flags.calls)
    teacher_path = found_run(flags.run)
    read_run_config(teacher_path)
    with writing(flags.out, PROG):
        teacher = open_run(teacher_path).with_precision(flags.train.precision)
        refuse_teacher(teacher.recipe, teacher.objective, str(flags.run))
        if flags.train.private or teacher.manifest.get("private"):
            raise UserError(
                f"{flags.run}: a student is not trained privately, and would give away what its teacher keeps; "
                "draw samples of the teacher with fewer --steps instead"
            )
        _distill(flags, teacher, command_line(["distill", *arguments]), cases)


def _defaults(arguments: Sequence[str]) -> TrainOptions:
    """The options of the loop where none are named: the teacher's (see `_options_of`)."""
    if {"-h", "--help"} & {*arguments}:
        words = [word for word in arguments if not word.startswith("-")]
        return _options_of(Path(words[0]), arguments) if words else TrainOptions()
    flags: Any = parsing.parse(_flags(TrainOptions()), arguments, PROG)
    return _options_of(flags.run, arguments)


def _flags(options: TrainOptions) -> type[Any]:
    """`Flags`, and the options of the loop with their defaults."""
    own: list[tuple[str, Any, Any]] = [("train", TrainOptions, field(default=options))]
    shown = make_dataclass("DistillFlags", own, bases=(Flags,), frozen=True)
    shown.__doc__ = Flags.__doc__
    return shown


def _check_calls(way: Way, calls: int) -> None:
    """Refuse calls that a way does not learn.

    Raises:
        UsageError: says which it learns.
    """
    if way in SOLVERS and not 2 <= calls <= MOST:
        raise UsageError(f"--calls must be 2 to {MOST} with --way {way}, not {calls}")
    if way not in SOLVERS and calls not in (1, 2, 4):
        raise UsageError(
            f"--calls must be 1, 2 or 4 with --way {way}, not {calls}; chain and solver learn 2 to {MOST}"
        )


def _options_of(folder: Path, arguments: Sequence[str]) -> TrainOptions:
    """The teacher's options, at half its rate and for `MINUTES` where no budget is asked for."""
    try:
        made_with = read_run_config(found_run(folder))
    except UserError:
        return TrainOptions()  # said when the run is opened
    options = fields.build(TrainOptions, made_with.train, where=f"{folder}: [train]")
    asked = any(word.startswith(("--train.steps", "--train.minutes")) for word in arguments)
    said = f" {' '.join(arguments)} ".replace("--way=", "--way ")
    walks = any(f" --way {way} " in said for way in SOLVERS)
    return dataclasses.replace(
        options,
        steps=None,
        minutes=None if asked else MINUTES,
        learning_rate=options.learning_rate / 2,
        warmup=min(WARMUP, options.warmup),
        batch=min(options.batch, SOLVER_BATCH) if walks else options.batch,
    )


def _distill(flags: Any, teacher: Run, command: str, given: Cases | None) -> None:
    """Train the student, or the students of progressive distillation one after the other."""
    source = _source(flags, teacher)
    cases = open_source(source, teacher.recipe) if given is None else given
    cases = as_trained(cases, teacher)
    check_trainable(cases)
    if processes.is_main():
        for line in cases.notices:
            print(f"note: {printable(line)}", file=sys.stderr)
    learned: dict[str, Any] = {"teacher": str(flags.run), "sha256": teacher.model_sha256}
    teach, start = teacher_of(teacher.recipe, teacher.objective), teacher.objective
    stages = _stages(flags.way, flags.calls)
    options = _shared(flags.train, len(stages))
    for calls in stages:
        out = flags.out if calls == stages[-1] else flags.out / "stages" / f"{calls:02d}"
        recipe = student_of(teacher.recipe, flags.way, calls)
        made_with = Config(
            method=teacher.config.method,
            preset=teacher.config.preset,
            recipe=fields.plain(recipe),
            train=fields.plain(options),
            data=source,
            fitted=teacher.config.fitted,
            command=command,
            distilled=learned,
        )
        objective = _stage(out, recipe, made_with, cases, options, flags.resume, teach, start)
        teach, start = as_teacher(recipe, objective), objective
        if calls != stages[-1]:
            learned = {**learned, "before": model_sha256(out / MODEL)}


def _stage(
    out: Path,
    recipe: Any,
    made_with: Config,
    cases: Cases,
    options: TrainOptions,
    resume: bool,
    teach: Teacher,
    start: Any,
) -> Distilling | Solving:
    """Train one student into `out`; it begins with the weights of `start`."""
    _check_folder(out, made_with, options, resume)
    torch.manual_seed(derive(options.seed, "weights"))
    objective: Distilling | Solving = recipe.objective(teach)
    _begin_as(objective, start)
    training, facts = cases.split("train"), cases.facts()
    manifest = {**about(cases, facts, made_with), "distilled": dict(made_with.distilled)}
    if processes.is_main():
        config.write_config(out / CONFIG, made_with)
        record_model(out, manifest, checkpoint.models_at(out / MODEL))
    try:
        train(
            objective,
            training,
            options,
            out,
            resume=resume,
            about=manifest,
            record=partial(record_model, out, manifest),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; nothing is lost: the same command with --resume goes on in {out}"
        ) from None
    return objective


def _begin_as(objective: Distilling | Solving, start: Any) -> None:
    """Copy the weights of a teacher; what tells the second time is new, and adds nothing yet."""
    network = objective.players["network"]
    weights = start.players["network"].state_dict()
    missing, unexpected = network.load_state_dict(weights, strict=False)
    if unexpected or any(".until." not in f".{name}" for name in missing):
        raise ValueError("the student's network is not its teacher's")


def _stages(way: Way, calls: int) -> list[int]:
    """Calls of each student on the way."""
    if way != "progressive":
        return [calls]
    halved = [calls]
    while halved[0] < EARLIER:
        halved.insert(0, 2 * halved[0])
    return halved


def _shared(options: TrainOptions, stages: int) -> TrainOptions:
    """The options of one of several stages: each has its equal part of the budget."""
    steps = options.steps and max(1, options.steps // stages)
    return dataclasses.replace(
        options, steps=steps, minutes=options.minutes and options.minutes / stages
    )


def _source(flags: Any, teacher: Run) -> DataSource:
    """The data to train on."""
    source = teacher.config.data
    if flags.data is None:
        return source
    return dataclasses.replace(source, path=located(flags.data))


def _check_folder(out: Path, made_with: Config, options: TrainOptions, resume: bool) -> None:
    """Refuse to overwrite a run, or to go on with one that was made otherwise.

    Raises:
        UserError: says which setting differs.
    """
    check_folder(out)
    if not checkpoint.started(out):
        return refuse_foreign(out)
    if not resume:
        checkpoint.refuse_started(out)
    earlier = read_run_config(out)
    before = fields.build(TrainOptions, earlier.train, where=f"{out / CONFIG}: [train]")
    pairs: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("teacher", _hashes(earlier), _hashes(made_with)),
        ("recipe", earlier.recipe, made_with.recipe),
        ("train", before.fixed(), options.fixed()),
    )
    for table, old, new in pairs:
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise UserError(
                    f"{out}: was made with {table}.{name} = {old.get(name)!r}, now it is {new.get(name)!r}; "
                    "resume with the same settings, or take another --out"
                )


def _hashes(made_with: Config) -> dict[str, Any]:
    """By what models a student was taught."""
    return {key: made_with.distilled.get(key) for key in ("sha256", "before")}
