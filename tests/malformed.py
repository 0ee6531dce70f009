"""Seeded malformed inputs over all forms of data and all commands, and a judge of what a command did.

`prepare` makes what is good once, `make` damages a copy of it, `judged` runs the command line in this
process and says whether it kept its word: one line that names what is wrong, or an answer that is right.
"""

import contextlib
import hashlib
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

import malformed_files as files
from malformed_faults import copied, damage, pick
from radiffuse import cli
from radiffuse.commands import evaluate as evaluate_command
from radiffuse.commands import source as source_command
from radiffuse.commands import train as train_command
from radiffuse.data.dataset import Cases
from radiffuse.data.formats.by_ending import read_image

SECONDS, PATIENCE = 10.0, 60.0
"""Of computing, and of waiting, that a command may take."""
MEMORY = 2 << 30
"""Bytes that a command may take beyond what the process has."""
RUNS = {"pictures": "anoddpm", "kspace": "score-mri", "samples": "ddpm"}
GOOD, BAD = ("read", "refused", "wrong usage"), (
    *("internal error", "raised", "no line", "several lines", "names no file", "wrong value"),
    *("wrong success", "wrote outside", "stray output", "too long"),
)  # fmt: skip


@dataclass(frozen=True)
class Input:
    """A malformed input.

    Attributes:
        about: form, fault and command.
        words: the command line; paths are relative to `folder`.
        folder: where it runs; the command may write in `out` alone.
        names: one of these stands in the message that refuses it.
        must_fail: a success is wrong, whatever it says.
    """

    about: str
    words: tuple[str, ...]
    folder: Path
    names: tuple[str, ...]
    out: str = "out"
    must_fail: bool = False


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


# --- good things ------------------------------------------------------------------------------------


def prepare(folder: Path) -> Path:
    """Every form of data, three finished runs, samples and predictions, below a folder."""
    for name, form in files.FORMS.items():
        (folder / "data" / name).mkdir(parents=True)
        form.write(folder / "data" / name, np.random.default_rng(len(name)))
    for run, method in RUNS.items():
        data = folder / "data" / "npz" / "a.npz"
        extra = (*MADE, *(SCAN if run == "kspace" else ()))
        _done("train", method, "--data", data, "--out", folder / run, *extra)
    _done("sample", folder / "samples", "--count", 2, "--steps", 1, "--out", folder / "drawn")
    source = ("--data", folder / "data" / "png", "--out", folder / "predicted")
    _done("predict", folder / "pictures", *source)
    record = {
        "method": {"psnr": {"mean": 30.0, "ci95": [29.0, 31.0], "n": 3}},
        "id": "ddpm",
        "split": "test",
    }
    for run in RUNS:
        (folder / run / "metrics.json").write_text(json.dumps(record))
    return folder


def _done(*words: Any) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = cli.main([str(word) for word in words])
    assert code == 0, said.getvalue()


# --- malformed ones ---------------------------------------------------------------------------------


def make(seed: int, good: Path, folder: Path) -> Input:
    """The malformed input of a seed, in an empty folder."""
    rng = np.random.default_rng([2024, seed])
    folder.mkdir(parents=True)
    kind = rng.random()
    if kind < 0.7:
        return _data(rng, good, folder)
    return _run(rng, good, folder) if kind < 0.92 else _flags(rng, good, folder)


def _data(rng: np.random.Generator, good: Path, folder: Path) -> Input:
    name = pick(rng, files.FORMS)
    form = files.FORMS[name]
    copied(good / "data" / name, folder / "data")
    found = sorted(path for path in (folder / "data").glob(form.victims) if path.is_file())
    victim = pick(rng, found)
    about, victims = damage(victim, rng), (victim.name, victim.stem)
    if len(found) > 1 and rng.random() < 0.1:
        other = pick(rng, [path for path in found if path != victim])
        about += f" and {damage(other, rng)}"
        victims += (other.name, other.stem)
    data = os.path.normpath(Path("data", form.data))
    one = rng.random() < 0.15 and form.data == "."
    data = f"data/{victim.name}" if one and victim.parent == folder / "data" else data
    commands = ("train", "train") if form.method else ()
    command = pick(rng, (*commands, *(("predict", "evaluate") if form.run else ())))
    words = applied(form, command, data, good, folder)
    return Input(f"{name}: {about} ({command})", words, folder, (*victims, data))


def applied(form: files.Form, command: str, data: str, good: Path, folder: Path) -> tuple[str, ...]:
    """The words by which a command takes a form of data; the run that it needs is copied."""
    if command == "train":
        words = ("train", form.method, "--data", data, "--out", "out", "--preset", "tiny")
        return words + (("--map", *form.map) if form.map else ())
    copied(good / form.run, folder / "run")
    if command == "evaluate":
        return ("evaluate", "run", "--data", data, "--out", "out/metrics.json")
    steps = ("--steps", "1") if form.run == "kspace" else ()
    return ("predict", "run", "--data", data, "--out", "out", *steps)


MADE = ("--preset", "tiny", "--train.steps", "1", "--train.batch", "2")
SCAN = ("--acceleration", "2", "--calibration", "2")
INSIDE = ("config.toml", "manifest.json", "model.safetensors")


@dataclass(frozen=True)
class Use:
    """A command that takes a finished run.

    Attributes:
        words: of the command, in a folder with `data`, `run`, `predicted` and `drawn`.
        victims: patterns of the files that it may read.
        out: where it writes.
    """

    words: tuple[str, ...]
    victims: tuple[str, ...] = tuple(f"run/{name}" for name in INSIDE)
    out: str = "out"


def uses(run: str) -> dict[str, Use]:
    """What can be done with one of `RUNS`."""
    trained = "data/npz/a.npz"
    extra = SCAN if run == "kspace" else ()
    checkpoint = ("run/config.toml", "run/manifest.json", "run/checkpoint/*/*")
    found = {
        "report": Use(
            ("report", "run", "--out", "out/page.html"), ("run/*.toml", "run/*.json", "run/*.jsonl")
        ),
        "resume": Use(
            ("train", RUNS[run], "--data", trained, "--out", "run", *MADE, *extra, "--resume"),
            checkpoint,
            "run",
        ),
        "config": Use(
            ("train", "--config", "run/config.toml", "--data", trained, "--out", "out"),
            ("run/config.toml",),
        ),
        "evaluate": Use(("evaluate", "run", "--data", trained, "--out", "out/metrics.json")),
    }
    if run == "samples":
        again = ("sample", "run", "--count", "2", "--steps", "1", "--out")
        found["prior"] = Use(
            ("train", "score-mri", "--prior", "run", "--out", "out", "--preset", "tiny", *SCAN)
        )
    else:
        data = "data/fastmri/k.h5" if run == "kspace" else "data/png"
        again = ("predict", "run", "--data", data, *(("--steps", "1") if extra else ()), "--out")
    found["use"] = Use((*again, "out"))
    made = {"samples": "drawn", "pictures": "predicted"}.get(run, "")
    if made:
        found["again"] = Use((*again, made), (f"{made}/predictions.json",), made)
        found["report of predictions"] = Use(
            ("report", made, "--out", "out/page.html"), (f"{made}/*",)
        )
    return found


def laid_out(run: str, good: Path, folder: Path) -> None:
    """A run, data, samples and predictions in a folder."""
    copied(good / run, folder / "run")
    for form in ("npz", "png", "fastmri"):
        copied(good / "data" / form, folder / "data" / form)
    for name in ("drawn", "predicted"):
        copied(good / name, folder / name)


def _run(rng: np.random.Generator, good: Path, folder: Path) -> Input:
    run = pick(rng, RUNS)
    laid_out(run, good, folder)
    command = pick(rng, uses(run))
    use = uses(run)[command]
    found = [
        path for pattern in use.victims for path in sorted(folder.glob(pattern)) if path.is_file()
    ]
    victim = pick(rng, found)
    about = f"run of {RUNS[run]}: {damage(victim, rng)} ({command})"
    where = victim.relative_to(folder).parts[0]
    # weights that were changed are not used
    changed = victim.name == "model.safetensors" and "bits flipped" in about
    must_fail = changed and command in ("use", "prior", "evaluate")
    return Input(
        about,
        use.words,
        folder,
        (victim.name, victim.parent.name, where, "run"),
        use.out,
        must_fail,
    )


HUGE = (
    "1000000000",
    "1000000000000",
    "99999999999999999999",
    "nan",
    "inf",
    "-1",
    "0",
    "x",
    "",
    "1e9",
    "1e400",
)
FLAGS: dict[str, tuple[str, ...]] = {
    "train": (
        *(
            "--train.batch",
            "--train.steps",
            "--train.accumulate",
            "--train.learning-rate",
            "--train.warmup",
        ),
        *(
            "--train.ema",
            "--train.minutes",
            "--train.log-every",
            "--train.seed",
            "--width",
            "--multiples",
        ),
        *(
            "--blocks",
            "--attention",
            "--patch",
            "--steps",
            "--timesteps",
            "--dropout",
            "--size",
            "--range",
        ),
        *(
            "--train.clip",
            "--train.betas",
            "--data-leak",
            "--map",
            "--guidance",
            "--start",
            "--eta",
        ),
    ),
    "sample": ("--count", "--steps", "--batch", "--seed", "--labels", "--set"),
    "predict": (
        "--steps",
        "--samples",
        "--batch",
        "--size",
        "--range",
        "--split",
        "--map",
        "--seed",
    ),
    "evaluate": ("--count", "--steps", "--samples", "--batch", "--size", "--split", "--seed"),
}
COUNTS = (
    "--train.batch",
    "--train.accumulate",
    "--width",
    "--multiples",
    "--blocks",
    "--patch",
    "--size",
)
COUNTS += (
    "--count",
    "--batch",
    "--samples",
    "--train.ema",
    "--train.betas",
    "--dropout",
    "--train.learning-rate",
)
"""Flags of which a number beyond reason is refused."""
PLACES = (
    *(
        "brains:count=1000000000",
        "brains:size=100000",
        "brains:count=-1",
        "brains:count=nan",
        "brains:x=1",
    ),
    *(
        "brains3d:size=5000",
        "/dev/zero",
        "",
        "~",
        "https://example.org/a.npz",
        "a\nb.npz",
        "a\0b.npz",
    ),
    *(
        f"{'x' * 300}.npz",
        "x" * 5000,
        "nothing.npz",
        "/etc/passwd",
        "run",
        "data/a.npz/inside",
        "\x1b[31mred.npz",
    ),
    *("\udcff.npz", "-", "--", "data/../data/nothing", "%s", "{}"),
)
METHODS = (
    "",
    "x",
    "ddpm ",
    "DDPM",
    "../ddpm",
    "a\0b",
    "x" * 5000,
    "\x1b[31m",
    "brain-ldm",
    "-",
    "1",
    "nan",
)


def _flags(rng: np.random.Generator, good: Path, folder: Path) -> Input:
    copied(good / "data" / "npz", folder / "data")
    command = pick(rng, (*FLAGS, "data", "data", "out", "method"))
    run = "samples" if command == "sample" else "pictures"
    copied(good / run, folder / "run")
    start = {
        "train": ("train", "ddpm", "--data", "data/a.npz", "--out", "out", "--preset", "tiny"),
        "sample": ("sample", "run", "--out", "out"),
        "predict": ("predict", "run", "--data", "data/a.npz", "--out", "out"),
        "evaluate": ("evaluate", "run", "--data", "data/a.npz", "--out", "out/metrics.json"),
    }
    if command in FLAGS:
        flag = pick(rng, FLAGS[command])
        count = {"--size": 2, "--range": 2, "--train.betas": 2, "--multiples": 2}.get(flag, 1)
        values = tuple(pick(rng, HUGE) for _ in range(count))
        more = ("--count", "1") if command == "sample" and flag != "--count" else ()
        words = (*start[command], *more, flag, *values)
        huge = any(len(value) > 9 and value.isdigit() for value in values)
        return Input(
            f"{command} {flag} {' '.join(values)}",
            words,
            folder,
            (flag, flag[2:], "argument"),
            must_fail=huge and flag in COUNTS,
        )
    value = pick(rng, METHODS if command == "method" else PLACES)
    name = pick(rng, start)
    words = list(start[name]) + (["--count", "1"] if name == "sample" else [])
    if command == "method":
        words = pick(
            rng,
            (
                ["show", value],
                ["bench", value],
                ["methods", "--organ", value],
                ["report", value],
                ["train", value, *words[2:]],
                [value],
            ),
        )
    elif command == "data" and "--data" in words:
        words[words.index("--data") + 1] = value
    else:
        words = [name, value, *words[2:]] if command == "data" else words
        words[words.index("--out") + 1] = (
            value if command == "out" else words[words.index("--out") + 1]
        )
    shown = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in value).split())
    shown = os.path.normpath(shown).replace("data/nothing", "nothing") if shown else "''"
    named = (shown[:20], "METHOD", "--out", "--data", "command", "run", "argument", "example.org")
    return Input(
        f"{' '.join(words)!a:.100}",
        tuple(words),
        folder,
        named,
        value if command == "out" and value else "out",
    )


# --- the judge --------------------------------------------------------------------------------------


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
    """What is wrong with what a command read; "" where all of it is what other libraries read."""
    for cases in seen.cases:
        for check in (_sound, _same_files, _same_arrays):
            if wrong := check(cases):
                return wrong
    return ""


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
    for key in cases.keys:
        if key == "label" and bool((cases.columns[key].stack(cases.rows) < 0).any()):
            return "negative labels"
    return ""


def _same_files(cases: Cases) -> str:
    notices = "\n".join(cases.lines)
    for row in range(len(cases)):
        for key in (*cases.image_keys, *cases.mask_keys):
            path = Path(cases.where(row, key))
            if len(path.name) > 200 or not path.is_file() or path.name in notices:
                continue
            column = cases.columns[key]
            members = getattr(column, "members", ())
            if members and len(members[cases.rows[row]]) > 1:
                if wrong := _same_series(members[cases.rows[row]], notices):
                    return wrong
                continue
            if getattr(column, "frames", None) and column.frames[cases.rows[row]] is not None:
                continue
            if wrong := _same_image(path, key in cases.mask_keys):
                return wrong
    return ""


def _same_image(path: Path, labels: bool) -> str:
    ours = read_image(path, labels=labels)
    try:
        values, affine = files.read_by_others(path)
    except files.CannotTell:
        return ""
    except Exception as error:
        return f"{path.name} is read, and others cannot ({type(error).__name__}: {error})"
    found = np.moveaxis(ours.data.numpy(), 0, -1).squeeze()
    values = np.asarray(values).squeeze()
    if found.shape != values.shape:
        return f"{path.name} is read as {found.shape}, by others as {values.shape}"
    if not np.allclose(found.astype(np.float64), values.astype(np.float64), rtol=1e-5, atol=1e-5):
        return f"{path.name} is read with other values than by others"
    if (
        affine is not None
        and ours.affine is not None
        and not np.allclose(ours.affine.numpy(), affine, rtol=1e-4, atol=1e-3)
    ):
        return f"{path.name} lies elsewhere than by others"
    return ""


def _same_series(members: tuple[Path, ...], notices: str) -> str:
    """All slices have what the files hold, in whatever order."""
    from radiffuse.data.formats.dicom import read_files

    kept = [path for path in members if path.name not in notices]
    try:
        theirs = np.concatenate([np.ravel(files.read_by_others(path)[0]) for path in kept])
    except files.CannotTell:
        return ""
    except Exception as error:
        return f"a series is read, and others cannot ({type(error).__name__}: {error})"
    ours = read_files(members).data.numpy().ravel()
    if len(kept) == len(members) and not np.allclose(np.sort(ours), np.sort(theirs)):
        return "a series is read with other values than by others"
    return ""


def _same_arrays(cases: Cases) -> str:
    path = Path(cases.source)
    if path.suffix not in (".npz", ".npy", ".h5") or not path.is_file():
        return ""
    try:
        theirs = files.arrays_by_others(path)
    except Exception as error:
        return f"{path.name} is read, and others cannot ({type(error).__name__}: {error})"
    for name in ("image", "mask", "kspace", "age", "label"):
        if (
            name not in theirs
            or name not in cases.columns
            or len(theirs[name]) != len(cases.all_ids)
        ):
            continue
        array = np.asarray(theirs[name])
        if array.dtype.names:
            continue
        if name == "kspace" and "mask" in theirs:
            array = array * (
                theirs["mask"].reshape(-1, 1, 1, theirs["mask"].shape[-1])
                if theirs["mask"].ndim == 1
                else 1
            )
        ours = cases.columns[name].stack(range(len(array))).numpy()
        if ours.size != array.size or not np.allclose(
            np.sort(ours.ravel()),
            np.sort(array.ravel().astype(ours.dtype)),
            rtol=1e-4,
            atol=1e-6,
            equal_nan=True,
        ):
            return f"{name} of {path.name} is read with other values than by others"
    return ""


def digest(folder: Path) -> str:
    """Of all files below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            found.update(path.name.encode("utf-8", "replace") + path.read_bytes())
    return found.hexdigest()


def tried(
    seed: int, good: Path, folder: Path, judge: Callable[[Input], Verdict] = judged
) -> Verdict:
    """Make the input of a seed, run it and remove it."""
    try:
        return judge(make(seed, good, folder / "here"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
