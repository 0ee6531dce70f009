"""Pairs of embedded brains for registration: two people, or one whose brain moves as told.

`people`: moving and fixed are two subjects of `brains`, slices at the same height. `motion`: fixed is
the same subject pulled by a smooth displacement u of a few mm, and `frames` are the states between,
pulled by t u for t from 0 to 1, both ends included; noise is drawn anew for every frame. `field` is u
in voxels: fixed at x shows what moving shows at x + u(x).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..columns import ArrayColumn, Column
from ..table import Table
from .anatomy import CELL_MM, CELLS, FIELD_ORIGIN, _smooth, generator, sample
from .brains import LEVELS, BrainOptions, Case, make_case, numbers_of, points_of

FRAMES = 5
MOTION_MM = 5.0
"""Standard deviation of each component of u."""
SMOOTH_CELLS = 1.5


@dataclass(frozen=True)
class Motion:
    """A smooth displacement of world points, in mm."""

    field: Tensor
    """(3, n, n, n) on the grid of the random fields."""

    def __call__(self, points: Tensor) -> Tensor:
        return sample(self.field, points, FIELD_ORIGIN, CELL_MM).T


def motion_of(seed: int, person: int, volumes: bool) -> Motion:
    """How person number `person` moves; within the plane where only a slice is seen."""
    draw = generator("motion", seed, person)
    field = MOTION_MM * _smooth(torch.randn(3, *(CELLS,) * 3, generator=draw), SMOOTH_CELLS)
    return Motion(field if volumes else field * torch.tensor([1.0, 1.0, 0.0]).view(-1, *[1] * 3))


def open_pairs(name: str, volumes: bool, options: BrainOptions, seed: int, about: str) -> Table:
    """The data set called `name`: moving, fixed, moving_mask, fixed_mask (tissue); frames and field."""
    make = _people if options.pairs == "people" else _motion
    made = [make(index, volumes, options, seed) for index in numbers_of(volumes, options)]
    affines = torch.stack([series[0].affine for series in made])
    columns: dict[str, Column] = {}
    for key, place in (("moving", 0), ("fixed", -1)):
        data = torch.stack([series[place].images["t1"] for series in made])[:, None]
        columns[key] = ArrayColumn(data, "image", f"{name}: {key}", affines, "MR", (0.0, 255.0))
        labels = torch.stack([series[place].images["tissue"] for series in made])[:, None]
        columns[f"{key}_mask"] = ArrayColumn(labels, "mask", f"{name}: {key}_mask", affines)
    if options.pairs == "motion":
        frames = torch.stack([torch.stack([c.images["t1"] for c in series]) for series in made])
        columns["frames"] = ArrayColumn(
            frames, "image", f"{name}: frames", affines, "MR", (0.0, 255.0)
        )
        fields = [
            _field(k, one[0], volumes, seed)
            for k, one in zip(numbers_of(volumes, options), made, strict=True)
        ]
        columns["field"] = ArrayColumn(torch.stack(fields), "raw", f"{name}: field")
    return Table(
        source=name,
        ids=tuple(series[0].name for series in made),
        columns=columns,
        patients=tuple(series[0].patient for series in made),
        fingerprint=about,
    )


def _people(index: int, volumes: bool, options: BrainOptions, seed: int) -> list[Case]:
    """Two people: number 2 k and 2 k + 1 of the population."""
    pair, level = (index, 0) if volumes else divmod(index, len(LEVELS))
    numbers = (2 * pair, 2 * pair + 1)
    rows = numbers if volumes else tuple(n * len(LEVELS) + level for n in numbers)
    first = make_case(rows[0], volumes, options, seed)
    return [first, make_case(rows[1], volumes, options, seed, affine=first.affine)]


def _field(index: int, case: Case, volumes: bool, seed: int) -> Tensor:
    """The motion of a case on its grid, (n, *S) in voxels."""
    size = tuple(case.images["t1"].shape)
    motion = motion_of(seed, index if volumes else index // len(LEVELS), volumes)
    mm = motion(points_of(case.affine, size))
    voxels = mm @ torch.linalg.inv(case.affine[:3, :3]).to(mm).T
    return voxels.T[: len(size)].reshape(len(size), *size).float()


def _motion(index: int, volumes: bool, options: BrainOptions, seed: int) -> list[Case]:
    """One person at t = 0 ... 1 of the motion."""
    person = index if volumes else index // len(LEVELS)
    motion = motion_of(seed, person, volumes)
    return [
        make_case(
            index, volumes, options, seed, pulled=replace(motion, field=t * motion.field), frame=k
        )
        for k, t in enumerate(torch.linspace(0, 1, FRAMES).tolist())
    ]
