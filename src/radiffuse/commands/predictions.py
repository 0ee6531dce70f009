"""A folder of predictions: its `predictions.json`, and going on after an interruption."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.files import check_folder, read_json, write_json
from ..errors import UserError
from ..runs.run import command_line, environment
from ..training import processes

FILE = "predictions.json"
_PART = ".part-"
Entries = Sequence[Mapping[str, Any]]


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

    def begin(self) -> dict[str, Entries]:
        """Note the settings in the folder.

        Returns:
            What an earlier command finished: by case its entries, where all their files are there.

        Raises:
            UserError: it is a file, or holds predictions of other settings (names which).
        """
        check_folder(self.path)
        begun = (self.path / FILE).is_file()
        earlier = read_json(self.path / FILE) if begun else {}
        parts = self._parts()
        done = {**_by_case(earlier.get("predictions", [])), **_read(parts)} if begun else {}
        done = {case: entries for case, entries in done.items() if self._holds(entries)}
        # a command that failed before its first prediction binds nobody
        if begun and (done or any(path.name != FILE for path in self.path.iterdir())):
            self._compare(earlier)
        processes.barrier()
        if processes.is_main():
            self.finish([entry for entries in done.values() for entry in entries])
            _remove(parts)
        processes.barrier()
        return done

    def keep(self, name: str, entries: Entries) -> None:
        """Write down finished cases until `gather`; no two processes may use one name."""
        write_json(self.path / f"{_PART}{name}.json", entries)

    def forget(self, entries: Entries) -> None:
        """Remove the files of cases that cannot be finished."""
        _remove([self.path / file for entry in entries for file in entry["files"].values()])

    def gather(self, cases: Sequence[str], done: Mapping[str, Entries]) -> None:
        """Write `predictions.json` in the order of `cases`: what was done before and was kept since."""
        parts = self._parts()
        found = {**done, **_read(parts)}
        self.finish([entry for case in cases for entry in found[case]])
        _remove(parts)

    def _parts(self) -> list[Path]:
        return sorted(self.path.glob(f"{_PART}*"))

    def _holds(self, entries: Entries) -> bool:
        return all((self.path / file).is_file() for e in entries for file in e["files"].values())

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

    def _compare(self, earlier: Mapping[str, Any]) -> None:
        there = earlier.get("settings", {})
        for name, value in self.settings.items():
            if there.get(name) != value:
                raise UserError(
                    f"{self.path}: holds predictions with {name} {there.get(name)}, not {value}; "
                    "take another --out"
                )


def _by_case(entries: Entries) -> dict[str, Entries]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["case"], []).append(entry)
    return dict(found)


def _read(parts: Sequence[Path]) -> dict[str, Entries]:
    return {case: entries for part in parts for case, entries in _by_case(read_json(part)).items()}


def _remove(parts: Sequence[Path]) -> None:
    for part in parts:
        part.unlink()
