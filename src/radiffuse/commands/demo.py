"""`radiffuse demo`: the whole way on embedded brains, in three minutes and with no network."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from . import evaluate, report, sample, train
from .parsing import parse

DATA = "brains:count=1600,size=32"
TRAIN = [
    *("--preset", "tiny"),
    *("--sampler", "dpm-solver", "--grid", "karras", "--stop", "0.003", "--steps", "20"),
    *("--train.batch", "32", "--train.learning-rate", "2e-3", "--train.cooldown", "0.4"),
]
MARK = "made-by-radiffuse-demo"


@dataclass(frozen=True)
class Flags:
    """Where the demonstration goes.

    Attributes:
        out: folder to write; one that an earlier demonstration made is replaced.
        minutes: minutes of training; more make better brains.
    """

    out: Path = Path("demo-out")
    minutes: float = 1.5


def run(arguments: Sequence[str]) -> None:
    """Train, sample, measure and report; say each command as one would type it."""
    flags = parse(Flags, arguments, "radiffuse demo")
    if flags.out.exists():
        if not (flags.out / MARK).is_file():
            raise UserError(
                f"{flags.out}: is there already and no demonstration; take another --out"
            )
        shutil.rmtree(flags.out)
    flags.out.mkdir(parents=True)
    (flags.out / MARK).touch()
    folder = str(flags.out / "ddpm")
    minutes = ["--train.minutes", f"{flags.minutes:g}"]
    for command, words in (
        (train, ["ddpm", "--data", DATA, "--out", folder, *TRAIN, *minutes]),
        (sample, [folder, "--count", "36", "--out", str(flags.out / "samples"), "--batch", "36"]),
        (evaluate, [folder, "--count", "400", "--batch", "100"]),
        (report, [folder, "--out", str(flags.out / "report.html")]),
    ):
        name = command.__name__.rpartition(".")[2]
        print(f"\n$ radiffuse {name} {' '.join(words)}", flush=True)
        command.run(words)
    print(
        f"\nLook at {flags.out / 'samples' / sample.SHEET} (new brains) and open "
        f"{flags.out / 'report.html'} in a browser.\n"
        f"With your own images: radiffuse train ddpm --data FOLDER --preset small --out runs/mine"
    )
