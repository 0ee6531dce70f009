"""What the families beside diffusion share: images from seeds, and fields filled from the data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.noise import Seeded
from ...diffusion.sample import last
from ...training.objective import device_of
from ..ranges import Checked, Rule, at_least, between, one_or_more
from ..recipe import Batch, image_key
from ..sizes import check_least
from ..task import Task
from .task import GENERATION

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Family", "Leveled"]


@dataclass(frozen=True)
class Family(Checked, ABC):
    """A generative model of images that is no diffusion: fields all families share."""

    task: ClassVar[Task] = GENERATION
    TRAINING: ClassVar[dict[str, dict[str, Any]]] = {}
    """Options of the training loop by preset."""
    RULES: ClassVar[dict[str, Rule]] = {
        "channels": at_least(0),
        "size": between(1, 65535),
        "width": between(1, 65535),
        "blocks": between(1, 1000),
        "patch": between(1, 1000),
    }

    channels: int = 0
    """Channels of the image; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size of the images; empty = from the data."""
    patch: int = 1
    """Side of the blocks folded into channels at the input."""

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(cls.TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: the data hold no image, or one of a size the network cannot take.
        """
        key = image_key(facts)
        filled = replace(
            self,
            channels=self.channels or facts.channels[key],
            size=self.size or tuple(facts.size[key]),
        )
        filled.check_size()
        return filled

    @abstractmethod
    def check_size(self) -> None:
        """Refuse images that the network cannot take.

        Raises:
            UserError: says which size would fit.
        """

    @abstractmethod
    def states(self, objective: Any, noise: Seeded, count: int) -> Iterator[Tensor]:
        """(count, C, *S) from noise to image, the last one the result."""

    def trajectory(self, objective: Any, batch: Batch) -> Iterator[Tensor]:
        """The states on the way to the image; one alone where it is made in one pass."""
        seeds = [int(seed) for seed in batch["seed"]]
        for player in objective.players.values():
            player.eval()
        yield from self.states(objective, Seeded(seeds), len(seeds))

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """Images from seeds.

        Args:
            batch: "seed" int64 (B,); image b depends on seed b alone.

        Returns:
            {"image": (B, C, *S) in [-1, 1]}.
        """
        return {"image": last(self.trajectory(objective, batch)).detach().clamp(-1, 1)}

    def normal(self, objective: Any, noise: Seeded, *shape: int) -> Tensor:
        """Standard normal numbers of the seeds, where the networks are."""
        return noise(torch.zeros(*shape)).to(device_of(objective))


@dataclass(frozen=True)
class Leveled(Family):
    """A family whose networks halve the image level by level."""

    RULES: ClassVar[dict[str, Rule]] = {"multiples": one_or_more(between(1, 1000))}

    width: int = 64
    """Channels of the finest level."""
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * multiple for multiple in self.multiples)

    def check_size(self) -> None:
        """Refuse images smaller than what a network makes one voxel of.

        Raises:
            UserError: says which size would fit.
        """
        stride = self.patch * 2 ** (len(self.multiples) - 1)
        check_least(self.size, [stride] * len(self.size), "--multiples or --patch")
