"""R2D2+ (Chung et al. 2022): denoising by the reverse SDE from the noisy image itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import diffuse
from ...diffusion.noise import Noise
from ...diffusion.sample import DDPM, grids
from ...diffusion.schedule import expand
from ...errors import UserError
from ...inverse import Constrained, Measurement, Project, data_consistency
from ...metrics.noise_level import estimate_noise
from ...operators import Fourier
from ...papers import Paper, by_id
from ..ranges import SHARE, Rule, at_least, more_than
from ..recipe import Batch
from ..reconstruction.base import Reconstruction
from ..reconstruction.presets import SMALL_PRIOR, TINY_PRIOR, trained
from ..reconstruction.scanner import Measured

__all__ = ["R2D2", "estimate_noise", "low_frequencies"]


@dataclass(frozen=True)
class R2D2(Reconstruction):
    """The chain starts at the level of the image's own noise, which is estimated from the image.

    The number of network calls is `extent` times the steps below that level. Low frequencies of the
    measurement are kept at every step. Super-resolution comes after denoising: the small image is denoised
    so, enlarged, diffused to `renoise` and brought back with its low-resolution part fixed. The paper
    gives neither the size of the kept region nor lambda nor `renoise`: those defaults are ours. So is
    the regularisation, which leaves high frequencies as they are and not damped by 1 - lambda, as a
    summary of the paper prints it; the paper's optional corrector is left out.
    """

    paper: ClassVar[Paper] = by_id("r2d2")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("extent", "keep", "radius", "renoise"),
    )
    ALONE: ClassVar[bool] = True
    RULES: ClassVar[dict[str, Rule]] = {
        "extent": at_least(0),
        "keep": SHARE,
        "radius": at_least(0),
        "renoise": more_than(0),
    }
    BEGINS: ClassVar[str] = "the level of the image's own noise"
    PAPER_SOLVES: ClassVar[tuple[str, ...]] = ("noise", "super-resolution")
    EXPECTS: ClassVar[str] = (
        "To train: images, grey or of several channels, of patients who stand on one side of the split. To "
        "predict: images of 16 voxels and more on every axis. With simulated=false they are restored as they "
        "are (measurement=super-resolution: enlarged by `factor`), the noise found by the chain; else "
        "noise is added first, or they are made smaller by means over blocks. Other measurements by a "
        "general solver."
    )

    TRAINED: ClassVar[Mapping[str, Any]] = trained(1_200_000, batch=2, decay=0.9999)

    measurement: Measured = "noise"
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

    def acquire(self, batch: Batch) -> Acquired:
        """The measurement; an image that is restored as it is tells its own noise."""
        acquired = super().acquire(batch)
        if self.simulated or self.solver != "paper":
            return acquired
        m = acquired.measurement
        std = expand(estimate_noise(m.y), m.y).to(m.y)
        return replace(acquired, measurement=replace(m, std=std))

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        m = acquired.measurement
        if self.measurement == "noise":
            return m.unbiased(self.denoised(denoiser, m.y, estimate_noise(m.y), noise))
        small = self.denoised(denoiser, m.y, m.deviations, noise)
        return self.enlarged(denoiser, replace(m, y=small), acquired.inverse(small), noise)

    def denoised(self, denoiser: Denoiser, y: Tensor, std: Tensor, noise: Noise) -> Tensor:
        """The chain from y (1, C, *S) itself, at the level `std` (1,) of its own noise.

        Raises:
            UserError: the network was not trained at that level.
        """
        start = float(denoiser.schedule.time(-std.double().clamp(min=1e-9).log())[0])
        kept = low_frequencies(y, self.radius, self.keep)
        self.check_trained(denoiser, min(self.extent * start, 1.0))
        return self.walk(denoiser, y, self.extent * start, kept, noise)

    def enlarged(
        self, denoiser: Denoiser, measurement: Measurement, first: Tensor, noise: Noise
    ) -> Tensor:
        """The chain from the enlarged image under noise of `renoise`, its block means kept.

        Raises:
            UserError: the network was not trained at that level.
        """
        schedule = denoiser.schedule
        t = schedule.time(-torch.tensor(self.renoise, dtype=torch.float64).log())
        self.check_trained(denoiser, float(t))
        x = diffuse(schedule, first, t, noise(first))
        return self.walk(denoiser, x, float(t), data_consistency(measurement), noise)

    def check_trained(self, denoiser: Denoiser, t: float) -> None:
        """Refuse a chain that begins at time t, above what the network was trained at.

        Raises:
            UserError: names both levels.
        """
        reach = self.trained_to(denoiser)
        if t > reach:
            times = torch.tensor([t, reach], dtype=torch.float64)
            asked, highest = denoiser.schedule.sigma(times).tolist()
            raise UserError(
                f"the chain would begin at noise of {asked:.3g} (images in [0, 1]), and the network was trained "
                f"up to {highest:.3g}: lower extent or renoise, or train with a higher --sigma-max"
            )

    def walk(
        self, denoiser: Denoiser, x: Tensor, start: float, project: Project, noise: Noise
    ) -> Tensor:
        """As many of `steps` as the start asks for; none where there is nothing to remove."""
        count = max(0, round(start * self.steps))
        if count == 0:
            return x
        sampler = Constrained(DDPM(denoiser, noise, w=1.0), project)
        return sampler(x, grids.uniform(count, min(count / self.steps, 1.0)))

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL_PRIOR, "filtered": True, "stop": 0.0, "steps": 200}
        return cls(**values, lowest=0.005, highest=10.0, renoise=0.3)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**{**TINY_PRIOR, "filtered": True, "steps": 10}, highest=10.0)


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
