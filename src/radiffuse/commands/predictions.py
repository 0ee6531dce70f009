"""A folder of predictions: its `predictions.json`, and going on after an interruption.

A file is written down before it takes its place, and what is not written down is not ours: it is neither
taken for a prediction nor replaced, also after a kill.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..data.files import check_folder, sweep, write_json
from ..data.records import FORMAT, Entry, Predictions, read_record
from ..errors import UserError
from ..runs.run import command_line, environment
from ..training import processes

FILE = "predictions.json"
_PART = re.compile(r"\.part-\d{6,}(\.json)?")
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

    def begin(self, names: Collection[str], beside: Iterable[str] = ()) -> dict[str, Entries]:
        """Note the settings in the folder, which must be locked, and remove what a kill left half done.

        Args:
            names: of the files to come, with or without their ending.
            beside: of files that stand beside any predictions.

        Returns:
            What an earlier command finished: by case its entries, where all their files are there.

        Raises:
            UserError: it is a file, holds predictions of other settings (names which), a record that
                is none, or a file to come that no command made.
        """
        check_folder(self.path)
        begun = (self.path / FILE).is_file()
        earlier = read_record(self.path / FILE, Predictions) if begun else {}
        known = {**_by_case(earlier.get("predictions", [])), **self._kept()} if begun else {}
        done = {case: entries for case, entries in known.items() if self._holds(entries)}
        there = self._files()
        # a command that failed before its first prediction binds nobody
        if begun and (done or there):
            self._compare(earlier)
        self._refuse_foreign(
            there - _files_of(known.values()), {*names, *([] if begun else beside)}
        )
        processes.barrier()
        if processes.is_main():
            for file in _files_of(known.values()) - _files_of(done.values()):
                _remove(self.path / file)
            self.finish([entry for entries in done.values() for entry in entries])
            self._clean()
        processes.barrier()
        return done

    @contextlib.contextmanager
    def staged(self, name: str) -> Iterator[Path]:
        """A folder to write files into until `move`; it goes at the end. No two processes may use one name."""
        stage = self.path / f".part-{name}"
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)

    def keep(self, name: str, entries: Entries) -> None:
        """Write down cases until `gather`, before their files take their places.

        Raises:
            UserError: one of the files is there already.
        """
        names = _files_of([entries])
        self._refuse_foreign({file for file in names if os.path.lexists(self.path / file)}, names)
        write_json(self.path / f".part-{name}.json", entries)

    def note(self, name: str, entries: Entries) -> None:
        """Write down more of cases that were kept: what their files hold, now that they are there."""
        write_json(self.path / f".part-{name}.json", entries)

    def move(self, stage: Path, entries: Entries) -> None:
        """Put the files of cases that were written down into their places."""
        for file in sorted(_files_of([entries])):
            os.rename(stage / file, self.path / file)

    def gather(self, cases: Sequence[str], done: Mapping[str, Entries]) -> None:
        """Write `predictions.json` in the order of `cases`: what was done before and was kept since."""
        found = {**done, **self._kept()}
        self.finish([entry for case in cases for entry in found[case]])
        self._clean()

    def _files(self) -> set[str]:
        """Names of what lies in the folder, but for what is hidden and the record itself."""
        if not self.path.is_dir():
            return set()
        return {name for name in os.listdir(self.path) if name != FILE and name[0] != "."}

    def _refuse_foreign(self, there: Iterable[str], names: Collection[str]) -> None:
        for file in sorted(there):
            ends = [place for place, letter in enumerate(file) if letter == "."]
            if file in names or any(file[:end] in names for end in ends):
                raise UserError(
                    f"{self.path / file}: is there already, and no command wrote it down in {FILE}; move it "
                    "away, or take another --out"
                )

    def _parts(self) -> list[Path]:
        parts = (self.path / name for name in os.listdir(self.path) if _PART.fullmatch(name))
        return sorted(path for path in parts if not path.is_symlink())

    def _kept(self) -> dict[str, Entries]:
        """Cases that were written down since `predictions.json` was."""
        files = [path for path in self._parts() if path.is_file()]
        return {
            case: entries
            for path in files
            for case, entries in _by_case(read_record(path, list[Entry])).items()
        }

    def _clean(self) -> None:
        """Remove parts that are gathered, and what a kill left of files half written."""
        sweep(self.path)
        for part in self._parts():
            if part.is_file():
                part.unlink()
            else:
                shutil.rmtree(part, ignore_errors=True)

    def _holds(self, entries: Entries) -> bool:
        """Whether every file is there: of a series of several each of them."""
        series = (each["file"] for e in entries for each in e.get("written", ()))
        files = (file for e in entries for file in e["files"].values())
        there = all((self.path / file).exists() for file in files)
        return there and all((self.path / file).is_file() for file in series)

    def finish(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write `predictions.json` with what was predicted."""
        about = {
            "format": FORMAT,
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


def _remove(path: Path) -> None:
    """A file, or the folder of a series."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _by_case(entries: Entries) -> dict[str, Entries]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        found.setdefault(entry["case"], []).append(entry)
    return dict(found)


def _files_of(cases: Iterable[Entries]) -> set[str]:
    return {file for entries in cases for entry in entries for file in entry["files"].values()}
