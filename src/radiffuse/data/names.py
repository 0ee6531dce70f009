"""Names of cases that are safe as names of files, whatever the data call them."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from pathvalidate import sanitize_filename

__all__ = ["safe_names"]

LONGEST = 100
"""Bytes of a name; what a command adds (draw, key, ending) fits a file system's 255 beside it."""
PLAIN = re.compile(
    r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))[a-zA-Z0-9](?:[\w-]|\.(?=\w))*", re.ASCII
)
"""Names that every system takes; all others are looked at by a library, which takes its time."""


def safe_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names of files, one for each name and all different, also where upper and lower case, or the ways in which
    Unicode writes a letter, are one.

    A name that is one already stays as it is, but for a later twin. Slashes, control characters and what
    else some system forbids become "_", dots in front go, and long names end in a hash of themselves.
    """
    taken: set[str] = set()
    next_of: dict[str, int] = {}
    made = []
    for name in names:
        found = safe = _safe(name)
        while (alike := _alike(found)) in taken:
            number = next_of[_alike(safe)] = next_of.get(_alike(safe), 1) + 1
            found = f"{safe}-{number}"
        taken.add(alike)
        made.append(found)
    return tuple(made)


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _safe(name: str) -> str:
    if len(name) <= LONGEST and PLAIN.fullmatch(name):
        return name
    text = name.encode("utf-8", "replace").decode()
    safe = sanitize_filename(text, replacement_text="_", platform="universal").lstrip(". ")
    safe = "".join(c if c.isprintable() else "_" for c in safe) or "case"
    if len(safe.encode()) <= LONGEST:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return safe.encode()[: LONGEST - 13].decode(errors="ignore") + "-" + digest
