"""One command at a time writes into a folder."""

import contextlib
import datetime
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock
import msgspec

from ..data.files import check_folder, told
from ..errors import UserError, printable
from ..training import processes

__all__ = ["LOCK", "held", "writing"]

LOCK = ".radiffuse-lock"
_PATIENCE = 1.0
"""Seconds, for a command that is just ending."""


class Holder(msgspec.Struct):
    """Who writes, for the other's message; the lock itself is the operating system's."""

    command: str
    pid: int
    host: str
    since: str


def held(folder: Path) -> bool:
    """Whether a command writes into `folder` now; nothing is written, and what a killed one left counts for nobody."""
    path = folder / LOCK
    if not path.is_file():
        return False
    try:
        with filelock.FileLock(path, timeout=0):
            return False
    except filelock.Timeout:
        return True
    except (OSError, NotImplementedError):
        return False  # a folder that cannot be written, or a file system without locks


@contextlib.contextmanager
def writing(folder: Path, command: str) -> Iterator[None]:
    """Keep other commands from writing into `folder`, made if need be, until the end of the context.

    The system lets the lock go when the process ends, however it ends. Of several processes of one
    command the main one holds it; all of them enter together. Where the file system knows no locks, a
    notice says so.

    Args:
        folder: the folder; one made here is removed again where nothing was written into it.
        command: as in "radiffuse train".

    Raises:
        UserError: another command writes there (names it), or the folder cannot be written.
    """
    with contextlib.ExitStack() as held:
        failure = None
        if processes.is_main():
            try:
                held.enter_context(_locked(folder, command))
            except UserError as error:
                failure = error
        if processes.agree([float(failure is not None)])[0]:
            raise failure or UserError(f"{folder}: the main process could not lock it")
        yield


@contextlib.contextmanager
def _locked(folder: Path, command: str) -> Iterator[None]:
    path = folder / LOCK
    lock = filelock.FileLock(path, timeout=_PATIENCE)
    with told(folder):
        check_folder(folder)
        made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        _acquire(lock, folder)
        if lock.is_locked:
            _sign(path, command)
        yield
    finally:
        if lock.is_locked:
            with contextlib.suppress(OSError):
                path.unlink()  # a lock on a file that is gone counts for nobody: filelock looks
            lock.release()
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


def _acquire(lock: filelock.BaseFileLock, folder: Path, attempts: int = 10) -> None:
    try:
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (FileNotFoundError, FileExistsError) as error:
        # mkdir raises the second where a folder that was there is gone when it looks again
        if not attempts:
            raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
        # another command, which had made it and wrote nothing, has just removed it
        _acquire(lock, folder, attempts - 1)
    except filelock.Timeout:
        raise UserError(
            f"{folder}: {_holder(folder / LOCK)} is writing there; wait for it or end it, or take "
            "another --out"
        ) from None
    except OSError as error:
        with told(folder):
            if isinstance(error, PermissionError) or not os.access(folder, os.W_OK):
                raise
        print(
            f"note: {folder}: cannot be locked here ({error.strerror}); let no other command write there",
            file=sys.stderr,
        )


def _sign(path: Path, command: str) -> None:
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    holder = Holder(command, os.getpid(), socket.gethostname(), now)
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        path.write_bytes(msgspec.json.encode(holder))


def _holder(path: Path) -> str:
    try:
        holder = msgspec.json.decode(path.read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return "another command"
    return printable(
        f"{holder.command} (process {holder.pid} on {holder.host} since {holder.since})"
    )
