"""Brain LDM (Pinaya et al. 2022): volumes from a latent diffusion told age, sex and sizes."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Given, Network
from ...diffusion.schedule import Discrete, Schedule
from ...errors import UserError
from ...nn.told import Told, ToldBy
from ...papers import Paper, by_id
from ..latent.covariates import Covariates, settings_of
from ..latent.denoising import CodeDenoising
from ..parts import GridName, PredictsName, SamplerName, WeightName, network_of, weight_named
from ..ranges import Rule, at_least, inside, require
from ..recipe import Batch, check_fitted
from .coded import GeneratedCodes
from .coded_presets import FIRST, SECOND, SMALL

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["BrainLDM"]


@dataclass(frozen=True)
class BrainLDM(GeneratedCodes):
    """Diffusion in the codes of a volume's auto-encoder, told numbers by channels and by cross-attention.

    Every column of numbers that the data map is a covariate (age, sex, volumes); without any the model is told nothing.
    """

    paper: ClassVar[Paper] = by_id("brain-ldm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*GeneratedCodes.AFTER_TRAINING, "covariates")
    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "beta_first": inside(0, 1),
        "beta_last": inside(0, 1),
        "head": at_least(0),
    }

    width: int = 256
    multiples: tuple[int, ...] = (1, 2, 3)
    attention: tuple[int, ...] = (1, 2)
    dropout: float = 0.0
    head: int = 0
    """Channels of a head of attention; 0 = one head of all."""
    adversarial_after: int = 158_700
    critic_width: int = 96
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

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the second stage."""
        return dict(SECOND.get(preset, {}))

    @classmethod
    def first_training(cls, preset: str) -> dict[str, Any]:
        """Options of the first stage."""
        return dict(FIRST.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: a covariate that is named is missing, or the same in every case; a size that
                cannot be halved so often.
        """
        filled = super().fitted(facts).unfilled()
        names = self.names or tuple(facts.scalars)
        for name in names:
            if name not in facts.scalars:
                there = ", ".join(facts.scalars) or "none"
                raise UserError(f"--names {name}: the data have no such numbers; there are {there}")
            low, high = facts.scalars[name][0], facts.scalars[name][-1]
            if low == high:
                raise UserError(
                    f"covariate {name!r} is {low:g} in every training case; leave it out of --map"
                )
        order = [tuple(facts.scalars).index(name) for name in names]
        rows = facts.scalar_correlation
        return replace(
            filled,
            names=names,
            quantiles=tuple(facts.scalars[name] for name in names),
            correlation=tuple(tuple(rows[i][j] for j in order) for i in order),
        )

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

    def conditions(self, batch: Batch) -> Batch:
        values = [batch[name].float() for name in self.names]
        count = len(next(iter(batch.values())))
        return {
            "vector": self.law.told(torch.stack(values, 1) if values else torch.zeros(count, 0))
        }

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

    @classmethod
    def small(cls) -> Self:
        return cls(
            **SMALL,
            coder_width=16,
            coder_multiples=(1, 2),
            critic_width=16,
            width=48,
            multiples=(1, 2),
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            **{**SMALL, "steps": 5, "adversarial_after": 2, "critic_levels": 1, "perceptual": 0.0},
            coder_width=8,
            coder_multiples=(1, 2),
            critic_width=8,
            width=16,
            multiples=(1, 1),
        )
