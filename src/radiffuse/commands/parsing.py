"""Flags from dataclasses with tyro, and every mistake told in one line.

tyro answers a mistake with a box of several lines. Here unknown and missing flags are found before
tyro runs, with the nearest name, and what tyro says of a wrong value is put on one line.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..errors import UsageError, did_you_mean

T = TypeVar("T")

EXAMPLES = {
    "methods": "--organ brain --modality MR",
    "show": "anoddpm",
    "inspect": "scans --out looked-at",
    "train": "--data PATH --out runs/mine --train.minutes 30",
    "distill": "runs/mine --calls 4 --out runs/fast --train.minutes 10",
    "predict": "runs/mine --data PATH --out found --samples 4",
    "sample": "runs/mine --count 64 --out samples",
    "evaluate": "runs/mine --data PATH",
    "audit": "runs/mine --out audits/mine",
    "compare": "--data PATH --minutes 30 --out runs/compared",
    "runs": "runs",
    "models": "brains-mri",
    "pack": "runs/mine --out mine.zip --licence CC-BY-4.0",
    "push": "runs/mine hf://OWNER/NAME --licence CC-BY-4.0",
    "node": "dicomweb://127.0.0.1:8042/dicom-web",
    "serve": "runs/mine --watch incoming --out results",
    "report": "runs/mine",
    "demo": "brains-mri --out demo-out",
    "completion": "bash",
    "view": "runs",
    "export": "runs/mine --out exported",
}
"""Words after the command's name, shown at the top of its help."""


def parse(kind: type[T], arguments: Sequence[str], prog: str) -> T:
    """Parse command-line arguments into a dataclass.

    A field without default is required; a field of a dataclass type becomes `--field.name` flags,
    or plain `--name` flags where it is annotated `tyro.conf.OmitArgPrefixes`.

    Raises:
        UsageError: an unknown flag (the nearest is named), a missing one or a wrong value.
        SystemExit: with code 0, after `--help`.
    """
    import tyro

    for before, word in itertools.pairwise(["", *arguments]):
        unset = word.startswith("--") and word.endswith("=")
        if not word or "\0" in word or unset:
            flag = word if unset else before
            what = flag if flag.startswith("--") else "an argument"
            raise UsageError(f"{what} is empty or no text; is a variable of the shell not set?")
    if not {"-h", "--help"} & set(arguments):
        check_flags(kind, arguments, prog)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed, rest = tyro.cli(
                kind,
                args=list(arguments),
                prog=prog,
                return_unknown_args=True,
                description=f"For example: {prog} {EXAMPLES[prog.split()[1]]}",
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(f"{_one_line(said.getvalue())} (see `{prog} --help`)") from None
    if rest:
        raise UsageError(f"{rest[0]!r} is one word too many; see `{prog} --help`")
    return parsed


def check_flags(kind: type, arguments: Sequence[str], prog: str) -> None:
    """Refuse unknown and missing flags.

    Raises:
        UsageError: names the flag, and the nearest one where it is unknown.
    """
    flags = {flag: field for flag, field, _ in flags_of(kind)}
    spelled = {
        spelling: flag
        for flag, field, aliases in flags_of(kind)
        for spelling in (*_spellings(flag, field), *aliases)
    }
    given = [word.partition("=")[0] for word in arguments if re.match(r"--[A-Za-z]", word)]
    for word in given:
        if _normal(word) not in spelled:
            hint = did_you_mean(_normal(word), spelled, f"see `{prog} --help`")
            raise UsageError(f"there is no flag {word}; {hint}")
    seen = {spelled[_normal(word)] for word in given}
    for flag, field in flags.items():
        if not is_required(field) or flag in seen:
            continue
        if flag.startswith("--") or all(word.startswith("-") for word in arguments):
            name = flag if flag.startswith("--") else flag.upper()
            raise UsageError(f"{name} is missing; see `{prog} --help`")


Flag = tuple[str, "dataclasses.Field[Any]", tuple[str, ...]]
"""A flag, the field behind it, and other names of the flag."""


def flags_of(kind: type, prefix: str = "--") -> Iterator[Flag]:
    """The flags of a dataclass; positional words have no dashes."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        bare, marks = _unwrap(hints[field.name])
        texts = [str(mark) for mark in marks]
        if any("Fixed" in text for text in texts):
            continue
        if dataclasses.is_dataclass(bare) and isinstance(bare, type):
            flat = any("OmitArgPrefixes" in text for text in texts)
            yield from flags_of(bare, prefix if flat else f"{prefix}{_normal(field.name)}.")
        elif any("Positional" in text for text in texts):
            yield field.name, field, ()
        else:
            aliases = (alias for mark in marks for alias in getattr(mark, "aliases", None) or ())
            yield prefix + _normal(field.name), field, tuple(aliases)


def is_required(field: "dataclasses.Field[Any]") -> bool:
    """Whether a dataclass field has no default."""
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing


def _unwrap(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type behind `Annotated`, and its marks."""
    if typing.get_origin(hint) is typing.Annotated:
        bare, *marks = typing.get_args(hint)
        return bare, tuple(marks)
    return hint, ()


def _spellings(flag: str, field: "dataclasses.Field[Any]") -> tuple[str, ...]:
    if field.type in (bool, "bool") or "bool" in str(field.type):
        parent, dot, name = flag.rpartition(".")
        negative = f"{parent}{dot}no-{name}" if dot else f"--no-{flag.removeprefix('--')}"
        return flag, negative
    return (flag,)


def _normal(word: str) -> str:
    return word.replace("_", "-")


_PLAINER = (
    (r"^Error parsing (\S+): ", r"\1: "),
    (r": invalid literal for int\(\) with base 10: ", " must be an integer, not "),
    (r": could not convert string to float: ", " must be a number, not "),
    (
        r"^invalid choice (.*?) for argument '(.*?)'. Expected one of \((.*?),?\)",
        r"\2 must be one of \3, not \1",
    ),
)
"""What tyro and Python say of a wrong value, and how it is said here."""


def _one_line(box: str) -> str:
    """The message inside tyro's box: what stands below the title and above the next rule."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    sections = itertools.groupby(lines, key=lambda line: set(line) <= set("─-╰╯"))
    texts = (" ".join(section) for is_rule, section in sections if not is_rule)
    message = next(texts, "wrong arguments").rstrip(".")
    for said, meant in _PLAINER:
        message = re.sub(said, meant, message)
    return message


def pairs(words: Sequence[str], flag: str = "--map") -> dict[str, str]:
    """`key=column` or `field=value` words as a dict.

    Raises:
        UsageError: a word without "=", with an empty side, or a key given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equals, column = word.partition("=")
        if not (equals and key and column):
            example = "key=column, as in --map source=t1 target=flair"
            if flag == "--set":
                example = "field=value, as in --set acceleration=8"
            raise UsageError(f"{flag} {word}: write {example}")
        if key in found:
            raise UsageError(f"{flag} {word}: the key '{key}' is given twice")
        found[key] = column
    return found


def option(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag that decides which other flags there are, read ahead of tyro."""
    for index, word in enumerate(arguments):
        if word == flag and index + 1 < len(arguments):
            return arguments[index + 1]
        if word.startswith(flag + "="):
            return word.partition("=")[2]
    return None


MOST = 10_000_000
"""A larger count of images, steps or draws is a slip of the hand."""


def positive(values: Mapping[str, float | None]) -> None:
    """Refuse counts below one, and beyond `MOST`.

    Raises:
        UsageError: names the flag.
    """
    for flag, value in values.items():
        if value is not None and value <= 0:
            raise UsageError(f"{flag} must be at least 1, not {value}")
        if value is not None and value > MOST:
            raise UsageError(f"{flag} must be at most {MOST}, not {value}")
