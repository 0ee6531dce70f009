"""Ways to spoil an image, each at any strength, that a feature network learns to grade.

All act on `(B, C, *S)` in [-1, 1] with any number of axes, take a strength in [0, 1] for each image
`(B, 1, ...)` and draw from the generator they get. At strength 1 a fault is plain, near 0 it is slight.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Fault = Callable[[Tensor, Tensor, torch.Generator], Tensor]
_BLOCKS = 8


def shift(x: Tensor, generator: torch.Generator, reach: float = 1 / 16) -> Tensor:
    """Move a whole batch by up to `reach` of its size along each axis; edges are repeated."""
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        far = max(1, round(size * reach))
        step = int(torch.randint(-far, far + 1, (), generator=generator))
        rows = (torch.arange(size) + step).clamp(0, size - 1)
        x = x.index_select(axis, rows)
    return x


# ------------------------------------------------------------------- two images where one should be
def pieces(x: Tensor, other: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A box of 5 to 50 % of the image shows another one."""
    return torch.where(_boxes(x, 0.05 + 0.45 * strength, generator), other, x)


def ghost(x: Tensor, other: Tensor, strength: Tensor, _: torch.Generator) -> Tensor:
    """Another image shines through, with a weight of 5 to 50 %."""
    return torch.lerp(x, other, 0.05 + 0.45 * strength)


# ------------------------------------------------------------------------------- faults of one image
def phases(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Phases of the spectrum turned by 5 to 100 % of random ones: at 1 a Gaussian field."""
    axes = tuple(range(2, x.dim()))
    angle = torch.fft.fftn(_white(x, generator), dim=axes).angle()
    turned = torch.fft.fftn(x, dim=axes) * torch.exp(1j * angle * _between(0.05, 1.0, strength))
    return torch.fft.ifftn(turned, dim=axes).real


def noise(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """White noise of standard deviation 0.02 to 0.5."""
    return x + _between(0.02, 0.5, strength) * _white(x, generator)


def blur(x: Tensor, strength: Tensor, _: torch.Generator) -> Tensor:
    """Gaussian blur of 0.4 to 4 pixels."""
    return smoothed(x, _between(0.4, 4.0, strength))


def tone(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma 0.9 to 0.4 or its inverse on the grey value as a share of its range."""
    gamma = _between(0.9, 0.4, strength)
    invert = torch.rand(gamma.shape, generator=generator) < 0.5
    share = ((x + 1) / 2).clamp(0, 1)
    return 2 * share ** torch.where(invert, 1 / gamma, gamma) - 1


def missing(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """A box of 2 to 25 % of the image is flat, of its darkest value."""
    dark = x.flatten(2).amin(dim=2).view(x.shape[:2] + (1,) * (x.dim() - 2))
    return torch.where(_boxes(x, 0.02 + 0.23 * strength, generator), dark, x)


def shuffled(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """5 to 100 % of the blocks, eight along an axis, lie where another one of them was."""
    size = x.shape[2:]
    sides = [max(1, side // _BLOCKS) for side in size]
    counts = [side // block for side, block in zip(size, sides, strict=True)]
    place = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).flatten(1)
    side, count = torch.tensor(sides)[:, None], torch.tensor(counts)[:, None]
    inside = (place // side < count).all(dim=0)
    block = _flat((place // side).minimum(count - 1), counts)
    images = []
    for image, share in zip(x, (0.05 + 0.95 * strength).flatten().tolist(), strict=True):
        total = math.prod(counts)
        chosen = torch.randperm(total, generator=generator)[: max(2, round(share * total))]
        order = torch.arange(total)
        order[chosen] = chosen.roll(1)
        from_block = torch.stack(torch.unravel_index(order[block], counts))
        source = torch.where(inside, from_block * side + place % side, place)
        images.append(image.flatten(1)[:, _flat(source, size)].view_as(image))
    return torch.stack(images)


def warped(x: Tensor, strength: Tensor, generator: torch.Generator) -> Tensor:
    """Read at smoothly displaced places, by 0.5 to 8 % of the side, one axis after the other."""
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        field = smoothed(_white(x[:, :1], generator), torch.full_like(strength, size / 16))
        field = field / field.flatten(1).std(dim=1).clamp_min(1e-6).view(strength.shape)
        x = _moved(x, field * size * _between(0.005, 0.08, strength), axis)
    return x


FAULTS: tuple[Fault, ...] = (phases, noise, blur, tone, missing, shuffled, warped)
KINDS = (pieces.__name__, ghost.__name__, *(fault.__name__ for fault in FAULTS))
LOST = 3
"""So many of the first kinds leave no single image to be recognised."""


def spoil(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Spoil each image in one way, or leave it.

    Returns:
        Images; which way `(B,)`, 0 intact and k the k-th of `KINDS`, in equal parts; and how much
        `(B,)`, 0 where intact.
    """
    kinds = torch.randperm(len(x), generator=generator) % (1 + len(KINDS))
    strength = torch.rand(len(x), generator=generator)
    other = x.roll(1, dims=0)
    out = x.clone()
    for kind in range(1, 1 + len(KINDS)):
        rows = kinds == kind
        if rows.any():
            much = strength[rows].view((-1,) + (1,) * (x.dim() - 1))
            out[rows] = _spoilt(kind, x[rows], other[rows], much, generator)
    return out.clamp(-1, 1), kinds, strength * (kinds > 0)


def _spoilt(
    kind: int, x: Tensor, other: Tensor, strength: Tensor, generator: torch.Generator
) -> Tensor:
    if kind <= 2:
        return (pieces, ghost)[kind - 1](x, other, strength, generator)
    return FAULTS[kind - 3](x, strength, generator)


# --------------------------------------------------------------------------------------- helpers
def smoothed(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, by its transfer function exp(-2 pi^2 sigma^2 |f|^2)."""
    axes = tuple(range(2, x.dim()))
    grids = torch.meshgrid(*(torch.fft.fftfreq(x.shape[a]) for a in axes), indexing="ij")
    squares = torch.stack(grids).square().sum(dim=0)
    transfer = torch.exp(-2 * (math.pi * sigma) ** 2 * squares)
    return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * transfer, dim=axes).real


def _moved(x: Tensor, by: Tensor, axis: int) -> Tensor:
    """x read at i + by(i) along one axis, linearly between voxels."""
    size = x.shape[axis]
    place = (_along(torch.arange(size), x, axis) + by).clamp(0, size - 1)
    low = place.floor()
    first = low.long().expand_as(x)
    after = (first + 1).clamp_max(size - 1)
    return torch.lerp(x.gather(axis, first), x.gather(axis, after), (place - low).expand_as(x))


def _boxes(x: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """`(B, 1, *S)` bool: a box of about that share of the image, its centre in the middle 60 %."""
    half = share ** (1 / (x.dim() - 2)) / 2
    inside = torch.ones_like(x[:, :1], dtype=torch.bool)
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        line = _along((torch.arange(size) + 0.5) / size, x, axis)
        stretch = 2 ** (torch.rand(share.shape, generator=generator) - 0.5)
        centre = 0.2 + 0.6 * torch.rand(share.shape, generator=generator)
        inside = inside & ((line - centre).abs() <= (half * stretch).clamp_min(0.5 / size))
    return inside


def _along(line: Tensor, x: Tensor, axis: int) -> Tensor:
    """A line of numbers, laid along an axis of x."""
    return line.view([-1 if a == axis else 1 for a in range(x.dim())])


def _flat(place: Tensor, size: torch.Size | list[int]) -> Tensor:
    """Number of each place `(n, V)` in an array of that size, the last axis running fastest."""
    number = torch.zeros_like(place[0])
    for along, side in zip(place, size, strict=True):
        number = number * side + along
    return number


def _white(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator)


def _between(low: float, high: float, strength: Tensor) -> Tensor:
    """Log-uniform between low and high."""
    return low * (high / low) ** strength
