"""R2D2+ (Chung et al. 2022): denoising by the reverse SDE from the noisy image itself."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ..acquisition import Acquired
from ..denoise import Denoiser
from ..inverse import Constrained, Project, data_consistency
from ..kernels import diffuse
from ..metrics.noise_level import estimate_noise
from ..noise import Noise
from ..operators import Fourier
from ..papers import Paper, by_id
from ..sample import DDPM, grids
from .continuous import LOG_NORMAL
from .parts import SMALL, TINY
from .reconstruction import Reconstruction

__all__ = ["R2D2", "estimate_noise", "low_frequencies"]


@dataclass(frozen=True)
class R2D2(Reconstruction):
    """The chain starts at the level of the image's own noise, which is estimated from the image.

    The number of network calls is `extent` times the steps below that level. Low frequencies of the
    measurement are kept at every step. For super-resolution the enlarged image is diffused to
    `renoise` and brought back with its low-resolution part fixed. The paper gives neither the
    size of the kept region nor lambda nor `renoise`: those defaults are ours.
    """

    paper: ClassVar[Paper] = by_id("r2d2")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("extent", "keep", "radius", "renoise"),
    )
    ALONE: ClassVar[bool] = True
    PAPER_SOLVES: ClassVar[tuple[str, ...]] = ("noise", "super-resolution")

    measurement: Literal["mri", "ct", "super-resolution", "noise"] = "noise"
    noise: float = 0.1
    steps: int = 2000
    extent: float = 1.0
    """alpha, the extent of denoising: less keeps more of the noise."""
    keep: float = 1.0
    """lambda of the low frequencies, 0 to 1."""
    radius: float = 0.08
    """Radius of the kept low frequencies over the shortest axis of k-space."""
    renoise: float = 0.05
    """Super-resolution: the level to which the enlarged image is diffused."""

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        x, start, project = self._start(denoiser, acquired, noise)
        count = round(self.extent * start * self.steps)
        if count >= 1:
            sampler = Constrained(DDPM(denoiser, noise, w=1.0), project)
            x = sampler(x, grids.uniform(count, min(count / self.steps, 1.0)))
        return acquired.measurement.unbiased(x)

    def _start(
        self, denoiser: Denoiser, acquired: Acquired, noise: Noise
    ) -> tuple[Tensor, float, Project]:
        """Where the chain starts, at what time, and what every step keeps."""
        schedule = denoiser.schedule
        if self.measurement == "noise":
            y = acquired.measurement.y
            t = schedule.time(-estimate_noise(y).log())
            return y, float(t[0]), low_frequencies(y, self.radius, self.keep)
        t = schedule.time(-torch.tensor(self.renoise, dtype=torch.float64).log())
        first = acquired.first
        start = diffuse(schedule, first, t, noise(first))
        return start, float(t), data_consistency(acquired.measurement)

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL, **LOG_NORMAL, "filtered": True, "stop": 0.0, "steps": 200}
        return cls(**values, lowest=0.005, highest=10.0)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY, **LOG_NORMAL, "filtered": True, "steps": 10}, highest=10.0)


def low_frequencies(y: Tensor, radius: float, keep: float) -> Project:
    r"""$x + \lambda F^{-1} P_\Omega F (y - x)$, Omega the frequencies within `radius` of the shortest axis."""
    axes = y.dim() - 2
    fourier = Fourier(axes)
    distance = torch.zeros(y.shape[2:], device=y.device)
    for axis, n in enumerate(y.shape[2:]):
        index = torch.arange(n, device=y.device) - n // 2
        distance = distance + index.reshape([-1 if a == axis else 1 for a in range(axes)]) ** 2
    inside = distance.sqrt() <= radius * min(y.shape[2:])

    def project(x: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        return x + keep * fourier.adjoint(inside * fourier(y - x)).real

    return project
