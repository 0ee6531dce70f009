"""What every reconstruction answers: draws from the posterior of a measurement, and what is said of each."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...papers import Paper
from ..ranges import Rule, at_least, more_than
from ..recipe import Batch
from ..task import Task
from .maps import maps_of
from .scanner import Scanner
from .task import RECONSTRUCTION

__all__ = ["Reconstructing"]


@dataclass(frozen=True)
class Reconstructing(Scanner, ABC):
    """A scanner, and a posterior that a subclass draws from."""

    paper: ClassVar[Paper]
    task: ClassVar[Task] = RECONSTRUCTION
    ALONE: ClassVar[bool] = False
    """Whether cases go through the chain one by one, for each has its own number of steps."""
    ONE_COIL: ClassVar[bool] = False
    """Whether the method knows one coil alone, so that full scans of several are combined before."""
    RULES: ClassVar[dict[str, Rule]] = {"samples": at_least(1), "widen": more_than(0)}
    EXPECTS: ClassVar[str] = (
        "To train: grey images, in any range, of patients who stand on one side of the split. To predict: "
        "k-space of an .h5 file (fastMRI or ISMRMRD), complex (slices, coils, *space), its centre in the "
        "middle and fully sampled (5 lines for coil maps), 0 where nothing was measured; or images, of "
        "which a measurement (mri, ct, super-resolution, noise, inpainting) is simulated; or, with simulated=false, "
        "the noisy or small images themselves (noise: their deviation over the range). Volumes go slice by slice "
        "through a prior of slices (slice_axis). Of k-space `magnitude` is written in its units in place of `image`."
    )
    """What `radiffuse show` says that the data have to be."""

    samples: int = 4
    """Draws of a case that `evaluate` takes the mean and the intervals of."""
    widen: float = 1.0
    """Factor of the widths of 90 % intervals: "widen" of the settings in `evaluate`'s metrics.json."""

    @abstractmethod
    def drawn(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """A posterior sample a case, (B, 1, *S) in [0, 1], and what its chain says of the posterior's mean.

        Raises:
            UserError: the chain diverged.
        """

    def reconstruct(self, objective: Any, acquired: Acquired, seeds: Sequence[int]) -> Tensor:
        """One posterior sample a case, in [0, 1], real or complex.

        Raises:
            UserError: the chain diverged.
        """
        return self.drawn(objective, acquired, seeds)[0]

    def estimate(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Batch]:
        """The image of `predict`, and what else the method says of it, (B, 1, *S) in its units."""
        x, expected = self.drawn(objective, acquired, seeds)
        more = self.said(objective, acquired)
        if expected is not x:
            more["expected"] = expected.abs() if x.is_complex() else expected.clamp(min=0)
        return x, more

    def said(self, objective: Any, acquired: Acquired) -> Batch:
        """Numbers (B,) that the method says of a scan, whatever it draws."""
        return {}

    def entered(self, batch: Batch) -> Tensor:
        """What `predict` starts from where it simulates: the plain reconstruction, (B, 1, *S) in [-1, 1]."""
        return 2 * self.acquire(batch).first.abs().clamp(0, 1) - 1

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """A posterior sample of every case.

        Args:
            batch: "kspace" complex (B, K, *S), or "image" (B, 1, *S) in [-1, 1] to be measured by
                simulation (the same scan for the same image) unless `simulated` is false; "seed" int64 (B,) draws
                the chain.

        Returns:
            "image" in [-1, 1] for simulated measurements, "magnitude" in units of the k-space
            for real ones; "expected": the posterior's mean as `drawn` tells it, where the solver does,
            in [0, 1] or units of the k-space; "unmeasured": the share of x that the prior says
            (`unmeasured_part`); "unexplained": |A^H (y - A x)|, where x misses the measurement;
            "residual" (B,): the size of y - A x over that of the noise, 1 where noise alone is left;
            "acceleration" (B,): unknowns over measured values.
            With their sign or phase "_magnitude" and "_unmeasured", for means over draws.

        Raises:
            UserError: the measurement cannot be used, or the chain diverged.
        """
        if len(batch["seed"]) > 1 and (self.ALONE or "kspace" in batch):
            parts = [self.predict(objective, _row(batch, row)) for row in range(len(batch["seed"]))]
            return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        acquired = self.acquire(batch)
        x, more = self.estimate(objective, acquired, [int(seed) for seed in batch["seed"]])
        return maps_of(acquired, x, more, "kspace" in batch)


def _row(batch: Batch, row: int) -> Batch:
    return {key: value[row : row + 1] for key, value in batch.items()}
