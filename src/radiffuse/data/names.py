"""Names of cases that are safe as names of files, whatever the data call them."""

import hashlib
from collections.abc import Sequence

from pathvalidate import sanitize_filename

__all__ = ["safe_names"]

LONGEST = 100
"""Bytes of a name; what a command adds (draw, key, ending) fits a file system's 255 beside it."""


def safe_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of files, one for each name and all different, also where upper and lower case are one.

    A name that is one already stays as it is, but for a later twin. Slashes, control characters and what
    else some system forbids become "_", dots in front go, and long names end in a hash of themselves.
    """
    taken: set[str] = set()
    made = []
    for name in names:
        safe = _safe(name)
        number, found = 2, safe
        while found.casefold() in taken:
            found, number = f"{safe}-{number}", number + 1
        taken.add(found.casefold())
        made.append(found)
    return tuple(made)


def _safe(name: str) -> str:
    safe = sanitize_filename(name, replacement_text="_", platform="universal").lstrip(". ")
    safe = "".join(c if c.isprintable() else "_" for c in safe) or "case"
    if len(safe.encode()) <= LONGEST:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return safe.encode()[: LONGEST - 13].decode(errors="ignore") + "-" + digest
