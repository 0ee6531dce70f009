"""`radiffuse bench NAME`: one side-by-side benchmark of the repository's `benchmarks` folder."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UsageError, UserError
from ..names import did_you_mean
from .parsing import parse

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


@dataclass(frozen=True)
class Flags:
    """Which benchmark to run.

    Attributes:
        name: file name in the folder `benchmarks`, without .py.
        json: file to write the numbers to.
    """

    name: Annotated[str, tyro.conf.Positional]
    json: Path | None = None


def run(arguments: Sequence[str]) -> None:
    """Run the benchmark as a program of its own."""
    flags = parse(Flags, arguments, "radiffuse bench")
    files = {file.stem: file for file in sorted(FOLDER.glob("[a-z]*.py"))}
    if not files:
        raise UserError(
            "benchmarks are not part of the installed package; run this from a clone of the "
            "repository (a folder `benchmarks` beside `src`)"
        )
    if flags.name not in files:
        hint = did_you_mean(flags.name, files, f"there are {', '.join(files)}")
        raise UsageError(f"no benchmark is called '{flags.name}'; {hint}")
    words = [] if flags.json is None else ["--json", os.fspath(flags.json)]
    done = subprocess.run([sys.executable, os.fspath(files[flags.name]), *words])
    if done.returncode:
        raise UserError(f"the benchmark {flags.name} failed with exit code {done.returncode}")
