"""Values that no file should hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
Fault = Callable[[Path, Random], str]
"""Damages one file, and says how."""

WHOLE = (
    0, -1, 1, 2, 3, 255, 256, 32767, -32768, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1,
)  # fmt: skip
REAL = (
    0.0,
    -1.0,
    float("nan"),
    float("inf"),
    -float("inf"),
    1e-45,
    1e-30,
    1e30,
    -1e30,
    3e38,
    1e300,
)
TEXT = (
    "", " ", "x", "0", "-1", "nan", "inf", "-inf", "1e999", "1e308", "9" * 25, "0x10", "1_000", "1,5",
    "None", "true", "../x", "/etc/passwd", "a\0b", "\x1b[31mred", "A" * 5000, "\u202egnp", "١٢", "{}", "[]",
)  # fmt: skip
BOMB = 3 << 30
"""Bytes that a small packed file expands to."""


def pick(rng: Random, things: Any) -> Any:
    """One of several things, of any type."""
    things = list(things)
    return things[int(rng.integers(len(things)))]


def nasty(rng: Random) -> Any:
    """A value that was not expected: of any type, out of any range."""
    nested: Any = []
    for _ in range(int(rng.integers(1, 4))):
        nested = pick(rng, ([nested], {"x": nested}))
    return pick(
        rng, (pick(rng, WHOLE), pick(rng, REAL), pick(rng, TEXT), nested, None, True, 10**400)
    )
