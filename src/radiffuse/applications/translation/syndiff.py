"""SynDiff (Özbey et al. 2022): unpaired translation by an adversarial diffusion of few large steps."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from torch import Tensor

from ...diffusion.noise import Seeded
from ...diffusion.sample import DDPM, grids, last
from ...errors import UserError
from ...papers import Paper, by_id
from ..adversarial import SMALL, TINY, AdversarialFields
from ..large_steps import large_steps
from ..ranges import Rule, at_least
from ..recipe import Batch, check_fitted
from ..sizes import check_least, one_size
from ..task import Task
from .adversarial import KEYS, OTHER, Adversarial, Drawing
from .players import players_of
from .presets import TRAINING
from .task import TRANSLATION_UNPAIRED

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SynDiff"]


@dataclass(frozen=True)
class SynDiff(AdversarialFields):
    """Adversarial diffusion with a cycle; the defaults are Özbey et al. 2022.

    Source and target need not show the same people. A prediction goes from source to target, or,
    where the data hold the target alone, back.
    """

    paper: ClassVar[Paper] = by_id("syndiff")
    task: ClassVar[Task] = TRANSLATION_UNPAIRED
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("samples",)

    RULES: ClassVar[dict[str, Rule]] = {
        "source_channels": at_least(0),
        "target_channels": at_least(0),
        **dict.fromkeys(("translator_width", "translator_blocks"), at_least(1)),
        **dict.fromkeys(("patch_levels", "samples"), at_least(1)),
        **dict.fromkeys(("fidelity", "cycle"), at_least(0)),
    }

    source_channels: int = 0
    """Channels of the source; 0 = from the data."""
    target_channels: int = 0
    """Channels of the target; 0 = from the data."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    attention: tuple[int, ...] = (-1,)
    translator: Literal["resnet", "unet"] = "resnet"
    """The generators without diffusion."""
    translator_width: int = 64
    """Their channels at full resolution."""
    translator_blocks: int = 6
    """Residual blocks of the resnet."""
    patch_levels: int = 3
    """How often the patch critics halve the resolution."""
    fidelity: float = 0.5
    """Factor of the L1 distance between estimate and image."""
    cycle: float = 0.5
    """Factor of the L1 distance after going there and back."""
    samples: int = 5
    """Draws a case in evaluation, for their mean and deviation."""

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
        check_least(size, [self.patch * down] * len(size), "--multiples or --patch")
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
        check_fitted(self, "source_channels", "target_channels", "size")
        return Adversarial(
            players_of(self),
            large_steps(self.timesteps),
            self.latent,
            self.penalty,
            self.penalty_every,
            self.fidelity,
            self.cycle,
            self.generator_rate,
        )

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
        return cls(**SMALL, translator_width=24, translator_blocks=4, patch_levels=2)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, translator_width=8, translator_blocks=1, patch_levels=1)
