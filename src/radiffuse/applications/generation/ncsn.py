r"""NCSN (Song & Ermon 2019) and NCSNv2 (2020): scores of a ladder of noise levels, Langevin dynamics."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from scipy.optimize import brentq
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import Times, Weight, output, simple, stratified
from ...diffusion.network import Network, log_noise, unit_variance, unscaled
from ...diffusion.noise import Noise
from ...diffusion.parametrization import SCALED_SCORE, edm
from ...diffusion.sample import Langevin, Sampler, annealed, grids
from ...diffusion.schedule import VE, Schedule
from ...papers import Paper, by_id
from ..parts import SamplerName
from ..presets import SMALL, TINY, averaged
from ..ranges import Rule, at_least, more_than, none_or, require
from .base import Generative

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["NCSN", "ladder_ratio", "langevin_step"]


def ladder_ratio(dimensions: int, overlap: float = 0.5) -> float:
    r"""The ratio $\gamma=\sigma_{i-1}/\sigma_i$ of neighbouring levels (Song & Ermon 2020, technique 2).

    Solves $\Phi(\sqrt{2D}(\gamma-1)+3\gamma)-\Phi(\sqrt{2D}(\gamma-1)-3\gamma)=$ `overlap`: radii at one
    level fall into the three-sigma shell of the next.
    """

    def mass(gamma: float) -> float:
        a, b = math.sqrt(2 * dimensions) * (gamma - 1), 3 * gamma
        return 0.5 * (math.erf((a + b) / math.sqrt(2)) - math.erf((a - b) / math.sqrt(2)))

    return float(brentq(lambda gamma: mass(gamma) - overlap, 1 + 1e-9, 10.0))


def langevin_step(ratio: float, count: int, sigma_min: float) -> float:
    r"""The step size $\varepsilon$ of technique 4: after `count` steps at a level the variance fits it.

    With $u=\varepsilon/\sigma_L^2$, $r=1-u$, $k=2u/(1-r^2)$ it solves $r^{2T}(\gamma^2-k)+k=1$, or comes
    as near as it can (the shipped settings give 1.01 to 1.06).
    """
    grid = torch.logspace(-4, -1e-3, 20001, dtype=torch.float64)
    r = 1 - grid
    k = 2 * grid / (1 - r**2)
    best = (r ** (2 * count) * (ratio**2 - k) + k - 1).abs().argmin()
    return float(grid[best]) * sigma_min**2


@dataclass(frozen=True)
class NCSN(Generative):
    r"""Noise-conditional score network; the defaults are NCSNv2.

    The ladder is derived from the data where it is not given: the highest level is the largest
    distance between two images (technique 1), the ratio technique 2, the step technique 4.

    Images are in [-1, 1], twice the paper's [0, 1], and so are levels: its lowest, 0.01, is 0.02 here, and
    NCSN (v1) is `--sigma-max 2 --sigma-min 0.02 --levels 10 --count 100 --langevin 8e-5 --no-denoise`. The
    network is this library's U-Net in place of RefineNet, and a chain starts from the highest level's noise.

    Annealed Langevin needs all levels and some steps at each (1,360 network calls at 64 x 64). With
    consistent noise (Jolicoeur-Martineau et al. 2021) a chain visits each level once: a step goes from
    level i to the next with $\eta = 1 - \sigma_{i+1}^2/\sigma_i^2$, whose noise is then that of the
    ancestral chain, `--sampler ddpm`. That is of first order, and 60 levels take too much of the images'
    variance; the small preset visits its 60 levels with the SDE's steps of second order.
    """

    paper: ClassVar[Paper] = by_id("ncsn")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Generative.AFTER_TRAINING,
        *("count", "langevin", "denoise"),
    )

    RULES: ClassVar[dict[str, Rule]] = {
        "sigma_min": more_than(0),
        "sigma_max": at_least(0),
        "levels": none_or(at_least(2)),
        "count": at_least(1),
        "langevin": at_least(0),
        "steps": at_least(0),
    }

    attention: tuple[int, ...] = ()
    dropout: float = 0.0
    sigma_min: float = 0.02
    """The lowest noise level."""
    sigma_max: float = 0.0
    """The highest noise level; 0 = the largest distance between two training images."""
    levels: int = 0
    """Number of levels; 0 = technique 2."""
    count: int = 5
    """Langevin steps a level, T."""
    langevin: float = 0.0
    """Langevin step size at the lowest level; 0 = technique 4."""
    denoise: bool = True
    """Denoise once at the end (v2)."""
    preconditioning: Literal["score", "edm"] = "score"
    """score: the network's output over sigma, the network told nothing (v2); edm: Karras'."""
    # one more word than the others have, for the ladder is its own
    sampler: Literal[SamplerName, "langevin"] = "langevin"  # type: ignore[assignment]
    steps: int = 0
    """Levels visited in sampling, evenly spaced on the ladder; 0 = all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"must be more than --sigma-min, {self.sigma_min:g}, not {self.sigma_max:g}"
        require(not self.sigma_max or self.sigma_max > self.sigma_min, "sigma_max", said)
        said = "must be 0 or at least 2 with --sampler langevin, not 1"
        require(self.sampler != "langevin" or self.steps != 1, "steps", said)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        if preset != "paper":
            return super().training(preset)
        steps = 300_000
        own = {"learning_rate": 1e-4, "warmup": 0, "clip": 0.0, "mirror": (1,)}
        own |= {"steps": steps, "ema": averaged(0.999, steps)}
        return {**super().training(preset), **own}

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        sigma_max = filled.sigma_max or round(max(facts.diameter, 1.0), 2)
        said = f"must be less than the largest level, {sigma_max:g}, not {filled.sigma_min:g}"
        require(filled.sigma_min < sigma_max, "sigma_min", said)
        ratio = ladder_ratio(filled.channels * math.prod(filled.size))
        levels = math.ceil(math.log(sigma_max / filled.sigma_min) / math.log(ratio)) + 1
        levels = filled.levels or max(levels, 2)
        return dataclasses.replace(filled, sigma_max=sigma_max, levels=levels).walkable()

    def schedule(self) -> VE:
        return VE(self.sigma_min, self.sigma_max)

    def network(self) -> Network:
        if self.filtered:
            return self.filtered_network()
        if self.preconditioning == "edm":
            scale = unit_variance(self.data_std)
            return Network(self.body(), self.schedule(), edm(self.data_std), scale, log_noise)
        return Network(
            self.body(),
            self.schedule(),
            SCALED_SCORE,
            unscaled,
            lambda t, a, s: torch.zeros_like(t),
        )

    def times(self, schedule: Schedule) -> Times:
        return lambda count: stratified(count, self.levels) / (self.levels - 1)

    def weight(self) -> Weight:
        if self.filtered:
            return self.filtered_weight()
        return output if self.preconditioning == "edm" else simple

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        if self.sampler != "langevin":
            return super().make_sampler(denoiser, noise)
        levels = self.steps or self.levels
        ratio = (self.sigma_max / self.sigma_min) ** (1 / (levels - 1))
        step = self.langevin or langevin_step(ratio, self.count, self.sigma_min)
        return Langevin(denoiser, noise, annealed(step), self.count, self.denoise)

    def make_grid(self, schedule: Schedule) -> Tensor:
        if self.sampler != "langevin":
            return Generative.make_grid(self if self.steps else self._of_all_levels(), schedule)
        return grids.ladder(self.steps or self.levels)

    def _of_all_levels(self) -> Self:
        return dataclasses.replace(self, steps=self.levels)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL, sigma_min=0.01, filtered=True, sampler="dpm-solver-sde", steps=60)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, sigma_min=0.01, filtered=True, sampler="dpm-solver-sde", steps=8)
