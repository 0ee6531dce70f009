"""The law of noise levels in training, in fields."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ..diffusion.losses import Times, log_normal
from ..diffusion.schedule import Schedule
from .ranges import Checked, Rule, more_than

__all__ = ["Law"]


@dataclass(frozen=True)
class Law(Checked):
    """At which noise levels a network is trained."""

    RULES: ClassVar[dict[str, Rule]] = {"law_std": more_than(0)}

    law: Literal["uniform", "log-normal"] = "uniform"
    """Law of t in training: uniform, or log(sigma / alpha) normal (EDM)."""
    law_mean: float = -1.2
    """Mean of log(sigma / alpha)."""
    law_std: float = 1.2
    """Standard deviation of log(sigma / alpha)."""

    def by_law(self, schedule: Schedule, uniform: Times) -> Times:
        """The law of t that the fields name."""
        if self.law == "log-normal":
            return log_normal(schedule, self.law_mean, self.law_std)
        return uniform
