"""A folder that studies arrive in: which of them are there, whole and quiet."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import pydicom
from pydicom.errors import InvalidDicomError

from ..errors import UserError
from .ledger import Job, Ledger, Object
from .nodes import uid_of

__all__ = ["Arrivals"]

INDEX = "DICOMDIR"
"""The table of contents of a disc: no image, and no damaged one either."""


@dataclass
class _Seen:
    """A file that is not in the ledger yet.

    Attributes:
        size, changed: as last seen.
        at: when it was last seen to change, by the clock of this process.
        study: of its header, as far as that can be read.
        uid: of its object.
        fault: why its header cannot be read; "" where it can.
    """

    size: int
    changed: int
    at: float
    study: str = ""
    uid: str = ""
    fault: str = ""


class Arrivals:
    """Looks into a folder, again and again.

    A file that changed between two looks is being written. A study is whole once none of its files changed for
    `settle` seconds; a file without a readable header is damaged once it has not changed for as long. Hidden files and
    links are left alone.
    """

    def __init__(self, folder: Path, ledger: Ledger, settle: float) -> None:
        self.folder, self.ledger, self.settle = folder, ledger, settle
        self._seen: dict[str, _Seen] = {}
        self._known = ledger.known()
        ledger.forget()

    @property
    def waiting(self) -> bool:
        """Whether files are still arriving."""
        return bool(self._seen)

    def look(self) -> list[Job]:
        """Take note of what is new; the jobs that were queued or refused by it."""
        now = time.monotonic()
        there: set[str] = set()
        for path, stat in _files(self.folder):
            there.add(path)
            mark = (stat.st_size, stat.st_mtime_ns)
            seen = self._seen.get(path)
            if seen is None and self._known.get(path) == mark:
                continue
            if seen is None or (seen.size, seen.changed) != mark:
                self._seen[path] = self._read(path, _Seen(*mark, now))
        for path in self._seen.keys() - there:
            gone = self._seen.pop(path)
            if gone.study and not self._arriving(gone.study):
                self.ledger.forget(gone.study)
        return self._settled(now)

    def forgotten(self, job: Job) -> None:
        """The files of a job may come again, and are new then."""
        for path in self.ledger.own(job):
            self._known.pop(path, None)

    def remove(self, before: float) -> int:
        """Remove the files of studies that were finished before a time, and folders that are empty then; how many.

        A file that has changed since it was taken note of is new, and stays.
        """
        gone = []
        for path in self.ledger.finished(before):
            place = self.folder / path
            with suppress(FileNotFoundError):
                found = place.lstat()
                if (found.st_size, found.st_mtime_ns) != self._known.get(path):
                    continue
                place.unlink()
            gone.append(path)
            self._known.pop(path, None)
            with suppress(OSError):  # not empty
                for parent in list(Path(path).parents)[:-1]:
                    (self.folder / parent).rmdir()
        self.ledger.removed(gone)
        return len(gone)

    def _read(self, path: str, seen: _Seen) -> _Seen:
        """Whose a file is, if its header can be read by now."""
        try:
            header = pydicom.dcmread(self.folder / path, stop_before_pixels=True)
            seen.study = uid_of(header.get("StudyInstanceUID", ""), "its header")
            seen.uid = uid_of(header.get("SOPInstanceUID", ""), "its header")
        except (InvalidDicomError, OSError, EOFError):
            seen.fault = "no DICOM file, or a damaged one"
        except UserError as error:
            seen.fault = str(error)
        except Exception as error:  # a damaged header may raise anything
            seen.fault = f"a damaged DICOM file ({type(error).__name__})"
        if not seen.fault and not self._arriving(seen.study):
            self.ledger.arriving(seen.study)
        return seen

    def _arriving(self, study: str) -> bool:
        return any(seen.study == study for seen in self._seen.values())

    def _settled(self, now: float) -> list[Job]:
        """Queue the studies, and refuse the files, that have not changed for long enough."""
        studies: dict[str, list[str]] = {}
        for path, seen in self._seen.items():
            studies.setdefault("" if seen.fault else seen.study, []).append(path)
        made = []
        for path in studies.pop("", []):
            if now - self._seen[path].at >= self.settle:
                fault = self._seen[path].fault
                made.append(self.ledger.damaged(self._taken(path), fault))
        for study, paths in studies.items():
            if all(now - self._seen[path].at >= self.settle for path in paths):
                objects = [self._taken(path) for path in sorted(paths)]
                if (job := self.ledger.queue(study, objects)) is not None:
                    made.append(job)
        return made

    def _taken(self, path: str) -> Object:
        seen = self._seen.pop(path)
        self._known[path] = (seen.size, seen.changed)
        return Object(seen.uid, path, seen.size, seen.changed)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files below a folder, by their path from there."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        for name in names:
            if name[0] == "." or name == INDEX:
                continue
            path = Path(place) / name
            try:
                found = path.lstat()
            except OSError:
                continue  # gone again
            if S_ISREG(found.st_mode):
                yield path.relative_to(folder).as_posix(), found
