"""Errors shown to a user: one clear line that says what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend. The command line prints the message alone and exits with 1."""

    exit_code = 1


class UsageError(UserError):
    """The command itself is wrong (a flag, a name). The command line exits with 2."""

    exit_code = 2


def nearest(name: str, names: Iterable[str], count: int = 1) -> str:
    """The nearest of `names` to `name`, up to `count`, joined with " or "; "" where none is near.

    Case does not count; a name that begins with what was typed is near, however long.
    """
    names = list(names)
    lower = {known.lower(): known for known in names}
    typed = name.lower()
    near = difflib.get_close_matches(typed, lower, n=count, cutoff=0.6)
    if len(typed) > 1:
        near += [known for known in lower if known.startswith(typed) and known not in near]
    return " or ".join(lower[known] for known in near[:count])


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """`did you mean NEAREST?` (or two of them), or `otherwise` where no name is near."""
    near = nearest(name, names, count=2)
    return f"did you mean {near}?" if near else otherwise


def printable(text: str) -> str:
    """`text` for a terminal: control characters, which names in data may hold, become "?"."""
    return "".join(c if c.isprintable() else "?" for c in text)
