"""The work of `radiffuse serve`: what comes next, and what is noted before and after it.

Results are made under another name and renamed, so that a folder with a job's number is whole; the ledger is told
before and after. After whatever end, what is noted and what lies there say together what is left to do. Results keep
their UIDs, so that what was sent and not noted is not sent twice: the node is asked what it has.
"""

import contextlib
import errno
import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..clinic.arrivals import Arrivals
from ..clinic.exchange import push
from ..clinic.ledger import Job, Ledger
from ..clinic.nodes import Address, Lost, read_access
from ..data.files import replacing, told, write_text
from ..data.records import Predictions, read_record
from ..errors import UserError, is_out_of_memory, printable
from ..training.interrupt import Interrupt
from . import predict
from .nodes import files_of
from .predictions import FILE
from .ready import Ready

__all__ = ["NOTES", "REFUSED", "Serving"]

REFUSED, NOTES, REASON = "refused", "notes", "reason.txt"
ATTEMPTS = 3
"""How often a study may end the process, or not fit into memory, before it is set aside."""
LONGEST = 300.0
"""Seconds between two attempts, at most."""


class Serving:
    """Predicts and sends until it is told to stop.

    Attributes:
        away: the time before which a node that did not answer is not asked again, for whichever job.
        silences: how often it did not answer in a row.
        tidied: when files were last removed.
    """

    def __init__(
        self,
        flags: Any,
        words: Sequence[str],
        opened: Ready,
        ledger: Ledger,
        address: Address | None,
    ) -> None:
        self.flags, self.words, self.opened = flags, list(words), opened
        self.ledger, self.address = ledger, address
        self.out: Path = flags.out
        self.watch: Path = flags.watch.resolve()
        self.arrivals = Arrivals(self.watch, ledger, flags.settle)
        self.poll = min(1.0, flags.settle / 4)
        self.away, self.silences = 0.0, 0
        self.tidied = 0.0

    def run(self) -> None:
        """Work, until a signal, or with --once until nothing is left.

        Raises:
            UserError: with --once, some results could not be sent.
        """
        self._mend()
        with Interrupt() as stop:
            say(f"watching {self.flags.watch} (Ctrl-C ends it after the study in hand)")
            while not stop.raised:
                began = time.monotonic()
                for job in self.arrivals.look():
                    if job.state == "refused":
                        self._set_aside(job)
                took = time.monotonic() - began
                if self._one():
                    continue
                if self.flags.once and self._idle():
                    self._tidy(0)
                    break
                self._tidy()
                # a large folder is not looked at all the time
                time.sleep(max(self.poll, min(5 * took, self.flags.settle)))
        counts = self.ledger.counts()
        say(
            ", ".join(f"{number} {state}" for state, number in counts.items() if number)
            or "nothing"
        )
        if self.flags.once and not stop.raised and counts["sending"]:
            raise UserError(
                f"{counts['sending']} results could not be sent; the same command sends them"
            )

    def _tidy(self, every: float = 60.0) -> None:
        """Remove from the watched folder what was finished long enough ago, looked at every so many seconds."""
        days, now = self.flags.remove_after, time.time()
        if days is None or now < self.tidied + every:
            return
        self.tidied = now
        if number := self.arrivals.remove(now - 86400 * days):
            say(
                f"removed from {self.flags.watch}, done more than {days:g} days ago: {number} files"
            )

    def _idle(self) -> bool:
        """Whether nothing is left but what a node did not take."""
        if self.arrivals.waiting or any(map(self.ledger.jobs, ("arriving", "queued"))):
            return False
        away = time.time() < self.away
        return all(away or job.attempts for job in self.ledger.jobs("sending"))

    def _one(self) -> bool:
        """One step of one job, if there is one."""
        here = time.time() >= self.away
        if here and (job := self.ledger.next("sending")) is not None:
            self._send(job)
        elif (job := self.ledger.next("queued")) is not None:
            self._predict(job)
        else:
            return False
        return True

    # --- after an end ------------------------------------------------------------------------------

    def _mend(self) -> None:
        """Take up what an earlier process left."""
        for name in os.listdir(self.out):
            if name.startswith((".part-", ".work-")):
                shutil.rmtree(self.out / name, ignore_errors=True)
        for job in self.ledger.jobs("refused"):
            self._set_aside(job)
        for job in self.ledger.jobs("predicting"):
            if (self.out / job.name).is_dir():  # it ended between the last two steps
                self._made(job)
            elif job.attempts >= ATTEMPTS:
                self._refuse(job, f"the process ended {job.attempts} times while it was predicted")
            else:
                self.ledger.postpone(job, "queued", 0.0, "")

    # --- predicting --------------------------------------------------------------------------------

    def _predict(self, job: Job) -> None:
        began = time.monotonic()
        job = self.ledger.attempt(job)
        work, part = self.out / f".work-{job.name}", self.out / f".part-{job.name}"
        heard = io.StringIO()
        try:
            self._gather(job, work)
            with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                words = [*self.words, "--data", str(work), "--out", str(part)]
                predict.run(words, opened=self.opened)
            cases = len(read_record(part / FILE, Predictions)["predictions"])
            on_disk(part)
            os.rename(part, self.out / job.name)
        except Exception as error:
            self._failed(job, error)
            return
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(part, ignore_errors=True)
        self._note(job, heard.getvalue())
        self._made(job)
        say(f"{job.name}: {cases} predictions in {time.monotonic() - began:.1f} s")

    def _gather(self, job: Job, work: Path) -> None:
        """The objects of the study in a folder of their own.

        Raises:
            UserError: some of them lie in the watched folder no more.
        """
        paths = [self.watch / path for path in self.ledger.study(job)]
        if gone := sum(not path.is_file() for path in paths):
            raise UserError(
                f"{gone} of the {len(paths)} objects that came of this study lie no more in {self.watch}; "
                "put all of them there"
            )
        shutil.rmtree(work, ignore_errors=True)
        with told(work):
            work.mkdir()
            for number, path in enumerate(paths):
                place = work / f"{number:06d}.dcm"
                try:
                    place.hardlink_to(path)
                except OSError:  # another disk
                    shutil.copyfile(path, place)

    def _failed(self, job: Job, error: Exception) -> None:
        """What cannot be helped is set aside; what may pass is tried again."""
        behind = error.__cause__ or error
        full = isinstance(behind, OSError) and behind.errno in (errno.ENOSPC, errno.EDQUOT)
        passing = isinstance(behind, OSError) or is_out_of_memory(error)
        if full or (passing and job.attempts < ATTEMPTS):
            self._again(job, "queued", str(error))
        elif isinstance(error, UserError):
            self._refuse(job, str(error))
        else:  # its words may be anybody's
            if os.environ.get("RADIFFUSE_DEBUG"):
                traceback.print_exception(error)
            self._refuse(job, f"internal error: {type(error).__name__}; RADIFFUSE_DEBUG=1 shows it")

    def _made(self, job: Job) -> None:
        self.ledger.move(job, "sending" if self.address else "done")

    def _note(self, job: Job, heard: str) -> None:
        """Keep the notices of a prediction, for the page."""
        lines = [line for line in map(printable, heard.splitlines()) if line.startswith("note: ")]
        with contextlib.suppress(UserError):
            write_text(self.out / NOTES / f"{job.name}.txt", "".join(f"{line}\n" for line in lines))

    # --- sending -----------------------------------------------------------------------------------

    def _send(self, job: Job) -> None:
        if self.address is None:  # a process before this one had somewhere to send to
            self.ledger.move(job, "done", "not sent: no --push")
            return
        try:
            # the ledger waits between attempts, so that others are predicted meanwhile
            access = read_access(self.flags.node)
            sent = push(
                self.address,
                msgspec.structs.replace(access, attempts=1),
                files_of(self.out / job.name),
            )
        except UserError as error:
            if isinstance(error.__cause__, Lost):  # it is away for all jobs
                self.silences += 1
                self.away = time.time() + min(LONGEST, 2.0 ** (self.silences - 1))
            self._again(job, "sending", str(error))
            return
        self.silences = 0
        self.ledger.move(job, "done")
        there = f", {sent.there} were there" if sent.there else ""
        say(f"{job.name}: {sent.sent} objects sent{there}")

    # --- what did not go well ----------------------------------------------------------------------

    def _again(self, job: Job, state: str, reason: str) -> None:
        """Try a job again, later and later."""
        reason = printable(reason)
        wait = min(LONGEST, 2.0**job.attempts)
        self.ledger.postpone(job, state, time.time() + wait, reason)
        if reason != job.reason:
            say(f"{job.name}: {reason}; tried again", sys.stderr)

    def _refuse(self, job: Job, reason: str) -> None:
        self._set_aside(self.ledger.move(job, "refused", printable(" ".join(reason.split()))))

    def _set_aside(self, job: Job) -> None:
        """Move the files of a refused job out of the watched folder, with the reason beside them."""
        paths = self.ledger.own(job)
        if not paths:
            return
        place = self.out / REFUSED / job.name
        with told(place):
            place.mkdir(parents=True, exist_ok=True)
            with replacing(place / REASON) as temporary:
                temporary.write_text(job.reason + "\n", encoding="utf-8")
            for number, path in enumerate(paths):
                if (self.watch / path).is_file():
                    shutil.move(self.watch / path, place / f"{number:06d}-{Path(path).name}")
        self.arrivals.forgotten(job)
        self.ledger.release(job)
        say(f"{job.name}: refused: {job.reason} ({len(paths)} files are in {place})", sys.stderr)


def on_disk(folder: Path) -> None:
    """Wait until all files of a folder are on the disk."""
    for place, _, names in os.walk(folder):
        for path in (*(Path(place) / name for name in names), Path(place)):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def say(line: str, where: Any = None) -> None:
    """One line, at once."""
    print(printable(line), file=where or sys.stdout, flush=True)
