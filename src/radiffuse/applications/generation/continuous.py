"""A diffusion in continuous time: the part that the score SDE and the reconstructions share."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ...diffusion.losses import Times, Weight, log_normal, uniform_times
from ...diffusion.network import Network, elapsed, log_noise, unit_variance, unscaled
from ...diffusion.schedule import EDM, VE, VP, Rectified, Schedule, SigmaPower, SubVP
from ..parts import PredictsName, SamplerName, WeightName, predicts_named, weight_named
from ..presets import PRECONDITIONED
from ..ranges import Rule, more_than, none_or
from .base import Generative

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["LOG_NORMAL", "Continuous"]


LOG_NORMAL: dict[str, Any] = {
    **PRECONDITIONED,
    "process": "edm",
    "law": "log-normal",
    # EDM's (-1.2, 1.2) hardly trains the levels where the content of an image is decided
    "law_mean": -0.5,
    "law_std": 1.6,
    "stop": 0.0,
}
"""EDM (Karras et al. 2022, table 1), but for its law of sigma."""


@dataclass(frozen=True)
class Continuous(Generative):
    """Generation by any process of `schedule`; the defaults are the variance-exploding SDE."""

    RULES: ClassVar[dict[str, Rule]] = {
        "sigma_max": none_or(more_than(0.01)),
        "law_std": more_than(0),
    }

    process: Literal["vp", "sub-vp", "ve", "sigma-power", "edm", "flow"] = "ve"
    """The forward process."""
    sigma_max: float = 0.0
    """Highest noise level of ve, edm and sigma-power; 0 = from the data (largest distance) or 80."""
    predicts: PredictsName = "noise"
    """What the network outputs; "noise" is the score times -sigma."""
    loss: WeightName = "simple"
    """The loss weight; "likelihood" is g^2."""
    law: Literal["uniform", "log-normal"] = "uniform"
    """Law of t in training: uniform, or log(sigma / alpha) normal (EDM)."""
    law_mean: float = -1.2
    """Mean of log(sigma / alpha)."""
    law_std: float = 1.2
    """Standard deviation of log(sigma / alpha)."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    sampler: SamplerName = "predictor-corrector"
    stop: float = 1e-3

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        if filled.sigma_max or filled.process not in ("ve", "sigma-power", "edm"):
            return filled
        top = 80.0 if filled.process == "edm" else round(max(facts.diameter, 1.0), 2)
        return dataclasses.replace(filled, sigma_max=top)

    def schedule(self) -> Schedule:
        return {
            "vp": VP(),
            "sub-vp": SubVP(),
            "ve": VE(0.01, self.sigma_max or 50.0),
            "sigma-power": SigmaPower(max(self.sigma_max, 1.5)),
            "edm": EDM(0.002, self.sigma_max or 80.0),
            "flow": Rectified(),
        }[self.process]

    def network(self) -> Network:
        if self.filtered:
            return self.filtered_network()
        return Network(
            self.body(),
            self.schedule(),
            predicts_named(self.predicts, self.data_std),
            scale=unit_variance(self.data_std) if self.preconditioned else unscaled,
            clock=log_noise if self.preconditioned or self.process == "ve" else elapsed,
        )

    def times(self, schedule: Schedule) -> Times:
        if self.law == "log-normal":
            return log_normal(schedule, self.law_mean, self.law_std)
        return uniform_times(1e-5)

    def weight(self) -> Weight:
        if self.filtered and self.loss == "karras":
            return self.filtered_weight()
        return weight_named(self.loss, self.data_std)
