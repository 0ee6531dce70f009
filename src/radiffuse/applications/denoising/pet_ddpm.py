"""PET denoising (Gong et al. 2022): a chain guided by MR, pulled to the measured PET."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import ancestral, diffuse
from ...diffusion.noise import Noise
from ...diffusion.sample import Sampler, grids, prior
from ...diffusion.sample.base import State
from ...diffusion.schedule import Discrete, expand
from ...diffusion.windows import random_windows
from ...errors import UserError
from ...papers import Paper, by_id
from ..parts import check_timesteps
from ..ranges import Rule, at_least, more_than, one_or_more
from ..recipe import Batch
from .base import Windowed
from .degrade import low_counts
from .presets import PET_SMALL, PET_TRAINING, TINY
from .stacked import beside

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["PET", "Pulled"]

InputsName = Literal["mr-pull", "pull", "pet", "pet-mr", "mr"]
INPUTS: dict[str, tuple[str, ...]] = {
    "mr-pull": ("mr",),
    "pull": (),
    "pet": ("noisy",),
    "pet-mr": ("noisy", "mr"),
    "mr": ("mr",),
}


class Pulled(Sampler):
    r"""Ancestral steps, pulled to the measurement: $x_s = \mu + r\,(y - x_t) + \sigma z$.

    $r = \sigma^2/\sigma_d^2$ with $\sigma^2$ the variance of the step, from
    $\log N(y;\,x_t,\,\sigma_d^2)$; at most 1, beyond which a step would overshoot.

    Args:
        denoiser, noise: as any sampler.
        y: the measured image (B, C, *S).
        spread: sigma_d, (B,); infinite: no pull.
        w: variance of a step: 0 the posterior's, 1 the chain's beta.
        renoised: pull to $\alpha_t y + \sigma_t z$, which lies on the scale of x_t, in place of y.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise: Noise,
        y: Tensor,
        spread: Tensor,
        w: float = 0.0,
        renoised: bool = False,
    ) -> None:
        super().__init__(denoiser, noise)
        self.y, self.w, self.renoised = y, w, renoised
        self.spread = expand(spread.to(y), y)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        mean, variance = ancestral(self.schedule, x_t, self.denoiser(x_t, t), t, s, self.w)
        pull = (variance / self.spread**2).clamp(max=1)
        y = diffuse(self.schedule, self.y, t, self.noise(x_t)) if self.renoised else self.y
        return mean + pull * (y - x_t) + torch.sqrt(variance) * self.noise(x_t), state


@dataclass(frozen=True)
class PET(Windowed):
    r"""The network knows the MR image; the measured PET enters in sampling only.

    `told` names the paper's variants: "mr-pull" (its best) and "pull" serve any number of counts with
    one network, by sigma_d alone; "pet" and "pet-mr" tell the network the noisy image and are trained
    at `counts`; "mr" sees no PET at all. Each slice is told with its neighbours. Betas, T, the network and
    its training are not given in the paper: ours are those of DDPM. Where the data have no noisy images,
    `degrade.low_counts` makes them.
    """

    paper: ClassVar[Paper] = by_id("pet-ddpm")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Windowed.AFTER_TRAINING,
        *("sigma_d", "variance", "renoise", "samples", "steps", "psf", "counts"),
    )

    BEFORE: ClassVar[dict[str, Any]] = {"neighbours": 0}
    RULES: ClassVar[dict[str, Rule]] = {
        "neighbours": at_least(0),
        "counts": one_or_more(more_than(0)),
        "level": more_than(0),
        "psf": at_least(0),
        "sigma_d": at_least(0),
        "steps": at_least(1),
        "samples": at_least(1),
    }

    told: InputsName = "mr-pull"
    """What the network is told, and whether the measured PET pulls the chain."""
    neighbours: int = 1
    """Slices on either side of which the network is told the same: of volumes, and of MR slices that a
    column `slice` numbers; 0 where there are none."""
    counts: tuple[float, ...] = (5.0, 20.0, 80.0)
    """Expected counts in the brightest voxel, of simulated images: drawn from in training, all of
    them evaluated."""
    level: float = 20.0
    """The counts that prediction simulates."""
    psf: float = 0.0
    """Width in voxels (FWHM) of the blur before counting, of simulated images."""
    sigma_d: float = 0.0
    """The measured image's deviation from x_t; 0 = `strength` times its estimated noise, 0.15 at
    least."""
    variance: Literal["posterior", "chain"] = "posterior"
    """sigma_t^2 of a step and of its pull."""
    renoise: bool = False
    """Pull to the measured image at the noise level of the step, not of the paper: on Gaussian data
    with the exact denoiser the error falls by half or more at few counts."""
    steps: int = 1000
    """Sampling steps."""
    samples: int = 10
    """Draws a case in evaluation, for their mean and deviation."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_timesteps("linear", self.timesteps)

    @property
    def simulated(self) -> tuple[float, ...]:
        return self.counts

    @property
    def simulated_level(self) -> float:
        return self.level

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        return dict(PET_TRAINING[preset])

    def inputs(self) -> tuple[str, ...]:
        return INPUTS[self.told]

    @property
    def NEIGHBOURS(self) -> tuple[int, ...]:
        """Offsets of the neighbours that a slice is told with."""
        return tuple(k for k in range(-self.neighbours, self.neighbours + 1) if k)

    @property
    def views(self) -> int:
        return 1 + len(self.NEIGHBOURS)

    def shown(self, batch: Batch, key: str) -> Tensor:
        """An image, and behind its channels those of its neighbours.

        Raises:
            UserError: a picture whose neighbours are not known.
        """
        image = batch[key].float()
        if not self.neighbours or self.slices_of(image):
            return beside(image, self.NEIGHBOURS)
        if f"{key}_neighbours" not in batch:
            raise UserError(
                f"this model was trained on slices of {key} with their neighbours; number the slices in a "
                "column slice, or give volumes"
            )
        return torch.cat([image, batch[f"{key}_neighbours"].float()], dim=1)

    def schedule(self) -> Discrete:
        return Discrete.linear(self.timesteps)

    def corrupted(self, clean: Tensor, level: float | Tensor, noise: Noise | None) -> Tensor:
        return low_counts(clean, level, self.psf, noise)

    def fitted(self, facts: "Facts") -> Self:
        """As `Windowed`.

        Raises:
            UserError: there is no clean image to learn, or no MR image where one is told.
        """
        if "clean" not in facts.size:
            raise UserError("pet-ddpm learns from images of many counts; --map clean=COLUMN")
        if "mr" in self.inputs() and "mr" not in facts.size:
            raise UserError(
                f"--told {self.told} needs MR images: --map mr=COLUMN, or take --told pull or pet"
            )
        volumes = self._sliced(len(facts.size["clean"]))
        numbered = self.inputs() == ("mr",) and "mr_neighbours" in facts.channels
        stacked = self if volumes or numbered else replace(self, neighbours=0)
        return super(PET, stacked).fitted(facts)

    def examples(self, batch: Batch) -> Batch:
        """Random windows of clean images, with what the network is told of each."""
        found = dict(batch)
        if "noisy" in self.inputs() and "noisy" not in batch:
            clean = batch["clean"]
            which = torch.randint(len(self.counts), (len(clean),))
            found["noisy"] = self.corrupted(clean, torch.tensor(self.counts)[which], None)
        images = [found["clean"].float(), *(self.shown(found, key) for key in self.inputs())]
        parts = random_windows(images, self.size, self.crops)
        image, *told = (self.flat(part) for part in parts)
        return {"image": image, **({"source": torch.cat(told, dim=1)} if told else {})}

    def restored(self, denoiser: Denoiser, y: Tensor, std: Tensor, noise: Noise) -> Tensor:
        spread = torch.full_like(std, torch.inf)
        if self.told in ("mr-pull", "pull"):
            spread = torch.full_like(std, self.sigma_d) if self.sigma_d else std.clamp(min=0.15)
        w = 0.0 if self.variance == "posterior" else 1.0
        sampler = Pulled(denoiser, noise, y, spread, w, self.renoise)
        return sampler(prior(denoiser.schedule, y, noise), grids.uniform(self.steps))

    @classmethod
    def small(cls) -> Self:
        return cls(**PET_SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, neighbours=0, steps=4, samples=2)
