"""What a scan gives a reconstruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..inverse import Measurement
from ..inverse.consistency import residual_std

__all__ = ["Acquired", "Acquisition"]


@dataclass(frozen=True)
class Acquired:
    """What a reconstruction starts from.

    Attributes:
        measurement: y, A and the noise, of images with values in about [0, 1].
        first: the plain reconstruction (B, 1, *S): zero-filled, filtered back-projection, enlarged.
        scale: (B,), the stored value that 1 stands for.
        acceleration: (B,), unknowns over measured values.
        inverse: a cheap stand-in for A^+: A^H of MRI, filtered back-projection of CT.
        maps: coil sensitivities (B, K, *S) of MRI.
        mask: where k-space was sampled, (B, 1, *S), of MRI.
        noise: (B,), deviation of the noise alone, where `measurement` counts more than that.
    """

    measurement: Measurement
    first: Tensor
    scale: Tensor
    acceleration: Tensor
    inverse: Callable[[Tensor], Tensor]
    maps: Tensor | None = None
    mask: Tensor | None = None
    noise: Tensor | None = None

    def misses(self, x: Tensor, least: float = 1e-12) -> Tensor:
        """Size of y - A x over that of the noise (at least `least`), (B,): 1 where noise alone is left.

        An estimate misses y by more than noise where the model of the scan is wrong, however the
        measurement was weighed.
        """
        m = self.measurement
        noise = m.deviations if self.noise is None else self.noise
        return residual_std(m.A, x, m.y) / noise.clamp_min(least).to(x.device)


class Acquisition(Protocol):
    """Simulates a measurement of images (B, 1, *S) in [0, 1], one seed a case."""

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired: ...
