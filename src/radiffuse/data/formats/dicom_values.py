"""What the header of a DICOM file says, whatever may be absent, empty or of the wrong type in it."""

import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = [
    *("floats", "harmless", "item", "items", "number", "quiet", "said", "text", "whole"),
]

_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Without pydicom's remarks on files that say things in their own way; one thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def said(header: Any, name: str) -> Any:
    """The value of an attribute; None where it is absent, empty, or cannot be read as its type."""
    try:
        with quiet():
            value = header.get(name)
            return None if value is None or str(value).strip() in ("", "[]") else value
    except Exception:  # a damaged element may raise anything while it is converted
        return None


def text(header: Any, name: str) -> str:
    """An attribute as text without spaces around it; "" where it says nothing."""
    value = said(header, name)
    return "" if value is None else " ".join(str(value).split())


_NUMBERS = re.compile(r"[-+\d.eE, \[\]]{1,40}")
_CODES = re.compile(r"[A-Z\d_ ,'\[\]]{1,80}")


def harmless(value: str, otherwise: str = "some text") -> str:
    """A value for a message: numbers and codes in capitals as they are; all else may name somebody."""
    known = not value or _NUMBERS.fullmatch(value) or _CODES.fullmatch(value)
    return value if known else otherwise


def floats(header: Any, name: str, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers; None where the attribute holds anything else."""
    value = said(header, name)
    try:
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            value = [value]
        found = tuple(float(part) for part in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(math.isfinite(part) for part in found) else None


def number(header: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float | None:
    """One finite number from `low` to `high`; None where the attribute holds anything else."""
    found = floats(header, name, 1)
    return found[0] if found is not None and low <= found[0] <= high else None


def whole(header: Any, name: str, low: int, high: int) -> int | None:
    """One whole number from `low` to `high`; None where the attribute holds anything else."""
    found = number(header, name, low, high)
    return int(found) if found is not None and found == int(found) else None


def items(header: Any, name: str) -> list[Any]:
    """The items of a sequence; none where the attribute is no sequence."""
    try:
        with quiet():
            return [part for part in header.get(name) or () if hasattr(part, "get")]
    except Exception:  # as in `said`
        return []


def item(header: Any, name: str) -> Any:
    """The first item of a sequence, or None."""
    return next(iter(items(header, name)), None)
