"""`radiffuse demo`: every application on embedded brains, from training to report, with no network."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..applications.task import Demonstration, tasks
from ..errors import UsageError, UserError, did_you_mean
from . import evaluate, report, sample, train
from .lock import LOCK, writing
from .parsing import parse

MARK = "made-by-radiffuse-demo"
SHORT = 1 / 6
"""Minutes of every other application over those of generation."""


def demonstrations() -> dict[str, Demonstration]:
    """What is shown of each application, by its name."""
    return {name: task.demonstration for name, task in tasks().items() if task.demonstration}


@dataclass(frozen=True)
class Flags:
    """What to demonstrate.

    Attributes:
        applications: names of applications; all of them where none is named.
        out: folder to write; one that an earlier demonstration made is replaced.
        minutes: minutes of training for generation, six times those of every other application.
    """

    applications: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    out: Path = Path("demo-out")
    minutes: float = 1.5


def run(arguments: Sequence[str]) -> None:
    """Train, measure and report; say each command as one would type it."""
    flags = parse(Flags, arguments, "radiffuse demo")
    shown = demonstrations()
    for name in flags.applications:
        if name not in shown:
            hint = did_you_mean(name, shown, f"there are {', '.join(shown)}")
            raise UsageError(f"radiffuse demo: no application {name!r}; {hint}")
    names = flags.applications or tuple(shown)
    _check(flags.out)
    with writing(flags.out, "radiffuse demo"):
        _begin(flags.out)
        for name in names:
            share = 1 if name == "generation" else SHORT
            _tell(name, shown[name], flags.out / name, flags.minutes * share)
    print("\nOpen in a browser:")
    for name in names:
        print(f"  {flags.out / name / 'report.html'}")
    print("With your own images: radiffuse train ddpm --data FOLDER --preset small --out runs/mine")


def _check(out: Path) -> None:
    """Refuse a folder that no demonstration made.

    Raises:
        UserError: it is one.
    """
    if out.exists() and not (out / MARK).is_file():
        raise UserError(f"{out}: is there already and no demonstration; take another --out")


def _begin(out: Path) -> None:
    """An empty folder that says what it is."""
    for path in out.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()
    (out / MARK).touch()


def _tell(name: str, shown: Demonstration, folder: Path, minutes: float) -> None:
    """Train, sample where images come from nothing, measure, report."""
    data = [shown.data, *(("--map", *shown.map) if shown.map else ())]
    words = ["--data", *data, "--out", str(folder), "--preset", "tiny", *shown.flags]
    _say(train.run, [shown.method, *words, "--train.minutes", f"{minutes:g}"])
    if name == "generation":
        drawn = ["--count", "36", "--batch", "36", "--out", str(folder / "samples")]
        _say(sample.run, [str(folder), *drawn])
    _say(
        evaluate.run,
        [str(folder), "--count", str(shown.count), "--batch", str(shown.batch)],
    )
    _say(report.run, [str(folder)])


def _say(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    name = command.__module__.rpartition(".")[2]
    print(f"\n$ radiffuse {name} {' '.join(words)}", flush=True)
    command(words)
