r"""Chains of C-alpha atoms made on the spot, of helices, strands and turns: for demonstrations, not for science.

Neighbours are 3.8 Angstrom apart. Bends (angles of three atoms) and twists (dihedrals of four) of a segment are near
those of a right-handed helix (91 and 50 degrees) or of a strand (124 and -170); a turn of a few residues with any
bend and twist joins two segments. Chains may run through themselves. Chain k with seed s is the same whatever their
number.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UsageError
from ..columns import ArrayColumn
from ..table import Table
from .anatomy import generator, uniform
from .options import MOST, options_of

__all__ = ["BOND", "BackboneOptions", "open_backbones", "traced"]

BOND = 3.8
"""Angstrom between neighbouring C-alpha atoms."""
_HELIX, _STRAND = (91.0, 50.0), (124.0, -170.0)
_JITTER = 4.0


@dataclass(frozen=True)
class BackboneOptions:
    """What `backbones:count=200,longest=60` can say.

    Attributes:
        count: number of chains.
        shortest, longest: residues of a chain.
    """

    count: int = 100
    shortest: int = 40
    longest: int = 60


def open_backbones(name: str, seed: int = 0) -> Table:
    """Make the data set called `name`: keys coords (L, 3) in Angstrom, NaN beyond length, and length.

    Raises:
        UsageError: an option that is not known, or a value out of its range.
    """
    options = options_of(name, BackboneOptions())
    if not (1 <= options.count <= MOST and 4 <= options.shortest <= options.longest <= 512):
        raise UsageError(
            f"{name}: count 1 to {MOST} and 4 <= shortest <= longest <= 512 are possible"
        )
    made = [_chain(index, options, seed) for index in range(options.count)]
    coords = torch.full((options.count, options.longest, 3), torch.nan)
    for row, chain in enumerate(made):
        coords[row, : len(chain)] = chain
    about = f"radiffuse backbones 1, {options}, seed {seed}"
    return Table(
        source=name,
        ids=tuple(f"chain{index:04d}" for index in range(options.count)),
        columns={
            "coords": ArrayColumn(coords, "raw", f"{name}: coords"),
            "length": ArrayColumn(torch.tensor([float(len(c)) for c in made]), "scalar", name),
        },
        fingerprint=hashlib.sha256(about.encode()).hexdigest(),
    )


def _chain(index: int, options: BackboneOptions, seed: int) -> Tensor:
    draw = generator("backbone", seed, index)
    length = int(torch.randint(options.shortest, options.longest + 1, (), generator=draw))
    angles: list[tuple[float, float]] = []
    while len(angles) < length:
        kind = _HELIX if uniform(draw, 0, 1) < 0.5 else _STRAND
        segment = int(uniform(draw, 6, 16))
        angles += [(kind[0], kind[1])] * segment
        turn = int(uniform(draw, 2, 5))
        angles += [
            (float(uniform(draw, 90, 140)), float(uniform(draw, -180, 180))) for _ in range(turn)
        ]
    drawn = torch.tensor(angles[:length]) + _JITTER * torch.randn(length, 2, generator=draw)
    return traced(torch.deg2rad(drawn[2:, 0]), torch.deg2rad(drawn[3:, 1]))


def traced(bends: Tensor, twists: Tensor, bond: float = BOND) -> Tensor:
    """The chain (N, 3) of N - 2 bends and N - 3 twists, in radians, about its mean (N >= 3).

    A bend is the angle of three atoms, a twist the dihedral of four, IUPAC's sign: a right-handed helix has
    positive ones.
    """
    bends, twists = bends.double(), twists.double()
    first = float(bends[0])
    points = [torch.zeros(3), torch.tensor([bond, 0.0, 0.0])]
    points.append(points[1] + bond * torch.tensor([-math.cos(first), math.sin(first), 0.0]))
    points = [point.double() for point in points]
    for bend, twist in zip(bends[1:], twists, strict=True):
        b, c = points[-2], points[-1]
        along = torch.nn.functional.normalize(c - b, dim=0)
        normal = torch.nn.functional.normalize(torch.linalg.cross(b - points[-3], along), dim=0)
        side = torch.linalg.cross(normal, along)
        new = -bend.cos() * along + bend.sin() * (twist.cos() * side + twist.sin() * normal)
        points.append(c + bond * new)
    chain = torch.stack(points)
    return (chain - chain.mean(0)).float()
