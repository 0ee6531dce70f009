"""DDPM (Ho et al. 2020) with the options of Improved DDPM (2021) and ADM (2021)."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Network
from ...diffusion.noise import Noise
from ...diffusion.sample import Sampler
from ...diffusion.schedule import Discrete, Schedule
from ...papers import Paper, by_id
from ...training.objective import Denoising, Hybrid
from ..parts import (
    PredictsName,
    SamplerName,
    WeightName,
    check_timesteps,
    network_of,
    weight_named,
)
from ..presets import PRECONDITIONED, SMALL, SMALL_CHAIN, TINY, TINY_CHAIN, averaged
from ..ranges import Rule, at_least
from .base import Generative

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DDPM"]

SCHEDULES = {
    "linear": Discrete.linear,
    "scaled-linear": Discrete.scaled_linear,
    "cosine": Discrete.cosine,
    "sigmoid": Discrete.sigmoid,
}


@dataclass(frozen=True)
class DDPM(Generative):
    """Denoising diffusion probabilistic model; the defaults are Ho et al. 2020 on CIFAR-10."""

    paper: ClassVar[Paper] = by_id("ddpm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Generative.AFTER_TRAINING, "clipped")
    BEFORE: ClassVar[dict[str, Any]] = {"clipped": False}
    RULES: ClassVar[dict[str, Rule]] = {"timesteps": at_least(2)}

    attention: tuple[int, ...] = (-1,)
    sampler: SamplerName = "ddpm-large"
    clipped: bool = True
    """Keep the estimate to [-1, 1] at every sampling step."""
    betas: Literal["linear", "scaled-linear", "cosine", "sigmoid"] = "linear"
    """The list of betas."""
    timesteps: int = 1000
    """Number of betas, T."""
    zero_terminal: bool = False
    """Rescale the betas so that the last step has no signal (predict velocity or clean then)."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    learned_variance: bool = False
    """Learn the variance between its bounds with the hybrid loss (Nichol & Dhariwal 2021); the samplers
    `ddpm` and `ddpm-large` then become `ddpm-learned`, and `--set sampler=ddpm` turns it back."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps(self.betas, self.timesteps)

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        if filled.learned_variance and filled.sampler in ("ddpm", "ddpm-large"):
            filled = dataclasses.replace(filled, sampler="ddpm-learned")
        return filled.walkable()

    def schedule(self) -> Discrete:
        discrete = SCHEDULES[self.betas](self.timesteps)
        return discrete.zero_terminal() if self.zero_terminal else discrete

    def network(self) -> Network:
        if self.filtered:
            return self.filtered_network(self.learned_variance)
        return network_of(
            self.body(twice=self.learned_variance),
            self.schedule(),
            self.predicts,
            self.data_std,
            self.preconditioned,
        )

    def times(self, schedule: Schedule) -> Times:
        return discrete_times(cast(Discrete, schedule))

    def weight(self) -> Weight:
        if self.filtered and self.loss == "karras":
            return self.filtered_weight()
        return weight_named(self.loss, self.data_std)

    def denoising(self, network: Network) -> Denoising:
        kind = Hybrid if self.learned_variance else Denoising
        return kind(network, self.times(network.schedule), self.weight(), self.label_drop)

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        """The sampler the fields name."""
        return super().make_sampler(Clipped(denoiser) if self.clipped else denoiser, noise)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        paper = {"steps": 800_000, "ema": averaged(0.9999, 800_000), "mirror": (1,)}
        options = super().training(preset)
        return {**options, **paper} if preset == "paper" else options

    @classmethod
    def small(cls) -> Self:
        return cls(
            **SMALL,
            clipped=False,
            betas="cosine",
            **PRECONDITIONED,
            filtered=True,
            **SMALL_CHAIN,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            **TINY,
            clipped=False,
            betas="cosine",
            **PRECONDITIONED,
            filtered=True,
            **TINY_CHAIN,
        )
