"""Ways to spoil an image that a feature network learns to notice: noise, blur, pieces, tone.

All act on `(B, C, *S)` in [-1, 1] with any number of axes and draw from the generator they get.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

INTACT, PIECES = 0, 3


def shift(x: Tensor, generator: torch.Generator, reach: float = 1 / 16) -> Tensor:
    """Move a whole batch by up to `reach` of its size along each axis; edges are repeated."""
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        far = max(1, round(size * reach))
        step = int(torch.randint(-far, far + 1, (), generator=generator))
        rows = (torch.arange(size) + step).clamp(0, size - 1)
        x = x.index_select(axis, rows)
    return x


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """White noise of standard deviation 0.03 to 0.5."""
    std = _per_case(x, 0.03, 0.5, generator)
    return x + std * torch.randn(x.shape, generator=generator)


def blur(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur of 0.4 to 3 pixels, by its transfer function exp(-2 pi^2 sigma^2 |f|^2)."""
    sigma = _per_case(x, 0.4, 3.0, generator)
    axes = tuple(range(2, x.dim()))
    grids = torch.meshgrid(*(torch.fft.fftfreq(x.shape[a]) for a in axes), indexing="ij")
    squares = torch.stack(grids).square().sum(dim=0)
    transfer = torch.exp(-2 * (math.pi * sigma) ** 2 * squares)
    return torch.fft.ifftn(torch.fft.fftn(x, dim=axes) * transfer, dim=axes).real


def pieces(x: Tensor, generator: torch.Generator) -> Tensor:
    """Beyond a random cut across a random axis, the image goes on as another one of the batch."""
    rows = []
    for one, other in zip(x, x.roll(1, dims=0), strict=True):
        axis = 1 + int(torch.randint(one.dim() - 1, (), generator=generator))
        share = 0.25 + 0.5 * float(torch.rand((), generator=generator))
        cut = max(1, round(share * one.shape[axis]))
        rest = one.shape[axis] - cut
        rows.append(torch.cat([one.narrow(axis, 0, cut), other.narrow(axis, cut, rest)], axis))
    return torch.stack(rows)


def tone(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma 0.4 to 0.8 or its inverse on the grey value as a share of its range."""
    gamma = _per_case(x, 0.4, 0.8, generator)
    invert = torch.rand(gamma.shape, generator=generator) < 0.5
    share = ((x + 1) / 2).clamp(0, 1)
    return 2 * share ** torch.where(invert, 1 / gamma, gamma) - 1


CORRUPTIONS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (noise, blur, pieces, tone)


def spoil(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Spoil each image in one way, or leave it; returns images and which way `(B,)`.

    0 intact, 1 noise, 2 blur, 3 pieces, 4 tone, in equal parts (in turn after the case's place).
    """
    kinds = (torch.randperm(len(x), generator=generator)) % (1 + len(CORRUPTIONS))
    out = x.clone()
    for kind, corrupt in enumerate(CORRUPTIONS, start=1):
        rows = kinds == kind
        if rows.any():
            out[rows] = corrupt(x[rows], generator)
    # A lone image has no other to go on as.
    if (kinds == PIECES).sum() < 2:
        kinds = torch.where(kinds == PIECES, INTACT, kinds)
    return out, kinds


def _per_case(x: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """`(B, 1, ...)`, log-uniform between low and high."""
    share = torch.rand((len(x),) + (1,) * (x.dim() - 1), generator=generator)
    return low * (high / low) ** share
