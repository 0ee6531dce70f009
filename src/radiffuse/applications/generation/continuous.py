"""A diffusion in continuous time: the part that the score SDE and the reconstructions share."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import Times, Weight, uniform_times
from ...diffusion.network import Network, elapsed, log_noise, unit_variance, unscaled
from ...diffusion.schedule import EDM, VE, VP, Rectified, Schedule, SigmaPower, SubVP
from ...diffusion.units import Rescheduled
from ..law import Law
from ..parts import PredictsName, SamplerName, WeightName, predicts_named, weight_named
from ..ranges import Rule, more_than, none_or
from .base import Generative

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Continuous"]


@dataclass(frozen=True)
class Continuous(Generative, Law):
    """Generation by any process of `schedule`; the defaults are the variance-exploding SDE."""

    RULES: ClassVar[dict[str, Rule]] = {
        "sigma_max": none_or(more_than(0.01)),
    }

    process: Literal["vp", "sub-vp", "ve", "sigma-power", "edm", "flow"] = "ve"
    """The forward process."""
    sigma_max: float = 0.0
    """Highest noise level of ve, edm and sigma-power; 0 = from the data (largest distance) or 80."""
    predicts: PredictsName = "noise"
    """What the network outputs; "noise" is the score times -sigma."""
    loss: WeightName = "simple"
    """The loss weight; "likelihood" is g^2."""
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
        return self.by_law(schedule, uniform_times(1e-5))

    def weight(self) -> Weight:
        if self.filtered and self.loss == "karras":
            return self.filtered_weight()
        return weight_named(self.loss, self.data_std)

    @staticmethod
    def trained_to(denoiser: Denoiser) -> float:
        """The time of a chain up to which the network that it asks was trained; 1 = all of it.

        A chain's schedule need not be the network's: above the network's highest sigma / alpha (of the same
        images, in the chain's units) the network could only answer as it does there.
        """
        for part in denoiser.modules():
            if isinstance(part, Rescheduled):
                noisiest = part.denoiser.schedule.log_ratio(torch.ones((), dtype=torch.float64))
                return float(part.schedule.time(noisiest))
        return 1.0
