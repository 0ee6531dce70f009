"""What a command does about a malformed input: did it keep its word?

One line that names what is wrong, or an answer that is right: the values that libraries which Radiffuse does not
use for it read in the same file. Nothing is written elsewhere, and time and memory are limited.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pydicom

import malformed_files as files
from malformed import Input, make
from radiffuse import cli
from radiffuse.commands import evaluate as evaluate_command
from radiffuse.commands import source as source_command
from radiffuse.commands import train as train_command
from radiffuse.data.dataset import Cases
from radiffuse.data.formats.by_ending import read_image
from radiffuse.data.formats.dicom import read_files

SECONDS, PATIENCE = 10.0, 60.0
"""Of computing, and of waiting, that a command may take."""
MEMORY = 2 << 30
"""Bytes that a command may take beyond what the process has."""
GOOD = ("read", "refused", "wrong usage")
BAD = (
    "internal error", "raised", "no line", "several lines", "names no file", "wrong value", "wrong success",
    "wrote outside", "stray output", "too long",
)  # fmt: skip


@dataclass
class Verdict:
    """What a command did: `kind` is one of `GOOD` or `BAD`."""

    kind: str
    said: str = ""
    about: str = ""
    words: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return self.kind in GOOD


@dataclass
class Seen:
    """What a command read."""

    cases: list[Cases] = field(default_factory=list)


class TooLong(BaseException):
    """The command took longer than `SECONDS` or `PATIENCE`."""


@contextlib.contextmanager
def limited(memory: int = MEMORY) -> Iterator[None]:
    """A limit of time and of memory on this process."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    timers = {
        signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE),
        signal.SIGPROF: (signal.ITIMER_PROF, SECONDS),
    }
    old = {number: signal.signal(number, stop) for number in timers}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, old[number])
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _watched(seen: Seen) -> Iterator[None]:
    """Commands stop where training or measuring would begin, and what they opened is kept."""
    opened = source_command.open_cases

    def open_cases(*words: Any, **options: Any) -> Cases:
        cases = opened(*words, **options)
        seen.cases.append(cases)
        return cases

    def stop(*words: Any, **options: Any) -> None:
        raise SystemExit(0)

    with (
        mock.patch.object(source_command, "open_cases", open_cases),
        mock.patch.object(train_command, "train", stop),
        mock.patch.object(evaluate_command, "evaluate", stop),
    ):
        yield


def judged(asked: Input) -> Verdict:
    """Run a command on a malformed input, and say what it did."""
    before, here = _listing(asked), Path.cwd()
    said, told, seen = io.StringIO(), io.StringIO(), Seen()
    os.chdir(asked.folder)
    try:
        with (
            limited(),
            _watched(seen),
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(told),
        ):
            code: int | None = cli.main(list(asked.words))
        verdict = _verdict(asked, code, said.getvalue(), seen)
    except TooLong:
        verdict = Verdict("too long")
    except Exception as error:
        verdict = Verdict("raised", f"{type(error).__name__}: {error}")
    finally:
        os.chdir(here)
    if verdict.good and (written := _listing(asked) ^ before):
        verdict = Verdict("wrote outside", str(sorted(written)[:3]))
    verdict.about, verdict.words = asked.about, asked.words
    return verdict


def _listing(asked: Input) -> set[tuple[str, int, int]]:
    """Everything near a command but what it may write."""
    found = set()
    out = Path(os.path.normpath(asked.folder / asked.out))
    for path in asked.folder.parent.rglob("*"):
        if out in (path, *path.parents) or path in out.parents:
            continue
        about = path.lstat()
        regular = not path.is_dir() or path.is_symlink()
        found.add((str(path), about.st_mode, about.st_mtime_ns if regular else 0))
    return found


def _verdict(asked: Input, code: int | None, said: str, seen: Seen) -> Verdict:
    lines = said.splitlines()
    errors = [line for line in lines if line.startswith("radiffuse: error: ")]
    others = [
        line
        for line in lines
        if line not in errors and not line.startswith(("note: ", "radiffuse: warning: "))
    ]
    if others:
        return Verdict("stray output", others[0])
    if code == 0:
        wrong = "a success" if asked.must_fail else _wrong(asked, seen)
        kind = "wrong success" if asked.must_fail else "wrong value"
        return Verdict(kind, wrong) if wrong else Verdict("read")
    if len(errors) != 1:
        return Verdict("several lines" if errors else "no line", said)
    if "internal error" in errors[0]:
        return Verdict("internal error", errors[0])
    if not any(name in errors[0] for name in asked.names if name):
        if code == 2 and any(word in errors[0] for word in asked.words if word):
            return Verdict("wrong usage", errors[0])
        return Verdict("names no file", errors[0])
    return Verdict("refused", errors[0])


# --- was it read right? -----------------------------------------------------------------------------


def _wrong(asked: Input, seen: Seen) -> str:
    """What is wrong with what a command read or wrote; "" where other libraries read the same."""
    for cases in seen.cases:
        for check in (_sound, _same_files, _same_arrays):
            if wrong := check(cases):
                return wrong
    return _outputs(asked) if asked.words[0] in ("predict", "sample") else ""


def _sound(cases: Cases) -> str:
    """Ids, numbers and places that make sense."""
    if len(set(cases.ids)) < len(cases.ids):
        return "two cases of one name"
    for row in range(len(cases)):
        for key in (*cases.image_keys, *cases.mask_keys):
            image = cases.image(row, key)
            if image.data.is_floating_point() and not bool(image.data.isfinite().all()):
                return f"{key} of {cases.ids[row]} is not finite"
            if image.affine is not None and not bool(image.affine.isfinite().all()):
                return f"affine of {cases.ids[row]} is not finite"
            if key in cases.mask_keys and int(image.data.min()) < 0:
                return f"{key} of {cases.ids[row]} holds negative labels"
    if "label" in cases.keys and bool((cases.columns["label"].stack(cases.rows) < 0).any()):
        return "negative labels"
    return ""


def _same_files(cases: Cases) -> str:
    left_out = "\n".join(line for line in cases.lines if "left out" in line)
    first = next(iter(cases.image_keys), "")
    for row in range(len(cases)):
        for key in (*cases.image_keys, *cases.mask_keys):
            path, column = Path(cases.where(row, key)), cases.columns[key]
            if len(path.name) > 200 or not path.is_file() or path.name in left_out:
                continue
            members = getattr(column, "members", ())
            frames = getattr(column, "frames", ())
            if members and len(members[cases.rows[row]]) > 1:
                wrong = _same_series(members[cases.rows[row]])
            elif frames and frames[cases.rows[row]] is not None:
                continue
            else:
                held = cases.image(row, key).data.numpy() if key == first else None
                wrong = _same_image(path, key in cases.mask_keys, held)
            if wrong:
                return wrong
    return ""


def _same_image(path: Path, labels: bool, held: np.ndarray | None) -> str:
    """A file as it is read, and as the first image of a case, which may have been turned since."""
    ours = read_image(path, labels=labels)
    found = np.moveaxis(ours.data.numpy(), 0, -1).squeeze()
    if held is not None and not _alike(np.sort(held.ravel()), np.sort(found.ravel())):
        return f"{path.name} has other values among the cases than in its file"
    try:
        values, affine = files.read_by_others(path)
    except files.CannotTell:
        return ""
    except Exception as error:
        return f"{path.name} is read, and others cannot ({type(error).__name__}: {error})"
    values = np.asarray(values).squeeze()
    if found.shape != values.shape:
        return f"{path.name} is read as {found.shape}, by others as {values.shape}"
    if not _alike(found, np.rint(values) if labels else values):
        return f"{path.name} is read with other values than by others"
    if affine is None or ours.affine is None:
        return ""
    there = np.allclose(ours.affine.numpy(), affine, rtol=1e-4, atol=1e-3)
    return "" if there else f"{path.name} lies elsewhere than by others"


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    kind = complex if "c" in (one.dtype.kind, other.dtype.kind) else float
    return np.allclose(one.astype(kind), other.astype(kind), rtol=1e-4, atol=1e-5, equal_nan=True)


def _same_series(members: tuple[Path, ...]) -> str:
    """A series has what those of its files hold that are not left out, in whatever order."""
    told: list[str] = []
    ours = read_files(members, told.append).data.numpy()
    kept = [path for path in members if not any(path.name in line for line in told)]
    try:
        theirs = [np.ravel(files.read_by_others(path)[0]) for path in kept]
    except files.CannotTell:
        return ""
    except Exception as error:
        return f"a series is read, and others cannot ({type(error).__name__}: {error})"
    same = _alike(np.sort(ours.ravel()), np.sort(np.concatenate(theirs)))
    return "" if same else "a series is read with other values than by others"


def _same_arrays(cases: Cases) -> str:
    path = Path(cases.source)
    if path.suffix not in (".npz", ".npy", ".h5", ".mat") or not path.is_file():
        return ""
    try:
        theirs = files.arrays_by_others(path)
    except Exception as error:
        return f"{path.name} is read, and others cannot ({type(error).__name__}: {error})"
    for name in ("image", "mask", "kspace", "age", "label"):
        array = theirs.get(name, np.zeros(0))
        if (
            name not in cases.columns
            or len(array) != len(cases.all_ids)
            or array.dtype.kind not in "biufc"
        ):
            continue
        if name == "kspace" and "mask" in theirs:
            if theirs["mask"].shape != array.shape[-1:]:
                continue
            array = array * theirs["mask"]
        ours = cases.columns[name].stack(range(len(array))).numpy()
        if not _alike(np.sort(ours.ravel()), np.sort(array.ravel())):
            return f"{name} of {path.name} is read with other values than by others"
    return ""


def _outputs(asked: Input) -> str:
    """What a command wrote: the files it says, and finite numbers in them."""
    folder = asked.folder / asked.out
    entries = json.loads((folder / "predictions.json").read_text())["predictions"]
    for key, name in (item for entry in entries for item in entry["files"].items()):
        if key == "report":  # text, which has no pixels
            if pydicom.dcmread(folder / name).Modality != "SR":
                return f"{name} is no structured report"
            continue
        try:
            values = files.read_by_others(folder / name)[0]
        except files.CannotTell:
            continue
        if not np.isfinite(np.asarray(values)).all():
            return f"{name} is written and not finite"
    return "" if entries else "nothing is predicted"


def tried(
    seed: int, good: Path, folder: Path, judge: Callable[[Input], Verdict] = judged
) -> Verdict:
    """Make the input of a seed, run it and remove it."""
    try:
        return judge(make(seed, good, folder / "here"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
