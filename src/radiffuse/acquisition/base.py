"""What a scan gives a reconstruction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ..inverse import Measurement

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
    """

    measurement: Measurement
    first: Tensor
    scale: Tensor
    acceleration: Tensor
    inverse: Callable[[Tensor], Tensor]
    maps: Tensor | None = None
    mask: Tensor | None = None


class Acquisition(Protocol):
    """Simulates a measurement of images (B, 1, *S) in [0, 1], one seed a case."""

    def simulate(self, image: Tensor, seeds: Sequence[int]) -> Acquired: ...
