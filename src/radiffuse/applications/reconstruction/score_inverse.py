"""Score-based inverse problems (Song et al. 2022): the measurement diffused beside the image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...acquisition import Acquired, MaskName
from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.sample import DDPM, Langevin, Sampler, grids, signal_to_noise
from ...diffusion.sample.base import State
from ...inverse import Measurement, Project, data_consistency
from ...papers import Paper, by_id
from ..ranges import SHARE, Rule, at_least
from .base import Reconstruction
from .presets import SMALL_PRIOR, TINY_PRIOR, trained

__all__ = ["Projected", "ScoreInverse"]

CONSTANTS = {
    "ct": (0.841, 0.246),
    "ct with metal": (0.355, 0.0),
    "ct of few views with metal": (0.865, 0.261),
}
"""lambda and r of the paper where they are not those of MRI, 1 and 0.517; r = 0 is no corrector."""
FEWER: dict[str, Any] = {"mask": "gaussian-columns", "acceleration": 4.0, "views": 20}
"""The scans of the small presets."""


@dataclass(frozen=True)
class ScoreInverse(Reconstruction):
    r"""Predictor-corrector of the VE SDE, each preceded by a projection onto a noised measurement.

    $x \leftarrow \arg\min_u (1-\lambda)\|u-x\|^2 + \lambda\min_{Av=y_t}\|u-v\|^2$ with
    $y_t = \alpha y + \sigma A z$ (eq. 8-9), solved as $x + \lambda A^+(y_t - A x)$. The paper writes it for
    $A = P(\Lambda)T$ with invertible T; for an orthonormal T (MRI of one coil) the two are equal, for
    coils and for CT A^+ replaces the paper's gridding. The paper's data have no noise; where there is some,
    A^+ is damped, so that coils do not blow it up (`Projected`). Metal in CT (`implants`, `metal`) takes its trace
    out of the known part of the sinogram. The N levels begin at `highest`, or where
    that is lower at the highest one that the network was trained at.
    """

    paper: ClassVar[Paper] = by_id("score-inverse")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("strength", "ratio"),
    )

    RULES: ClassVar[dict[str, Rule]] = {"strength": SHARE, "ratio": at_least(0)}
    PAPER_SOLVES: ClassVar[tuple[str, ...]] = ("mri", "ct", "super-resolution")
    TRAINED: ClassVar[Mapping[str, Any]] = trained(2_400_000, batch=64, decay=0.999)

    width: int = 32
    multiples: tuple[int, ...] = (1, 1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (3, 5)
    sigma_max: float = 256.0
    mask: MaskName = "equispaced-columns"
    acceleration: float = 8.0
    coils: int = 1
    views: int = 23
    steps: int = 1000
    stop: float = 1e-5
    highest: float = 128.0
    strength: float = 0.0
    """lambda; 0 = the paper's by measurement (`CONSTANTS`): 1 for MRI, 0.841 for CT (appendix C)."""
    ratio: float = 0.0
    """Signal-to-noise ratio r of the corrector; 0 = the paper's: 0.517 for MRI, 0.246 for CT."""

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        strength, ratio = CONSTANTS.get(self.kind_of(acquired.first), (1.0, 0.517))
        ratio = self.ratio or ratio
        sampler = Projected(
            DDPM(denoiser, noise, w=1.0),
            Langevin(denoiser, noise, signal_to_noise(ratio), count=1 if ratio else 0),
            acquired.measurement,
            self.strength or strength,
        )
        times = grids.uniform(self.steps, self.trained_to(denoiser), self.stop)
        return sampler(*self.begin(denoiser.schedule, times, acquired.first, noise))

    def kind_of(self, image: Tensor) -> str:
        """What is measured, as the paper tells it apart: few views are less than the sides of an image."""
        if self.measurement != "ct" or not (self.implants or self.metal):
            return self.measurement
        few = self.views < max(image.shape[-2:])
        return "ct of few views with metal" if few else "ct with metal"

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL_PRIOR, **FEWER, "stop": 0.0, "steps": 100}
        return cls(**values, coils=8, lowest=0.005, highest=10.0, strength=1.0, ratio=0.16)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY_PRIOR, **FEWER, "steps": 4}, highest=10.0)


class Projected(Sampler):
    r"""Project, correct, project, predict; at the end denoise and project onto the clean measurement.

    A^+ of the projections is $(A^H A + s^2/r^2)^{-1}A^H$ with s the noise of the measurement and r^2 the
    variance that was added to x since the projection before: all it may lay down where the measurement is
    noise, and all it has to take back where it is not. Before the corrector that is the predictor's
    $\sigma_t^2 - \sigma_s^2$ of the step that led here, behind it the corrector's, which at the paper's r is fifty
    times as much. The state is what the predictor added; at the start, all of the noise.

    Args:
        predictor: walks from t to s.
        corrector: walks at t.
        measurement: y = A x + n.
        strength: lambda.
    """

    def __init__(
        self,
        predictor: Sampler,
        corrector: Sampler,
        measurement: Measurement,
        strength: float = 1.0,
    ) -> None:
        super().__init__(predictor.denoiser, predictor.noise)
        self.predictor, self.corrector = predictor, corrector
        self.measurement, self.strength = measurement, strength

    def project(self, like: Tensor, r2: Tensor, noised: bool = True) -> Project:
        """The projection of images like `like`, damped; at the end of the clean measurement."""

        def inverse(gap: Tensor) -> Tensor:
            return self.measurement.damped_inverse(gap, like, r2)

        return data_consistency(self.measurement, noised, self.strength if noised else 1.0, inverse)

    def init(self, x: Tensor, t: Tensor) -> State:
        return self.schedule(t, x)[1] ** 2

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        alpha, sigma = self.schedule(t, x_t)
        x = self.project(x_t, state)(x_t, alpha, sigma, self.noise)
        x, added = self.corrector.step(x, t, t, None)
        x = self.project(x, added)(x, alpha, sigma, self.noise)
        x, _ = self.predictor.step(x, t, s, None)
        return x, sigma**2 - self.schedule.sigma(s).to(sigma) ** 2

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        x = super().finish(x, t, state)
        one = torch.ones((), dtype=x.real.dtype, device=x.device)
        last = self.project(x, state, noised=False)
        return last(x, one, torch.zeros_like(one), self.noise)
