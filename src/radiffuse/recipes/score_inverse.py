"""Score-based inverse problems (Song et al. 2022): the measurement diffused beside the image."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from ..acquisition import Acquired
from ..denoise import Denoiser
from ..inverse import Project, data_consistency
from ..noise import Noise
from ..papers import Paper, by_id
from ..sample import DDPM, Langevin, Sampler, grids, signal_to_noise
from ..sample.base import State
from .continuous import LOG_NORMAL
from .parts import SMALL, TINY
from .reconstruction import Reconstruction

__all__ = ["Projected", "ScoreInverse"]


@dataclass(frozen=True)
class ScoreInverse(Reconstruction):
    r"""Predictor-corrector of the VE SDE, each preceded by a projection onto a noised measurement.

    $x \leftarrow \arg\min_u (1-\lambda)\|u-x\|^2 + \lambda\min_{Av=y_t}\|u-v\|^2$ with
    $y_t = \alpha y + \sigma A z$ (eq. 8-9), solved as $x + \lambda A^+(y_t - A x)$. The paper writes it for
    $A = P(\Lambda)T$ with invertible T; for an orthonormal T (MRI of one coil) the two are equal, for
    coils and for CT A^+ replaces the paper's gridding.
    """

    paper: ClassVar[Paper] = by_id("score-inverse")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("strength", "ratio"),
    )

    coils: int = 1
    steps: int = 1000
    stop: float = 1e-5
    highest: float = 128.0
    strength: float = 1.0
    """lambda: 1 for MRI, 0.841 for CT (appendix C)."""
    ratio: float = 0.517
    """Signal-to-noise ratio r of the corrector: 0.517 for MRI, 0.246 for CT."""

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        measurement = acquired.measurement
        sampler = Projected(
            DDPM(denoiser, noise, w=1.0),
            Langevin(denoiser, noise, signal_to_noise(self.ratio)),
            data_consistency(measurement, noised=True, strength=self.strength),
            data_consistency(measurement),
        )
        times = grids.uniform(self.steps, 1.0, self.stop)
        return sampler(*self.begin(denoiser.schedule, times, acquired.first, noise))

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL, **LOG_NORMAL, "stop": 0.0, "steps": 100}
        return cls(**values, coils=8, lowest=0.005, highest=10.0, ratio=0.16)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY, **LOG_NORMAL, "steps": 4}, highest=10.0)


class Projected(Sampler):
    """Project, correct, project, predict; at the end denoise and project onto the clean measurement.

    Args:
        predictor: walks from t to s.
        corrector: walks at t.
        project: at the level of t.
        last: the projection of the finished image.
    """

    def __init__(
        self, predictor: Sampler, corrector: Sampler, project: Project, last: Project
    ) -> None:
        super().__init__(predictor.denoiser, predictor.noise)
        self.predictor, self.corrector = predictor, corrector
        self.project, self.last = project, last

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        alpha, sigma = self.schedule(t, x_t)
        x = self.project(x_t, alpha, sigma, self.noise)
        x, _ = self.corrector.step(x, t, t, None)
        x = self.project(x, alpha, sigma, self.noise)
        x, _ = self.predictor.step(x, t, s, None)
        return x, state

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        x = super().finish(x, t, state)
        one = torch.ones((), dtype=x.real.dtype, device=x.device)
        return self.last(x, one, torch.zeros_like(one), self.noise)
