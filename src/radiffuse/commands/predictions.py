"""A folder of predictions: its `predictions.json`, and going on after an interruption."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__, processes
from ..errors import UserError
from ..files import read_json, write_json
from ..run import command_line, environment

FILE = "predictions.json"


@dataclass(frozen=True)
class Folder:
    """The folder a command fills.

    Attributes:
        path: the folder.
        run: the run folder whose model is used.
        settings: what decides the predictions; a folder never mixes two settings.
        arguments: the command's words.
    """

    path: Path
    run: Path
    settings: Mapping[str, Any]
    arguments: Sequence[str]

    def begin(self) -> None:
        """Note the settings in the folder.

        Raises:
            UserError: it is a file, or holds predictions of other settings (names which).
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path}: is a file; --out takes a folder")
        begun = (self.path / FILE).is_file()
        # a command that failed before its first prediction binds nobody
        if begun and any(path.name != FILE for path in self.path.iterdir()):
            self._compare(read_json(self.path / FILE))
        processes.barrier()
        if processes.is_main():
            self.finish([])

    def finish(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write `predictions.json` with what was predicted."""
        about = {
            "format": 1,
            "run": str(self.run),
            "settings": dict(self.settings),
            "command": command_line(self.arguments),
            "version": __version__,
            "environment": environment(),
        }
        write_json(self.path / FILE, {**about, "predictions": list(entries)})

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Tell whoever presses Ctrl-C that nothing is lost."""
        try:
            yield
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted; what lies in {self.path} is kept, the same command makes the rest"
            ) from None

    def _compare(self, earlier: Any) -> None:
        there = earlier.get("settings", {}) if isinstance(earlier, dict) else {}
        for name, value in self.settings.items():
            if there.get(name) != value:
                raise UserError(
                    f"{self.path}: holds predictions with {name} {there.get(name)}, not {value}; "
                    "take another --out"
                )
