"""Generation of codes by a diffusion, and of images by an auto-encoder trained before."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Seeded
from ...diffusion.sample import last, prior
from ...training.objective import device_of
from ..latent.coded import Coded
from ..latent.denoising import CodeDenoising
from ..recipe import Batch
from .base import Generative

__all__ = ["GeneratedCodes"]

WHITE = (0.0, 1.0, 1.0)
"""The spectrum of white noise of unit variance."""


@dataclass(frozen=True)
class GeneratedCodes(Coded, Generative, ABC):
    """A latent diffusion that makes images: codes are drawn and decoded."""

    IS_PRIOR: ClassVar[bool] = False

    def of_codes(self) -> Self:
        """As `Coded`; white until their spectrum is known."""
        return replace(super().of_codes(), spectrum=self.spectrum or WHITE)

    def unfilled(self) -> Self:
        """This recipe without what follows from an auto-encoder."""
        return replace(super().unfilled(), spectrum=())

    def with_codes(self, shift: Any, scale: Any, deviation: float, spectrum: Any) -> Self:
        """As `Coded`, with the spectrum of the codes where the network starts from it."""
        filled = super().with_codes(shift, scale, deviation, spectrum)
        return replace(filled, spectrum=tuple(spectrum) if self.filtered else ())

    @abstractmethod
    def told(self, objective: CodeDenoising, batch: Batch) -> Denoiser:
        """The denoiser of codes with the conditions of a request bound."""

    def chain(self, objective: CodeDenoising, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain of codes, (B, C_z, *L)."""
        inner = self.of_codes()
        device = device_of(objective)
        noise = Seeded(int(seed) for seed in batch["seed"])
        denoiser = self.told(objective, batch).eval()
        times = inner.make_grid(denoiser.schedule)
        like = torch.zeros(len(batch["seed"]), inner.channels, *inner.size, device=device)
        x = prior(denoiser.schedule, like, noise, float(times[0]))
        yield from inner.make_sampler(denoiser, noise).trajectory(x, times)

    def trajectory(self, objective: Any, batch: Batch) -> Iterator[Tensor]:
        """What the states of the chain decode to, the last one the result; batch as in `predict`."""
        for state in self.chain(objective, batch):
            yield self.decoded(objective, state)

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """Images from seeds.

        Args:
            batch: "seed" int64 (B,), and what `told` takes.

        Returns:
            {"image": (B, C, *S) in [-1, 1]}.
        """
        return {"image": self.decoded(objective, last(self.chain(objective, batch)))}
