"""What became of each study that arrived: a file of SQLite, of which every change is a transaction.

A job is one version of a study. It is `arriving` until the study has been quiet for a while, then `queued`,
`predicting`, `sending` (where results go to a node) and `done`; or `refused`, with the reason. Whatever ends the
process, the ledger says where each job stood, and an object (SOP instance) belongs to one job for good: it is never
predicted twice. Objects that come later make the next version of their study.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..data.files import told
from ..errors import UserError

__all__ = ["STATES", "Job", "Ledger", "Object"]

STATES = ("arriving", "queued", "predicting", "sending", "done", "refused")
NAME = "ledger.sqlite"
FORMAT = 1
NOBODY = 0
"""The job of a file whose object was here before: it stays where it is."""
_TABLES = f"""
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study TEXT NOT NULL,
    version INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN {STATES}),
    reason TEXT NOT NULL DEFAULT '',
    attempts INTEGER NOT NULL DEFAULT 0,
    later REAL NOT NULL DEFAULT 0,
    since REAL NOT NULL,
    UNIQUE (study, version)
);
CREATE TABLE objects (
    uid TEXT PRIMARY KEY,
    study TEXT NOT NULL,
    job INTEGER NOT NULL REFERENCES jobs,
    file TEXT NOT NULL
);
CREATE INDEX objects_of ON objects (job);
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, changed INTEGER NOT NULL, job INTEGER NOT NULL
);
PRAGMA user_version = {FORMAT};
"""


@dataclass(frozen=True)
class Object:
    """A file that arrived.

    Attributes:
        uid: of the SOP instance.
        path: below the folder that is watched.
        size, changed: of the file, bytes and nanoseconds.
    """

    uid: str
    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Job:
    """One version of a study; `reason` is why it was refused, or why a result is not sent yet."""

    id: int
    study: str
    version: int
    state: str
    reason: str
    attempts: int
    later: float
    since: float

    @property
    def name(self) -> str:
        """Of its folder: a number, which says nothing of anybody."""
        return f"{self.id:06d}"


_FIELDS = ", ".join(Job.__dataclass_fields__)


class Ledger:
    """The ledger in a folder; one process writes, others may read."""

    def __init__(self, folder: Path, reading: bool = False) -> None:
        """Open it, or, but for `reading`, make it.

        Raises:
            UserError: it is none, is of another version, or cannot be written.
        """
        self.path = folder / NAME
        with told(self.path), self._asked():
            if reading:
                # the path as a URI, so that SQLite opens it read-only
                self._base = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
                return
            self._base = sqlite3.connect(self.path, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = FULL")
            with self._changing():
                (found,) = self._base.execute("PRAGMA user_version").fetchone()
                for line in _TABLES.split(";") if not found else ():
                    self._base.execute(line)
        if found not in (0, FORMAT):
            raise UserError(f"{self.path}: is of another version of radiffuse; take another --out")

    def close(self) -> None:
        self._base.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise UserError(f"{self.path}: cannot be written ({error})") from error
        except sqlite3.DatabaseError:
            raise UserError(
                f"{self.path}: is no ledger; move it away, or take another --out"
            ) from None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """All of it, or nothing."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def bind(self, about: Mapping[str, str]) -> None:
        """Note what decides the results of a new ledger.

        Raises:
            UserError: it was begun with something else.
        """
        with self._changing():
            there = dict(self._base.execute("SELECT name, value FROM about"))
            for name, value in about.items():
                if there.get(name, value) != value:
                    raise UserError(
                        f"{self.path.parent}: holds results of another {name}; take another --out"
                    )
                self._base.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, value))

    # --- arriving ----------------------------------------------------------------------------------

    def known(self) -> dict[str, tuple[int, int]]:
        """Size and time of the files that were taken note of, by path."""
        rows = self._base.execute("SELECT path, size, changed FROM files")
        return {path: (size, changed) for path, size, changed in rows}

    def arriving(self, study: str) -> None:
        """Note that objects of a study come in."""
        with self._changing():
            self._open(study)

    def queue(self, study: str, objects: Sequence[Object]) -> Job | None:
        """Note the objects of a study that has gone quiet, and queue those that are new; None where none is."""
        with self._changing():
            job = self._open(study)
            for one in objects:
                new = self._base.execute(
                    "INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?)",
                    (one.uid, study, job, one.path),
                ).rowcount
                self._base.execute(
                    "UPDATE objects SET file = ? WHERE uid = ? AND file = ''", (one.path, one.uid)
                )
                self._base.execute(
                    "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                    (one.path, one.size, one.changed, job if new else NOBODY),
                )
            (have,) = self._base.execute(
                "SELECT count(*) FROM objects WHERE job = ?", (job,)
            ).fetchone()
            if have:
                self._put(job, "queued")
            else:  # all of them were here before
                self._base.execute("DELETE FROM jobs WHERE id = ?", (job,))
        return self.job(job) if have else None

    def forget(self, study: str | None = None) -> None:
        """What was arriving of a study, or of all, is there no more; what was queued before is queued again."""
        which = "state = 'arriving' AND (study = ? OR ? IS NULL)"
        with self._changing():
            self._base.execute(
                f"DELETE FROM jobs WHERE {which} AND id NOT IN (SELECT job FROM objects)",
                (study, study),
            )
            self._base.execute(f"UPDATE jobs SET state = 'queued' WHERE {which}", (study, study))

    def damaged(self, file: Object, reason: str) -> Job:
        """Refuse a file that belongs to no study."""
        with self._changing():
            job = self._new("")
            self._base.execute(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                (file.path, file.size, file.changed, job),
            )
            self._put(job, "refused", reason)
        return self.job(job)

    def _open(self, study: str) -> int:
        """The job that takes the new objects of a study."""
        found = self._base.execute(
            "SELECT id FROM jobs WHERE study = ? AND state IN ('arriving', 'queued')", (study,)
        ).fetchone()
        if found is None:
            return self._new(study)
        self._put(found[0], "arriving")
        return int(found[0])

    def _new(self, study: str) -> int:
        (last,) = self._base.execute(
            "SELECT coalesce(max(version), 0) FROM jobs WHERE study = ?", (study,)
        ).fetchone()
        made = self._base.execute(
            "INSERT INTO jobs (study, version, state, since) VALUES (?, ?, 'arriving', ?)",
            (study, last + 1, time.time()),
        )
        return int(made.lastrowid or 0)

    # --- going on ----------------------------------------------------------------------------------

    def move(self, job: Job, state: str, reason: str = "") -> Job:
        """Note the next state of a job."""
        with self._changing():
            self._put(job.id, state, reason)
        return self.job(job.id)

    def _put(self, job: int, state: str, reason: str = "") -> None:
        self._base.execute(
            "UPDATE jobs SET state = ?, reason = ?, attempts = 0, later = 0, since = ? WHERE id = ?",
            (state, reason, time.time(), job),
        )

    def attempt(self, job: Job) -> Job:
        """Note, before it begins, that a job is predicted: a process that ends in it has tried it."""
        with self._changing():
            self._base.execute(
                "UPDATE jobs SET state = 'predicting', attempts = attempts + 1, since = ? WHERE id = ?",
                (time.time(), job.id),
            )
        return self.job(job.id)

    def postpone(self, job: Job, state: str, until: float, reason: str) -> Job:
        """Note that a job has to be tried again, and when."""
        more = 1 if state == "sending" else 0  # a prediction was counted when it began
        with self._changing():
            self._base.execute(
                "UPDATE jobs SET state = ?, reason = ?, attempts = attempts + ?, later = ? WHERE id = ?",
                (state, reason, more, until, job.id),
            )
        return self.job(job.id)

    def release(self, job: Job) -> None:
        """Let go of the objects of a refused job: should they come again, they are new."""
        with self._changing():
            for table in ("objects", "files"):
                self._base.execute(f"DELETE FROM {table} WHERE job = ?", (job.id,))

    def removed(self, paths: Sequence[str]) -> None:
        """Note that files are there no more; their objects stay known, and lie nowhere until they come again."""
        rows = [(path,) for path in paths]
        with self._changing():
            self._base.executemany("DELETE FROM files WHERE path = ?", rows)
            self._base.executemany("UPDATE objects SET file = '' WHERE file = ?", rows)

    # --- asking ------------------------------------------------------------------------------------

    def job(self, number: int) -> Job:
        """A job by its number."""
        row = self._base.execute(f"SELECT {_FIELDS} FROM jobs WHERE id = ?", (number,)).fetchone()
        return Job(*row)

    def jobs(self, *states: str, most: int = -1, newest: bool = False) -> list[Job]:
        """Jobs in these states, or all, in the order they came in."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        order = f"ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?"
        rows = self._base.execute(
            f"SELECT {_FIELDS} FROM jobs {where} {order}", (*states, most)
        ).fetchall()
        return [Job(*row) for row in rows]

    def next(self, state: str) -> Job | None:
        """The job of that state that came first, of those that may be tried now."""
        row = self._base.execute(
            f"SELECT {_FIELDS} FROM jobs WHERE state = ? AND later <= ? ORDER BY id LIMIT 1",
            (state, time.time()),
        ).fetchone()
        return Job(*row) if row else None

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        found = dict(self._base.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
        return {state: found.get(state, 0) for state in STATES}

    def own(self, job: Job) -> list[str]:
        """Paths of the files that came with a job."""
        rows = self._base.execute("SELECT path FROM files WHERE job = ? ORDER BY path", (job.id,))
        return [path for (path,) in rows]

    def finished(self, before: float) -> list[str]:
        """Paths of files of studies all of whose jobs were done before a time, and of repeats that none waits for."""
        rows = self._base.execute(
            "SELECT path FROM files LEFT JOIN jobs ON jobs.id = files.job WHERE jobs.study IN "
            "(SELECT study FROM jobs GROUP BY study HAVING min(state = 'done') AND max(since) < ?) "
            "OR (files.job = ? AND files.changed < ? AND path NOT IN (SELECT file FROM objects "
            "WHERE study IN (SELECT study FROM jobs WHERE state != 'done'))) ORDER BY path",
            (before, NOBODY, before * 1e9),
        )
        return [path for (path,) in rows]

    def study(self, job: Job) -> list[str]:
        """Paths of the objects of the study of a job: its own, and those of earlier versions."""
        rows = self._base.execute(
            "SELECT file FROM objects WHERE study = ? AND job <= ? ORDER BY file",
            (job.study, job.id),
        )
        return [path for (path,) in rows]
