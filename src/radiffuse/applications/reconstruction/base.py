"""What the reconstructions share: a prior learned from images, and measurements of new ones."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.schedule import VE, Schedule
from ...errors import UserError
from ...inverse import warm_start
from ..generation.continuous import Continuous
from ..ranges import Rule, at_least, below, between, more_than, require
from ..recipe import Batch
from .by_scan import Stack, remembered
from .posterior import walk
from .reconstructing import Reconstructing
from .scanner import Scanner
from .solvers import SolverName

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["Reconstruction"]


@dataclass(frozen=True)
class Reconstruction(Reconstructing, Continuous):
    """Posterior sampling with an unconditional prior of images in [-1, 1].

    The chain works on images in [0, 1], the papers' unit: noise levels below are in that unit. What
    is measured, how, and how it is solved may be changed after training (`--set`). The network's
    defaults are as large as Chung and Ye's, who use one for score-MRI, MCG and R2D2+.
    """

    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Continuous.AFTER_TRAINING,
        *(field.name for field in fields(Scanner)),
        *("solver", "lowest", "highest", "warm", "samples", "slice_axis", "through_plane", "widen"),
        "kept_back",
    )
    TAKES_PRIOR: ClassVar[bool] = True
    """Whether the network may be that of another run."""
    OF_VOLUMES: ClassVar[bool] = True
    """Whether a network of pictures serves volumes: here as the prior of their slices (`slice_axis`)."""
    BEGINS: ClassVar[str] = ""
    """Where the paper's chain begins whatever `warm` says; empty = at its highest level, or at `warm`."""
    REFINES: ClassVar[bool] = False
    """Whether the paper's answer is an image made of many draws, not a draw."""
    PAPER_SOLVES: ClassVar[tuple[str, ...]] = ("mri",)
    """Measurements that the paper's own algorithm solves; general solvers take any."""
    TRAINED: ClassVar[Mapping[str, Any]] = {}
    """How the paper trained its prior, where not as the score SDE did (`TRAINING`)."""
    RULES: ClassVar[dict[str, Rule]] = {
        "lowest": more_than(0),
        "highest": more_than(0),
        "warm": below(1),
        "slice_axis": between(0, 2),
        "through_plane": at_least(0),
        "kept_back": below(1),
    }

    blocks: int = 4
    attention: tuple[int, ...] = (4,)
    dropout: float = 0.0
    sigma_max: float = 756.0
    """Highest noise level of training, of images in [-1, 1]: twice `highest`; 0 = as in `sde`."""
    solver: SolverName = "paper"
    """The posterior sampler: the paper's own, or a general one."""
    lowest: float = 0.01
    """Lowest noise level of the chain."""
    highest: float = 378.0
    """Highest noise level of the chain."""
    warm: float = 0.0
    """Begin at this time of the chain, in (0, 1), as CCDF does; 0 = at its highest level."""
    slice_axis: int = 0
    """Volumes and a prior of slices: the axis that numbers the slices."""
    through_plane: float = 0.0
    """Volumes and a prior of slices: the price of a jump of one grey value between neighbouring slices, as
    a log-probability (`inverse.ThroughPlane`); goes with --set solver=dds."""

    kept_back: float = 0.0
    """MRI: share of the samples outside of the calibration region that each scan keeps back, to weigh the prior
    against classical methods by how well they predict them (`by_scan`); 0 = the prior alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lowest < self.highest, "lowest", "must be less than --highest")
        if self.REFINES and self.solver == "paper":
            said = "has no meaning for the refined image of the paper; take --set solver=probed with it"
            require(not self.kept_back, "kept_back", said)
        if self.BEGINS and self.solver == "paper":
            said = f"has no meaning for the chain of {self.paper.id}, which begins at {self.BEGINS}; take 0"
            require(not self.warm, "warm", said)

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        if filled.measurement == "mri" and filled.values != "channels" and filled.channels != 1:
            raise UserError(
                f"{self.paper.id} reconstructs grey images by MRI, and these have {filled.channels} "
                "channels; take one of them, or --measurement noise or super-resolution"
            )
        return filled

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        options = super().training(preset)
        return {**options, **cls.TRAINED} if preset == "paper" else options

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
        """Where the chain starts, and its grid: the plain reconstruction under the first level's noise.

        At the papers' highest level the noise drowns it; at lower ones a start from noise alone would
        lack the brightness of the image. With `warm` the chain begins further down (CCDF).
        """
        start = self.warm or float(times[0])
        return warm_start(schedule, first, times, start, noise)

    def drawn(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """`reconstruct`, and what its chain says of the posterior's mean.

        That is the mean of the estimates E[x_0 given x_t and y] of the chain's part below `TOLD`
        (`Averaging`) where those are near (`Conditioned.has_mean`); of the others the sample itself.
        With `kept_back` both are moved to the mean that the scan chooses.

        Raises:
            UserError: the chain diverged, or nothing can be kept back.
        """
        if not self.kept_back:
            return self._walked(objective, acquired, seeds)
        stack = self.stack(objective, acquired)
        return stack.applied(*self._walked(objective, acquired, seeds))

    def stack(self, objective: Any, acquired: Acquired) -> Stack:
        """What the samples kept back say of this prior; known again when the same scan is asked for again.

        Raises:
            UserError: the chain diverged, or nothing can be kept back.
        """
        draw = partial(self._walked, objective)
        return remembered(objective, self, draw, acquired, self.kept_back)

    def said(self, objective: Any, acquired: Acquired) -> Batch:
        return self.stack(objective, acquired).said() if self.kept_back else {}

    def _walked(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        x, expected = walk(self, objective, acquired, seeds)
        if not bool(torch.isfinite(x.abs()).all()):
            raise UserError(f"the chain of {self.paper.id} diverged; take more steps (--steps)")
        return x, expected
