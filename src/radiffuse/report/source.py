"""What lies in a folder, read for a report: records, texts and pictures."""

import base64
import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.files import read_json
from ..errors import UserError


@dataclass(frozen=True)
class Source:
    """The contents of a run folder or a folder of predictions; what is missing is empty.

    Attributes:
        folder: where it is.
        config: text of config.toml.
        manifest: manifest.json.
        metrics: metrics.json.
        log: lines of log.jsonl.
        quality: points of quality.json.
        predictions: predictions.json.
    """

    folder: Path
    config: str
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    log: list[dict[str, Any]]
    quality: list[dict[str, Any]]
    predictions: dict[str, Any]

    @property
    def method(self) -> str:
        """Method id, "" if unknown."""
        try:
            run = tomllib.loads(self.config).get("run", {})
        except tomllib.TOMLDecodeError:
            run = {}
        settings = self.predictions.get("settings", {})
        found = (run.get("method"), self.manifest.get("method"), self.metrics.get("id"))
        return str(next(filter(None, (*found, settings.get("method"))), ""))

    def picture(self, name: str) -> str:
        """A PNG of this name here or one folder down, as a data URI; "" if there is none."""
        for path in (self.folder / name, *sorted(self.folder.glob(f"*/{name}"))):
            if path.is_file():
                return picture_uri(path)
        return ""


def read_source(folder: Path) -> Source:
    """Read a folder.

    Raises:
        UserError: there is no such folder, it holds nothing to report on, or a record is broken.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    source = Source(
        folder,
        _text(folder / "config.toml"),
        _object(folder / "manifest.json"),
        _object(folder / "metrics.json"),
        _lines(folder / "log.jsonl"),
        _list(folder / "quality.json"),
        _object(folder / "predictions.json"),
    )
    if not (source.config or source.metrics or source.predictions):
        raise UserError(
            f"{folder}: holds no run, metrics or predictions; give the --out folder of "
            "train, sample, predict or evaluate"
        )
    return source


def picture_uri(path: Path) -> str:
    """The picture's bytes as a data URI (PNG or JPEG)."""
    kind = "jpeg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds {type(value).__name__}, not an object; write it again")
    return value


def _list(path: Path) -> list[dict[str, Any]]:
    value = read_json(path) if path.is_file() else []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UserError(f"{path}: holds no list of points; write it again")
    return value


def _lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; one that a killed run left half written is passed over."""
    found = []
    for line in _text(path).splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def number(value: Any) -> float | None:
    """A finite number, or None for whatever else a record holds."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
