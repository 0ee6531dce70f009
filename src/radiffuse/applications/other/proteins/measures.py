r"""What can be measured of a trace of C-alpha atoms alone, as arrays (N, 3) in Angstrom.

Bends are angles of three atoms, twists dihedrals of four (IUPAC's sign: right-handed helices near +50 degrees). There
is no Ramachandran plot: it needs N and C. Secondary structure is P-SEA's (Labesse et al. 1997, biotite), which counts
left-handed helices too, for it goes by distances where angles do not agree. TM-scores are those of TM-align (Zhang &
Skolnick 2005, tmtools).
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from ....data.formats.proteins import MISSING
from ....errors import UserError

__all__ = [
    *("aligned", "bends", "best_window", "bonds", "clashes", "gyration", "left_handed"),
    *("require_proteins", "rmsd", "secondary", "similarity", "twists"),
]

BOND = 3.8
CLASH = 3.6
"""Angstrom: nearer than this are hardly any two C-alpha atoms of a protein that are no neighbours."""
_FAR = 3
"""Residues along the chain from which on two can clash."""


def require_proteins() -> None:
    """Refuse to measure without the packages that do.

    Raises:
        UserError: biotite or tmtools is not installed.
    """
    for name in ("biotite", "tmtools"):
        if find_spec(name) is None:
            raise UserError(f"measuring backbones ({name}) {MISSING}")


def bonds(chain: np.ndarray) -> np.ndarray:
    """Distances of neighbours, (N - 1,)."""
    return np.linalg.norm(np.diff(chain, axis=0), axis=1)


def bends(chain: np.ndarray) -> np.ndarray:
    """Angles of three neighbours in degrees, (N - 2,)."""
    steps = np.diff(chain, axis=0)
    steps = steps / np.linalg.norm(steps, axis=1, keepdims=True).clip(1e-9)
    return np.degrees(np.arccos((-steps[:-1] * steps[1:]).sum(1).clip(-1, 1)))


def twists(chain: np.ndarray) -> np.ndarray:
    """Dihedrals of four neighbours in degrees, -180 to 180, (N - 3,)."""
    a, b, c = (np.diff(chain, axis=0)[k : len(chain) - 3 + k] for k in range(3))
    first, second = np.cross(a, b), np.cross(b, c)
    along = b / np.linalg.norm(b, axis=1, keepdims=True).clip(1e-9)
    return np.degrees(np.arctan2((np.cross(first, second) * along).sum(1), (first * second).sum(1)))


def clashes(chain: np.ndarray, among: np.ndarray | None = None) -> float:
    """Pairs nearer than 3.6 Angstrom, three residues apart or more, for 100 residues.

    Args:
        chain: (N, 3).
        among: (N,) bool; count pairs of one that is and one that is not. None: all pairs.
    """
    gap = np.linalg.norm(chain[:, None] - chain[None], axis=2)
    near = np.triu(gap < CLASH, _FAR)
    if among is not None:
        near = near & (among[:, None] != among[None])
    return float(near.sum()) * 100 / len(chain)


def gyration(chain: np.ndarray) -> float:
    """Radius of gyration over that of folded proteins of this length, 2.2 N^0.38 Angstrom (Skolnick et al. 1997)."""
    radius = np.sqrt(((chain - chain.mean(0)) ** 2).sum(1).mean())
    return float(radius / (2.2 * len(chain) ** 0.38))


def secondary(chain: np.ndarray) -> tuple[float, float]:
    """Shares of residues in helices and in strands, by P-SEA."""
    from biotite.structure import AtomArray, annotate_sse

    atoms = AtomArray(len(chain))
    atoms.coord = chain.astype(np.float32)
    atoms.chain_id[:], atoms.res_name[:], atoms.atom_name[:] = "A", "GLY", "CA"
    atoms.element[:], atoms.res_id = "C", np.arange(1, len(chain) + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = annotate_sse(atoms)
    return float((found == "a").mean()), float((found == "b").mean())


def left_handed(chain: np.ndarray) -> float | None:
    """Share of left-handed turns among those bent as helices are (80 to 105 degrees, twists 30 to 70); None without."""
    bent, twisted = bends(chain), twists(chain)
    turns = (np.abs(bent[:-1] - 92.5) < 12.5) & (np.abs(bent[1:] - 92.5) < 12.5)
    helical = twisted[turns & (np.abs(np.abs(twisted) - 50) < 20)]
    return float((helical < 0).mean()) if len(helical) else None


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """TM-score of the best alignment, mean of the scores by either length, in (0, 1]."""
    from tmtools import tm_align

    pair = [np.asarray(chain, np.float64) for chain in (one, other)]
    found = tm_align(*pair, *("G" * len(chain) for chain in pair))
    return float(found.tm_norm_chain1 + found.tm_norm_chain2) / 2


def aligned(moving: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`moving` (N, 3) turned and shifted onto `fixed`, the least squares of Kabsch (1976); never mirrored."""
    a, b = moving - moving.mean(0), fixed - fixed.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    hand = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return a @ u @ hand @ vt + fixed.mean(0)


def rmsd(moving: np.ndarray, fixed: np.ndarray) -> float:
    """Root mean square distance after `aligned`, Angstrom."""
    return float(np.sqrt(((aligned(moving, fixed) - fixed) ** 2).sum(1).mean()))


def best_window(chains: Sequence[np.ndarray], motif: np.ndarray) -> float:
    """The least `rmsd` to a motif (M, 3) of any M residues in a row of any chain; infinite where all are shorter."""
    count = len(motif)
    windows = [c[k : k + count] for c in chains for k in range(len(c) - count + 1)]
    return min((rmsd(window, motif) for window in windows), default=float("inf"))
