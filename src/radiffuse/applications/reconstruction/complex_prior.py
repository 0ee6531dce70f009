"""What reconstructions share whose prior knows complex images, as channels (re ..., im ...)."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import torch
from torch import Tensor

from ...acquisition import Acquisition, smooth_phase
from ...diffusion.losses import Times, Weight
from ...diffusion.network import Network
from ...errors import UserError
from ...training.objective import Denoising
from ..recipe import Batch, image_key
from .base import Reconstruction
from .measuring import as_complex

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["ComplexDenoising", "ComplexPrior", "complex_key", "phased", "random_phase"]


def random_phase(size: tuple[int, ...], count: int, std: float) -> Tensor:
    r"""$e^{i(\varphi+c)}$ (count, 1, *size) from the global generator: a synthetic phase.

    $\varphi$ is `smooth_phase` with a deviation drawn from 0 to 2 `std`, c is uniform: which phase a
    receiver calls 0 means nothing.
    """
    seeds = torch.randint(2**62, (count,)).tolist()
    spreads, turns = 2 * std * torch.rand(count), 2 * torch.pi * torch.rand(count)
    turned = [
        smooth_phase(size, float(spread), [seed]) * torch.exp(1j * turn)
        for seed, spread, turn in zip(seeds, spreads, turns, strict=True)
    ]
    return torch.cat(turned)


def complex_key(facts: "Facts") -> str:
    """The first image key, whose images are grey or complex.

    Raises:
        UserError: they are neither.
    """
    key = image_key(facts)
    if facts.channels[key] not in (1, 2):
        raise UserError(
            f"images of {facts.channels[key]} channels are neither grey nor complex (real and imaginary part); "
            "name others with --map image=COLUMN"
        )
    return key


def phased(stored: Tensor, channels: int, std: float) -> Tensor:
    """Stored images of n slices (B, n C, *S) as complex (B, n, *S); grey ones get one `random_phase` for all slices."""
    x = as_complex(stored, channels)
    if channels == 1:
        x = x * random_phase(tuple(stored.shape[2:]), len(stored), std).to(x.device)
    return x


class ComplexDenoising(Denoising):
    """Denoising score matching of complex images (B, n, *S), whose parts are the channels.

    Args:
        network, times, weight, drop: as in `Denoising`.
        images: the complex images of a batch.
    """

    def __init__(
        self,
        network: Network,
        times: Times,
        weight: Weight,
        drop: float,
        images: Callable[[Batch], Tensor],
    ) -> None:
        super().__init__(network, times, weight, drop)
        self.images = images

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x = self.images(batch)
        yield from super().losses({**batch, "image": torch.cat([x.real, x.imag], 1)})


@dataclass(frozen=True)
class ComplexPrior(Reconstruction):
    """A prior of complex images, real and imaginary part jointly, in units where magnitudes reach 1.

    Data with two channels are taken as real and imaginary part. Public sets hold magnitudes:
    **these are given a synthetic phase** in training, smooth, random and new at every look
    (`random_phase`, of `phase` radians on average), the same law as of simulated measurements. What
    such a prior believes of phases is our model, not a scanner's.
    """

    values: Literal["auto", "real", "parts", "channels"] = "channels"

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        if self.values != "channels":
            return filled
        if self.filtered:
            raise UserError("--filtered knows the spectrum of grey images, not of complex ones")
        stored = facts.channels[complex_key(facts)]
        std = filled.data_std
        if stored == 1 and not self.data_std:
            # of either part of m e^{i phi} with uniform phi: E m^2 / 2
            square = ((facts.mean + 1) / 2) ** 2 + (facts.std / 2) ** 2
            std = round((square / 2) ** 0.5, 4) or 0.5
        return dataclasses.replace(filled, channels=self.channels or 2, data_std=std)

    def slices(self, batch: Batch) -> Tensor:
        """The complex images (B, n, *S) a batch trains on, their phases real or synthetic."""
        return phased(batch["image"], batch["image"].shape[1], self.phase)

    def denoising(self, network: Network) -> Denoising:
        if self.values != "channels":
            return super().denoising(network)
        parts = (self.times(network.schedule), self.weight(), self.label_drop)
        return ComplexDenoising(network, *parts, self.slices)

    def acquisition(self, measured: bool = False) -> Acquisition:
        if self.measurement != "mri" and self.values == "channels":
            raise UserError(
                f"{self.paper.id} knows complex images; --set measurement=mri, not {self.measurement}"
            )
        return super().acquisition(measured)
