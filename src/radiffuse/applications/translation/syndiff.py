"""SynDiff (Özbey et al. 2022): unpaired translation by an adversarial diffusion of few large steps."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor, nn

from ...diffusion.noise import Seeded
from ...diffusion.sample import DDPM, grids, last
from ...errors import UserError
from ...nn import UNet
from ...nn.critic import PairCritic, PatchCritic
from ...nn.generator import Direct, LatentUNet, ResNet
from ...papers import Paper, by_id
from ..backbone import NETWORK, check_attention
from ..conditional import one_size
from ..parts import check_stride
from ..ranges import Checked, Rule, at_least, more_than
from ..recipe import Batch
from ..task import Task
from .adversarial import KEYS, OTHER, Adversarial, Drawing, large_steps
from .task import TRANSLATION_UNPAIRED

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SynDiff"]

TRAINING: dict[str, dict[str, Any]] = {
    "paper": {
        "batch": 1,
        "learning_rate": 1e-4,
        "betas": (0.5, 0.9),
        "warmup": 0,
        "clip": 0.0,
        "cooldown": 1.0,
    },
    "small": {
        "batch": 2,
        "learning_rate": 2e-4,
        "betas": (0.5, 0.9),
        "warmup": 50,
        "clip": 0.0,
        "cooldown": 0.5,
        "precision": "bf16",
        "ema": (0.05,),
        "minutes": 40.0,
    },
    "tiny": {"batch": 8, "learning_rate": 2e-3, "betas": (0.5, 0.9), "warmup": 10, "steps": 100},
}


@dataclass(frozen=True)
class SynDiff(Checked):
    """Adversarial diffusion with a cycle; the defaults are Özbey et al. 2022.

    Source and target need not show the same people. A prediction goes from source to target, or,
    where the data hold the target alone, back.
    """

    paper: ClassVar[Paper] = by_id("syndiff")
    task: ClassVar[Task] = TRANSLATION_UNPAIRED
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("samples",)

    RULES: ClassVar[dict[str, Rule]] = {
        **NETWORK,
        "source_channels": at_least(0),
        "target_channels": at_least(0),
        **dict.fromkeys(("timesteps", "latent", "mapped", "penalty_every", "samples"), at_least(1)),
        **dict.fromkeys(("translator_width", "translator_blocks", "critic_width"), at_least(1)),
        **dict.fromkeys(("critic_levels", "patch_levels"), at_least(1)),
        **dict.fromkeys(("penalty", "fidelity", "cycle"), at_least(0)),
        "generator_rate": more_than(0),
    }

    source_channels: int = 0
    """Channels of the source; 0 = from the data."""
    target_channels: int = 0
    """Channels of the target; 0 = from the data."""
    size: tuple[int, ...] = ()
    """Spatial size of both; empty = from the data."""
    timesteps: int = 4
    """Large steps of the diffusion, T."""
    width: int = 64
    """Channels of the diffusive generators' first level."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level over `width`; each level halves the resolution."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (4,)
    """Levels that attend, 0 = finest."""
    patch: int = 1
    """Side of the blocks folded into channels at the input of every network."""
    latent: int = 100
    """Length of the latent z."""
    mapped: int = 256
    """Width of the latent's mapping network."""
    translator: Literal["resnet", "unet"] = "resnet"
    """The generators without diffusion."""
    translator_width: int = 64
    """Their channels at full resolution."""
    translator_blocks: int = 6
    """Residual blocks of the resnet."""
    critic_width: int = 64
    """Channels of the critics' first layer."""
    critic_levels: int = 6
    """How often the critics of states halve the resolution."""
    patch_levels: int = 3
    """How often the patch critics halve the resolution."""
    penalty: float = 1.0
    """Factor of the R1 penalty, gamma."""
    penalty_every: int = 10
    """Steps between penalties."""
    fidelity: float = 0.5
    """Factor of the L1 distance between estimate and image."""
    cycle: float = 0.5
    """Factor of the L1 distance after going there and back."""
    samples: int = 5
    """Draws a case in evaluation, for their mean and deviation."""
    generator_rate: float = 1.6
    """Learning rate of the generators over that of the critics (1.6e-4 over 1e-4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_attention(self.attention, self.multiples)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data.

        Raises:
            UserError: source or target is missing, they differ in size, or are too small.
        """
        size = self.size or one_size(facts, KEYS)
        filled = dataclasses.replace(
            self,
            source_channels=self.source_channels or facts.channels["source"],
            target_channels=self.target_channels or facts.channels["target"],
            size=size,
        )
        down = max(2 ** (len(self.multiples) - 1), 4)
        check_stride(size, self.patch * down, "--multiples or --patch")
        critic = self.patch * 2 ** max(self.critic_levels, self.patch_levels)
        if min(size) < critic:
            sides = " x ".join(map(str, size))
            raise UserError(
                f"images of {sides} are smaller than the critics' stride {critic}; "
                "resize with --size, or lower --critic-levels"
            )
        return filled

    def objective(self) -> Adversarial:
        """Eight new networks and their losses.

        Raises:
            UserError: the recipe has not been fitted to data.
        """
        if not self.source_channels or not self.target_channels or not self.size:
            raise UserError("channels and size are not set; fit the recipe to data first")
        channels = {"source": self.source_channels, "target": self.target_channels}
        axes, wide = len(self.size), self.critic_width
        players: dict[str, nn.Module] = {}
        for key in KEYS:
            here, there = channels[key], channels[OTHER[key]]
            players[f"diffuse_{key}"] = LatentUNet(
                self._unet(here, there, vector=self.mapped), self.latent, self.mapped
            )
            players[f"translate_{key}"] = self._translator(there, here)
            players[f"judge_{key}"] = PairCritic(axes, here, wide, self.critic_levels, self.patch)
            players[f"patch_{key}"] = PatchCritic(axes, here, wide, self.patch_levels, self.patch)
        return Adversarial(
            players,
            large_steps(self.timesteps),
            self.latent,
            self.penalty,
            self.penalty_every,
            self.fidelity,
            self.cycle,
            self.generator_rate,
        )

    def _unet(self, channels: int, condition: int, width: int = 0, vector: int = 0) -> UNet:
        return UNet(
            len(self.size),
            channels,
            width or self.width,
            self.multiples,
            self.blocks,
            self.attention,
            self.patch,
            condition=condition,
            vector=vector,
        )

    def _translator(self, into: int, out: int) -> nn.Module:
        if self.translator == "unet":
            return Direct(self._unet(out, into, self.translator_width), out, squash=True)
        axes, blocks = len(self.size), self.translator_blocks
        return ResNet(axes, into, out, self.translator_width, blocks, self.patch)

    def trajectory(self, objective: Adversarial, batch: Batch) -> Iterator[Tensor]:
        """The states of the chain, the last one the result; batch as in `predict`."""
        key = "target" if "source" in batch else "source"
        given = batch[OTHER[key]]
        channels = self.target_channels if key == "target" else self.source_channels
        noise = Seeded(int(seed) for seed in batch["seed"])
        like = given.new_zeros(len(given), channels, *given.shape[2:])
        sampler = DDPM(Drawing(objective, key, given, noise).eval(), noise)
        # sigma(1) is 0.99998: the authors start from pure noise
        yield from sampler.trajectory(noise(like), grids.uniform(self.timesteps))

    def predict(self, objective: Adversarial, batch: Batch) -> Batch:
        """The other modality, in T steps from noise, told the real image.

        Args:
            batch: "seed" int64 (B,) and "source" (B, C, *S), or "target" alone for the way back.

        Returns:
            {"target": (B, C, *S) in [-1, 1]}, or {"source": ...}.
        """
        key = "target" if "source" in batch else "source"
        result = last(self.trajectory(objective, batch))
        return {key: result.clamp(-1, 1)}

    @classmethod
    def small(cls) -> Self:
        return cls(
            width=32,
            multiples=(1, 2, 4),
            blocks=1,
            attention=(2,),
            patch=2,
            mapped=128,
            translator_width=24,
            translator_blocks=4,
            critic_width=24,
            critic_levels=4,
            patch_levels=2,
        )

    @classmethod
    def tiny(cls) -> Self:
        return cls(
            width=16,
            multiples=(1, 2),
            blocks=1,
            attention=(),
            patch=2,
            latent=8,
            mapped=16,
            translator_width=8,
            translator_blocks=1,
            critic_width=8,
            critic_levels=2,
            patch_levels=1,
        )
