r"""Multi-octave simplex noise: a noise source whose power falls with frequency (Wyatt et al. 2022).

$n(x) = \sum_{k<N} \gamma^k\, s_k\!\big(x\,2^k / w\big)$, where $s_k$ is simplex noise in $[-1, 1]$, w the
longest wavelength in pixels and $\gamma$ the decay. Images of fewer axes are slices of noise in three
dimensions, which show less of the lattice's directions; volumes are noise in three. The sum is
*not* of unit variance; its deviation is `Simplex.std`.

Simplex noise (Perlin 2001; the lattice, kernel and gradients of OpenSimplex, Spencer 2014) is a sum
over the vertices v of a lattice, $s(x) = \tfrac1c \sum_v \max(0, 2 - |x - v|^2)^4\, g_v \cdot (x - v)$,
with a random gradient $g_v$ at each. It is linear in the gradients: the kernel is computed once for
a batch, and every case has its own gradients. Where the lattice lies is drawn anew for every field.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .noise import Noise, derive

__all__ = ["Simplex", "gradient_set", "kernel"]

_LONG_SHORT_NORM = {2: (5, 2, 47), 3: (11, 4, 103), 4: (3, 1, 30)}
_RADIUS_SQUARED = 2.0

Choose = Callable[[int, int], Tensor]
"""(gradients to choose from, vertices) -> choices (fields, vertices) int64."""


@dataclass(frozen=True)
class Simplex:
    """Simplex noise of several octaves; itself a `Noise` from torch's global generator (training).

    Attributes:
        octaves: N, each of half the wavelength of the one before.
        decay: gamma, amplitude of an octave over that of the one before ("persistence").
        wavelength: w, edge of the first octave's lattice in pixels ("frequency" in the paper's code);
            the energy of an octave lies at one to two edges.
    """

    octaves: int = 6
    decay: float = 0.8
    wavelength: float = 64.0

    @property
    def std(self) -> float:
        """Standard deviation of the field of a 2-D image; octaves are uncorrelated."""
        return _STD_3D * math.sqrt(sum(self.decay ** (2 * k) for k in range(self.octaves)))

    def __call__(self, like: Tensor) -> Tensor:
        """A field `(B, C, *S)`, each case and channel its own; real, 1 to 4 axes."""
        fields = len(like) * like.shape[1]
        return self._fields(
            like,
            torch.rand(self.octaves, _dimensions(like)),
            lambda count, vertices: torch.randint(count, (fields, vertices)),
        )

    def seeded(self, seeds: Iterable[int]) -> Noise:
        """A `Noise` in which row b of each draw depends on seed b and the draw's number alone."""
        return _Streams(self, seeds)

    def _fields(self, like: Tensor, offsets: Tensor, choose: Choose) -> Tensor:
        batch, channels, *size = like.shape
        total = torch.zeros(math.prod(size), batch * channels)
        for octave in range(self.octaves):
            step = 2**octave / self.wavelength
            points = F.pad(_grid(tuple(size)), (0, offsets.shape[1] - len(size))) * step
            total += self.decay**octave * _sum(*kernel(points, offsets[octave]), choose)
        return total.T.reshape(like.shape).to(like)


class _Streams:
    """One generator a case for the gradients; the lattice's place follows from the draw's number."""

    def __init__(self, simplex: Simplex, seeds: Iterable[int]) -> None:
        self.simplex, self.draws = simplex, 0
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, like: Tensor) -> Tensor:
        if len(like) != len(self.generators):
            raise ValueError(f"{len(self.generators)} seeds for a batch of {len(like)}")
        place = torch.Generator().manual_seed(derive(self.draws, "simplex"))
        self.draws += 1
        offsets = torch.rand(self.simplex.octaves, _dimensions(like), generator=place)
        channels = like.shape[1]

        def choose(count: int, vertices: int) -> Tensor:
            rows = (
                torch.randint(count, (channels, vertices), generator=g) for g in self.generators
            )
            return torch.cat(list(rows))

        return self.simplex._fields(like, offsets, choose)


def _dimensions(like: Tensor) -> int:
    """Of the noise that fills `like` (B, C, *S): 3, or as many as it has axes."""
    return max(3, like.ndim - 2)


def gradient_set(axes: int) -> Tensor:
    """The gradients of simplex noise in 2, 3 or 4 dimensions, `(G, axes)`: one long component."""
    long, short, _ = _LONG_SHORT_NORM[axes]
    rows = [
        [sign * (long if axis == place else short) for axis, sign in enumerate(signs)]
        for place in range(axes)
        for signs in itertools.product((1, -1), repeat=axes)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def kernel(points: Tensor, offset: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    r"""The vertices that reach each point, and the factor of each vertex's gradient.

    Args:
        points: `(P, n)`, the lattice's edge being about 1; n = 2, 3 or 4.
        offset: `(n,)` in [0, 1), where in a cell of the lattice the origin lies; None: at a vertex.

    Returns:
        counts `(P,)`, how many vertices reach each point; of these, M in all, point by point:
        vertices `(M, n)` int64 in the lattice's own coordinates, and weights `(M, n)`,
        $\max(0, 2 - d^2)^4 d / c$ with d the vector from the vertex to the point.
    """
    axes = points.shape[1]
    stretch = (1 / math.sqrt(axes + 1) - 1) / axes
    skewed = points + stretch * points.sum(1, keepdim=True)
    if offset is not None:
        skewed = skewed + offset.to(skewed)
    base = skewed.floor()
    near, inside = _neighbours(axes).to(points), skewed - base
    metric = torch.eye(axes).to(points) + (2 * _squish(axes) + axes * _squish(axes) ** 2)
    squared = (near @ metric * near).sum(1) + (inside @ metric * inside).sum(1, keepdim=True)
    reach = _RADIUS_SQUARED - squared + 2 * inside @ metric @ near.T
    point, neighbour = (reach > 0).nonzero(as_tuple=True)
    away = inside.index_select(0, point) - near.index_select(0, neighbour)
    away = away + _squish(axes) * away.sum(1, keepdim=True)
    vertices = (base.index_select(0, point) + near.index_select(0, neighbour)).long()
    factor = reach[point, neighbour].pow(4) / _LONG_SHORT_NORM[axes][2]
    return (reach > 0).sum(1), vertices, factor[:, None] * away


def _squish(axes: int) -> float:
    return (math.sqrt(axes + 1) - 1) / axes


@lru_cache
def _neighbours(axes: int) -> Tensor:
    """Vertices about a cell that can reach a point in it, `(N, axes)`.

    Looked for on a grid in the cell, with a margin for the points between.
    """
    offsets = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0, 2.0), repeat=axes)))
    steps = {2: 65, 3: 17, 4: 9}[axes]
    inside = _grid((steps,) * axes) / (steps - 1)
    away = inside[:, None] - offsets
    away = away + _squish(axes) * away.sum(-1, keepdim=True)
    # a point lies within half a diagonal of a grid point; the longest diagonal is (1 + n squish) n^1/2
    margin = 0.5 / (steps - 1) * math.sqrt(axes) * (1 + axes * _squish(axes))
    reached = away.square().sum(-1).sqrt() < math.sqrt(_RADIUS_SQUARED) + margin
    return offsets[reached.any(0)]


@lru_cache(maxsize=8)
def _grid(size: tuple[int, ...]) -> Tensor:
    """Pixel indices `(P, n)`."""
    axes = [torch.arange(side, dtype=torch.float32) for side in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def _sum(counts: Tensor, vertices: Tensor, weights: Tensor, choose: Choose) -> Tensor:
    """Sum over vertices of weight . gradient, `(P, fields)`, gradients chosen for each field."""
    axes = vertices.shape[-1]
    low = vertices.amin(0)
    sides = (vertices.amax(0) - low + 1).tolist()
    strides = [math.prod(sides[axis + 1 :]) for axis in range(axes)]
    place = ((vertices - low) * torch.tensor(strides)).sum(1)
    known, number = place.unique(return_inverse=True)
    gradients = gradient_set(axes)
    chosen = choose(len(gradients), len(known))
    table = gradients.index_select(0, chosen.T.flatten()).reshape(len(known), -1, axes)
    table = table.mT.reshape(len(known) * axes, -1)
    entries = (number[:, None] * axes + torch.arange(axes)).flatten()
    starts = (counts.cumsum(0) - counts) * axes
    return F.embedding_bag(entries, table, starts, per_sample_weights=weights.flatten(), mode="sum")


_STD_3D = 0.3143
"""Deviation of one octave of noise in 3 dimensions, over fields and places."""
