"""DiffuseMorph (Kim, Han & Ye 2022): registration by the noise estimate of a diffusion."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from ...diffusion.guidance import Clipped
from ...diffusion.kernels import diffuse
from ...diffusion.network import Given
from ...diffusion.noise import Seeded
from ...diffusion.sample import DDPM, grids
from ...papers import Paper, by_id
from ..ranges import Rule, at_least, up_to
from ..recipe import Batch
from .base import Deformable
from .presets import SMALL, TINY
from .registering import Registering

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffuseMorph"]


@dataclass(frozen=True)
class DiffuseMorph(Deformable):
    """One network estimates the noise of the fixed image, told both; another turns the estimate into a field.

    The defaults are the paper's: those of volumes, and of pictures where a field is 0 or empty.
    """

    paper: ClassVar[Paper] = by_id("diffusemorph")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("frames", "refine", "synthesis", "depth")
    BEFORE: ClassVar[dict[str, Any]] = {"rate": 1.0}
    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(("width", "convolutions", "rate"), at_least(0)),
        "similarity": Rule("-1 or at least 0", lambda value: value == -1 or value >= 0),
        **dict.fromkeys(("encoder", "decoder"), at_least(1)),
        "depth": up_to(1),
    }

    width: int = 0
    """Channels of the diffusion network's first level; 0 = 64 for pictures, 8 for volumes."""
    encoder: tuple[int, ...] = ()
    """Channels of the deformation network on the way down; empty = by the number of axes."""
    decoder: tuple[int, ...] = ()
    """Its channels on the way up; empty = by the number of axes."""
    convolutions: int = 0
    """Convolutions at each of its levels; 0 = 2 for pictures, 1 for volumes."""
    similarity: float = -1.0
    """Weight of the registration loss beside the noise loss; -1 = 2 for pictures, 20 for volumes."""
    padding: str = ""
    """What lies beyond the moving image, zeros or border; empty = border for pictures, zeros for
    volumes."""
    rate: float = 0.0
    """Learning rate of both networks over --train.learning-rate; 0 = 0.025 for pictures (5e-6 over 2e-4),
    1 for volumes."""
    synthesis: bool = False
    """Predict a synthetic image as well: the moving image diffused to `depth` and denoised back, told
    both images."""
    depth: float = 0.1
    """How far the synthesis diffuses: 200 of 2000 steps."""

    def fitted(self, facts: "Facts") -> Self:
        volumes = len(self.size or facts.size.get("moving", ())) > 2
        wide = (16, 32, 32, 32, 32) if volumes else (64, 128, 256, 512, 1024)
        back = (32, 32, 32, 8, 8) if volumes else wide[::-1]
        weight = 20.0 if volumes else 2.0
        filled = dataclasses.replace(
            self,
            width=self.width or (8 if volumes else 64),
            encoder=self.encoder or wide,
            decoder=self.decoder or back,
            convolutions=self.convolutions or (1 if volumes else 2),
            similarity=weight if self.similarity < 0 else self.similarity,
            padding=self.padding or ("zeros" if volumes else "border"),
            rate=self.rate or (1.0 if volumes else 0.025),
        )
        return super(DiffuseMorph, filled).fitted(facts)

    def objective(self) -> Registering:
        """As `Deformable`, both networks at `rate`."""
        found = super().objective()
        found.rates = dict.fromkeys(found.players, self.rate or 1.0)
        return found

    def predict(self, objective: Registering, batch: Batch) -> Batch:
        """See `Deformable.predict`; with `synthesis` also "synthetic" (B, 1, *S), by "seed" (B,)."""
        prediction = super().predict(objective, batch)
        if self.synthesis:
            prediction["synthetic"] = self.generate(objective, batch)
        return prediction

    @torch.no_grad()
    def generate(self, objective: Registering, batch: Batch) -> torch.Tensor:
        """The moving image on its way to the pose of the fixed one, by the reverse chain from `depth`."""
        moving, fixed = batch["moving"], batch["fixed"]
        noise = Seeded(int(seed) for seed in batch["seed"])
        steps = max(1, round(self.depth * self.timesteps))
        times = grids.uniform(steps, steps / self.timesteps, 0.0)
        x_t = diffuse(objective.schedule, moving, times[0], noise(moving))
        given = Given(objective.network(), image=torch.cat([moving, fixed], dim=1))
        return DDPM(Clipped(given), noise)(x_t, times).clamp(-1, 1)

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL, rate=1.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, rate=1.0)
