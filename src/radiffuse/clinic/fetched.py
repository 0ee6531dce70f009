"""Where fetched series lie, how long, and how they are removed: they hold what the objects hold, names too.

NODE/STUDY/SERIES below the folder of caches, NODE being a mark of its address. A study has a lock beside it, and a file
in it whose time says when it was last asked for.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from ..data.files import told, user_cache
from ..errors import UserError
from .nodes import Address

__all__ = ["DONE", "cache", "forget", "home_of", "lock_of", "outdated", "used"]

DONE, USED = ".whole", ".used"
"""In the folder of a study: all its series were fetched; when it was last asked for."""
DAYS = 30.0
_MARK, _UID = re.compile("[0-9a-f]{12}"), re.compile("[0-9.]+")


def cache() -> Path:
    """Where fetched series lie: `RADIFFUSE_NODES`, or radiffuse/nodes in the user's folder of caches.

    Raises:
        UserError: the user has no home, and no folder is named.
    """
    named = os.environ.get("RADIFFUSE_NODES", "")
    return Path(named) if named else user_cache() / "nodes"


def home_of(address: Address) -> Path:
    """The folder of a study; of a node, where the address names no study."""
    # which node it is, without its name in a path
    mark = hashlib.sha256(address.node.encode()).hexdigest()[:12]
    return cache() / mark / address.study


def lock_of(home: Path) -> filelock.FileLock:
    """The lock of a study, beside its folder."""
    return filelock.FileLock(home.with_name(home.name + ".lock"))


def used(home: Path) -> None:
    """Note that a study was asked for now."""
    (home / USED).touch()


def forget(address: Address) -> int:
    """Remove what was fetched of a study, or of a node; the number of studies.

    Raises:
        UserError: a study is being fetched by another command, or cannot be removed.
    """
    home = home_of(address)
    homes = [home] if address.study else list(_studies(home))
    return sum(_removed(each, wait=True) for each in homes)


def outdated() -> int:
    """Remove studies that were not asked for in `RADIFFUSE_NODES_DAYS` days (30; 0: never); the number of them.

    What another command fetches is left alone.

    Raises:
        UserError: the variable holds no number of days.
    """
    named = os.environ.get("RADIFFUSE_NODES_DAYS", "") or f"{DAYS}"
    try:
        days = float(named)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise UserError(f"RADIFFUSE_NODES_DAYS={named}: name a number of days, 0 for never")
    if not days:
        return 0
    before, root = time.time() - 86400 * days, cache()
    nodes = [each for each in _folders(root) if _MARK.fullmatch(each.name)]
    old = [home for node in nodes for home in _studies(node) if _last(home) < before]
    return sum(_removed(home, wait=False) for home in old)


def _studies(node: Path) -> Iterator[Path]:
    return (each for each in _folders(node) if _UID.fullmatch(each.name))


def _folders(place: Path) -> list[Path]:
    return [each for each in place.iterdir() if each.is_dir()] if place.is_dir() else []


def _last(home: Path) -> float:
    note = home / USED
    return (note if note.is_file() else home).stat().st_mtime


def _removed(home: Path, wait: bool) -> bool:
    if not home.is_dir():
        return False
    lock = lock_of(home)
    try:
        with lock.acquire(timeout=10 if wait else 0), told(home):
            shutil.rmtree(home)
    except filelock.Timeout:
        if wait:
            raise UserError(f"{home}: another command is fetching it; try again later") from None
        return False
    return True
