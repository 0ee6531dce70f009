"""What the reconstructions share: a prior learned from images, and measurements of new ones."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ..acquisition import CT, MRI, Acquired, Acquisition, LowResolution, MaskName, Noisy
from ..denoise import Affine, Denoiser, Parts
from ..errors import UserError
from ..inverse import warm_start
from ..noise import Noise, Seeded, derive
from ..operators import conjugate_gradient
from ..sample import prior
from ..sample.grids import karras
from ..schedule import VE, Schedule
from ..tasks.base import Task
from ..tasks.reconstruction import RECONSTRUCTION
from .base import Batch
from .continuous import Continuous
from .solvers import SOLVERS, SolverName

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction(Continuous):
    """Posterior sampling with an unconditional prior of images in [-1, 1].

    The chain works on images in [0, 1], the papers' unit: noise levels below are in that unit. What
    is measured, how, and how it is solved may be changed after training (`--set`).
    """

    task: ClassVar[Task] = RECONSTRUCTION
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Continuous.AFTER_TRAINING,
        *("measurement", "mask", "acceleration", "calibration", "coils", "noise", "phase"),
        *("values", "views", "beam", "photons", "absorption", "factor", "law", "solver"),
        *("lowest", "highest", "warm"),
    )
    ALONE: ClassVar[bool] = False
    """Whether cases go through the chain one by one, for each has its own number of steps."""

    measurement: Literal["mri", "ct", "super-resolution", "noise"] = "mri"
    """What is simulated where the data hold images instead of measurements."""
    mask: MaskName = "gaussian-columns"
    """MRI: the sampling pattern."""
    acceleration: float = 4.0
    """MRI: points of k-space over points sampled."""
    calibration: int = 0
    """MRI: width of the fully sampled centre; 0 = 8 columns, or 16 x 16 points."""
    coils: int = 8
    """MRI: simulated receive coils."""
    noise: float = 0.01
    """Noise of the measurement where images reach 1 (of MRI: of each part of k-space)."""
    phase: float = 1.0
    """MRI: standard deviation of the simulated smooth phase in radians."""
    values: Literal["real", "parts"] = "real"
    """MRI: the unknown is real (its phase estimated from the calibration region and held by the coil
    maps), or complex, the prior applied to real and imaginary part separately."""
    views: int = 20
    """CT: number of views."""
    beam: Literal["parallel", "fan"] = "parallel"
    """CT: geometry."""
    photons: float = 1e5
    """CT: photons a detector element and view."""
    absorption: float = 4.0
    """CT: largest line integral in nepers."""
    factor: int = 2
    """Super-resolution: side of a block of the measured image."""
    law: Literal["gaussian", "rician"] = "gaussian"
    """Noise: its law."""
    solver: SolverName = "paper"
    """The posterior sampler: the paper's own, or a general one."""
    lowest: float = 0.01
    """Lowest noise level of the chain."""
    highest: float = 378.0
    """Highest noise level of the chain."""
    warm: float = 0.0
    """Begin at this time of the chain, in (0, 1), from the plain reconstruction (CCDF); 0 = from noise."""

    @abstractmethod
    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        """The paper's algorithm: one posterior sample a case, (B, 1, *S) in [0, 1], real or complex.

        Args:
            denoiser: the prior's, of images in [0, 1] under `chain_schedule`; of complex ones where
                the unknown is complex.
            acquired: the measurement.
            noise: one stream a case.
        """

    def chain_schedule(self) -> Schedule:
        """The schedule of the chain, for images in [0, 1]."""
        return VE(self.lowest, self.highest)

    def begin(
        self, schedule: Schedule, times: Tensor, first: Tensor, noise: Noise
    ) -> tuple[Tensor, Tensor]:
        """Where the chain starts, and its grid: noise, or (CCDF) the plain reconstruction."""
        if self.warm:
            return warm_start(schedule, first, times, self.warm, noise)
        return prior(schedule, first, noise, float(times[0])), times

    def acquisition(self) -> Acquisition:
        """The scanner that the fields describe."""
        if self.measurement == "mri":
            real = self.values == "real"
            return MRI(
                *(self.mask, self.acceleration, self.calibration, self.coils),
                *(self.noise, self.phase, real),
            )
        if self.measurement == "ct":
            return CT(self.views, self.beam, self.photons, self.absorption)
        if self.measurement == "super-resolution":
            return LowResolution(self.factor, self.noise)
        return Noisy(self.noise, self.law)

    def acquire(self, batch: Batch) -> Acquired:
        """The measurement of a batch: its k-space, or a simulation from its images in [-1, 1].

        Raises:
            UserError: a measurement that cannot be, or k-space for a method of something else.
        """
        if "kspace" not in batch:
            seeds = [derive(int(seed), "measurement") for seed in batch["seed"]]
            return self.acquisition().simulate((batch["image"] + 1) / 2, seeds)
        scanner = self.acquisition()
        if not isinstance(scanner, MRI):
            raise UserError(f"the data hold k-space; --set measurement=mri, not {self.measurement}")
        return scanner.read(batch["kspace"])

    def prior_denoiser(self, objective: Any, complex_values: bool) -> Denoiser:
        """The trained network as a denoiser of images in [0, 1] under the chain's schedule."""
        network: Denoiser = self.denoiser(objective).eval()
        denoiser: Denoiser = Affine(network, self.chain_schedule())
        return Parts(denoiser) if complex_values else denoiser

    def reconstruct(self, objective: Any, acquired: Acquired, seeds: list[int]) -> Tensor:
        """One posterior sample a case, in [0, 1], real or complex."""
        denoiser = self.prior_denoiser(objective, acquired.first.is_complex())
        noise = Seeded(seeds)
        with torch.no_grad():
            if self.solver == "paper":
                return self.chain(denoiser, acquired, noise)
            times = karras(denoiser.schedule, self.steps, stop=0.0)
            start, times = self.begin(denoiser.schedule, times, acquired.first, noise)
            return SOLVERS[self.solver](denoiser, acquired.measurement, noise)(start, times)

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """A posterior sample of every case.

        Args:
            batch: "kspace" complex (B, K, *S), or "image" (B, 1, *S) in [-1, 1] to be measured by
                simulation; "seed" int64 (B,) draws the chain and the simulation.

        Returns:
            "image" in [-1, 1] for simulated measurements, "magnitude" in units of the k-space
            for real ones; "unmeasured": |x - A^+ A x|, what only the prior says, in the same units;
            "residual" (B,): ||y - A x|| over its expected value under the noise alone.

        Raises:
            UserError: the measurement cannot be used, or the chain diverged.
        """
        if len(batch["seed"]) > 1 and (self.ALONE or "kspace" in batch):
            parts = [self.predict(objective, _row(batch, row)) for row in range(len(batch["seed"]))]
            return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        acquired = self.acquire(batch)
        x = self.reconstruct(objective, acquired, [int(seed) for seed in batch["seed"]])
        if not bool(torch.isfinite(x.abs()).all()):
            raise UserError(f"the chain of {self.paper.id} diverged; take more steps (--steps)")
        scale = acquired.scale.to(x.device).reshape(-1, *[1] * (x.dim() - 1))
        magnitude = x.abs() if x.is_complex() else x.clamp(min=0)
        unmeasured = (x - measured_part(acquired, x)).abs() * scale
        result = {"unmeasured": unmeasured, "residual": residual(acquired, x)}
        if "kspace" in batch:
            return {"magnitude": magnitude * scale, **result}
        return {"image": (2 * magnitude - 1).clamp(-1, 1), **result}


def _row(batch: Batch, row: int) -> Batch:
    return {key: value[row : row + 1] for key, value in batch.items()}


def measured_part(acquired: Acquired, x: Tensor) -> Tensor:
    """A^+ A x: what of x the measurement can see."""
    A = acquired.measurement.A
    return conjugate_gradient(A.gram, A.gram(x), iterations=30)


def residual(acquired: Acquired, x: Tensor) -> Tensor:
    r"""$\|y - A x\| / (s \sqrt{n})$ over the n measured values, (B,): 1 where noise alone is left."""
    y, A, s = acquired.measurement.y, acquired.measurement.A, acquired.measurement.std
    rest = (y - A(x)).abs().square().flatten(1).sum(1)
    count = (y != 0).flatten(1).sum(1) * (2 if y.is_complex() else 1)
    return (rest / (count.clamp(min=1) * max(s, 1e-12) ** 2)).sqrt()
