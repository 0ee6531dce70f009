"""Conversion between CT and MR (Lyu & Wang 2022): DDPM, or one score sampled in three ways."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.losses import Times, Weight, discrete_times, uniform_times
from ...diffusion.network import Network
from ...diffusion.noise import Noise
from ...diffusion.residual import Residual
from ...diffusion.sample import EulerMaruyama, Langevin, Sampler, signal_to_noise
from ...diffusion.schedule import Discrete, Schedule, SigmaPower, Stretched
from ...nn.generator import Guess
from ...papers import Paper, by_id
from ...training.objective import Prepared
from ..conditional import Conditional
from ..law import Law
from ..parts import (
    SAMPLERS,
    PredictsName,
    SamplerName,
    WeightName,
    check_timesteps,
    grid_named,
    network_of,
    weight_named,
)
from ..ranges import Rule, at_least, less_than, more_than
from ..recipe import Batch
from ..task import Task
from .conversion import CorrectFirst, GuessedImage
from .presets import CONVERSION, SMALL, TINY
from .task import TRANSLATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Conversion"]

SOLVERS: tuple[SamplerName, ...] = ("euler-maruyama", "predictor-corrector", "ode")
"""The paper's three ways to sample one score."""
COMPARED = 100
"""Steps of each of them, at least, where they are compared; the ODE chooses its own."""


@dataclass(frozen=True)
class Conversion(Conditional, Law):
    r"""A network told the source image; the defaults are the paper's DDPM.

    `formulation` "sde" is $dx = 25^t dw$ of images in [0, 1], whose score Euler-Maruyama, the
    predictor-corrector (the default) and the probability-flow ODE sample alike. All stop at t = 0.001 and take
    the mean of what is left (the authors' ODE leaves noise of deviation 0.03 in its result).
    """

    paper: ClassVar[Paper] = by_id("ddpm-conversion")
    task: ClassVar[Task] = TRANSLATION
    made: ClassVar[str] = "target"
    GIVEN: ClassVar[tuple[str, ...]] = ("source",)
    BEFORE: ClassVar[dict[str, Any]] = {"stretch": 1.0}

    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "base": more_than(1),
        "stretch": more_than(0),
        "corrections": at_least(0),
        "guess": at_least(0),
        "spectrum": at_least(0),
        "stop": less_than(1),
    }

    formulation: Literal["ddpm", "sde"] = "ddpm"
    """Discrete variance-preserving chain, or the SDE with drift 0 and diffusion sigma^t."""
    timesteps: int = 1000
    """Number of betas of the chain."""
    base: float = 25.0
    """sigma of the SDE."""
    stretch: float = 2.0
    """Noise over that of the formula: the paper's images are in [0, 1], these in [-1, 1]."""
    corrections: int = 10
    """Langevin steps before each step of the predictor-corrector."""
    predicts: PredictsName = "noise"
    """What the network outputs; "noise" is the score times -sigma."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    guess: int = 0
    """Width of a small network that guesses each voxel's mean and deviation from the source; the
    denoiser then learns what is left (see `residual`), whatever `predicts` says. 0 = none."""
    spectrum: tuple[float, ...] = ()
    """Spectrum of the targets, as `spectrum.power` measures it; empty = from the data."""
    # one more word than the others have, for which is the paper's depends on the formulation
    sampler: Literal[SamplerName, "paper"] = "paper"  # type: ignore[assignment]
    """The sampler; "paper" is ddpm of the chain, the predictor-corrector of the SDE."""
    stop: float = -1.0
    """Time at which sampling stops; negative = the paper's: 0 of the chain, 0.001 of the SDE. Above zero noise
    the result is denoised once more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps("linear", self.timesteps)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(CONVERSION[preset])

    def schedule(self) -> Schedule:
        """The noise schedule."""
        ddpm = self.formulation == "ddpm"
        formula = Discrete.linear(self.timesteps) if ddpm else SigmaPower(self.base)
        return formula if self.stretch == 1 else Stretched(formula, self.stretch)

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        spectrum = self.spectrum or (facts.spectrum[self.made] if self.guess else ())
        return dataclasses.replace(filled, spectrum=spectrum)

    def network(self) -> Network:
        if self.guess:
            made, told = self.channels, self.condition_channels
            guess = Guess(self.beside(2 * made, self.guess, told), made)
            body = self.unet(condition=told + 3 * made)
            return Residual(body, guess, self.schedule(), self.spectrum)
        return network_of(
            self.body(), self.schedule(), self.predicts, self.data_std, self.preconditioned
        )

    def times(self, schedule: Schedule) -> Times:
        if self.formulation == "ddpm":
            return self.by_law(schedule, discrete_times(Discrete.linear(self.timesteps)))
        return self.by_law(schedule, uniform_times(1e-5))

    def weight(self) -> Weight:
        return weight_named(self.loss, self.data_std)

    def kind(self) -> type[Prepared]:
        return GuessedImage if self.guess else Prepared

    def denoiser(self, objective: Prepared, batch: Batch) -> Denoiser:
        """As `Conditional`; the chain's estimate is kept to [-1, 1]."""
        denoiser = super().denoiser(objective, batch)
        return Clipped(denoiser) if self.formulation == "ddpm" else denoiser

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        own: SamplerName = "ddpm" if self.formulation == "ddpm" else "predictor-corrector"
        name = own if self.sampler == "paper" else self.sampler
        if name != "predictor-corrector":
            return SAMPLERS[name](denoiser, noise)
        langevin = Langevin(denoiser, noise, signal_to_noise(0.16), self.corrections)
        return CorrectFirst(langevin, EulerMaruyama(denoiser, noise))

    def make_grid(self, schedule: Schedule) -> Tensor:
        own = 0.0 if self.formulation == "ddpm" else 1e-3
        stop = own if self.stop < 0 else self.stop
        return grid_named(self.grid, schedule, self.steps, self.start, stop)

    def variants(self) -> Iterator[tuple[str, "Conversion"]]:
        """The same trained network under each of the paper's samplers, for comparison."""
        if self.formulation == "sde":
            for name in SOLVERS:
                steps = 1 if name == "ode" else max(self.steps, COMPARED)
                one = dataclasses.replace(self, sampler=name, steps=steps)
                yield name, dataclasses.replace(one, grid="uniform", start=1.0, stop=1e-3)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
