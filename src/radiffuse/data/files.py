"""Writing files so that a reader never meets half of one: a temporary name, then a rename."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import UserError


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
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix="-" + path.name, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"{path}: the disk is full; free some space and run again") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EPERM):
            raise UserError(f"{path}: cannot be written ({error.strerror})") from error
        raise
    finally:
        if temporary is not None and temporary.exists():
            temporary.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` in one move."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write `value` as JSON to `path` in one move. NaN and infinity are refused (not JSON)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, default=default) + "\n")


def read_json(path: Path | str) -> Any:
    """Read JSON from `path`.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
