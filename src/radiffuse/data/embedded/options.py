"""What stands behind the name of an embedded data set: `brains:count=200,size=96`."""

from dataclasses import fields, replace
from typing import Any, TypeVar

from ...errors import UsageError

__all__ = ["MOST", "options_of"]

MOST = 100_000
"""Cases of the largest set."""

Options = TypeVar("Options")


def options_of(name: str, options: Options) -> Options:
    """The dataclass `options` with what `name` says behind its colon.

    Raises:
        UsageError: an option that is not known, or a value that is none.
    """
    made: Any = options
    known = {entry.name: type(getattr(made, entry.name)) for entry in fields(made)}
    for part in filter(None, name.partition(":")[2].split(",")):
        key, _, value = part.partition("=")
        if key not in known:
            raise UsageError(f"{name}: no option {key!r}; there are {', '.join(known)}")
        try:
            made = replace(made, **{key: known[key](value)})
        except ValueError:
            raise UsageError(f"{name}: {key} needs a number, found {value!r}") from None
    return made
