"""UMM-CSGM (Meng et al. 2022): any missing contrasts from those a case has, by one score network."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.completion import Completion, Missing
from ...diffusion.losses import Times, Weight, uniform_times
from ...diffusion.network import Network
from ...diffusion.noise import Noise, Seeded
from ...diffusion.sample import prior
from ...diffusion.schedule import VE, Schedule
from ...nn.generator import Guess
from ...papers import Paper, by_id
from ..backbone import Backbone
from ..law import Law
from ..parts import (
    PredictsName,
    SamplerName,
    WeightName,
    input_of,
    predicts_named,
    weight_named,
)
from ..ranges import Rule, at_least, less_than, more_than, none_or, require
from ..recipe import Batch
from ..sizes import one_size
from ..task import Task
from ..walked import Walked
from .completion import codes
from .completion.guessed import GuessedCompleting, GuessedCompletion
from .completion.objective import Completing
from .completion.task import COMPLETION
from .presets import COMPLETION_SMALL, COMPLETION_TINY, COMPLETION_TRAINING

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["UMMCSGM"]


@dataclass(frozen=True)
class UMMCSGM(Backbone, Walked, Law):
    r"""One score network for every subset of missing contrasts: the given ones stay clean in the diffused tensor.

    The state is $m\,x_0 + (1 - m)(x_0 + \sigma_t z)$ over all M contrasts; the network sees it beside the code m (M
    channels of 0 or 1) and answers for all channels, of which only the missing ones are learned and sampled. The
    paper's body could not be read: beyond its abstract all choices are standard practice, named in its table of
    departures.
    """

    paper: ClassVar[Paper] = by_id("umm-csgm")
    task: ClassVar[Task] = COMPLETION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("sampler", "grid", "start", "stop", "samples")
    UNFIT: ClassVar[str] = (
        "a contrast is constant (one grey value throughout), and training takes complete cases"
    )
    RULES: ClassVar[dict[str, Rule]] = {
        "sigma_min": more_than(0),
        "sigma_max": none_or(more_than(0)),
        "samples": at_least(1),
        "guess": at_least(0),
        "spectrum": at_least(0),
        "stop": less_than(1),
    }

    contrasts: tuple[str, ...] = ()
    """Keys of the contrasts, in the order of the channels; empty = every image column of the data."""
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    attention: tuple[int, ...] = (-1,)
    sigma_min: float = 0.02
    """Lowest noise level."""
    sigma_max: float = 0.0
    """Highest noise level; 0 = from the data, the largest distance of two cases in all contrasts but one."""
    predicts: PredictsName = "noise"
    """What the network outputs; "noise" is the score times -sigma."""
    loss: WeightName = "simple"
    """The loss weight; "simple" is sigma^2 on the squared score error."""
    preconditioned: bool = True
    """Scale missing channels to unit variance at the network's input and tell it log(sigma) / 4."""
    guess: int = 0
    """Width of a small network that guesses mean and deviation of what is missing from what is given; the denoiser
    then learns what is left (see `residual`), whatever `predicts` says. 0 = none."""
    spectrum: tuple[float, ...] = ()
    """Spectrum of the contrasts, as `spectrum.power` measures it; empty = from the data."""
    sampler: SamplerName = "reverse-diffusion-langevin"
    stop: float = 1e-5
    samples: int = 10
    """Draws a case in evaluation, for their mean and deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"must be more than --sigma-min, {self.sigma_min:g}, not {self.sigma_max:g}"
        require(not self.sigma_max or self.sigma_max > self.sigma_min, "sigma_max", said)
        require(len(set(self.contrasts)) == len(self.contrasts), "contrasts", "names one twice")

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(COMPLETION_TRAINING[preset])

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: fewer than two contrasts, one that is not there or in colour, or contrasts that differ in size.
            UsageError: there is no such grid of times.
        """
        names = codes.contrasts_of(facts, self.contrasts)
        rings = torch.tensor([facts.spectrum[name] for name in names]).mean(0).tolist()
        own = {
            "contrasts": names,
            "sigma_max": self.sigma_max or round(facts.diameter * (len(names) - 1) ** 0.5 + 1, 2),
            "spectrum": self.spectrum or (tuple(rings) if self.guess else ()),
        }
        filled = self.filled(facts, len(names), one_size(facts, names), **own).fitting()
        filled.make_grid(filled.schedule())
        return filled

    def suitable(self, batch: Batch) -> Tensor:
        """Which training cases are complete, (B,) bool: no contrast of one grey value."""
        flat = codes.whole(batch, self.contrasts).flatten(2)
        return (flat != flat[..., :1]).any(2).all(1)

    def check(self, batch: Batch) -> None:
        """Refuse cases whose given contrasts show nothing (see `codes.check_contrasts`)."""
        codes.check_contrasts(batch, self.contrasts)

    def schedule(self) -> Schedule:
        """The noise schedule."""
        return VE(self.sigma_min, self.sigma_max or 50.0)

    def network(self) -> Network:
        """The denoiser around a new backbone."""
        if self.guess:
            guess = Guess(
                self.beside(2 * self.channels, self.guess, 2 * self.channels), self.channels
            )
            body = self.unet(condition=5 * self.channels)
            return GuessedCompletion(body, guess, self.schedule(), self.spectrum)
        read = input_of(self.data_std, self.preconditioned)
        predicted = predicts_named(self.predicts, self.data_std)
        body = self.unet(condition=self.channels)
        return Completion(body, self.schedule(), predicted, *read)

    def times(self, schedule: Schedule) -> Times:
        """The law of t in training."""
        return self.by_law(schedule, uniform_times(1e-5))

    def weight(self) -> Weight:
        """The loss weight."""
        return weight_named(self.loss, self.data_std)

    def objective(self, only: Tensor | None = None) -> Completing:
        """Denoising of what is missing, over all configurations or those of the codes `only` (K, M)."""
        network = self.network()
        trained = codes.configurations(self.channels) if only is None else only
        kind = GuessedCompleting if self.guess else Completing
        times = self.times(network.schedule)
        return kind(network, times, self.weight(), self.contrasts, trained)

    def predict(self, objective: Completing, batch: Batch) -> Batch:
        """One draw a case of what it lacks.

        Args:
            batch: "seed" int64 (B,); the contrasts there are, (B, 1, *S) in [-1, 1]; "KEY_given" (B,), 0 or 1, of a
                contrast that some cases lack.

        Returns:
            All contrasts, (B, 1, *S); those that a case has as they came, bit for bit.

        Raises:
            UserError: a case has all contrasts, or none.
        """
        given = codes.codes_of(batch, self.contrasts)
        images = codes.whole(batch, self.contrasts)
        made = images.clone()
        for code in given.unique(dim=0):
            rows = (given == code).all(1).nonzero()[:, 0]
            noise = Seeded(int(seed) for seed in batch["seed"][rows])
            made[rows[:, None], (~code).nonzero()[:, 0]] = self.drawn(
                objective, images[rows], code, noise
            )
        return {key: made[:, k : k + 1] for k, key in enumerate(self.contrasts)}

    def drawn(self, objective: Completing, images: Tensor, code: Tensor, noise: Noise) -> Tensor:
        """The contrasts that `code` (M,) lacks, (B, missing, *S), of images (B, M, *S)."""
        denoiser = Missing(objective.network, images, code).eval()
        times = self.make_grid(denoiser.schedule)
        x = prior(denoiser.schedule, images[:, denoiser.rows], noise, float(times[0]))
        return self.make_sampler(denoiser, noise)(x, times).clamp(-1, 1)

    @classmethod
    def small(cls) -> Self:
        return cls(**COMPLETION_SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**COMPLETION_TINY)
