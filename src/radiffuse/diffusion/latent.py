r"""Diffusion of the codes of an auto-encoder (Rombach et al. 2022), and the way between images and codes.

A code is told to the denoiser as $z = k\,(E(x) - b)$, with shift b and scale k of each channel chosen so that
z has unit variance: noise schedules are made for such numbers. Samplers, likelihoods and solvers see a denoiser
of z as any other.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .denoiser import Denoiser
from .noise import Noise

__all__ = ["Coder", "Latent", "decoded_in_tiles"]


class Coder(Protocol):
    """An auto-encoder as `nn.AutoEncoder`.

    Attributes:
        stride: voxels a place of the code.
        reach: places around a voxel that its value depends on.
    """

    stride: int
    reach: float

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]: ...
    def decode(self, code: Tensor) -> Tensor: ...


class Latent(Denoiser):
    """A denoiser of codes that knows the images they stand for.

    Args:
        denoiser: of z.
        coder: the auto-encoder.
        shift, scale: b and k, of all channels or of each.

    Attributes:
        tile: places of a part along each axis, where codes are decoded in parts; () for whole.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        coder: Coder,
        shift: Sequence[float] = (0.0,),
        scale: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.denoiser, self.coder, self.schedule = denoiser, coder, denoiser.schedule
        self.shift, self.scale = tuple(shift), tuple(scale)
        self.tile: tuple[int, ...] = ()

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(z_t, t)

    def with_variance(self, z_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.denoiser.with_variance(z_t, t)

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The code of images x (B, C, *S): the mean of its law, or a draw of it where there is noise."""
        mean, deviation = self.law(x)
        return mean if noise is None else mean + deviation * noise(mean)

    def law(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the law of z of images x (B, C, *S)."""
        mean, deviation = self.coder.encode(x)
        shift, scale = self._numbers(mean)
        return (mean - shift) * scale, deviation * scale

    def decode(self, z: Tensor, tile: Sequence[int] = ()) -> Tensor:
        """The images of codes z (B, C_z, *L); with a tile, or `tile`, in parts of that many places."""
        shift, scale = self._numbers(z)
        code, tile = z / scale + shift, tile or self.tile
        return decoded_in_tiles(self.coder, code, tile) if tile else self.coder.decode(code)

    def _numbers(self, code: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, *[1] * (code.ndim - 2))
        shift, scale = (torch.tensor(v).to(code).reshape(shape) for v in (self.shift, self.scale))
        return shift, scale


def decoded_in_tiles(coder: Coder, code: Tensor, tile: Sequence[int]) -> Tensor:
    """`coder.decode(code)` part by part: the same where its norms are local, with the memory of a part.

    Each part is decoded with all that its voxels depend on around it, and cut.

    Args:
        coder: the auto-encoder.
        code: (B, C_z, *L).
        tile: places of a part along each axis.
    """
    halo = math.ceil(coder.reach)
    size = code.shape[2:]
    starts = [range(0, side, length) for side, length in zip(size, tile, strict=True)]
    image: Tensor | None = None
    for corner in itertools.product(*starts):
        wide, kept, place = [slice(None)] * 2, [slice(None)] * 2, [slice(None)] * 2
        for start, side, length in zip(corner, size, tile, strict=True):
            low, high = max(0, start - halo), min(side, start + length + halo)
            stop = min(side, start + length)
            wide.append(slice(low, high))
            kept.append(slice((start - low) * coder.stride, (stop - low) * coder.stride))
            place.append(slice(start * coder.stride, stop * coder.stride))
        part = coder.decode(code[tuple(wide)])
        if image is None:
            sides = [side * coder.stride for side in size]
            image = part.new_zeros(*part.shape[:2], *sides)
        image[tuple(place)] = part[tuple(kept)]
    assert image is not None
    return image
