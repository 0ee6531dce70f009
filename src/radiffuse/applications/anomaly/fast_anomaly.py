r"""Fast anomaly detection (Pinaya et al. 2022): diffusion of VQ codes, and their denoising steps as what finds lesions.

The code z of an image is noised to every step t of a window. Where the code is one of healthy images, the step
back that the network takes is the true one; how far it is from that,

$$ K_t = \mathrm{KL}\big(q(z_{t-1} \mid z_t, z_0)\,\|\,p_\theta(z_{t-1} \mid z_t)\big), $$

averaged over the window and the channels, is large at codes that are not healthy. Codes above a threshold, which
healthy validation images set, are made anew by the reverse chain, all others kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.losses import Times, discrete_times
from ...diffusion.network import Network
from ...diffusion.noise import Seeded, derive
from ...diffusion.sample import DDIM, DDPM, grids
from ...diffusion.schedule import Discrete, Schedule
from ...errors import UserError
from ...metrics.detection import fitted_threshold, level_at, levels, top_mean
from ...nn.blocks import cut_to
from ...papers import Paper, by_id
from ..latent.coded import Coded
from ..latent.denoising import CodeDenoising
from ..ranges import SHARE, Rule, at_least, inside, require, up_to
from ..recipe import Batch
from ..task import Task
from . import fast_presets as presets
from .base import Anomaly, healthy_only
from .masked_codes import divergence, enlarged, gate, inpainted
from .task import ANOMALY

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["FastAnomaly"]

SAMPLERS = {"ddpm": DDPM, "ddim": DDIM}


@dataclass(frozen=True)
class FastAnomaly(Coded, Anomaly):
    """Codes whose denoising steps diverge more than healthy ones are inpainted; the residual counts there alone."""

    paper: ClassVar[Paper] = by_id("fast-anomaly")
    FIRST: ClassVar[Mapping[str, dict[str, Any]]] = presets.FIRST
    SECOND: ClassVar[Mapping[str, dict[str, Any]]] = presets.SECOND
    task: ClassVar[Task] = replace(
        ANOMALY, writes=(*ANOMALY.writes, "divergence"), raw=(*ANOMALY.raw, "divergence")
    )
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Anomaly.AFTER_TRAINING,
        *("sampler", "masked", "smooth", "draws"),
    )
    CALIBRATED: ClassVar[tuple[str, ...]] = ("healthy_levels",)
    CALIBRATION: ClassVar[str] = "threshold of healthy images"
    RULES: ClassVar[dict[str, Rule]] = {
        "codes": at_least(2),
        "trained": up_to(1),
        "window": SHARE,
        "every": at_least(1),
        "masked": inside(0, 1),
        "smooth": at_least(0),
        "draws": at_least(1),
    }

    codes: int = 16
    latent_channels: int = 64
    coder_width: int = 256
    coder_multiples: tuple[int, ...] = (1, 1, 1, 1)
    width: int = 256
    multiples: tuple[int, ...] = (1, 2, 3)
    attention: tuple[int, ...] = (1, 2)
    betas: Literal["linear", "cosine", "scaled-linear"] = "scaled-linear"
    trained: float = 1.0
    """Share of the chain that is trained; the window and `depth` must lie within."""
    window: tuple[float, ...] = (0.4, 0.6)
    """Part of the chain, as shares of T, whose steps are looked at."""
    every: int = 1
    """Of those steps every so manieth is."""
    masked: float = 0.025
    """Share of the codes of healthy validation images above the threshold."""
    healthy_levels: tuple[tuple[float, ...], ...] = ()
    """That share against the threshold, from healthy validation images after training."""
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    """How masked codes are made anew: by the chain's own steps, or without noise."""
    smooth: float = 1.0
    """Full width at half maximum of the Gaussian over the mask, in places of the code."""
    draws: int = 1
    """Counterparts and maps averaged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ordered = len(self.window) == 2 and self.window[0] < self.window[1]
        require(ordered, "window", f"must be two shares, LOW HIGH, not {self.window}")
        said = f"must lie within --trained, {self.trained:g}, the part of the chain that is learned"
        require(self.window[1] <= self.trained, "window", said)
        require(self.depth <= self.trained, "depth", said)
        require(len(self.looked_at) > 0, "window", "holds no step of the chain; widen it")

    @property
    def looked_at(self) -> list[int]:
        """The steps t, 2 .. T, of the window that are looked at."""
        low, high = (round(share * self.timesteps) for share in self.window)
        return list(range(max(2, low), high, self.every))

    def fitted(self, facts: "Facts") -> Self:
        return super().fitted(facts).unfilled()

    def suitable(self, batch: Batch) -> Tensor:
        return healthy_only(self, batch)

    def network(self) -> Network:
        """The denoiser around a new backbone; of a recipe `of_codes`."""
        return self.network_around(self.unet())

    def times(self, schedule: Schedule) -> Times:
        """The law of t in training."""
        assert isinstance(schedule, Discrete)
        return discrete_times(schedule, self.trained)

    def calibrated(self, objective: CodeDenoising, batches: Iterable[Batch]) -> Self:
        """This recipe with the threshold that healthy images set.

        Args:
            objective: trained.
            batches: "image" (B, C, *S) and "seed" (B,) of images that nothing is trained on or measured by.
        """
        seen = torch.cat([self.seen(objective, batch)[1].flatten() for batch in batches])
        own = [self.masked, fitted_threshold(seen, self.masked)]
        table = sorted([*levels(seen), own])
        return replace(self, healthy_levels=tuple(tuple(row) for row in table))

    def threshold_of(self, share: float) -> float:
        """What the share of the codes of healthy images lies above.

        Raises:
            UserError: no threshold was set.
        """
        if not self.healthy_levels:
            raise UserError("no threshold of codes yet; `calibrated` sets it by healthy images")
        return level_at(self.healthy_levels, share)

    def seen(self, objective: CodeDenoising, batch: Batch) -> tuple[Tensor, Tensor]:
        """Codes of the images (B, C_z, *L), and their K (B, 1, *L)."""
        latent, image = objective.latent.eval(), batch["image"]
        objective.first.to(image.device)
        with torch.no_grad():
            z = latent.encode(image).float()
        noise = Seeded(derive(seed, "divergence") for seed in _seeds(batch))
        return z, divergence(latent, self.schedule(), z, self.looked_at, noise)

    def compared(self, objective: Any, batch: Batch) -> Batch:
        """Counterparts, gated maps, K at the size of the images, and the mean of its highest values as the score.

        Raises:
            UserError: no threshold was set.
        """
        image, latent, start = batch["image"], objective.latent, round(self.depth * self.timesteps)
        z, seen = self.seen(objective, batch)
        mask = seen > self.threshold_of(self.masked)
        times = grids.strided(self.schedule(), min(self.steps, start), start)
        healthy, found = torch.zeros_like(image), torch.zeros_like(image[:, :1])
        for draw in range(self.draws):
            noise = Seeded(derive(seed, "draw", draw) for seed in _seeds(batch))
            made = inpainted(SAMPLERS[self.sampler], latent, z, mask, times, noise)
            made = self.decoded(objective, made)
            healthy += made / self.draws
            found += self.residual(image, made) / self.draws
        return {
            "healthy": healthy,
            "anomaly": found * cut_to(gate(mask, self.coder_stride, self.smooth), self.size),
            "divergence": cut_to(enlarged(seen, self.coder_stride), self.size),
            "score": top_mean(seen, self.top),
        }

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        return self.compared(objective, batch)["healthy"]

    @classmethod
    def small(cls) -> Self:
        return cls(**presets.SMALL_CODES)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**presets.TINY_CODES)


def _seeds(batch: Batch) -> list[int]:
    """Seeds of the cases, 0 where none are given."""
    none = torch.zeros(len(batch["image"]), dtype=torch.int64)
    return [int(seed) for seed in batch.get("seed", none)]
