"""Score SDE (Song et al. 2021), EDM (Karras et al. 2022) and rectified flow (Liu et al. 2023)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

from ...papers import Paper, by_id
from ..presets import LOG_NORMAL, SMALL, TINY
from .continuous import Continuous

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SDE"]


@dataclass(frozen=True)
class SDE(Continuous):
    """Score-based SDE; the defaults are the variance-exploding SDE with predictor-corrector."""

    paper: ClassVar[Paper] = by_id("sde")

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
