"""One made person: the MNI152 template, a shape, tissues and contrasts (see `brains`)."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

CENTRE_MM = (0.0, -18.0, 4.0)
"""Middle of the brain in the template's space (MNI152, RAS+)."""
BRAIN = (slice(22, 175), slice(25, 212), slice(0, 162))
"""The part of the template (voxels of 1 mm, first voxel at -98, -134, -72) that holds brain."""
TEMPLATE_ORIGIN = (-98.0 + 22, -134.0 + 25, -72.0)
CELLS, CELL_MM = 18, 14.0
"""Grid of the random fields, about the origin."""
FIELD_ORIGIN = (-CELL_MM * (CELLS - 1) / 2,) * 3


def generator(*parts: object) -> Generator:
    """A generator seeded by everything in `parts`."""
    digest = hashlib.sha256(" ".join(str(part) for part in parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def uniform(draw: Generator, low: float, high: float, count: int = 1) -> Tensor:
    """`count` numbers between `low` and `high`."""
    return low + (high - low) * torch.rand(count, generator=draw)


def sample(maps: Tensor, points: Tensor, origin: tuple[float, ...], step: float) -> Tensor:
    """Trilinear values `(C, P)` of maps `(C, I, J, K)` at world points, 0 outside."""
    size = torch.tensor(maps.shape[1:], dtype=torch.float32)
    index = (points - torch.tensor(origin)) / step
    unit = (2 * index / (size - 1) - 1).flip(-1)
    inside = (unit.abs() <= 1).all(-1).nonzero()[:, 0]
    grid = unit[inside].reshape(1, 1, 1, -1, 3)
    values = F.grid_sample(maps[None], grid, align_corners=True).reshape(len(maps), -1)
    return values.new_zeros(len(maps), len(points)).index_copy_(1, inside, values)


@dataclass(frozen=True)
class Subject:
    """One person: shape, contrast and the scanner's bias field."""

    affine: Tensor
    field: Tensor
    widening: float
    fluid: float
    means: dict[str, Tensor]
    detail: float
    bias: Tensor

    @property
    def numbers(self) -> dict[str, float]:
        """What can be told of the person: size (cube root of the brain's volume over the template's), widening of
        the ventricles, excess of fluid (as by atrophy), and white matter over grey in T1."""
        means = self.means["t1"]
        return {
            "brain_size": float(torch.linalg.det(self.affine)) ** (-1 / 3),
            "ventricles": self.widening,
            "atrophy": self.fluid,
            "t1_contrast": float(means[2] / means[1]),
        }

    def to_template(self, points: Tensor) -> Tensor:
        """Where in the template each point of the person lies."""
        moved = (points - torch.tensor(CENTRE_MM)) @ self.affine.T + torch.tensor(CENTRE_MM)
        moved = moved + sample(self.field, points, FIELD_ORIGIN, CELL_MM).T
        away = (moved - torch.tensor([0.0, -12.0, 14.0])) / torch.tensor([20.0, 32.0, 18.0])
        pull = self.widening * (-away.square().sum(-1, keepdim=True) / 2).exp()
        centre = torch.tensor([0.0, -12.0, 14.0])
        return centre + (moved - centre) * (1 - pull * torch.tensor([1.0, 0.5, 0.7]))


@lru_cache(maxsize=8)
def subject(seed: int, person: int) -> Subject:
    """Person number `person` of the population `seed`."""
    draw = generator("person", seed, person)
    scale = uniform(draw, 0.92, 1.09) * uniform(draw, 0.95, 1.05, 3)
    angles = torch.randn(3, generator=draw) * torch.tensor([0.06, 0.04, 0.05])
    spin = torch.zeros(3, 3)
    spin[0, 1], spin[0, 2], spin[1, 2] = angles[2], -angles[1], angles[0]
    smooth = _smooth(torch.randn(3, *(CELLS,) * 3, generator=draw), 2.0)
    rough = _smooth(torch.randn(3, *(CELLS,) * 3, generator=draw), 0.75)
    bias = _smooth(torch.randn(1, *(CELLS,) * 3, generator=draw), 3.0)[0]
    shift = torch.randn(3, generator=draw)

    def means(fluid: float, grey: float, white: float) -> Tensor:
        return torch.tensor([fluid, grey, white]) + shift * torch.tensor([0.03, 0.035, 0.03])

    return Subject(
        affine=torch.linalg.matrix_exp(spin - spin.T) / scale,
        field=2.8 * smooth + 1.2 * rough,
        widening=float(uniform(draw, -0.25, 0.5)),
        fluid=float(uniform(draw, -0.6, 1.1)),
        means={
            "t1": means(0.16, 0.56, 0.84),
            "t2": means(0.93, 0.52, 0.36),
            "flair": means(0.10, 0.70, 0.55),
        },
        detail=float(uniform(draw, 0.7, 1.1)),
        bias=0.07 * bias,
    )


def _smooth(x: Tensor, cells: float) -> Tensor:
    """Noise `(C, n, n, n)` smoothed by a Gaussian of that many cells, to unit variance."""
    n = x.shape[-1]
    axis = torch.arange(n, dtype=torch.float32)
    kernel = (-((axis[:, None] - axis) ** 2) / (2 * cells**2)).exp()
    kernel = kernel / kernel.square().sum(1, keepdim=True).sqrt()
    return torch.einsum("cijk,ai,bj,dk->cabd", x, kernel, kernel, kernel)


@lru_cache(maxsize=1)
def template() -> Tensor:
    """`(4, I, J, K)`: T1, fluid, grey, white; fractions add up to 1 inside the brain."""
    import nibabel

    folder = files("nilearn") / "datasets" / "data"
    maps = []
    for name in ("t1", "gm", "wm"):
        with as_file(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz") as path:
            stored = np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj)[BRAIN]
            maps.append(torch.from_numpy(stored.astype(np.float32)) / 255)
    t1, grey, white = maps
    inside = (t1 > 0).float()
    total = (grey + white).clamp_min(1)
    grey, white = grey / total * inside, white / total * inside
    return torch.stack([t1, inside - grey - white, grey, white])


def tissue(maps: Tensor, fluid: float) -> Tensor:
    """Fractions `(3, P)` of fluid, grey, white; sharper than an average brain, tilted to fluid."""
    inside = maps[1:].sum(0, keepdim=True)
    weights = maps[1:].clamp_min(1e-6) ** 1.4 * torch.tensor([[fluid], [0.0], [0.0]]).exp()
    return weights / weights.sum(0, keepdim=True) * inside


def contrasts(maps: Tensor, fractions: Tensor, ball: Tensor, subject: Subject) -> dict[str, Tensor]:
    """T1-, T2- and FLAIR-like images; detail is what the template's T1 shows beyond its tissues."""
    flat = (maps[1:] * torch.tensor([[0.32], [0.70], [0.93]])).sum(0)
    detail = (maps[0] - flat) * subject.detail
    out = {}
    for key, sign, lesion in (("t1", 1.0, 0.36), ("t2", -0.8, 0.97), ("flair", -0.4, 0.97)):
        clean = (fractions * subject.means[key][:, None]).sum(0) + sign * detail
        out[key] = clean * (1 - ball) + lesion * ball
    return out
