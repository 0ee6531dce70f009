"""The fields of a recipe that say how its chain is walked."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.noise import Noise
from ..diffusion.sample import Sampler
from ..diffusion.schedule import Schedule
from .parts import SAMPLERS, GridName, SamplerName, grid_named
from .ranges import Checked, Rule, at_least, below, require, up_to

__all__ = ["Walked"]


@dataclass(frozen=True)
class Walked(Checked):
    """A sampler and its grid of times; a recipe inherits the fields and changes what its paper differs in."""

    RULES: ClassVar[dict[str, Rule]] = {
        "steps": at_least(1),
        "start": up_to(1),
        "stop": below(1),
    }

    sampler: SamplerName = "ddpm"
    """The sampler."""
    steps: int = 1000
    """Sampling steps."""
    grid: GridName = "uniform"
    """How the steps are spaced."""
    start: float = 1.0
    """Time at which sampling starts."""
    stop: float = 0.0
    """Time at which sampling stops; above zero noise the result is denoised once more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"must be less than --start, {self.start:g}, not {self.stop:g}"
        require(self.stop < self.start, "stop", said)
        learned = getattr(self, "learned_variance", False)
        said = "ddpm-learned needs a learned variance, and this network learns none; take ddpm"
        require(self.sampler != "ddpm-learned" or learned, "sampler", said)

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        """The sampler the fields name."""
        return SAMPLERS[self.sampler](denoiser, noise)

    def make_grid(self, schedule: Schedule) -> Tensor:
        """The grid of times the fields name.

        Raises:
            UsageError: there is no such grid.
        """
        return grid_named(self.grid, schedule, self.steps, self.start, self.stop)
