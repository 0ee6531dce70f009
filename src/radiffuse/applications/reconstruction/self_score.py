"""Self-Score (Cui et al. 2022): a score learned of what undersampled scans alone tell, and Langevin dynamics."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import Times, stratified
from ...diffusion.noise import Noise
from ...diffusion.sample import annealed, grids, prior
from ...diffusion.schedule import VE, Schedule
from ...inverse import AnnealedLangevin
from ...papers import Paper, by_id
from ...training.batches import Readable
from ..generation.ncsn import langevin_step
from ..ranges import Rule, at_least, inside, more_than, none_or, require
from ..task import Task
from .complex_prior import ComplexPrior, complex_key
from .presets import SELF_SMALL, SELF_TINY, trained
from .task import WITHOUT_REFERENCES
from .unreferenced.interpolator import Compared, Interpolation, Interpolator, SelfScored
from .unreferenced.undersampled import Undersampled

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SelfScore"]


@dataclass(frozen=True)
class SelfScore(ComplexPrior):
    r"""A score of images that a Bayesian network fills in from undersampled scans; no full image is seen in training.

    A scan y and a part y' of it, drawn anew at every look, teach a law of interpolators q (`Interpolator`); the score
    network learns draws f_theta(y), theta ~ q, and is not told y. A new scan is walked by annealed Langevin dynamics,
    $x \leftarrow x + \eta_i[s(x,\epsilon_i) + A^H(y-Ax)/(\gamma^2+\epsilon_i^2)] + \sqrt{2\eta_i}z$ with
    $\eta_i = u\,\epsilon_i^2$ (half the step size of the paper's notation) and gamma the noise of the scan. Images are
    measured once, by a simulation that their content fixes; k-space is taken as it is. Levels and what the network is
    scaled by are constants in units where magnitudes reach about 1: no statistics of full images are used.
    """

    paper: ClassVar[Paper] = by_id("self-score")
    task: ClassVar[Task] = WITHOUT_REFERENCES
    IS_PRIOR: ClassVar[bool] = False
    TAKES_PRIOR: ClassVar[bool] = False
    EXPECTS: ClassVar[str] = (
        "To train: undersampled k-space of an .h5 file with two slices or more, complex (slices, coils, *space), all "
        "of as many coils; or grey or complex images, of which each is measured once by simulation and not looked at "
        "again. To predict: k-space of any coils, or images, of which MRI is simulated. Of k-space `magnitude` is "
        "written in its units in place of `image`."
    )
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *ComplexPrior.AFTER_TRAINING,
        *("repeats", "rate"),
    )
    RULES: ClassVar[dict[str, Rule]] = {
        "levels": none_or(at_least(2)),
        "steps": at_least(2),
        "repeats": at_least(1),
        "rate": inside(0, 1),
        "kept": inside(0, 1),
        "miss": more_than(0),
        **dict.fromkeys(("scans", "unrolls", "filters"), at_least(1)),
        "layers": at_least(2),
        **dict.fromkeys(("scanned_coils", "pairs"), at_least(0)),
    }
    TRAINED: ClassVar[Mapping[str, Any]] = trained(
        300_000, batch=8, decay=0.999, learning_rate=1e-4, warmup=0, clip=0.0
    )

    attention: tuple[int, ...] = ()
    data_std: float = 0.2
    """Deviation of either part of an image, for preconditioned networks: a constant."""
    levels: int = 266
    """Levels from `highest` to `lowest` that the network is trained at; 0 = all between."""
    lowest: float = 0.0066
    highest: float = 50.0
    steps: int = 266
    """Levels that are visited, evenly spaced on the ladder; the step follows from their ratio."""
    repeats: int = 5
    """Langevin steps a level, K."""
    rate: float = 0.5
    """u, a step over the square of its level, at most; below that technique 4 of NCSNv2."""
    kept: float = 0.5
    """Share of the samples outside of the calibration region that y' has of y."""
    compared: Compared = "zero-filled"
    """What f(y') is compared with: the zero-filled image of y, or y where y' has nothing."""
    miss: float = 0.02
    """gamma_2, what f(y') may miss, where images reach 1."""
    unrolls: int = 5
    """Pairs of an image and a k-space network in f."""
    filters: int = 64
    """Their width."""
    layers: int = 3
    """Their convolutions."""
    pairs: int = 0
    """Scans of a batch whose pairs (y, y') teach f, the first; 0 = all."""
    scans: int = 512
    """Training scans that are measured and kept, at most; evenly spaced ones of more."""
    scanned_coils: int = 0
    """Coils of the training scans; 0 = from the data, or `coils` where they are simulated."""
    values: Literal["auto", "real", "parts", "channels"] = "channels"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.values == "channels", "values", "must be channels: real and imaginary part")
        require(self.measurement == "mri", "measurement", "must be mri")
        said = "must be 0 or 2: real and imaginary part"
        require(self.channels in (0, 2), "channels", said)

    def fitted(self, facts: "Facts") -> Self:
        """Fill size and coils; no statistics of the images.

        Raises:
            UserError: images that are neither grey nor complex.
        """
        coils, size = self.coils, self.size
        if "kspace" in facts.raw:
            coils, *given = facts.raw["kspace"]
        else:
            given = list(facts.size[complex_key(facts)])
        size = size or tuple(given)
        coils = self.scanned_coils or coils
        return dataclasses.replace(self, channels=2, size=size, scanned_coils=coils).fitting()

    def schedule(self) -> Schedule:
        return VE(self.lowest, self.highest) if self.process == "ve" else super().schedule()

    def times(self, schedule: Schedule) -> Times:
        if not self.levels:
            return super().times(schedule)
        return lambda count: stratified(count, self.levels) / (self.levels - 1)

    def objective(self) -> SelfScored:
        """The interpolators, and the score network of what they draw."""
        network = self.network()
        shape = (self.scanned_coils, self.filters, self.layers, self.unrolls)
        return SelfScored(
            network,
            self.times(network.schedule),
            self.weight(),
            Interpolator(len(self.size), *shape),
            Interpolation(self.kept, self.miss, self.compared, self.pairs),
            self.measured,
        )

    def measured(self, cases: Readable) -> Undersampled:
        """Training cases as scans, each measured once."""
        return Undersampled(cases, self.acquire, self.scans)

    def step_size(self) -> float:
        r"""u: $\eta_i = u\,\epsilon_i^2$. Technique 4 for the ratio of the levels visited, `rate` at most: with
        the likelihood a measured entry is curved twice as much, and a step of $\epsilon^2$ no longer contracts."""
        ratio = (self.highest / self.lowest) ** (1 / (self.steps - 1))
        return min(langevin_step(ratio, self.repeats, self.lowest) / self.lowest**2, self.rate)

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        times = grids.ladder(self.steps)
        x = prior(denoiser.schedule, acquired.first, noise)
        if self.warm:
            x, times = self.begin(denoiser.schedule, times, acquired.first, noise)
        size = annealed(self.step_size() * self.lowest**2)
        walk = AnnealedLangevin(denoiser, acquired.measurement, noise, self.repeats, size=size)
        return walk(x, times)

    @classmethod
    def small(cls) -> Self:
        return cls(**SELF_SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**SELF_TINY)
