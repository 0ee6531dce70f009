"""Recipes whose diffusion is of codes: the network's images are the codes of an auto-encoder trained before."""

import math
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...nn.blocks import cut_to
from ..backbone import Backbone
from ..recipe import Batch
from ..sizes import check_least, halvings, sides
from .denoising import CodeDenoising
from .fields import CoderFields

__all__ = ["Coded"]


@dataclass(frozen=True)
class Coded(CoderFields, Backbone, ABC):
    """A latent diffusion: `channels` and `size` are the image's, all else of the network is of its codes.

    A recipe has `network()`, `times(schedule)` and `weight()` beside it.
    """

    FIRST: ClassVar[Mapping[str, dict[str, Any]]] = {}
    """Options of the loop of the auto-encoder, by preset."""
    SECOND: ClassVar[Mapping[str, dict[str, Any]]] = {}
    """Those of the diffusion of its codes."""

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the second stage."""
        return dict(cls.SECOND.get(preset, {}))

    @classmethod
    def first_training(cls, preset: str) -> dict[str, Any]:
        """Options of the first stage."""
        return dict(cls.FIRST.get(preset, {}))

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
        """As of any recipe, of codes; and where an axis is too short or its slices too thick for the auto-encoder."""
        lines = super(Coded, self.of_codes()).notices()
        levels = len(self.coder_multiples)
        if self.halved or halvings(self.size, (), levels, self.coder_patch):
            lines.append(
                f"the auto-encoder makes codes of {sides(self.code_size)} places of volumes of {sides(self.size)}: it "
                "halves all axes alike, also one that is short or of thick slices; --size resamples all volumes"
            )
        return lines

    @property
    def code_size(self) -> tuple[int, ...]:
        """Places of a code along each axis; the last may stand for what continues the image."""
        return tuple(math.ceil(side / self.coder_stride) for side in self.size)

    def fitting(self) -> Self:
        """As `Backbone`, of the strides of both networks."""
        check_least(self.size, self.strides, "--multiples, --coder-multiples or --coder-patch")
        return self

    def of_codes(self) -> Self:
        """This recipe as one of images that are its codes; of unit variance until they are known."""
        return replace(
            self,
            channels=self.latent_channels,
            size=self.code_size,
            data_std=self.data_std or 1.0,
        )

    def unfilled(self) -> Self:
        """This recipe without what follows from an auto-encoder."""
        return replace(self, latent_shift=(), latent_scale=(), data_std=1.0)

    def with_codes(self, shift: Any, scale: Any, deviation: float, spectrum: Any) -> Self:
        """This recipe, once its auto-encoder is trained.

        Args:
            shift, scale: of codes.
            deviation, spectrum: of codes shifted and scaled.
        """
        return replace(
            self, latent_shift=tuple(shift), latent_scale=tuple(scale), data_std=deviation
        )

    def conditions(self, batch: Batch) -> Batch:
        """What the network is told of a training batch."""
        return {}

    def objective(self) -> CodeDenoising:
        """The second stage's; the auto-encoder in it has new weights, until those of the first are read."""
        return CodeDenoising(*self.second())

    def second(self) -> tuple[Any, ...]:
        """What `CodeDenoising` is made of."""
        inner: Any = self.of_codes()
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

    def decoded(self, objective: CodeDenoising, codes: Tensor) -> Tensor:
        """Images (B, C, *S) in [-1, 1]."""
        objective.first.to(codes.device)
        return cut_to(objective.latent.decode(codes), self.size).clamp(-1, 1)

    def last(self, objective: CodeDenoising, many: int) -> Tensor:
        """The decoding of so many codes, whatever they are: to measure what it takes."""
        return self.decoded(objective, torch.zeros(many, self.latent_channels, *self.code_size))
