"""What lies in a folder, read for a report: records, texts and pictures."""

import base64
import json
import math
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from ..data.records import LATENTS, Latents, Manifest, Metrics, Point, Predictions, read_record
from ..errors import UserError
from ..papers import named

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


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
        latents: latents.json.
    """

    folder: Path
    config: str
    manifest: dict[str, Any]
    metrics: dict[str, Any]
    log: list[dict[str, Any]]
    quality: list[dict[str, Any]]
    predictions: dict[str, Any]
    latents: dict[str, Any]

    @property
    def method(self) -> str:
        """Method id, "" if unknown."""
        run = self._run()
        settings = self.predictions.get("settings", {})
        found = (run.get("method"), self.manifest.get("method"), self.metrics.get("id"))
        return str(next(filter(None, (*found, settings.get("method"))), ""))

    @property
    def name(self) -> str:
        """How its results are called: METHOD, or METHOD (PRESET) where that is not the paper's."""
        run = self._run()
        settings = self.predictions.get("settings", {})
        found = (run.get("preset"), self.manifest.get("preset"), settings.get("preset"))
        preset = str(next(filter(None, found), ""))
        return str(self.metrics.get("name") or named(self.method, preset))

    def _run(self) -> dict[str, Any]:
        """The table [run] of config.toml; {} where it cannot be read."""
        try:
            found = tomllib.loads(self.config).get("run", {})
        except tomllib.TOMLDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def entries(self) -> list[dict[str, Any]]:
        """What predictions.json says of each case."""
        found = self.predictions.get("predictions", [])
        return [entry for entry in found if isinstance(entry, dict)]

    def written(self, endings: Collection[str]) -> list[Path]:
        """Files of these endings that predictions.json names, those that are there, case by case."""
        names = [name for entry in self.entries for name in dict(entry.get("files") or {}).values()]
        paths = [self.folder / str(name) for name in names]
        return [path for path in paths if path.suffix.lower() in endings and path.is_file()]

    def picture_file(self, name: str) -> Path | None:
        """A PNG of this name here or one folder down, None if there is none."""
        paths = (self.folder / name, *sorted(self.folder.glob(f"*/{name}")))
        return next((path for path in paths if self.shows(path)), None)

    def picture(self, name: str) -> str:
        """The same as a data URI; "" if there is none."""
        path = self.picture_file(name)
        return "" if path is None else picture_uri(path)

    def width(self, name: str) -> int:
        """Its pixels across; 0 if there is none."""
        path = self.picture_file(name)
        return 0 if path is None else size_of(path)[0]

    def holds(self, path: Path) -> bool:
        """Whether `path` is a file that lies in the folder, links followed."""
        return _inside(self.folder, path)

    def shows(self, path: Path) -> bool:
        """Whether `path` is a picture (PNG, JPEG or WebP) that lies in the folder, links followed."""
        if not self.holds(path):
            return False
        with path.open("rb") as file:
            return file.read(8).startswith(_PICTURES)


def read_source(folder: Path) -> Source:
    """Read a folder.

    Raises:
        UserError: there is no such folder, it holds nothing to report on, or a record is broken.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    source = Source(
        folder,
        _text(folder, "config.toml"),
        _record(folder / "manifest.json", Manifest),
        _record(folder / "metrics.json", Metrics),
        _lines(_text(folder, "log.jsonl")),
        _record(folder / "quality.json", list[Point]) or [],
        _record(folder / "predictions.json", Predictions),
        _record(folder / LATENTS, Latents),
    )
    if not (source.config or source.metrics or source.predictions):
        raise UserError(
            f"{folder}: holds no run, metrics or predictions; give the --out folder of "
            "train, sample, predict or evaluate"
        )
    return source


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture, of whose pixels none is read.

    Raises:
        UserError: it is damaged, or larger than any page shows.
    """
    try:
        with Picture.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{path}: is no picture, or a damaged one; make it anew") from None
    except Picture.DecompressionBombError:
        raise UserError(f"{path}: has more pixels than a page can show; make it anew") from None


def picture_uri(path: Path) -> str:
    """The picture's bytes as a data URI (PNG, JPEG or WebP)."""
    kind = {".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}.get(path.suffix.lower(), "png")
    return f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _inside(folder: Path, path: Path) -> bool:
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def _text(folder: Path, name: str) -> str:
    """A text that lies in the folder itself; a link to one elsewhere is none."""
    path = folder / name
    return path.read_text(encoding="utf-8", errors="replace") if _inside(folder, path) else ""


def _record(path: Path, kind: Any) -> Any:
    return read_record(path, kind) if path.is_file() else {}


def _lines(text: str) -> list[dict[str, Any]]:
    """Every whole line; one that a killed run left half written is passed over."""
    found = []
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def number(value: Any) -> float | None:
    """A finite number, or None for whatever else a record holds."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
