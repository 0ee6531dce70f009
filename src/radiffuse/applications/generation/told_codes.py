"""Latent diffusions that are told numbers: by constant channels, by cross-attention, or both."""

from abc import ABC
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Given, Network
from ...diffusion.schedule import Discrete, Schedule
from ...nn.told import Told, ToldBy
from ..latent.covariates import Covariates, settings_of
from ..latent.denoising import CodeDenoising
from ..parts import GridName, PredictsName, SamplerName, WeightName, network_of, weight_named
from ..ranges import Rule, at_least, inside, require
from ..recipe import Batch, check_fitted
from .coded import GeneratedCodes

__all__ = ["ToldCodes"]


@dataclass(frozen=True)
class ToldCodes(GeneratedCodes, ABC):
    """A latent diffusion with scaled-linear betas whose network is told a vector of numbers."""

    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*GeneratedCodes.AFTER_TRAINING, "covariates")
    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "beta_first": inside(0, 1),
        "beta_last": inside(0, 1),
        "head": at_least(0),
    }

    head: int = 0
    """Channels of a head of attention; 0 = one head of all."""
    told_by: ToldBy = "both"
    """How covariates are told: constant channels, a token of cross-attention, both, or not at all."""
    names: tuple[str, ...] = ()
    """Covariates; empty = from the data."""
    quantiles: tuple[tuple[float, ...], ...] = ()
    """Quantiles of each in training, from the data; the first is told as 0, the last as 1."""
    correlation: tuple[tuple[float, ...], ...] = ()
    """Correlation of their normal scores in training, from the data."""
    covariates: tuple[str, ...] = ()
    """NAME=NUMBER words for samples; others are drawn from the law of training."""
    timesteps: int = 1000
    """Number of betas, T."""
    beta_first: float = 0.0015
    """The first; square roots of betas are evenly spaced."""
    beta_last: float = 0.0205
    """The last."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    sampler: SamplerName = "ddim"
    steps: int = 50
    grid: GridName = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        settings_of(self.covariates, self.names or [w.partition("=")[0] for w in self.covariates])
        plain = not (self.classes or self.conditional or self.classifier)
        require(plain, "conditional", "is of other methods; name numbers as covariates with --map")
        require(self.backbone == "unet", "backbone", "must be unet")

    @property
    def law(self) -> Covariates:
        """The covariates and their law."""
        return Covariates(self.names, self.quantiles, self.correlation)

    def schedule(self) -> Discrete:
        return Discrete.scaled_linear(self.timesteps, self.beta_first, self.beta_last)

    def body(self, twice: bool = False) -> nn.Module:
        check_fitted(self, "channels", "size")
        by: ToldBy = self.told_by if self.names else "none"
        needs = Told.needs(len(self.names), by)
        needs["condition"] += self.channels if self.filtered else 0
        head = self.head or self.width * max(self.multiples)
        unet = self.unet(**needs, crossed=needs["context"] > 0, head=head)
        return Told(unet, len(self.names), by)

    def network(self) -> Network:
        if self.filtered:
            return self.filtered_network()
        return network_of(
            self.body(), self.schedule(), self.predicts, self.data_std, self.preconditioned
        )

    def times(self, schedule: Schedule) -> Times:
        assert isinstance(schedule, Discrete)
        return discrete_times(schedule)

    def weight(self) -> Weight:
        if self.filtered and self.loss == "karras":
            return self.filtered_weight()
        return weight_named(self.loss, self.data_std)

    def values(self, seeds: Tensor) -> Tensor:
        """Covariates (B, V) of samples, in their own units: those asked for, the rest drawn."""
        return self.law.drawn(seeds, settings_of(self.covariates, self.names))

    def told(self, objective: CodeDenoising, batch: Batch) -> Denoiser:
        """The denoiser told the covariates.

        Args:
            batch: "seed" (B,), and "covariates" (B, V) in their own units where they are not to be drawn.
        """
        values = batch["covariates"] if "covariates" in batch else self.values(batch["seed"])
        device = next(objective.network.backbone.parameters()).device
        return Given(objective.network, vector=self.law.told(values.float()).to(device))

    def conditions(self, batch: Batch) -> Batch:
        values = [batch[name].float() for name in self.names]
        count = len(next(iter(batch.values())))
        return {
            "vector": self.law.told(torch.stack(values, 1) if values else torch.zeros(count, 0))
        }
