"""A population of brains, made on the spot from the MNI152 template that nilearn's wheel ships.

Each subject is the template (T1, grey matter, white matter; 1 mm) pulled through a random smooth
map x_template = A x + u(x) + v(x): an affine A (size, proportions, posture), a smooth displacement
u (about 3 mm at 28 mm, 1 mm at 10 mm) and a widening or narrowing v of the ventricles. Tissue
fractions p_k of cerebrospinal fluid, grey and white matter are tilted towards more or less fluid
(atrophy) and make the contrast I = sum_k p_k m_k + detail, with tissue means m_k drawn for each
subject, a smooth bias field and Rician noise sqrt((I + n_1)^2 + n_2^2). The brains are
skull-stripped, as the template is. Subject k with seed s is the same whatever the number of cases.

The template is the ICBM 152 nonlinear 2009a symmetric average (Fonov et al. 2011).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..transforms import resize
from .anatomy import (
    CELL_MM,
    CENTRE_MM,
    FIELD_ORIGIN,
    TEMPLATE_ORIGIN,
    contrasts,
    generator,
    sample,
    subject,
    template,
    tissue,
    uniform,
)

LEVELS = ("low", "middle", "high")
_BANDS_MM = ((-24.0, -8.0), (0.0, 22.0), (32.0, 54.0))
"""Heights above the anterior commissure of the three classes of slices."""

_FIELD_OF_VIEW_MM = 208.0
_FINE = 2
"""Slices are sampled this much finer in plane and averaged, as a scanner's pixel averages."""


@dataclass(frozen=True)
class BrainOptions:
    """What `brains:count=200,size=96` can say.

    Attributes:
        count: number of cases: axial slices, three of each person, or volumes, one of each.
        size: pixels along each side of a field of view of 208 mm.
        lesions: share of cases with a lesion (dark on T1, bright on T2 and FLAIR; `lesion` is its mask).
        radius_mm: mean radius of lesions.
        contrast: of lesions: 1 replaces tissue altogether, 0 is not visible.
        noise: standard deviation of the noise, of the brightest tissue.
        label: "level" (low, middle, high slice), "lesion" (no, yes) or "none".
        pairs: "none"; "people" or "motion" make pairs for registration (see `pairs`), without labels.
        first: number of the first person (of two, the first pair): others than those of a training.
    """

    count: int = 256
    size: int = 64
    lesions: float = 0.0
    radius_mm: float = 11.0
    contrast: float = 1.0
    noise: float = 0.02
    label: str = "level"
    pairs: str = "none"
    first: int = 0


def numbers_of(volumes: bool, options: BrainOptions) -> range:
    """The numbers of the cases, from those of the first person on."""
    begin = options.first * (1 if volumes else len(LEVELS))
    return range(begin, begin + options.count)


@dataclass(frozen=True)
class Case:
    """One slice or volume: pictures by key, and their place in space."""

    name: str
    patient: str
    level: int
    lesion: int
    images: dict[str, Tensor]
    affine: Tensor
    numbers: dict[str, float]


def make_case(
    index: int,
    volumes: bool,
    options: BrainOptions,
    seed: int,
    *,
    affine: Tensor | None = None,
    pulled: Callable[[Tensor], Tensor] | None = None,
    frame: int = 0,
) -> Case:
    """One slice or volume. The person depends on (seed, person) alone, the noise on the case.

    Args:
        index, volumes, options, seed: which one.
        affine: of another case's grid; None: the case's own.
        pulled: displacement in mm of the world points at which the person is read.
        frame: number of a moving picture's frame; each has its own noise.
    """
    person, level = (index, 0) if volumes else divmod(index, len(LEVELS))
    who = subject(seed, person)
    draw = generator("case", seed, volumes, index)
    height = float(uniform(draw, *_BANDS_MM[level]))
    if affine is None:
        affine = _volume_affine(options.size) if volumes else _slice_affine(options.size, height)
    shape = (options.size,) * (3 if volumes else 2)
    points = points_of(affine, shape)
    where = who.to_template(points if pulled is None else points + pulled(points))
    fine = where if volumes else _finer(where, shape)
    maps = sample(template(), fine, TEMPLATE_ORIGIN, 1.0)
    fractions = tissue(maps, who.fluid)
    # Lesions are drawn for every case, used or not, so that noise does not depend on `lesions`.
    has = bool(uniform(draw, 0, 1) < options.lesions)
    place = uniform(draw, 0, 1, 5)
    draw = generator("frame", seed, volumes, index, frame) if frame else draw
    ball = _lesion(place, fine, fractions, options) if has else torch.zeros(len(fine))
    images = contrasts(maps, fractions, ball * options.contrast, who)
    bias = sample(who.bias[None], points, FIELD_ORIGIN, CELL_MM)[0].exp().reshape(shape)
    noisy = {
        key: _stored(_pixels(image, shape) * bias, draw, options.noise)
        for key, image in images.items()
    }
    parts = torch.stack([_pixels(part, shape) for part in (1 - fractions.sum(0), *fractions)])
    noisy["tissue"] = parts.argmax(0).to(torch.uint8)
    if not volumes:
        noisy["shares"] = (255 * parts.clamp(0, 1)).round().to(torch.uint8)
    noisy["lesion"] = (_pixels(ball, shape) > 0.5).to(torch.uint8)
    name = f"brain{person:04d}" + ("" if volumes else f"_{LEVELS[level]}")
    numbers = who.numbers if volumes else {**who.numbers, "height": height}
    return Case(
        name, f"brain{person:04d}", level, int(noisy["lesion"].any()), noisy, affine, numbers
    )


def _slice_affine(size: int, height: float) -> Tensor:
    step = _FIELD_OF_VIEW_MM / size
    half = step * (size - 1) / 2
    x, y, _ = CENTRE_MM
    rows = [[0, -step, 0, x + half], [-step, 0, 0, y + half], [0, 0, step, height], [0, 0, 0, 1]]
    return torch.tensor(rows, dtype=torch.float64)


def _volume_affine(size: int) -> Tensor:
    step = _FIELD_OF_VIEW_MM / size
    affine = torch.diag(torch.tensor([step, step, step, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor(CENTRE_MM, dtype=torch.float64) - step * (size - 1) / 2
    return affine


def points_of(affine: Tensor, shape: tuple[int, ...]) -> Tensor:
    """World coordinates `(P, 3)` of the voxels."""
    axes = [torch.arange(n, dtype=torch.float64) for n in (*shape, 1)[:3]]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    return (index @ affine[:3, :3].T + affine[:3, 3]).float()


def _finer(points: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Points `(P, 3)` of a slice, `_FINE` times as many along rows and columns."""
    size = [n * _FINE for n in shape]
    return resize(points.T.reshape(3, *shape), size).flatten(1).T


def _lesion(place: Tensor, where: Tensor, fractions: Tensor, options: BrainOptions) -> Tensor:
    """Weight in [0, 1] of a lesion: an ellipsoid in template space about a white-matter point.

    The person's deformation makes its outline irregular; its centre lies in the picture. `place`
    holds five numbers in [0, 1] that choose centre, size and shape.
    """
    white = (fractions[2] > 0.6).nonzero()[:, 0]
    if len(white) == 0:
        return torch.zeros(len(where))
    centre = where[white[int(place[0] * (len(white) - 1))]]
    axes = options.radius_mm * (0.6 + 0.8 * place[1]) * (0.75 + 0.55 * place[2:])
    distance = ((where - centre) / axes).square().sum(-1).sqrt()
    return torch.sigmoid((1 - distance) * 8) * fractions.sum(0).clamp(0, 1)


def _stored(picture: Tensor, draw: Generator, noise: float) -> Tensor:
    """Add Rician noise and store as 8 bit (white matter near 200)."""
    real, imaginary = torch.randn(2, *picture.shape, generator=draw) * noise
    magnitude = ((picture + real).square() + imaginary.square()).sqrt()
    return (magnitude * 235).round().clamp(0, 255).to(torch.uint8)


def _pixels(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Values at voxels, or averages of the `_FINE` x `_FINE` points in each pixel of a slice."""
    if x.numel() == torch.Size(shape).numel():
        return x.reshape(shape)
    rows, columns = shape
    return x.reshape(rows, _FINE, columns, _FINE).mean((1, 3))
