"""`radiffuse runs FOLDER`: the runs in it, what they were trained on, how far they are, their main number."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..applications.fields import build
from ..applications.task import tasks
from ..data.files import read_json
from ..errors import UserError, printable
from ..runs.config import Config, read_config
from ..runs.run import CONFIG
from ..training.checkpoint import newest, read_facts
from ..training.options import TrainOptions
from .columns import aligned
from .lock import held
from .parsing import parse


@dataclass(frozen=True)
class Flags:
    """Where to look.

    Attributes:
        folder: a folder of runs, or one run.
        json: print a list of objects instead of a table.
    """

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    json: bool = False


@dataclass(frozen=True)
class Row:
    """A run.

    Attributes:
        run: its folder.
        method: METHOD, or METHOD (PRESET).
        data: what it was trained on.
        state: how far it is, or why it cannot be read.
        number: the main metric that was measured, and that of the baseline.
    """

    run: str
    method: str
    data: str
    state: str
    number: str


def run(arguments: Sequence[str]) -> None:
    """Print a row a run, by the names of their folders."""
    flags = parse(Flags, arguments, "radiffuse runs")
    if not flags.folder.is_dir():
        raise UserError(f"{flags.folder}: there is no such folder")
    rows = [row_of(path) for path in _runs(flags.folder)]
    if flags.json:
        print(json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False))
        return
    if not rows:
        raise UserError(f"{flags.folder}: holds no run; `radiffuse train METHOD --out` makes one")
    words = [tuple(printable(cell) for cell in asdict(row).values()) for row in rows]
    print("\n".join(aligned([("run", "method", "data", "state", "measured (baseline)"), *words])))


def _runs(folder: Path) -> Iterator[Path]:
    """The folders with a configuration; the stages within a run are no runs of their own."""
    if (folder / CONFIG).is_file():
        yield folder
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if not inner.is_symlink():
            yield from _runs(inner)


def row_of(path: Path) -> Row:
    """What is told of a run; of one that cannot be read, why."""
    try:
        config = read_config(path / CONFIG)
        data = config.data.path
        return Row(
            str(path),
            config.name,
            Path(data).name if Path(data).is_absolute() else data,
            _state(path, config),
            _number(path),
        )
    except UserError as error:
        return Row(str(path), "?", "", f"cannot be read: {error}", "")


def _state(path: Path, config: Config) -> str:
    if config.prior:
        return "ready (the network of another run)"
    saved = newest(path)
    if saved is None:
        return "in training, nothing saved yet" if held(path) else "not trained"
    state = read_facts(saved)
    step, seconds = state.step, state.seconds
    done = f"{step} steps, {seconds / 60:.1f} min"
    options = build(TrainOptions, config.train, where=f"{path / CONFIG}: [train]")
    if options.share(step, seconds) >= 1:
        return f"trained {done}"
    return f"in training, {done} saved" if held(path) else f"stopped after {done}; --resume goes on"


def _number(path: Path) -> str:
    """The first of the metrics that tables of its task show, where it was measured."""
    if not (path / "metrics.json").is_file():
        return ""
    record: Any = read_json(path / "metrics.json")
    if not isinstance(record, dict) or not isinstance(record.get("method"), dict):
        raise UserError(f"{path / 'metrics.json'}: holds no metrics")
    task = tasks().get(str(record.get("task")))
    baseline = record.get("baseline") or {}
    for key in task.shown if task else ():
        if "mean" in (record["method"].get(key) or {}):
            ours, theirs = record["method"][key]["mean"], (baseline.get(key) or {}).get("mean")
            return f"{key} {ours:.4g}" + ("" if theirs is None else f" ({theirs:.4g})")
    return ""
