r"""Computed tomography: line integrals of images in parallel and fan beams, and their adjoint.

Coordinates: pixels have side 1 and the centre of the image is the origin; x runs along the last
axis, y upwards against the second last. View $\theta$ measures, at detector position s,

$$ p(\theta, s) = \int f(s\cos\theta - l\sin\theta,\; s\sin\theta + l\cos\theta)\, dl $$

in pixel lengths (times the pixel's side in mm: mm). Rays are integrated by linear interpolation
between the pixels beside them (Joseph 1982). The weights of a geometry form one sparse matrix,
built once; the adjoint applies its transpose, so it is exact to rounding.
Filtered back-projection is `tomography.fbp`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ..errors import UserError
from .base import LinearOperator

__all__ = ["Fan", "Geometry", "Parallel", "Radon", "views"]


def views(count: int, turn: float = math.pi) -> tuple[float, ...]:
    """`count` equal steps over `turn` radians from 0: pi for parallel beams, 2 pi for fans."""
    return tuple(turn * k / count for k in range(count))


@dataclass(frozen=True)
class Geometry(ABC):
    """Where the rays of each view run.

    Args:
        size: (H, W) of the image, in pixels.
        angles: of the views, in radians.
        detectors: number of detector elements; 0 means the diagonal of the image, made odd.
        spacing: of detector elements, in pixels (in a fan: measured at the centre of the image).
    """

    size: tuple[int, int]
    angles: tuple[float, ...]
    detectors: int = 0
    spacing: float = 1.0

    def __post_init__(self) -> None:
        angles = tuple(float(a) for a in torch.as_tensor(self.angles).flatten().tolist())
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "size", tuple(int(n) for n in self.size))
        if not angles or not all(math.isfinite(a) for a in angles):
            raise UserError("a tomographic geometry needs one finite angle (radians) at least")
        if len(self.size) != 2 or min(self.size) < 1 or self.spacing <= 0 or self.detectors < 0:
            raise UserError(
                f"geometry with size {self.size}, {self.detectors} detectors at spacing "
                f"{self.spacing:g}: give (H, W), a positive number and a positive spacing"
            )
        if not self.detectors:
            count = math.ceil(math.hypot(*self.size) / self.spacing)
            object.__setattr__(self, "detectors", count + 1 - count % 2)

    def positions(self) -> Tensor:
        """Centres of the detector elements, (N,), in pixels, symmetric about 0."""
        index = torch.arange(self.detectors, dtype=torch.float64)
        return (index - (self.detectors - 1) / 2) * self.spacing

    @abstractmethod
    def rays(self) -> tuple[Tensor, Tensor]:
        """A point on each ray and its unit direction, both (A, N, 2) as (x, y)."""

    def _frame(self) -> tuple[Tensor, Tensor]:
        """Unit vectors along the detector and along the central ray, each (A, 1, 2)."""
        theta = torch.tensor(self.angles, dtype=torch.float64)[:, None]
        across = torch.stack([theta.cos(), theta.sin()], -1)
        return across, torch.stack([-theta.sin(), theta.cos()], -1)


class Parallel(Geometry):
    """Parallel beams: every ray of a view runs along (-sin, cos) of its angle."""

    def rays(self) -> tuple[Tensor, Tensor]:
        across, along = self._frame()
        points = self.positions()[:, None] * across
        return points, along.expand_as(points)


@dataclass(frozen=True)
class Fan(Geometry):
    """A fan from a source at `-distance` on the central ray to a straight detector.

    Args:
        distance: from the source to the centre of the image, in pixels; the source lies outside.
    """

    distance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance <= math.hypot(*self.size) / 2:
            raise UserError(
                f"the source at {self.distance:g} pixels from the centre lies inside the image: "
                f"give a distance above {math.hypot(*self.size) / 2:.0f}"
            )

    def rays(self) -> tuple[Tensor, Tensor]:
        across, along = self._frame()
        points = self.positions()[:, None] * across
        direction = points + self.distance * along
        return points, direction / direction.norm(dim=-1, keepdim=True)


class _Rows(NamedTuple):
    """A sparse matrix by rows: columns and weights of row r lie at start[r] : start[r + 1]."""

    column: Tensor
    start: Tensor
    weight: Tensor

    def times(self, x: Tensor) -> Tensor:
        """Its product with x (N, K)."""
        return embedding_bag(
            self.column,
            x,
            self.start,
            mode="sum",
            per_sample_weights=self.weight,
            include_last_offset=True,
        )


def _crossings(geometry: Geometry) -> tuple[Tensor, Tensor, Tensor]:
    """Joseph's weights as (ray, pixel, weight), flat, float64."""
    height, width = geometry.size
    points, directions = (part.reshape(-1, 2) for part in geometry.rays())
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    flat = directions[:, 0].abs() >= directions[:, 1].abs()
    for chosen, main in ((flat, 0), (~flat, 1)):
        ray = chosen.nonzero()[:, 0]
        point, direction = points[ray], directions[ray]
        # walk along the axis the ray follows most; interpolate across the other one
        steps, cross = (width, height) if main == 0 else (height, width)
        index = torch.arange(steps, dtype=torch.float64)
        sign = 1 if main == 0 else -1  # y runs against the row index
        at = sign * (index - (steps - 1) / 2)
        slope = direction[:, 1 - main] / direction[:, main]
        other = point[:, 1 - main, None] + (at - point[:, main, None]) * slope[:, None]
        place = -sign * other + (cross - 1) / 2
        low = place.floor()
        length = (1 / direction[:, main].abs())[:, None]
        for offset in (0, 1):
            k = low + offset
            weight = length * (1 - (place - k).abs())
            kept = (k >= 0) & (k < cross) & (weight > 0)
            walked = index.expand_as(k)
            row, column = (k, walked) if main == 0 else (walked, k)
            pixel = (row * width + column).long()
            found.append((ray[:, None].expand_as(k)[kept], pixel[kept], weight[kept]))
    ray, pixel, weight = (torch.cat(parts) for parts in zip(*found, strict=True))
    return ray, pixel, weight


@lru_cache(maxsize=8)
def _matrices(geometry: Geometry, dtype: torch.dtype, device: str) -> tuple[_Rows, _Rows]:
    """The projection matrix and its transpose, by rows."""
    from scipy.sparse import coo_array

    ray, pixel, weight = _crossings(geometry)
    shape = (len(geometry.angles) * geometry.detectors, math.prod(geometry.size))
    matrix = coo_array((weight.numpy(), (ray.int().numpy(), pixel.int().numpy())), shape=shape)

    def rows(compressed: Any) -> _Rows:
        parts = (compressed.indices, compressed.indptr, compressed.data)
        column, start, data = (torch.from_numpy(part) for part in parts)
        return _Rows(column.to(device), start.to(device), data.to(device, dtype))

    return rows(matrix.tocsr()), rows(matrix.T.tocsr())


class _Times(torch.autograd.Function):
    """x (N, K) -> M x, whose gradient applies the transpose (and so on for higher orders)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: _Rows, transpose: _Rows) -> Tensor:
        ctx.pair = (transpose, matrix)
        return matrix.times(x.contiguous())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Times.apply(gradients[0], *ctx.pair), None, None


@dataclass(frozen=True)
class Radon(LinearOperator):
    """Line integrals: x (B, C, *, H, W) -> sinograms (B, C, *, angles, detectors).

    Axes in front of (H, W) are slices; real or complex x. The matrix holds about
    2 max(H, W) weights a ray, twice (with its transpose), in memory as long as the geometry is one
    of the eight last used: some 30 MB for 128 x 128 pixels and 60 views.

    Args:
        geometry: `Parallel` or `Fan`.

    Raises:
        UserError: the image or the sinogram has another size than the geometry.
    """

    geometry: Geometry

    def _apply(self, data: Tensor, old: tuple[int, int], new: tuple[int, int], t: bool) -> Tensor:
        if tuple(data.shape[-2:]) != old:
            raise UserError(
                f"{'a sinogram' if t else 'an image'} of shape {tuple(data.shape)} does not fit the "
                f"geometry: its last two axes must be {old}"
            )
        if data.is_complex():
            parts = torch.view_as_real(data).movedim(-1, 0)
            real, imaginary = self._apply(parts, old, new, t)
            return torch.complex(real, imaginary)
        pair = _matrices(self.geometry, data.dtype, str(data.device))
        columns = data.reshape(-1, math.prod(old)).mT
        out = _Times.apply(columns, *(pair[::-1] if t else pair))
        return out.mT.reshape(*data.shape[:-2], *new)

    def __call__(self, x: Tensor) -> Tensor:
        geometry = self.geometry
        sinogram = (len(geometry.angles), geometry.detectors)
        return self._apply(x, geometry.size, sinogram, t=False)

    def adjoint(self, y: Tensor) -> Tensor:
        geometry = self.geometry
        sinogram = (len(geometry.angles), geometry.detectors)
        return self._apply(y, sinogram, geometry.size, t=True)
