"""DISPR (Waibel et al. 2023): shapes from a picture, by a 3-D diffusion told the picture at every depth."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.label_maps import encode, probabilities
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Network
from ...diffusion.sample import last
from ...diffusion.schedule import Discrete, Schedule
from ...papers import Paper, by_id
from ...training.objective import Hybrid, Prepared
from ..conditional import Conditional
from ..labels import GuessedLabels, Labels, network_of_labels
from ..law import Law
from ..parts import PredictsName, SamplerName, WeightName, check_timesteps, network_of, weight_named
from ..ranges import Rule, at_least, less_than, more_than, one_of, require
from ..recipe import Batch
from ..task import Task
from .shapes.learned import prepared, to_learn
from .shapes.pictures import turned_back
from .shapes.presets import SMALL, TINY, TRAINING
from .shapes.task import SHAPES

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DISPR"]


class HybridShapes(Prepared, Hybrid):
    """`Prepared` with the bound that trains the learned variance."""


@dataclass(frozen=True)
class DISPR(Conditional, Law):
    """Several shapes for one picture: its mask and masked intensity are concatenated at every depth and step.

    x_0 is 1 inside and `absent` elsewhere; halfway between the two is the surface. Nothing holds a shape to
    its silhouette but the condition. Where the data have no pictures, they are made: mask and thickness along
    `axis`.
    """

    paper: ClassVar[Paper] = by_id("dispr")
    task: ClassVar[Task] = SHAPES
    made: ClassVar[str] = "mask"
    GIVEN: ClassVar[tuple[str, ...]] = ("condition",)
    UNFIT: ClassVar[str] = "a mask that is empty or fills the volume holds no shape to learn"

    RULES: ClassVar[dict[str, Rule]] = {
        "axis": one_of(0, 1, 2),
        "absent": less_than(1),
        "scale": more_than(0),
        "timesteps": at_least(2),
        "guess": at_least(0),
    }

    told: Literal["", "thickness", "picture"] = ""
    """The picture: that of the data, or the thickness of the volume; empty = that of the data where they
    have one."""
    axis: int = 0
    """Axis of volumes that pictures look along; rows and columns of a picture are the other two, in order."""
    intensity: bool = True
    """Tell the masked intensity beside the mask."""
    whole_depth: bool = True
    """Only rows and columns are halved; the depth keeps its length at every level."""
    absent: float = 0.0
    """Value of x_0 outside; inside it is 1."""
    scale: float = 1.0
    """Factor on x_0: large shapes show through much noise, and a smaller x_0 is hidden by it sooner."""
    width: int = 32
    multiples: tuple[int, ...] = (1, 2, 3, 4)
    blocks: int = 1
    attention: tuple[int, ...] = (2, 4)
    sampler: SamplerName = "ddpm-learned"
    samples: int = 5
    """Shapes a picture in evaluation."""
    betas: Literal["linear", "cosine"] = "linear"
    """The list of betas."""
    timesteps: int = 1000
    """Number of betas, T."""
    predicts: PredictsName | Literal["labels"] = "noise"
    """What the network outputs; "labels" is the logits of outside and inside, learned by cross-entropy."""
    loss: WeightName = "simple"
    """The loss weight; labels have none."""
    learned_variance: bool = True
    """Learn the variance between its bounds with the hybrid loss (Nichol & Dhariwal 2021)."""
    preconditioned: bool = False
    """Scale the input to unit variance and tell the network log(sigma / alpha) / 4."""
    guess: int = 0
    """Width of a network that guesses the shape from the picture alone; the denoiser adds what the noisy shape
    says. Only for `predicts` "labels"; 0 = none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps(self.betas, self.timesteps)
        said = "goes with noise and the like; labels have no variance to learn"
        require(not (self.learned_variance and self.predicts == "labels"), "learned_variance", said)
        require(not self.guess or self.predicts == "labels", "guess", "goes with --predicts labels")
        require(not self.window, "window", "must be 0: a shape is drawn whole")

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING[preset])

    # --- fitting --------------------------------------------------------------------------------

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data; `size` is depth first.

        Raises:
            UserError: masks are no volumes, empty, of several labels, or of a size that the network cannot halve;
                a picture is missing, or not of their size.
        """
        size, told, channels = to_learn(self, facts)
        filled = dataclasses.replace(self, told=told, data_std=self.data_std or self.scale)
        channels = self.condition_channels or channels
        filled = filled.filled(facts, 1, size, condition_channels=channels).fitting()
        filled.make_grid(filled.schedule())
        return filled

    def suitable(self, batch: Batch) -> Tensor:
        """Which cases hold a shape (B,)."""
        inside = batch["mask"].flatten(1) > 0
        return inside.any(1) & ~inside.all(1)

    # --- how a batch becomes x_0 and its condition, and back ---------------------------------------

    def prepared(self, batch: Batch) -> Batch:
        """As `learned.prepared`: with "condition" (B, C_c, D, *P) beside, depth first."""
        return prepared(self, batch)

    def clean(self, batch: Batch) -> Tensor:
        """x_0 (B, 1, D, *P) of a prepared batch."""
        return self.scale * encode((batch["mask"] > 0).long(), 1, self.absent)

    def answer(self, x_0: Tensor) -> Batch:
        inside = turned_back(probabilities(x_0.float() / self.scale, self.absent), self.axis)
        return {"mask": (inside >= 0.5).long(), "expected": inside}

    def examples(self, batch: Batch) -> Batch:
        return super().examples(self.prepared(batch))

    # --- the diffusion ------------------------------------------------------------------------------

    def schedule(self) -> Discrete:
        """The noise schedule."""
        return (Discrete.linear if self.betas == "linear" else Discrete.cosine)(self.timesteps)

    def spared(self, size: Sequence[int], spacing: Sequence[float]) -> tuple[int, ...]:
        """None but the depth: `whole_depth` says that."""
        return ()

    @property
    def halvings(self) -> tuple[int, ...]:
        times = super().halvings
        return (0, *times[1:]) if self.whole_depth else times

    def network(self) -> Network:
        schedule = self.schedule()
        if self.predicts == "labels":
            return network_of_labels(self, schedule)
        body = self.body(twice=self.learned_variance)
        return network_of(body, schedule, self.predicts, self.data_std, self.preconditioned)

    def times(self, schedule: Schedule) -> Times:
        assert isinstance(schedule, Discrete)
        law = dataclasses.replace(self, law_mean=self.law_mean + math.log(self.scale))
        return law.by_law(schedule, discrete_times(schedule))

    def weight(self) -> Weight:
        return weight_named(self.loss, self.data_std)

    def kind(self) -> type[Prepared]:
        if self.predicts == "labels":
            return GuessedLabels if self.guess else Labels
        return HybridShapes if self.learned_variance else Prepared

    def denoiser(self, objective: Prepared, batch: Batch) -> Denoiser:
        """As `Conditional`, of a prepared batch; the estimate is kept to `scale` times [-1, 1]."""
        return Clipped(super().denoiser(objective, batch), -self.scale, self.scale)

    def trajectory(self, objective: Prepared, batch: Batch) -> Iterator[Tensor]:
        yield from super().trajectory(objective, self.prepared(batch))

    def predict(self, objective: Prepared, batch: Batch) -> Batch:
        """One shape a case.

        Args:
            batch: "seed" int64 (B,), and "picture" with or without "picture_mask", or, where pictures are made
                of it, the volume "mask".

        Returns:
            "mask" int64 and "expected" float (B, 1, *S), see `SHAPES`.

        Raises:
            UserError: see `prepared`.
        """
        return self.answer(last(self.trajectory(objective, batch)))

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
