"""ProtDiff and SMCDiff (Trippe et al. 2023): backbones of proteins, and scaffolds around a motif."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import discrete_times
from ...diffusion.network import Network, elapsed, unit_variance, unscaled
from ...diffusion.noise import Noise
from ...diffusion.sample import Sampler
from ...diffusion.schedule import Discrete
from ...inverse import shared_path
from ...nn.egnn import EGNN
from ...papers import Paper, by_id
from ..law import Law
from ..parts import PredictsName, WeightName, predicts_named, weight_named
from ..ranges import Rule, at_least, between, more_than, require
from ..recipe import Batch
from ..task import Task
from .proteins.chains import lengths, whole
from .proteins.denoising import Chains
from .proteins.motif import segments
from .proteins.presets import SMALL, TINY, TRAINING
from .proteins.sampling import drawn_chains, scaffolds
from .proteins.task import BACKBONES

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SMCDiff"]


@dataclass(frozen=True)
class SMCDiff(Law):
    """An E(3)-equivariant network of C-alpha atoms; a particle filter on one shared forward path keeps a motif.

    It cannot tell a chain from its mirror image: left-handed helices are as likely as right-handed ones.
    """

    paper: ClassVar[Paper] = by_id("smcdiff")
    task: ClassVar[Task] = BACKBONES
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("steps", "conditioning", "particles", "trigger", "motif", "length", "before"),
    )
    UNFIT: ClassVar[str] = (
        "the method learns single chains of a length in its range, without a missing C-alpha"
    )
    RULES: ClassVar[dict[str, Rule]] = {
        "width": between(2, 65535),
        "layers": between(1, 1000),
        "shortest": at_least(2),
        "longest": at_least(4),
        "lengths": at_least(1),
        "timesteps": more_than(20),
        "data_std": more_than(0),
        "steps": at_least(1),
        "particles": at_least(1),
        "trigger": between(0, 2),
        "length": at_least(0),
        "before": at_least(-1),
    }

    width: int = 256
    """Features of a residue."""
    layers: int = 4
    """Rounds of messages between all residues."""
    shortest: int = 40
    """Shorter chains are left out of training."""
    longest: int = 128
    """Longer chains are left out of training."""
    lengths: tuple[int, ...] = ()
    """Lengths of new chains: quantiles, evenly spaced; empty = of the training chains."""
    timesteps: int = 1024
    """Number of betas, T: linear from 1e-4 to 0.02 for 1024, in proportion for others."""
    predicts: PredictsName = "noise"
    """What the network outputs."""
    loss: WeightName = "simple"
    """The loss weight."""
    preconditioned: bool = False
    """Scale the input to unit variance."""
    data_std: float = 0.77
    """Standard deviation of a coordinate about the middle of its chain, in tens of Angstrom."""
    steps: int = 1024
    """Sampling steps, at most `timesteps`."""
    conditioning: Literal["smcdiff", "replacement", "fixed"] = "smcdiff"
    """How a motif is kept: by the particle filter, or in place without weights, diffused or fixed."""
    particles: int = 64
    """Particles of the filter, K; one of them is the prediction."""
    trigger: float = 0.75
    """Resample where the weights' distance from equal ones is more than this share of K."""
    motif: str = ""
    """Residues that a scaffold is made for, as A10-25 or A1-4,A31-43."""
    length: int = 0
    """Residues of the chains to be made; 0 = drawn (samples), or of the motif's own chain."""
    before: int = -1
    """Residues in front of the motif; -1 = as many as in its own chain."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.width % 2 == 0, "width", f"must be even, not {self.width}")
        said = f"must be at least --shortest, {self.shortest}, not {self.longest}"
        require(self.longest >= self.shortest, "longest", said)
        said = f"must be at most --timesteps, {self.timesteps}, not {self.steps}"
        require(self.steps <= self.timesteps, "steps", said)
        said = f"must be at most the longest chain trained on, {self.longest}, not {self.length}"
        require(self.length <= self.longest, "length", said)
        if self.motif:
            segments(self.motif)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data: the law of lengths, of the chains that are neither too short nor too long."""
        found = facts.scalars.get("length", (self.shortest, self.longest))
        share = np.linspace(0, 1, len(found))
        first, last = np.interp([self.shortest, self.longest], found, share)
        kept = np.interp(np.linspace(first, last, len(found)), share, found).round().astype(int)
        lengths = np.clip(kept, self.shortest, self.longest).tolist()
        return replace(self, lengths=self.lengths or tuple(lengths))

    def suitable(self, batch: Batch) -> Tensor:
        """Which cases are trained on, (B,) bool."""
        count = lengths(batch)
        return whole(batch) & (count >= self.shortest) & (count <= self.longest)

    def schedule(self) -> Discrete:
        """Linear betas."""
        betas = torch.linspace(1e-4, 0.02, self.timesteps, dtype=torch.float64)
        return Discrete(betas * 1024 / self.timesteps)

    def objective(self) -> Chains:
        """Denoising of chains."""
        schedule = self.schedule()
        backbone = EGNN(self.width, self.layers, self.longest, self.timesteps)
        scale = unit_variance(self.data_std) if self.preconditioned else unscaled
        predicts = predicts_named(self.predicts, self.data_std)
        network = Network(backbone, schedule, predicts, scale, elapsed)
        weight = weight_named(self.loss, self.data_std)
        return Chains(network, self.by_law(schedule, discrete_times(schedule)), weight)

    def drawn(self, objective: Any, batch: Batch) -> Batch:
        """Chains from seeds (B,): "coords" (B, longest, 3) in Angstrom, 0 beyond "length" (B,)."""
        return drawn_chains(self, objective, batch["seed"])

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """A scaffold of the motif of every case, case by case.

        Args:
            batch: "coords" and perhaps "length" and "residues" (see `BACKBONES`), "seed" int64 (B,).

        Raises:
            UserError: no motif is set, or a case does not hold it.
        """
        return scaffolds(self, objective, batch)

    def make_sampler(self, denoiser: Denoiser, y: Tensor, known: Tensor, noise: Noise) -> Sampler:
        """The sampler that keeps a motif y (1, N, 3), known (1, N, 3) where it is."""
        if self.conditioning == "smcdiff":
            return shared_path.SMCDiff(denoiser, y, known, noise, self.particles, self.trigger)
        return shared_path.Replacement(
            denoiser, y, known, noise, fixed=self.conditioning == "fixed"
        )

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)
