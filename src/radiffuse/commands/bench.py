"""`radiffuse bench NAME`: one side-by-side benchmark of the repository's `benchmarks` folder."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError, UserError, did_you_mean

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"


HELP = """usage: radiffuse bench NAME [WORDS ...]

One side-by-side benchmark of the repository; WORDS are its own (`radiffuse bench NAME --help`), as
`--json FILE` where it takes one. There are: """


def run(arguments: Sequence[str]) -> None:
    """Run the benchmark as a program of its own."""
    files = {file.stem: file for file in sorted(FOLDER.glob("[a-z]*.py")) if _runs(file)}
    if not files:
        raise UserError(
            "benchmarks are not part of the installed package; run this from a clone of the "
            "repository (a folder `benchmarks` beside `src`)"
        )
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP + ", ".join(files))
        return
    name, *words = arguments
    if name not in files:
        hint = did_you_mean(name, files, f"there are {', '.join(files)}")
        raise UsageError(f"no benchmark is called '{name}'; {hint}")
    done = subprocess.run([sys.executable, os.fspath(files[name]), *words])
    if done.returncode:
        raise UserError(f"the benchmark {name} failed with exit code {done.returncode}")


def _runs(file: Path) -> bool:
    """Whether a file is a program of its own, not a part of others."""
    return not file.stem.endswith("_worker") and "__main__" in file.read_text(encoding="utf-8")
