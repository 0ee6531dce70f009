"""The motif of a scaffold: which residues of a chain are given, and where in the scaffold they come to lie."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ....data.formats.proteins import coded, decoded
from ....errors import UserError
from ...ranges import require

__all__ = ["Motif", "Segment", "find_motif", "numbered_from_one", "segments"]

_RANGE = re.compile(r"(?:([A-Za-z]\w*?)|(\w+):)?(-?\d+)([A-Za-z]?)-(-?\d+)([A-Za-z]?)")


@dataclass(frozen=True)
class Segment:
    """Residues `first` to `last` of a chain, both (number, insertion code); chain "" is the file's only one."""

    chain: str
    first: tuple[int, str]
    last: tuple[int, str]


@dataclass(frozen=True)
class Motif:
    """Residues given, by their row in the case, and where they lie in the scaffold; its length."""

    rows: tuple[int, ...]
    places: tuple[int, ...]
    length: int


def segments(text: str) -> tuple[Segment, ...]:
    """ "A10-25", "10-25", "A1-4,A31-43", "A52A-60" (insertion codes), "2:10-25" (a chain named by a digit).

    Raises:
        OutOfRange: it is none of these, or names several chains.
    """
    found = []
    for part in text.replace(" ", "").split(","):
        match = _RANGE.fullmatch(part)
        said = f"{text!r}: a motif is CHAIN, first and last residue, as A10-25 or A1-4,A31-43"
        require(match is not None, "motif", said)
        assert match is not None
        chain = match[1] or match[2] or ""
        found.append(Segment(chain, (int(match[3]), match[4]), (int(match[5]), match[6])))
    said = f"{text!r}: its residues must be of one chain"
    require(len({each.chain for each in found}) == 1, "motif", said)
    return tuple(found)


def find_motif(
    text: str, residues: Tensor, there: Tensor, length: int = 0, before: int = -1
) -> Motif:
    """Where a motif is in a case, and where in the scaffold.

    Args:
        text: as `segments` reads it; segments keep the distance along the chain that they have.
        residues: (L, 3), chain, number and insertion code of every residue of the case.
        there: (L,), whether its C-alpha is known.
        length: of the scaffold; 0: that of the motif's own chain.
        before: residues in front of the motif; -1: as many as in its own chain.

    Raises:
        UserError: a residue is absent or has no C-alpha, or the motif does not fit into the scaffold.
    """
    wanted = segments(text)
    first, count = _chain(text, wanted[0].chain, residues)
    names = [(n, decoded(i)) for _, n, i in residues[first : first + count].tolist()]
    rows = [row for segment in wanted for row in _rows(text, segment, names, residues[first, 0])]
    said = f"motif {text}: its segments must come one after another"
    _check(all(a < b for a, b in pairwise(rows)), said)
    lost = [names[row] for row in rows if not bool(there[first + row])]
    _check(not lost, f"motif {text}: {len(lost)} of its residues have no C-alpha: {_told(lost)}")
    length = length or count
    start = rows[0] if before < 0 else before
    span = rows[-1] - rows[0] + 1
    _check(
        start + span <= length,
        f"motif {text}: {start} residues before it and {span} of it do not fit into a scaffold of {length}; raise "
        "--set length=N or lower --set before=N",
    )
    places = tuple(start + row - rows[0] for row in rows)
    return Motif(tuple(first + row for row in rows), places, length)


def numbered_from_one(count: int) -> Tensor:
    """`residues` (L, 3) of a case that names none: chain A, from 1."""
    numbers = torch.arange(1, count + 1)
    return torch.stack([torch.full_like(numbers, coded("A")), numbers, 0 * numbers], 1)


def _chain(text: str, chain: str, residues: Tensor) -> tuple[int, int]:
    """The first row of a chain and its number of residues."""
    codes = residues[:, 0].tolist()
    known = [decoded(code) for code in dict.fromkeys(codes)]
    if not chain:
        _check(
            len(known) == 1,
            f"motif {text}: which chain of {', '.join(known)}? Name it, as {known[0]}{text}",
        )
        return 0, len(codes)
    _check(chain in known, f"motif {text}: there is no chain {chain}; there is {', '.join(known)}")
    return codes.index(coded(chain)), codes.count(coded(chain))


def _rows(text: str, segment: Segment, names: Sequence[tuple[int, str]], code: Tensor) -> range:
    """Places in the chain of the residues of a segment."""
    for end in (segment.first, segment.last):
        held = f"chain {decoded(int(code))} holds {_told([names[0]])} to {_told([names[-1]])}"
        _check(end in names, f"motif {text}: residue {_told([end])} is not in the file; {held}")
    rows = range(names.index(segment.first), names.index(segment.last) + 1)
    _check(len(rows) > 0, f"motif {text}: its first residue comes after its last")
    numbers = {names[row][0] for row in rows}
    absent = [(n, "") for n in range(segment.first[0], segment.last[0] + 1) if n not in numbers]
    _check(
        not absent, f"motif {text}: the file lacks {len(absent)} of its residues: {_told(absent)}"
    )
    return rows


def _told(names: Sequence[tuple[int, str]]) -> str:
    few = ", ".join(f"{number}{insertion}" for number, insertion in names[:3])
    return few + (" ..." if len(names) > 3 else "")


def _check(good: bool, said: str) -> None:
    if not good:
        raise UserError(said)
