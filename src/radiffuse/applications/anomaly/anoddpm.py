"""AnoDDPM (Wyatt et al. 2022): part of a chain, forward and back, with multi-octave simplex noise."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.guidance import Clipped
from ...diffusion.kernels import diffuse
from ...diffusion.losses import Times, Weight, discrete_times
from ...diffusion.network import Network
from ...diffusion.noise import Noise, Seeded, derive, gaussian
from ...diffusion.sample import DDPM, grids
from ...diffusion.simplex import Simplex
from ...errors import UserError
from ...papers import Paper, by_id
from ...training.objective import Denoising, device_of
from ..presets import averaged
from ..ranges import Rule, at_least, more_than, up_to
from ..recipe import Batch
from .base import SMALL_FIELDS, TINY_FIELDS, Anomaly, healthy_only

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["AnoDDPM", "PartialDenoising"]


class PartialDenoising(Denoising):
    """Denoising of images noised by `noise`, whatever its spectrum; the noise is the target.

    Args:
        network, times, weight: as in `Denoising`.
        noise: of the chain.
        outside: nothing is learned where batch["mask"] is not empty.
    """

    def __init__(
        self, network: Network, times: Times, weight: Weight, noise: Noise, outside: bool = False
    ) -> None:
        super().__init__(network, times, weight)
        self.noise, self.outside = noise, outside

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        x_0 = batch["image"]
        t = self.times(len(x_0))
        z = self.noise(x_0)
        network = self._playing()
        x_t = diffuse(network.schedule, x_0, t, z)
        out = network.raw(x_t, t).float()
        if self.outside:
            right = network.predicts.target(x_0, z, *network.schedule(t, x_0))
            out = torch.where(batch["mask"] > 0, right, out)
        yield "network", self.loss(out, x_0, z, x_t, t)


@dataclass(frozen=True)
class AnoDDPM(Anomaly):
    """Trained on healthy images alone; what simplex noise hides, the chain restores as healthy.

    The map is the squared difference. The network's learned attention levels are those the paper's
    code uses (32, 16 and 8 pixels of 256), not those its settings name.
    """

    paper: ClassVar[Paper] = by_id("anoddpm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Anomaly.AFTER_TRAINING, "draws")

    RULES: ClassVar[dict[str, Rule]] = {
        "octaves": at_least(1),
        "decay": more_than(0),
        "wavelength": at_least(0),
        "trained": up_to(1),
        "draws": at_least(1),
    }

    noise: Literal["simplex", "gaussian"] = "simplex"
    """Noise of the chain, forward and back; gaussian is the plain DDPM that the paper compares with."""
    octaves: int = 6
    """Octaves of simplex noise."""
    decay: float = 0.8
    """Amplitude of an octave over the one before."""
    wavelength: float = 64.0
    """Wavelength of the first octave, pixels: about the largest anomaly that is removed. 0: a quarter of the
    shortest side, as the paper's 64 of 256."""
    trained: float = 0.8
    """Share of the chain that is trained; `depth` must lie within."""
    draws: int = 1
    """Counterparts averaged."""
    learns: Literal["cases", "regions"] = "cases"
    """What is healthy in training: whole cases, or in data with masks every region outside them."""
    attention: tuple[int, ...] = (3, 4, 5)
    depth: float = 0.25
    steps: int = 250
    threshold: Literal["fixed", "otsu", "healthy"] = "fixed"

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        paper = {"batch": 1, "steps": 300_000, "clip": 1.0, "ema": averaged(0.9999, 300_000)}
        options = super().training(preset)
        return {**options, **paper} if preset == "paper" else options

    def fitted(self, facts: "Facts") -> Self:
        """As `Anomaly`.

        Raises:
            UserError: regions are to be learned without masks, or `depth` lies beyond `trained`.
        """
        self.check_depth()
        if self.learns == "regions" and "mask" not in facts.mask_classes:
            raise UserError(
                "--learns regions needs masks of the lesions; name their column with --map mask=COLUMN"
            )
        recipe = super().fitted(facts)
        return replace(recipe, wavelength=recipe.wavelength or min(recipe.size) / 4)

    def suitable(self, batch: Batch) -> Tensor:
        if self.learns == "regions":
            return (batch["mask"] == 0).flatten(1).any(1)
        return healthy_only(self, batch)

    def objective(self) -> PartialDenoising:
        network = self.network_around(self.unet())
        noise = gaussian if self.noise == "gaussian" else self.simplex()
        times = discrete_times(self.schedule(), self.trained)
        return PartialDenoising(network, times, self.weight(), noise, self.learns == "regions")

    def check_depth(self) -> None:
        """Refuse a depth at which the network was not trained.

        Raises:
            UserError: names both.
        """
        if self.depth > self.trained:
            raise UserError(
                f"depth {self.depth:g} lies beyond trained {self.trained:g}, the share of the chain that the "
                "network learns: lower depth, or train with a higher --trained"
            )

    def simplex(self) -> Simplex:
        """The noise the fields describe."""
        return Simplex(self.octaves, self.decay, self.wavelength)

    def counterpart(self, objective: Any, batch: Batch) -> Tensor:
        self.check_depth()
        image = batch["image"]
        seeds = batch.get("seed", torch.zeros(len(image), dtype=torch.int64)).tolist()
        denoiser = Clipped(objective.network).to(device_of(objective)).eval()
        start = round(self.depth * self.timesteps)
        times = grids.strided(self.schedule(), min(self.steps, start), start)
        total = torch.zeros_like(image)
        for draw in range(self.draws):
            each = [derive(seed, "draw", draw) for seed in seeds]
            noise = Seeded(each) if self.noise == "gaussian" else self.simplex().seeded(each)
            x = diffuse(denoiser.schedule, image, times[0], noise(image))
            total += DDPM(denoiser, noise, w=1.0)(x, times)
        return total / self.draws

    def residual(self, image: Tensor, healthy: Tensor) -> Tensor:
        return (image - healthy).square().mean(1, keepdim=True)

    @classmethod
    def small(cls) -> Self:
        walked: dict[str, Any] = {"trained": 0.4, "steps": 12, "depth": 0.15, "draws": 8}
        return cls(**SMALL_FIELDS, **walked, octaves=4, wavelength=0.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY_FIELDS, trained=0.4, octaves=4, wavelength=16.0, steps=5)
