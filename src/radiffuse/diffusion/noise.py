"""Noise sources: a function of the array to be noised, so that a sampler never owns randomness.

`gaussian` draws from torch's global generator (training); `Seeded` gives every case of a batch its
own stream, so that a case comes out the same alone, in any batch and on any number of processes, but for
the rounding of kernels that libraries choose by the size of a batch.
"""

import hashlib
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

__all__ = ["Noise", "Seeded", "derive", "gaussian"]

Noise = Callable[[Tensor], Tensor]


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed that depends on `seed` and every item of `path`, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def gaussian(like: Tensor) -> Tensor:
    """Standard normal noise of the shape of `like`; complex: unit variance in each part."""
    if like.is_complex():
        return torch.view_as_complex(torch.randn_like(torch.view_as_real(like).contiguous()))
    return torch.randn_like(like)


class Seeded:
    """One generator a case: row b of each draw comes from stream b alone.

    Drawn on the CPU and moved, so that a sample is the same on every device.

    Args:
        seeds: one integer a case (use `derive(seed, case)`), B of them.

    Raises:
        ValueError: drawn for a batch of another size.
    """

    def __init__(self, seeds: Iterable[int]) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, like: Tensor) -> Tensor:
        if len(like) != len(self.generators):
            raise ValueError(f"{len(self.generators)} seeds for a batch of {len(like)}")
        parts = torch.view_as_real(like) if like.is_complex() else like
        rows = [torch.randn(parts.shape[1:], generator=g) for g in self.generators]
        noise = torch.stack(rows).to(parts)
        return torch.view_as_complex(noise) if like.is_complex() else noise

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform [0, 1) numbers, row b from stream b (dequantisation, choices)."""
        rows = [torch.rand(like.shape[1:], generator=g) for g in self.generators]
        return torch.stack(rows).to(like)

    def signs(self, like: Tensor) -> Tensor:
        """Rademacher +-1 of the shape of `like` (Hutchinson's estimator)."""
        rows = [torch.randint(0, 2, like.shape[1:], generator=g) for g in self.generators]
        return (2 * torch.stack(rows) - 1).to(like)
