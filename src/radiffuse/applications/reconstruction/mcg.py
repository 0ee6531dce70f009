"""MCG (Chung et al. 2022): the manifold-constrained gradient beside data consistency, and CCDF."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.noise import Noise
from ...diffusion.sample import DDPM, Sampler, grids, signal_to_noise
from ...diffusion.sample.base import State
from ...diffusion.schedule import Discrete, Schedule, Stretched
from ...inverse import DPS, Constrained, data_consistency, residual_gradient
from ...papers import Paper, by_id
from ..ranges import Rule, at_least, more_than
from .base import Reconstruction
from .presets import SMALL_PRIOR, TINY_PRIOR, trained
from .scanner import Measured

__all__ = ["MCG", "Manifold"]


@dataclass(frozen=True)
class MCG(Reconstruction):
    """Predictor-corrector with the gradient of the estimate's residual through the network.

    Holes of images (`measurement=inpainting`) are filled as in the paper's other half: ancestral steps of Ho's
    1000 betas, the gradient where pixels were lost, and what was kept put back under the noise of its level.
    Its companion CCDF, which begins from the plain reconstruction, is `--set warm=0.2`. The N levels begin at
    `highest`, or where that is lower at the highest one that the network was trained at.
    """

    paper: ClassVar[Paper] = by_id("mcg")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("gradient", "ratio"),
    )

    RULES: ClassVar[dict[str, Rule]] = {"gradient": at_least(-1), "ratio": more_than(0)}
    PAPER_SOLVES: ClassVar[tuple[str, ...]] = ("ct", "mri", "super-resolution", "inpainting")
    TRAINED: ClassVar[Mapping[str, Any]] = trained(710_000, batch=1, decay=0.999)

    measurement: Measured = "ct"
    views: int = 30
    steps: int = 2000
    stop: float = 1e-5
    gradient: float = -1.0
    """Step alpha of the gradient of the norm (not its square); negative = the paper's: 1 for inpainting,
    where it is of images in [-1, 1], else 0.1."""
    ratio: float = 0.16
    """Signal-to-noise ratio r of the corrector."""

    def chain_schedule(self) -> Schedule:
        if self.measurement != "inpainting" or self.solver != "paper":
            return super().chain_schedule()
        # images in [0, 1] are half as large as the paper's, so half its noise is the same chain
        return Stretched(Discrete.linear(), 0.5)

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        if self.measurement == "inpainting":
            return self.inpainted(denoiser, acquired, noise)
        times = grids.uniform(self.steps, self.trained_to(denoiser), self.stop)
        x, times = self.begin(denoiser.schedule, times, acquired.first, noise)
        normaliser = None
        if self.measurement in ("ct", "super-resolution"):
            normaliser = acquired.measurement.A.gram(torch.ones_like(acquired.first)).clamp(
                min=1e-6
            )
        weight = 0.1 if self.gradient < 0 else self.gradient
        sampler = Manifold(
            denoiser, acquired, noise, weight, self.ratio, len(times) - 1, normaliser
        )
        return sampler(x, times)

    def inpainted(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        """The chain whose known pixels are those of the measurement at every level."""
        betas, m = Discrete.linear(), acquired.measurement
        start = max(1, int(self.trained_to(denoiser) * betas.steps))
        times = grids.strided(betas, min(self.steps, start), start)
        weight = 1.0 if self.gradient < 0 else self.gradient
        step = DPS(Clipped(denoiser, low=0.0), m, noise, scale=weight / 2)
        known = data_consistency(m, noised=True, inverse=m.A.adjoint)
        return Constrained(step, known)(
            *self.begin(denoiser.schedule, times, acquired.first, noise)
        )

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL_PRIOR, "filtered": True, "stop": 0.0, "steps": 100}
        return cls(**values, lowest=0.005, highest=10.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY_PRIOR, "filtered": True, "steps": 4}, highest=10.0, views=8)


class Manifold(Sampler):
    r"""One step: predict; correct; then both constraints (Chung et al. 2022, algorithm 1 and SV-CT).

    $x' $ is the corrected image, $g = (I - A^+A)\,\alpha\nabla_x\|W(y-A\hat x_0(x))\|$ the gradient at the
    image before correction, without what the measurement sees, and
    $x \leftarrow x' + \lambda A^H(y - A x')/n - g$, lambda falling linearly from 1 to 0.6.

    Args:
        gradient: alpha.
        ratio: r of the corrector.
        steps: of the whole chain.
        normaliser: n = A^H A 1 (SIRT), or None for 1 where A has norm 1.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        acquired: Acquired,
        noise: Noise,
        gradient: float = 0.1,
        ratio: float = 0.16,
        steps: int = 1,
        normaliser: Tensor | None = None,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.inverse = acquired.measurement, acquired.inverse
        self.predictor = DDPM(denoiser, noise, w=1.0)
        self.gradient, self.size, self.steps = gradient, signal_to_noise(ratio), steps
        self.normaliser = normaliser

    def init(self, x: Tensor, t: Tensor) -> State:
        return 0

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x, _ = self.predictor.step(x_t, t, s, None)
        if bool(self.schedule.sigma(s) == 0):
            return self.consistent(x, 0.6), state + 1
        x_0, _, g = residual_gradient(self.denoiser, self.measurement, x, s, self.inverse)
        alpha, sigma = self.schedule(s, x)
        score, z = (alpha * x_0 - x) / sigma**2, self.noise(x)
        size = self.size(self.schedule, s, score, z)
        x = x + size * score + torch.sqrt(2 * size) * z
        x = self.consistent(x, 1.0 - 0.4 * state / max(self.steps - 1, 1))
        return x - self.unseen(self.gradient * g), state + 1

    def consistent(self, x: Tensor, strength: float) -> Tensor:
        """The SIRT (Kaczmarz) step towards the measurement."""
        back = self.measurement.adjoint(self.measurement.residual(x), x)
        return x + strength * (back if self.normaliser is None else back / self.normaliser)

    def unseen(self, g: Tensor) -> Tensor:
        """(I - A^+ A) g: without what the measurement sees."""
        return g - self.measurement.pseudo_inverse(self.measurement.A(g), g)
