"""What each method cannot lose without a test noticing: `python tests/mutants.py [METHOD ...] [--jobs N]`.

tests/ingredients/*.toml lists the ingredients that make each method that method. Each is removed or
flipped in a copy of the package, one at a time, and the tests are run against the copy: first those
the list names, then, where none of them fails, the whole suite. What survives is printed; the exit
status is 0 only if nothing does. Not part of `make test`: a few minutes for those named, and
minutes more for each that survives them.

    [[mutant]]
    method = "anoddpm"
    ingredient = "the estimate is clipped to [-1, 1]"
    file = "applications/anomaly/anoddpm.py"          # below src/radiffuse
    old = "Clipped(objective.network)"                # stands in the file once
    new = "objective.network"
    tests = ["tests/test_anomaly.py", "-k", "clipped"]  # words for pytest
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there

import accelerate  # noqa: F401  this and the next three once for all: every fork has them then
import pytest
import scipy.stats  # noqa: F401
import sklearn.metrics  # noqa: F401
import torch  # noqa: F401

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "radiffuse"
LISTS = ROOT / "tests" / "ingredients"

PASSED, FAILED = 0, 1  # exit statuses of pytest; every other says that the tests did not run


@dataclass(frozen=True)
class Mutant:
    """One ingredient, and how it is removed."""

    method: str
    ingredient: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def mutated(self) -> str:
        """The file without the ingredient.

        Raises:
            ValueError: what is to be replaced does not stand there once.
        """
        text = (PACKAGE / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self.method}, {self.ingredient}: {found} times in {self.file}")
        return text.replace(self.old, self.new)


def listed() -> list[Mutant]:
    """Every mutant of the lists."""
    rows = (
        row
        for path in sorted(LISTS.glob("*.toml"))
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    )
    return [Mutant(**{**row, "tests": tuple(row["tests"])}) for row in rows]


def status(package: Path, tests: Sequence[str]) -> int:
    """The exit status of pytest on `tests`, with the package from the folder `package`, in a fork."""
    if (child := os.fork()) == 0:
        _test(package, tests)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _test(package: Path, tests: Sequence[str]) -> NoReturn:
    """Run pytest in this process, silently, and end it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.path.insert(0, str(package))
    os.environ["PYTHONPATH"] = str(package)  # for commands that tests run
    ended = 3
    with contextlib.suppress(BaseException):
        ended = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    os._exit(ended)


def unmutated(file: str) -> int:
    """The exit status of pytest on a file of tests with the package as it is."""
    return status(PACKAGE.parent, [file])


def outcome(mutant: Mutant) -> str:
    """Whether a test fails without the ingredient: "found", "survives", or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PACKAGE, package / "radiffuse", ignore=skipped)
        (package / "radiffuse" / mutant.file).write_text(mutant.mutated(), encoding="utf-8")
        ended = status(package, mutant.tests)
        if ended == PASSED:
            ended = status(package, ["tests"])
    if ended not in (PASSED, FAILED):
        return f"its tests did not run (pytest ended with {ended})"
    return "found" if ended == FAILED else "survives"


def main() -> int:
    """Try the mutants asked for; 0 where every one is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("methods", nargs="*", help="methods (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="at once")
    asked = parser.parse_args()
    mutants = [each for each in listed() if not asked.methods or each.method in asked.methods]
    for mutant in mutants:
        mutant.mutated()  # all that the lists get wrong, before anything is run
    os.chdir(ROOT)
    left = 0
    with multiprocessing.get_context("fork").Pool(asked.jobs) as pool:
        files = sorted({word for mutant in mutants for word in mutant.tests if ".py" in word})
        files = list(dict.fromkeys(word.partition("::")[0] for word in files))
        for file, ended in zip(files, pool.imap(unmutated, files), strict=True):
            if ended != PASSED:
                left += 1
                print(f"does not pass as it is: {file}", flush=True)
        for mutant, said in zip(mutants, pool.imap(outcome, mutants), strict=True):
            left += said != "found"
            print(f"{said:<10} {mutant.method}: {mutant.ingredient}", flush=True)
    print(f"{len(mutants)} tried, {left} to be looked at")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
