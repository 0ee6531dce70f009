r"""A population of shapes, made on the spot: ellipsoids with smooth or bumpy surfaces, as cells and lesions have.

Case k is the set of points p (mm, from the middle of the volume) with

$$ \left|A^{-1} R (p - c)\right| < 1 + h\,b(\hat p), \qquad
b(\hat p) = \sqrt{2/K}\sum_{k=1}^K\cos(q_k\cdot\hat p + \phi_k), $$

of three half axes A drawn one by one, a rotation R, a centre c near the middle, and bumps of height h: waves b of
the direction $\hat p$ from the centre, with |q| from 7 to 11. Class 0, smooth, has h up to 0.05, class 1, bumpy, h
from 0.03 to 0.1: they overlap, as classes of cells do. Case k with seed s is the same whatever the number of
cases and voxels.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import UsageError
from ..columns import ArrayColumn
from ..formats.stored import check_bytes
from ..table import Table, labels_from
from .anatomy import generator, uniform
from .options import MOST, options_of

__all__ = ["ShapeOptions", "open_shapes"]

FIELD_OF_VIEW_MM = 64.0
CLASSES = ("smooth", "bumpy")
_HALF_AXES_MM = (11.0, 22.0)
_WAVES, _WAVE_NUMBERS = 32, (7.0, 11.0)
_HEIGHTS = ((0.0, 0.05), (0.03, 0.1))


@dataclass(frozen=True)
class ShapeOptions:
    """What `shapes3d:count=200,size=48` can say.

    Attributes:
        count: number of shapes.
        size: voxels along each side of a field of view of 64 mm.
        bumpy: share of shapes with a bumpy surface; `label` tells them apart.
    """

    count: int = 400
    size: int = 32
    bumpy: float = 0.15


def open_shapes(name: str, seed: int = 0) -> Table:
    """Make the data set called `name`: the key mask, 1 inside, and label, 0 smooth and 1 bumpy.

    Raises:
        UsageError: an option that is not known, or a value out of its range.
    """
    options = options_of(name, ShapeOptions())
    if not (1 <= options.count <= MOST and 8 <= options.size <= 256 and 0 <= options.bumpy <= 1):
        raise UsageError(f"{name}: count 1 to {MOST}, size 8 to 256 and bumpy 0 to 1 are possible")
    check_bytes(options.count * options.size**3, name)
    made = [_shape(index, options, seed) for index in range(options.count)]
    step = FIELD_OF_VIEW_MM / options.size
    affine = torch.diag(torch.tensor([step, step, step, 1.0], dtype=torch.float64))
    affine[:3, 3] = -step * (options.size - 1) / 2
    masks = torch.stack([mask for mask, _ in made])[:, None]
    labels = [label for _, label in made]
    ids = tuple(f"shape{index:04d}" for index in range(options.count))
    about = f"radiffuse shapes 1, {options}, seed {seed}"
    return Table(
        source=name,
        ids=ids,
        columns={
            "mask": ArrayColumn(masks, "mask", f"{name}: mask", affine.expand(len(ids), 4, 4)),
            "label": labels_from(torch.tensor(labels), name, ids),
        },
        label_names=tuple(CLASSES[label] for label in labels),
        mask_names={"mask": {1: "inside"}},
        fingerprint=hashlib.sha256(about.encode()).hexdigest(),
    )


def _shape(index: int, options: ShapeOptions, seed: int) -> tuple[Tensor, int]:
    """The voxels of one shape, uint8 (S, S, S), and its class."""
    draw = generator("shape", seed, index)
    label = int(uniform(draw, 0, 1) < options.bumpy)
    half_axes = uniform(draw, *_HALF_AXES_MM, 3)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=draw))
    centre = uniform(draw, -4, 4, 3)
    height = uniform(draw, *_HEIGHTS[label])
    waves = torch.nn.functional.normalize(torch.randn(_WAVES, 3, generator=draw))
    waves = waves * uniform(draw, *_WAVE_NUMBERS, _WAVES)[:, None]
    phases = uniform(draw, 0, 2 * torch.pi, _WAVES)
    step = FIELD_OF_VIEW_MM / options.size
    axis = (torch.arange(options.size) - (options.size - 1) / 2) * step
    points = torch.cartesian_prod(axis, axis, axis) - centre
    direction = torch.nn.functional.normalize(points)
    bumps = torch.cos(direction @ waves.T + phases).sum(1) * (2 / _WAVES) ** 0.5
    distance = (points @ turn.T / half_axes).norm(dim=1)
    inside = distance < 1 + height * bumps
    return inside.reshape([options.size] * 3).to(torch.uint8), label
