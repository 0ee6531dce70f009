"""Seeded malformed inputs over all forms of data and all commands.

`prepare` makes what is good once, `make` damages a copy of it; `malformed_judge.judged` runs the command
line on it and says whether it kept its word: one line that names what is wrong, or an answer that is right.
"""

import contextlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import malformed_files as files
from malformed_faults import copied, damage
from malformed_values import pick
from radiffuse import cli

RUNS = {"pictures": "anoddpm", "kspace": "score-mri", "samples": "ddpm"}


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
    "1000000000", "1000000000000", "99999999999999999999", "nan", "inf", "-1", "0", "x", "", "1e9",
    "1e400",
)  # fmt: skip
FLAGS: dict[str, tuple[str, ...]] = {
    "train": (
        "--train.batch", "--train.steps", "--train.accumulate", "--train.learning-rate", "--train.warmup",
        "--train.ema", "--train.minutes", "--train.log-every", "--train.seed", "--width", "--multiples",
        "--blocks", "--attention", "--patch", "--steps", "--timesteps", "--dropout", "--size", "--range",
        "--train.clip", "--train.betas", "--data-leak", "--map", "--guidance", "--start", "--eta",
    ),
    "sample": ("--count", "--steps", "--batch", "--seed", "--labels", "--set",),
    "predict": ("--steps", "--samples", "--batch", "--size", "--range", "--split", "--map", "--seed",),
    "evaluate": ("--count", "--steps", "--samples", "--batch", "--size", "--split", "--seed",),
}  # fmt: skip
COUNTS = (
    "--train.batch", "--train.accumulate", "--train.ema", "--train.betas", "--width", "--multiples", "--blocks",
    "--patch", "--size", "--count", "--batch", "--samples", "--dropout",
)  # fmt: skip
"""Flags of which a number beyond reason is refused."""
PLACES = (
    "brains:count=1000000000", "brains:size=100000", "brains:count=-1", "brains:count=nan", "brains:x=1",
    "brains3d:size=5000", "/dev/zero", "", "~", "https://example.org/a.npz", "a\nb.npz", "a\0b.npz",
    f"{'x' * 300}.npz", "x" * 5000, "nothing.npz", "/etc/passwd", "run", "data/a.npz/inside",
    "\x1b[31mred.npz", "\udcff.npz", "-", "--", "data/../data/nothing", "%s", "{}",
)  # fmt: skip
METHODS = (
    "", "x", "ddpm ", "DDPM", "../ddpm", "a\0b", "x" * 5000, "\x1b[31m", "brain-ldm", "-", "1", "nan",
)  # fmt: skip


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
