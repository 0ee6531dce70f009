"""DISPR (Waibel et al. 2023): shapes from a picture, by a 3-D diffusion told the picture at every depth."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.label_maps import encode, probabilities
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Network
from ...diffusion.sample import last
from ...diffusion.schedule import Discrete, Schedule
from ...errors import UserError
from ...nn import UNet
from ...papers import Paper, by_id
from ...training.objective import Hybrid, Prepared
from ..conditional import Conditional
from ..labels import GuessedLabels, Labels, network_of_labels
from ..law import Law
from ..parts import PredictsName, SamplerName, WeightName, check_timesteps, network_of, weight_named
from ..ranges import Rule, at_least, less_than, more_than, one_of, require
from ..recipe import Batch
from ..sizes import check_same_size, sides
from ..task import Task
from .shapes.pictures import depth_first, pictured, thickness, tiled, turned_back
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
    UNFIT: ClassVar[str] = "its mask is empty: there is no shape to learn"

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
        volume = _volume_of(facts)
        size = (volume[self.axis], *(n for k, n in enumerate(volume) if k != self.axis))
        told = self.told or ("picture" if "picture" in facts.size else "thickness")
        if told == "picture" and "picture" not in facts.size:
            raise UserError("--told picture: the data have none; --map picture=COLUMN")
        channels = facts.channels["picture"] if told == "picture" else 1
        if told == "picture":
            looks = f"mask along axis {self.axis}"
            check_same_size(looks, size[1:], "picture", facts.size["picture"])
        told_of = self.condition_channels or 1 + channels * self.intensity
        filled = dataclasses.replace(self, told=told, data_std=self.data_std or self.scale)
        filled = filled.filled(facts, 1, size, condition_channels=told_of).fitting()
        filled.make_grid(filled.schedule())
        return filled

    def fitting(self) -> Self:
        """This recipe, once its volumes divide by the network's strides."""
        strides = self.strides
        if any(side % step for side, step in zip(self.size, strides, strict=True)):
            raise UserError(
                f"volumes of {sides(self.size)}, depth first, do not divide by this network's strides "
                f"{sides(strides)}; resize with --size, or change --multiples or --patch"
            )
        return self

    @property
    def strides(self) -> tuple[int, ...]:
        """What depth, rows and columns must divide by."""
        depth = self.patch if self.whole_depth else self.stride
        return depth, *[self.stride] * (len(self.size) - 1)

    def suitable(self, batch: Batch) -> Tensor:
        """Which cases hold a shape (B,)."""
        return batch["mask"].flatten(1).any(1)

    # --- how a batch becomes x_0 and its condition, and back ---------------------------------------

    def prepared(self, batch: Batch) -> Batch:
        """The batch with "condition" (B, C_c, D, *P) in [0, 1], and "mask", where it is there, depth first.

        Raises:
            UserError: a picture or a shape is missing, empty, or of another size than those of training.
        """
        made = dict(batch)
        if "mask" in batch:
            made["mask"] = depth_first(batch["mask"], self.axis)
            _check_size("the volume", made["mask"].shape[2:], self.size)
        seen = self._seen(made)
        _check_size("the picture", seen.shape[2:], self.size[1:])
        if not bool(seen[:, :1].flatten(1).any(1).all()):
            raise UserError("its mask is empty, or the picture black: there is no shape to predict")
        if not self.intensity:
            seen = seen[:, :1]
        return {**made, "condition": tiled(seen, self.size[0])}

    def _seen(self, batch: Batch) -> Tensor:
        """Silhouette and masked intensity (B, 1 + C, *P): of the volume where pictures are made of it."""
        if self.told == "thickness" and "mask" in batch:
            share = thickness(batch["mask"])
            return torch.cat([(share > 0).float(), share], 1)
        if "picture" not in batch:
            raise UserError(
                "the model was trained on pictures, and the data have none; --map picture=COLUMN"
            )
        return pictured(batch["picture"].float(), batch.get("picture_mask"))

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

    def unet(self, axes: int = 0, **options: Any) -> UNet:
        return super().unet(axes, whole=int(self.whole_depth), **options)

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


def _volume_of(facts: "Facts") -> tuple[int, ...]:
    """Sides of the volumes to learn.

    Raises:
        UserError: there are none, they are flat, all empty, or of several labels.
    """
    if "mask" not in facts.mask_size:
        raise UserError("the data have no volumes to learn from; --map mask=COLUMN")
    size, labels = facts.mask_size["mask"], facts.mask_classes["mask"] - 1
    if len(size) - 1 < 2:
        raise UserError(f"the mask is {sides(size)}: a shape is a volume, of three axes")
    if labels != 1:
        what = "are all empty" if labels < 1 else f"hold {labels} labels"
        raise UserError(f"the masks {what}: a shape has the labels 0, outside, and 1, inside")
    return size


def _check_size(what: str, here: tuple[int, ...], known: tuple[int, ...]) -> None:
    if tuple(here) != tuple(known):
        raise UserError(
            f"{what} is {sides(here)}, and the model was trained on {sides(known)}; resize with --size"
        )
