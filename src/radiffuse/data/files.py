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


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any error it vanishes.

    The temporary name ends like `path` (writers that look at the ending still work).

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
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
