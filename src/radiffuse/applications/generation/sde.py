"""Score SDE (Song et al. 2021), EDM (Karras et al. 2022) and rectified flow (Liu et al. 2023)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import Tensor

from ...diffusion.schedule import VE, Schedule
from ...papers import Paper, by_id
from ..parts import SamplerName
from ..presets import LOG_NORMAL, SMALL, TINY, averaged
from ..ranges import Rule, less_than, more_than, require
from .continuous import Continuous

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SDE"]


@dataclass(frozen=True)
class SDE(Continuous):
    """Score-based SDE; the defaults are the variance-exploding SDE with predictor-corrector.

    Images are in [-1, 1], twice the paper's [0, 1], and so are noise levels: its lowest, 0.01, is 0.02 here.
    """

    paper: ClassVar[Paper] = by_id("sde")
    BEFORE: ClassVar[dict[str, Any]] = {"sigma_min": 0.01}
    RULES: ClassVar[dict[str, Rule]] = {"sigma_min": more_than(0), "stop": less_than(1)}

    blocks: int = 4
    attention: tuple[int, ...] = (-1,)
    sigma_min: float = 0.02
    """Lowest noise level of ve."""
    sampler: SamplerName = "reverse-diffusion-langevin"
    stop: float = -1.0
    """Time at which sampling stops; negative = the paper's: 1e-5 of ve, 0.001 of the others. The result
    is denoised once more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"must be more than --sigma-min, {self.sigma_min:g}, not {self.sigma_max:g}"
        fits = not self.sigma_max or self.sigma_max > self.sigma_min
        require(self.process != "ve" or fits, "sigma_max", said)

    def schedule(self) -> Schedule:
        if self.process == "ve":
            return VE(self.sigma_min, self.sigma_max or 5000 * self.sigma_min)
        return super().schedule()

    def make_grid(self, schedule: Schedule) -> Tensor:
        own = 1e-5 if self.process == "ve" else 1e-3
        return super(SDE, self if self.stop >= 0 else replace(self, stop=own)).make_grid(schedule)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        paper = {"steps": 1_300_000, "ema": averaged(0.999, 1_300_000), "mirror": (1,)}
        options = super().training(preset)
        return {**options, **paper} if preset == "paper" else options

    def fitted(self, facts: "Facts") -> Self:
        return super().fitted(facts).walkable()

    @classmethod
    def small(cls) -> Self:
        # mednist64, 30 minutes: FID 5.0, and 6.0 where the mean is -0.5 as for the priors
        law = {**LOG_NORMAL, "law_mean": 0.0}
        return cls(**SMALL, **law, filtered=True, sampler="dpm-solver", steps=20)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, **LOG_NORMAL, filtered=True, sampler="heun", steps=4)
