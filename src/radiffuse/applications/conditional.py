"""What recipes share whose condition is an image: grids that agree, and a diffusion told an image."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.losses import Times, Weight
from ..diffusion.network import Given, Network
from ..diffusion.noise import Seeded
from ..diffusion.sample import last, prior
from ..diffusion.schedule import Schedule
from ..diffusion.tiling import Tiled
from ..diffusion.windows import Windows, continued, cut_back, sides_of_window
from ..nn import UNet
from ..training.objective import Prepared
from .backbone import Backbone
from .ranges import Rule, at_least, below
from .recipe import Batch
from .sizes import check_stride, one_size
from .walked import Walked

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["Conditional", "check_stride"]


@dataclass(frozen=True)
class Conditional(Backbone, Walked, ABC):
    """A diffusion of one key of the batch, told other keys, of whole images or of windows.

    A subclass says the keys, the network, the times of training and the defaults. What is made
    need not be an image: `clean`, `answer` and `channels_of` say how a batch becomes x_0 and back.
    """

    made: ClassVar[str]
    """The key that is made."""
    GIVEN: ClassVar[tuple[str, ...]]
    """Keys the network is always told."""
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        "sampler", "grid", "start", "stop", "samples", "overlap",
    )  # fmt: skip
    """Fields that only prediction reads."""
    RULES: ClassVar[dict[str, Rule]] = {
        "condition_channels": at_least(0),
        "window": at_least(0),
        "crops": at_least(1),
        "overlap": below(1),
        "samples": at_least(1),
    }

    channels: int = 0
    """Channels of what is made; 0 = from the data."""
    condition_channels: int = 0
    """Channels of all that the network is told; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size of the network's images; empty = from the data, or of a window."""
    window: int = 0
    """Side of the random windows trained on, for images of any size; 0 = whole images."""
    crops: int = 1
    """Windows of each image in a training step."""
    overlap: float = 0.25
    """Share of a window that overlaps its neighbour in prediction."""
    width: int = 64
    """Channels of the first level."""
    multiples: tuple[int, ...] = (1, 2, 2, 4, 4)
    """Width of each level over `width`; each level halves the resolution."""
    samples: int = 10
    """Draws a case in evaluation, for their mean and deviation."""

    @abstractmethod
    def network(self) -> Network:
        """The denoiser around a new backbone."""

    @abstractmethod
    def schedule(self) -> Schedule:
        """The noise schedule."""

    @abstractmethod
    def times(self, schedule: Schedule) -> Times:
        """The law of t in training."""

    @abstractmethod
    def weight(self) -> Weight:
        """The loss weight."""

    @property
    def ANY_SIZE(self) -> bool:
        """Whether images to predict may be of any size."""
        return bool(self.window)

    @property
    def given(self) -> tuple[str, ...]:
        """Keys the network is told."""
        return self.GIVEN

    @property
    def windows(self) -> Windows | None:
        """The windows that are learned; None: whole images."""
        return Windows(self.size, self.crops, self.overlap) if self.window else None

    def cut(self, batch: Batch) -> Batch:
        """What is learned of a batch."""
        if self.windows is None:
            return batch
        return self.windows.cut(batch, (self.made, *self.given))

    # --- how a batch becomes x_0 and back -----------------------------------------------------

    def channels_of(self, facts: "Facts") -> int:
        """Channels of what is made."""
        return facts.channels[self.made]

    def clean(self, batch: Batch) -> Tensor:
        """x_0 (B, C, *S)."""
        return batch[self.made]

    def condition(self, batch: Batch) -> Tensor:
        """What the network is told (B, C_c, *S)."""
        return torch.cat([batch[key].float() for key in self.given], dim=1)

    def answer(self, x_0: Tensor) -> Batch:
        """A prediction from the sampler's result."""
        return {self.made: x_0.clamp(-1, 1)}

    # --- the recipe ----------------------------------------------------------------------------

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: a key is missing, keys differ in size, or the size does not fit.
            UsageError: there is no such grid of times.
        """
        images = [self.made] if self.made in facts.size else []
        whole = one_size(facts, [*self.given, *images])
        if self.window:
            sides = sides_of_window(self.window, whole, self.stride)
            size = self.size or Windows(sides, self.crops, self.overlap).size
            check_stride([self.window], self.stride, "--window, --multiples or --patch")
        else:
            size = self.size or whole
        told = sum(facts.channels[key] for key in self.given)
        filled = self.filled(
            facts,
            self.channels_of(facts),
            size,
            condition_channels=self.condition_channels or told,
        ).fitting()
        filled.make_grid(filled.schedule())
        return filled

    def body(self, twice: bool = False) -> UNet:
        """A new backbone for the fields at hand.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        return self.unet(condition=self.condition_channels, twice=twice)

    def examples(self, batch: Batch) -> Batch:
        """What is learned from a batch: "image", x_0 (B, C, *S), and "source", the images told."""
        batch = self.cut(batch)
        return {"image": self.clean(batch), "source": self.condition(batch)}

    def objective(self) -> Prepared:
        """Denoising of what is made, told the rest."""
        network = self.network()
        return self.kind()(network, self.times(network.schedule), self.weight(), self.examples)

    def kind(self) -> type[Prepared]:
        """The objective that goes with the fields."""
        return Prepared

    def denoiser(self, objective: Prepared, batch: Batch) -> Denoiser:
        """E[x_0 given x_t and the images of `batch`], by windows where they are larger than one."""
        told = self.condition(batch)
        if self.windows is None:
            return Given(objective.network, image=told)
        whole = continued(told, self.size)
        if whole.shape[2:] == self.size:
            return Given(objective.network, image=whole)
        return Tiled(objective.network, self.size, self.windows.overlaps, image=whole)

    def trajectory(self, objective: Prepared, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain, the last one the result; batch as in `predict`."""
        yield from self.walk(self.denoiser(objective, batch).eval(), batch)

    def walk(self, denoiser: Denoiser, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain of a denoiser that has been told the images of `batch`."""
        told = batch[self.given[0]]
        if self.windows is not None:
            told = continued(told, self.size)
        noise = Seeded(int(seed) for seed in batch["seed"])
        times = self.make_grid(denoiser.schedule)
        like = torch.zeros(len(told), self.channels, *told.shape[2:], device=told.device)
        x = prior(denoiser.schedule, like, noise, float(times[0]))
        yield from self.make_sampler(denoiser, noise).trajectory(x, times)

    def predict(self, objective: Prepared, batch: Batch) -> Batch:
        """One draw a case.

        Args:
            batch: "seed" int64 (B,) and the keys `given`.

        Returns:
            What `answer` makes of the draw, {made: (B, C, *S) in [-1, 1]} by default.
        """
        result = last(self.trajectory(objective, batch))
        return self.answer(cut_back(result, batch[self.given[0]].shape[2:]))
