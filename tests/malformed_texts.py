"""What can be wrong inside tables, JSON, TOML, logs and files of weights."""

import csv
import json
import struct
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from malformed_bytes import flip, flip_between
from malformed_values import TEXT, WHOLE, Random, nasty, pick


def csv_cell(path: Path, rng: Random) -> str:
    with path.open(newline="") as stream:
        rows = list(csv.reader(stream))
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    new = str(
        pick(
            rng,
            (
                *TEXT,
                *WHOLE[:6],
                "c0",
                "i0.png",
                "m1.png",
                "train",
                "0.5",
                "=1+1",
                ".",
                "..",
                "/dev/zero",
                "~",
            ),
        )
    )
    how = pick(
        rng,
        (
            "cell",
            "cell",
            "cell",
            "column",
            "drop column",
            "drop row",
            "same rows",
            "quote",
            "long",
            "code",
        ),
    )
    if how == "cell":
        rows[row][column] = new
    elif how == "column":
        for one in rows[1:]:
            one[column] = new
    elif how == "drop column":
        rows = [one[:column] + one[column + 1 :] for one in rows]
    elif how == "drop row":
        del rows[row]
    elif how == "same rows":
        rows += rows[1:]
    elif how == "long":
        rows[row][column] = "x" * 200_000
    text = "\n".join(
        ",".join(f'"{cell}"' if "\n" in cell else cell for cell in one) for one in rows
    )
    text += '"' if how == "quote" else ""
    coded = (
        text.encode(pick(rng, ("utf-16", "latin-1", "utf-8-sig", "utf-32")), "replace")
        if how == "code"
        else None
    )
    path.write_bytes(text.encode("utf-8", "surrogatepass") if coded is None else coded)
    return f"{how} {row}, {column} = {new!r:.40}"


def json_value(path: Path, rng: Random) -> str:
    """A value anywhere in a file of JSON replaced, removed or nested."""
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return flip(path, rng)
    if rng.random() < 0.08:
        path.write_text(
            pick(
                rng,
                (
                    "[" * 100_000,
                    '{"a":' * 100_000,
                    "[]",
                    "null",
                    "3",
                    '"x"',
                    "NaN",
                    "{}",
                    "1" * 10_000,
                ),
            )
        )
        return "JSON of another shape"
    content, told = _changed(content, rng, "")
    path.write_text(json.dumps(content))
    return told


def _changed(content: Any, rng: Random, where: str) -> tuple[Any, str]:
    """The same content with one value changed, and which."""
    keys = (
        list(content)
        if isinstance(content, dict)
        else list(range(len(content)))
        if isinstance(content, list)
        else []
    )
    if not keys or rng.random() < 0.15:
        new = nasty(rng)
        return new, f"{where or 'all'} = {new!r:.40}"
    key = pick(rng, keys)
    if rng.random() < 0.1:
        content = (
            {k: v for k, v in content.items() if k != key}
            if isinstance(content, dict)
            else content[:-1]
        )
        return content, f"{where}.{key} gone"
    content = dict(content) if isinstance(content, dict) else list(content)
    content[key], told = _changed(content[key], rng, f"{where}.{key}")
    return content, told


def toml_value(path: Path, rng: Random) -> str:
    try:
        content = tomllib.loads(path.read_text())
    except ValueError:
        return flip(path, rng)
    if rng.random() < 0.08:
        path.write_text(
            "a = "
            + pick(rng, ("[" * 100_000, "'x", '"\\ud800"', "1979-99-99", "9" * 5000, "{" * 50_000))
        )
        return "TOML of another shape"
    content, told = _changed(content, rng, "")
    try:
        path.write_text(tomli_w.dumps(content))
    except (TypeError, AttributeError, ValueError):
        return flip(path, rng)
    return told


def jsonl_line(path: Path, rng: Random) -> str:
    lines = path.read_text().splitlines()
    if not lines:
        return flip(path, rng)
    at = int(rng.integers(len(lines)))
    content, told = _changed(json.loads(lines[at]), rng, "")
    lines[at] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n")
    return told


def safetensors_header(path: Path, rng: Random) -> str:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    head = json.loads(content[8 : 8 + length])
    if rng.random() < 0.2:
        size = pick(rng, (0, 1, 2**40, 2**63, length + 1, 10**8))
        path.write_bytes(struct.pack("<Q", size) + content[8:])
        return f"header of {size} bytes"
    head, told = _changed(head, rng, "")
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    return told


def weights(path: Path, rng: Random) -> str:
    """A bit of the numbers."""
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    return flip_between(path, rng, least=8 + length)
