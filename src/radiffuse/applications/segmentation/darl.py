"""DARL (Kim et al. 2023): vessels segmented in one pass by networks that have seen no label."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...diffusion.schedule import Discrete
from ...diffusion.windows import Windows, sides_of_window
from ...papers import Paper, by_id
from ..backbone import UNetFields
from ..ranges import Rule, at_least, below, between, more_than, require
from ..recipe import Batch, check_fitted
from ..sizes import check_least, check_same_size, one_size
from .vessels.field import channel_of
from .vessels.objective import MAKERS, Vessels
from .vessels.players import players_of
from .vessels.presets import SMALL, TINY, TRAINING
from .vessels.task import VESSELS
from .vessels.triples import Trees, Triples, by_phases

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DARL"]


@dataclass(frozen=True)
class DARL(UNetFields):
    """A diffusion of pictures without vessels, and one generator that segments a picture or paints drawn vessels on
    one; two critics and a cycle in place of labels, one pass to segment.

    The defaults are Kim et al. 2023. Data without pictures free of vessels ("background") have their vessels taken
    out by morphology.
    """

    paper: ClassVar[Paper] = by_id("darl")
    task: ClassVar = VESSELS
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("overlap", "level")

    RULES: ClassVar[dict[str, Rule]] = {
        "channel": at_least(-1),
        "channels": at_least(0),
        **dict.fromkeys(("phases", "crops", "generator_width", "hidden"), at_least(1)),
        **dict.fromkeys(
            ("critic_width", "critic_levels", "generator_levels", "light", "trees", "kept"),
            at_least(1),
        ),
        **dict.fromkeys(("window", "even", "level", "cycle", "adversarial"), at_least(0)),
        "timesteps": at_least(2),
        "betas": between(0, 0.999),
        "overlap": below(1),
        "closing": at_least(3),
        **dict.fromkeys(("widest", "thinnest"), more_than(0)),
    }

    channel: int = -1
    """Channel of the images that is read; -1 = the only one, of three the second (green: vessels are darkest there)."""
    channels: int = 0
    """Channels of the images; 0 = from the data."""
    width: int = 64
    """Channels of the first level of the network of noise."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    attention: tuple[int, ...] = (-1,)
    phases: int = 2
    """Every so many-th voxel along each axis makes a sub-image that the networks see."""
    window: int = 0
    """Side of the random windows of sub-images trained on; 0 = whole ones."""
    crops: int = 1
    """Windows of each image in a training step."""
    overlap: float = 0.25
    """Share of a window that overlaps its neighbour in prediction."""
    even: int = 0
    """Side of the cells, in voxels, whose mean and deviation even grey values in the field of view; 0 = as they are."""
    closing: int = 9
    """Side of the box, in voxels of a sub-image, that takes vessels out where the data have no "background"."""
    bright: bool = False
    """Whether vessels are brighter than what is around them."""
    timesteps: int = 2000
    """Number of betas, T."""
    betas: tuple[float, float] = (1e-6, 1e-2)
    """First and last of them, linear between."""
    light: int = 200
    """Steps of the chain, from the first, at which pictures with vessels are seen."""
    level: int = 0
    """Step of the chain that the network is told in prediction: 0 for clean pictures, more for noisy ones."""
    generator_width: int = 64
    """Channels of the generator at full resolution."""
    generator_levels: int = 2
    """How often the generator halves the resolution."""
    hidden: int = 128
    """Channels between a map and scale and shift."""
    critic_width: int = 64
    """Channels of the critics' first convolution."""
    critic_levels: int = 3
    """Convolutions of the critics that halve the resolution."""
    kept: int = 50
    """Made images that each critic remembers."""
    cycle: float = 5.0
    """Factor of the cycle from drawn mask to picture and back; 0 leaves it out."""
    balanced: bool = False
    """Whether vessels count in the cycle's error as much as all that is none of them, or every voxel alike."""
    adversarial: float = 0.2
    """Factor of what the critics say."""
    latent: bool = True
    """Whether the generator is told what the network takes for noise, or zeros."""
    widest: float = 3.0
    """Width of the widest drawn vessel, voxels of a sub-image."""
    thinnest: float = 1.0
    """Width of the thinnest."""
    trees: int = 3
    """Trees of a drawn mask of 64 voxels a side, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"{self.betas}: two numbers, the first not the larger"
        require(len(self.betas) == 2 and self.betas[0] <= self.betas[1], "betas", said)
        within = f"{self.light} is more than the {self.timesteps} steps of --timesteps"
        require(self.light <= self.timesteps, "light", within)
        require(
            self.level < self.timesteps, "level", f"must be less than --timesteps {self.timesteps}"
        )
        thin = f"{self.thinnest:g} is more than --widest {self.widest:g}"
        require(self.thinnest <= self.widest, "thinnest", thin)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING[preset])

    @property
    def ANY_SIZE(self) -> bool:
        """Whether images to predict may be of any size."""
        return bool(self.window)

    def schedule(self) -> Discrete:
        """The noise schedule."""
        return Discrete(torch.linspace(*self.betas, self.timesteps, dtype=torch.float64))

    def fitted(self, facts: "Facts") -> Self:
        """Fill channels, the channel that is read, and the size of the networks' images.

        Raises:
            UserError: there is no image, it is too small, or it has no such channel.
        """
        whole = one_size(facts, ("image",))
        if "fov_mask" in facts.mask_size:
            check_same_size("image", whole, "fov_mask", facts.mask_size["fov_mask"])
        channels = self.channels or facts.channels["image"]
        sub = tuple(-(-side // self.phases) for side in whole)
        size = sides_of_window(self.window, sub, self.stride) if self.window else sub
        read, size = channel_of(self.channel, channels), self.size or size
        filled = dataclasses.replace(self, channels=channels, channel=read, size=size)
        least = self.least
        check_least(sub, [least] * len(sub), "--phases, --multiples or --patch")
        check_least(filled.size, [least] * len(sub), "--window, --multiples or --patch")
        return filled

    @property
    def least(self) -> int:
        """The least side of what both networks see."""
        return max(self.stride, 2**self.generator_levels)

    @property
    def windows(self) -> Windows | None:
        """The windows of sub-images; None: whole ones."""
        return Windows(self.size, self.crops, self.overlap) if self.window else None

    def triples(self) -> Triples:
        """How a batch becomes what is learned from."""
        full = tuple(self.phases * side for side in self.size)
        return Triples(
            self.channel,
            self.channels,
            self.phases,
            Windows(full, self.crops, self.overlap) if self.window else None,
            self.even,
            self.closing,
            not self.bright,
            Trees(self.widest, self.thinnest, self.trees),
        )

    def objective(self) -> Vessels:
        """Four new networks and their losses.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        check_fitted(self, "channels", "size")
        named = ("light", "cycle", "adversarial", "latent", "balanced")
        losses = {name: getattr(self, name) for name in named}
        return Vessels(**players_of(self), triples=self.triples(), **losses)

    def predict(self, objective: Vessels, batch: Batch) -> Batch:
        """One pass of network and generator over each sub-image (over each window of it).

        Args:
            batch: "image" (B, C, *S), and perhaps "fov_mask"; "seed" changes nothing.

        Returns:
            "probability" (B, 1, *S) and "mask" int64 (B, 1, *S), 1 where that is above 1/2. Both are 0 outside the
            field of view and along its rim, where the data say it or grey values were evened in it.

        Raises:
            UserError: images of other channels than those of training, smaller than the networks' stride, or without
                a field of view.
        """
        x, inside = self.triples().seen(batch)
        size, least = x.shape[2:], self.phases * self.least
        check_least(size, [least] * len(size), "--phases, --multiples or --patch in training")
        for name in MAKERS:  # in training a spectral norm moves with every pass
            objective.players[name].eval()
        t = torch.tensor((self.level + 1) / self.timesteps, dtype=torch.float64)

        def segmented(part: Tensor) -> Tensor:
            if self.windows is None:
                return objective.segmented(part, t)
            return self.windows.whole(lambda cuts: objective.segmented(cuts[0], t), [part])

        whole = by_phases(segmented, x, self.phases)
        probability = ((whole + 1) / 2).clamp(0, 1) * inside
        return {"mask": (probability > 0.5).long(), "probability": probability}

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
