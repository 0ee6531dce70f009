r"""An unrolled network that learns from undersampled scans alone (SSDU, Yaman et al. 2020).

What was sampled is split at every look: one part is what the network is given and keeps consistent with, the
other what its image is compared with in k-space, by $\|u-v\|_2/\|u\|_2 + \|u-v\|_1/\|u\|_1$ (their eq. 9). The
network is `Unrolled` of complex images. A scan is reconstructed from all of its samples.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ....acquisition.splitting import resampled
from ....inverse import Measurement
from ....operators import Coils, Fourier, Mask
from ...supervised import direct_unet
from ..unrolled import Batch, Refiner, Unrolled

__all__ = ["ComplexRefiner", "Splitting"]


class ComplexRefiner(Refiner):
    """`Refiner` of complex images (B, 1, *S), real and imaginary part being its channels."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        parts = torch.cat([x.real, x.imag], 1)
        refined = parts + self.network(parts)
        return torch.complex(*refined.float().chunk(2, 1)), self.log_r2.exp()


class Splitting(Unrolled):
    """An unrolled network of complex images, and its loss of split scans.

    Args:
        refiner: of complex images.
        steps: data-consistency steps.
        kept: share of the samples outside of the calibration region that it is given.
    """

    def __init__(self, refiner: Refiner, steps: int, kept: float = 0.6) -> None:
        super().__init__(refiner, steps)
        self.kept = kept

    @classmethod
    def of(cls, size: tuple[int, ...], steps: int = 3) -> "Splitting":
        """A new one for images of a size."""
        network = direct_unet(len(size), 2, 2, size, squash=False)
        return cls(ComplexRefiner(network), steps)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        y, mask, maps = batch["kspace"], batch["mask"], batch["maps"]
        given = resampled(mask, batch["centre"], self.kept)
        std = batch["noise"].reshape(-1, *[1] * (y.dim() - 1))
        sense = Fourier(y.dim() - 2) @ Coils(maps)
        measurement = Measurement(y * given, Mask(given) @ sense, std)
        x = self.reconstruct(measurement, measurement.A.adjoint(measurement.y))
        left = mask & ~given
        u, v = left * y, left * sense(x)
        errors = torch.stack([_norm(u - v, p) / _norm(u, p) for p in (1, 2)])
        yield "network", errors.sum(0).mean()


def _norm(x: Tensor, p: int) -> Tensor:
    return torch.view_as_real(x).flatten(1).norm(p, dim=1)
