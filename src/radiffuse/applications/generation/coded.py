"""Generation of codes by a diffusion, and of images by an auto-encoder trained before."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Seeded
from ...diffusion.sample import last, prior
from ...nn.blocks import cut_to
from ...training.objective import device_of
from ..latent.denoising import CodeDenoising
from ..latent.fields import CoderFields
from ..recipe import Batch
from .base import Generative

__all__ = ["Coded"]

WHITE = (0.0, 1.0, 1.0)
"""The spectrum of white noise of unit variance."""


@dataclass(frozen=True)
class Coded(CoderFields, Generative, ABC):
    """A latent diffusion: `channels` and `size` are the image's, all else of the network is of its codes."""

    @property
    def stride(self) -> int:
        """What the sides of an image must divide by."""
        return self.coder_stride * super().stride

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.coder_stride * stride for stride in super().strides)

    def spared(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """As of any volume, of codes: the auto-encoder halves all axes alike."""
        return super().spared([math.ceil(side / self.coder_stride) for side in size], spacing)

    def notices(self) -> list[str]:
        return super(Coded, self.of_codes()).notices()

    @property
    def code_size(self) -> tuple[int, ...]:
        """Places of a code along each axis; the last may stand for what continues the image."""
        return tuple(math.ceil(side / self.coder_stride) for side in self.size)

    def of_codes(self) -> Self:
        """This recipe as one of images that are its codes; white ones of unit variance until they are known."""
        return replace(
            self,
            channels=self.latent_channels,
            size=self.code_size,
            data_std=self.data_std or 1.0,
            spectrum=self.spectrum or WHITE,
        )

    def unfilled(self) -> Self:
        """This recipe without what follows from an auto-encoder."""
        return replace(self, latent_shift=(), latent_scale=(), spectrum=(), data_std=1.0)

    def with_codes(self, shift: Any, scale: Any, deviation: float, spectrum: Any) -> Self:
        """This recipe, once its auto-encoder is trained.

        Args:
            shift, scale: of codes.
            deviation, spectrum: of codes shifted and scaled.
        """
        return replace(
            self,
            latent_shift=tuple(shift),
            latent_scale=tuple(scale),
            data_std=deviation,
            spectrum=tuple(spectrum) if self.filtered else (),
        )

    def objective(self) -> CodeDenoising:
        """The second stage's; the auto-encoder in it has new weights, until those of the first are read."""
        return CodeDenoising(*self.second())

    def second(self) -> tuple[Any, ...]:
        """What `CodeDenoising` is made of."""
        inner = self.of_codes()
        network = inner.network()
        return (
            network,
            inner.times(network.schedule),
            inner.weight(),
            self.coder(),
            self.latent_shift or (0.0,),
            self.latent_scale or (1.0,),
            self.conditions,
        )

    @abstractmethod
    def conditions(self, batch: Batch) -> Batch:
        """What the network is told of a training batch."""

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

    def decoded(self, objective: CodeDenoising, codes: Tensor) -> Tensor:
        """Images (B, C, *S) in [-1, 1]."""
        objective.first.to(codes.device)
        return cut_to(objective.latent.decode(codes), self.size).clamp(-1, 1)

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
