"""Errors shown to a user: one clear line that says what is wrong, where, and what to do."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator


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


_ASKED = re.compile(r"(?:allocate|tried to allocate) ([\d.]+) ?([kmgtp]?)i?b")
_NO_ROOM = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy or torch (on any device) says that there is no memory left."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _NO_ROOM)
    )


def out_of_memory(error: BaseException) -> str:
    """What to tell of it: how much was asked for, where that is known, and what to lower."""
    said = str(error).lower()
    device = " of the GPU" if "cuda" in said else ""
    return (
        f"the memory{device} does not suffice{_asked_for(said)}; lower --batch or --train.batch, --size, or the "
        "width of the network"
    )


def _asked_for(said: str) -> str:
    found = _ASKED.search(said)
    if found is None:
        return ""
    size = float(found[1]) * 1024.0 ** " kmgtp".index(found[2] or " ")
    return f" ({size / 2**30:.3g} GiB were asked for at once)"


@contextlib.contextmanager
def fitting(what: object) -> Iterator[None]:
    """Name what was being read where the memory does not suffice.

    Raises:
        UserError: it does not.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"{what}: does not fit into memory{_asked_for(str(error).lower())}; cut it into parts, or read it "
            "where there is more"
        ) from None
