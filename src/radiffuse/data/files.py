"""Writing files so that a reader never meets half of one: a temporary name, then a rename."""

import contextlib
import errno
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError

_REFUSED = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EPERM, errno.ENAMETOOLONG)
_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this disk is used up",
    errno.EFBIG: "no file may be as large here (a limit, ulimit -f, or the kind of disk)",
}
_FAILED = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT)
_TEMPORARY = re.compile(r"\.writing-[a-z0-9_]{8}-.+")


def user_cache() -> Path:
    """radiffuse in the user's folder of caches (`XDG_CACHE_HOME`, else ~/.cache).

    Raises:
        UserError: the user has no home, and none is named.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(named) if named else Path.home() / ".cache") / "radiffuse"
    except RuntimeError:
        raise UserError("there is no home for a cache; name a folder by XDG_CACHE_HOME") from None


def check_file(path: Path | str) -> None:
    """Refuse to put a file where something else is: a device, a pipe, a link or a folder.

    Raises:
        UserError: says what is there.
    """
    path = Path(path)
    if path.is_symlink():
        raise UserError(f"{path}: is a link; name the file it stands for, or another")
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "no regular file (a device or pipe)"
        raise UserError(f"{path}: is {what}; name a file")


def check_folder(path: Path | str) -> None:
    """Refuse to fill a folder where a file, a device or a link to nothing is.

    Raises:
        UserError: says what is there.
    """
    path = Path(path)
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: is a link to nothing; --out takes a folder")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: is a file; --out takes a folder")


def check_regular(path: Path) -> None:
    """Refuse to read what is no file on a disk: a device, a pipe, whose end may never come.

    Raises:
        UserError: it is none.
    """
    if not path.is_file():
        raise UserError(f"{path}: is no regular file (missing, a device or a pipe)")


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any error it vanishes.

    The temporary name ends like `path` (writers that look at the ending still work).

    Raises:
        UserError: the disk is full, the folder cannot be written, or `path` is no file (`check_file`).
    """
    path = Path(path)
    check_file(path)
    temporary: Path | None = None
    try:
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                prefix=".writing-", suffix="-" + path.name, dir=path.parent
            )
            os.close(handle)
            temporary = Path(name)
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, path)
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()


@contextlib.contextmanager
def told(path: Path, then: str = "run again") -> Iterator[None]:
    """Say in one line why `path` cannot be written.

    Args:
        path: the file or folder.
        then: what to do once there is room.

    Raises:
        UserError: the disk is full or fails, a limit is met, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"{path}: {_FULL[error.errno]}; free some space and {then}") from error
        if error.errno is None or error.errno in (
            *_REFUSED,
            *_FAILED,
        ):  # None: of a library that counts bytes
            raise UserError(f"{path}: cannot be written ({error.strerror or error})") from error
        raise


def sweep(folder: Path | str) -> None:
    """Remove what a killed process left half-written in `folder`: files of `replacing`, no others.

    Only where no other process writes there (`commands.lock`).
    """
    for path in Path(folder).glob(".writing-*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` in one move.

    Raises:
        UserError: as `replacing`, or a name in it is no text (a file name that is not UTF-8).
    """
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        line = text.split("\n")[text[: error.start].count("\n")]
        raise UserError(
            f"{path}: cannot hold {line[:80]!a}, which is not UTF-8; rename that file"
        ) from None
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path | str, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write `value` as JSON to `path` in one move. NaN and infinity are refused (not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=default) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON from `path`.

    Raises:
        UserError: the file is missing, no regular file, or is not JSON.
    """
    path = Path(path)
    if path.exists():
        check_regular(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
