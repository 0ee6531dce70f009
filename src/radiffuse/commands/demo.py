"""`radiffuse demo`: every application on embedded brains, from training to report, with no network."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UsageError, UserError
from ..names import did_you_mean
from . import evaluate, report, sample, train
from .parsing import parse

MARK = "made-by-radiffuse-demo"
SHORT = 1 / 6
"""Minutes of every other application over those of generation."""


@dataclass(frozen=True)
class Chapter:
    """One application of the demonstration.

    Attributes:
        method: that is trained, by its `tiny` preset.
        data: embedded data.
        map: key=column words.
        flags: further words of `train`.
        count: images to generate, or held-out cases to measure.
        batch: of these at once.
    """

    method: str
    data: str
    map: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    count: int = 24
    batch: int = 24


CHAPTERS: dict[str, Chapter] = {
    "generation": Chapter(
        "ddpm",
        "brains:count=1600,size=32",
        flags=(
            *("--sampler", "dpm-solver", "--grid", "karras", "--stop", "0.003", "--steps", "20"),
            *("--train.batch", "32", "--train.learning-rate", "2e-3", "--train.cooldown", "0.4"),
        ),
        count=400,
        batch=100,
    ),
    "translation": Chapter(
        "ddpm-conversion", "brains:count=600,size=32", ("source=t1", "target=t2")
    ),
    "segmentation": Chapter(
        "segmentation-ensembles", "brains:count=600,size=32", ("image=t1", "mask=tissue")
    ),
    "classification": Chapter("diffmic", "brains:count=600,size=32", ("image=t1",)),
    "denoising": Chapter("oct-ddpm", "brains:count=600,size=32", ("clean=t1",)),
    "reconstruction": Chapter("score-mri", "brains:count=600,size=32", ("image=t1",), count=12),
    "anomaly": Chapter(
        "anoddpm",
        "brains:count=900,size=32,lesions=0.5,label=lesion,radius_mm=16,contrast=1",
        ("image=t2", "mask=lesion"),
        count=60,
        batch=60,
    ),
    "registration": Chapter("ddm", "brains:count=150,size=32,pairs=motion"),
}


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
    for name in flags.applications:
        if name not in CHAPTERS:
            hint = did_you_mean(name, CHAPTERS, f"there are {', '.join(CHAPTERS)}")
            raise UsageError(f"radiffuse demo: no application {name!r}; {hint}")
    names = flags.applications or tuple(CHAPTERS)
    _begin(flags.out)
    for name in names:
        share = 1 if name == "generation" else SHORT
        _tell(CHAPTERS[name], flags.out / name, flags.minutes * share)
    print("\nOpen in a browser:")
    for name in names:
        print(f"  {flags.out / name / 'report.html'}")
    print("With your own images: radiffuse train ddpm --data FOLDER --preset small --out runs/mine")


def _begin(out: Path) -> None:
    """An empty folder that says what it is.

    Raises:
        UserError: it is there, and no demonstration made it.
    """
    if out.exists():
        if not (out / MARK).is_file():
            raise UserError(f"{out}: is there already and no demonstration; take another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARK).touch()


def _tell(chapter: Chapter, folder: Path, minutes: float) -> None:
    """Train, sample where images come from nothing, measure, report."""
    data = [chapter.data, *(("--map", *chapter.map) if chapter.map else ())]
    words = ["--data", *data, "--out", str(folder), "--preset", "tiny", *chapter.flags]
    _say(train.run, [chapter.method, *words, "--train.minutes", f"{minutes:g}"])
    if chapter.method == "ddpm":
        drawn = ["--count", "36", "--batch", "36", "--out", str(folder / "samples")]
        _say(sample.run, [str(folder), *drawn])
    _say(evaluate.run, [str(folder), "--count", str(chapter.count), "--batch", str(chapter.batch)])
    _say(report.run, [str(folder)])


def _say(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> None:
    name = command.__module__.rpartition(".")[2]
    print(f"\n$ radiffuse {name} {' '.join(words)}", flush=True)
    command(words)
