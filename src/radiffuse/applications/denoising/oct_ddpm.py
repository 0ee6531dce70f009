"""Unsupervised denoising of retinal OCT (Hu et al. 2022): the noisy image enters a short chain."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import posterior
from ...diffusion.noise import Noise, gaussian
from ...diffusion.schedule import Discrete, expand
from ...diffusion.windows import random_windows
from ...errors import UserError
from ...papers import Paper, by_id
from ..ranges import Rule, at_least, more_than, one_or_more, require, up_to
from ..recipe import Batch
from .base import Windowed
from .degrade import noised
from .fusion import self_fused
from .presets import OCT_SMALL, OCT_TRAINING, TINY

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["OCT"]

_BESIDE = "noisy_neighbours"


@dataclass(frozen=True)
class OCT(Windowed):
    r"""A diffusion of clean B-scans, entered where its noise is as strong as the image's.

    Training sees single images: B-scans fused with their neighbours of the same volume (the last
    axis, or slices numbered in a column `slice`), or averaged frames. A noisy image $y = x_0 + s n$ is
    $x_t/\alpha_t$ at the step with $\sigma_t/\alpha_t = s$, so one network removes any level of noise.
    Images lie in [-1, 1] in training and prediction, and y enters as $\alpha_t y$ (the authors' loaders
    differ in range, and y enters unscaled, an error of brightness of up to 14 %).
    """

    paper: ClassVar[Paper] = by_id("oct-ddpm")
    NEIGHBOURS: ClassVar[tuple[int, ...]] = (-2, -1, 1, 2)
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (*Windowed.AFTER_TRAINING, "step", "mode")

    RULES: ClassVar[dict[str, Rule]] = {
        "beta_end": up_to(0.999),
        "step": at_least(0),
        "level": more_than(0),
        "levels": one_or_more(more_than(0)),
        "radius": at_least(0),
        "reach": at_least(0),
    }

    learns: Literal["", "fused", "clean"] = ""
    """Training images; empty = fused where the data have neighbouring noisy B-scans, else clean."""
    window: int = 512
    width: int = 32
    multiples: tuple[int, ...] = (1, 2, 2, 2)
    attention: tuple[int, ...] = (-1,)
    dropout: float = 0.1
    timesteps: int = 100
    beta_end: float = 0.006
    """Last beta; the first is 1e-4. (The authors train with 0.003 and test with 0.006.)"""
    step: int = 0
    """Step at which the image enters; 0 = the one whose noise matches the image's."""
    mode: Literal["one-shot", "chain"] = "one-shot"
    """One network call, or the posterior mean of every step down to the clean image."""
    level: float = 0.25
    """Deviation of the white noise that is simulated where the data have no noisy images."""
    levels: tuple[float, ...] = (0.15, 0.25, 0.4)
    """The same, for evaluation."""
    radius: int = 5
    """Self-fusion: radius of the patches compared."""
    reach: int = 4
    """Self-fusion: largest shift of a neighbour, in pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        said = f"must be at most --timesteps, {self.timesteps}, not {self.step}"
        require(self.step <= self.timesteps, "step", said)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        return dict(OCT_TRAINING[preset])

    @property
    def simulated(self) -> tuple[float, ...]:
        return self.levels

    @property
    def simulated_level(self) -> float:
        return self.level

    def inputs(self) -> tuple[str, ...]:
        return ()

    def schedule(self) -> Discrete:
        return Discrete(torch.linspace(1e-4, self.beta_end, self.timesteps, dtype=torch.float64))

    def corrupted(self, clean: Tensor, level: float | Tensor, noise: Noise | None) -> Tensor:
        return noised(clean, level, noise or gaussian)

    # --- training --------------------------------------------------------------------------------

    def fitted(self, facts: "Facts") -> Self:
        """As `Windowed`, and decide what to learn from.

        Raises:
            UserError: there is neither a neighbouring B-scan nor a clean image to learn from.
        """
        recipe = super().fitted(facts)
        axes = len(facts.size.get("noisy", ()))
        beside = _BESIDE in facts.channels or (
            axes > 2 and self.slicewise and facts.size["noisy"][-1] > max(self.NEIGHBOURS) * 2
        )
        learns = self.learns or ("fused" if beside else "clean")
        if (learns == "fused" and not beside) or (learns == "clean" and "clean" not in facts.size):
            what = "neighbouring noisy B-scans" if learns == "fused" else "clean images"
            raise UserError(
                f"the data have no {what} to learn from: number the B-scans of a volume in a column "
                "slice, or name averaged images with --map clean=COLUMN"
            )
        return dataclasses.replace(recipe, learns=learns)

    def examples(self, batch: Batch) -> Batch:
        """Random windows of clean images, or of B-scans fused with their neighbours."""
        if self.learns == "clean":
            (image,) = random_windows([batch["clean"]], self.size, self.crops)
            return {"image": self.flat(image)}
        if _BESIDE in batch:
            both = random_windows([batch["noisy"], batch[_BESIDE]], self.size, self.crops)
            image, beside = both[0], both[1].unflatten(1, (-1, both[0].shape[1]))
        else:
            middle = max(self.NEIGHBOURS)
            size = (*self.size[:-1], 2 * middle + 1)
            (stack,) = random_windows([batch["noisy"]], size, self.crops)
            image = stack[..., middle]
            beside = torch.stack([stack[..., middle + k] for k in self.NEIGHBOURS], dim=1)
        return {"image": self_fused(image, beside, self.radius, reach=self.reach)}

    # --- prediction ------------------------------------------------------------------------------

    def entry(self, std: Tensor) -> Tensor:
        """The step 1 .. T, `(B,)` int64, whose noise is nearest to `std` `(B,)` (in time)."""
        if self.step:
            return torch.full((len(std),), min(self.step, self.timesteps))
        t = self.schedule().time(-std.double().cpu().log())
        return (t * self.timesteps).round().long().clamp(1, self.timesteps)

    def restored(self, denoiser: Denoiser, y: Tensor, std: Tensor, noise: Noise) -> Tensor:
        schedule, start = denoiser.schedule, self.entry(std)
        t = start.double() / self.timesteps
        alpha, _ = schedule(t, y)
        x = alpha * y
        if self.mode == "one-shot":
            return denoiser(x, t)
        for step in range(int(start.max()), 0, -1):
            times = torch.tensor([step, step - 1]).double() / self.timesteps
            mean, _, _ = posterior(schedule, x, denoiser(x, times[0]), times[0], times[1])
            x = torch.where(expand((step <= start).to(x.device), x), mean, x)
        return x

    @classmethod
    def small(cls) -> Self:
        return cls(**OCT_SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY, radius=2)
