"""ProtDiff and SMCDiff (Trippe et al. 2023): backbones of proteins, and scaffolds around a motif."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.losses import discrete_times
from ...diffusion.network import Given, Network, elapsed, unit_variance, unscaled
from ...diffusion.noise import Noise, Seeded, derive
from ...diffusion.sample import DDPM, Sampler, grids, prior
from ...diffusion.schedule import Discrete
from ...errors import UserError
from ...inverse import shared_path
from ...nn.egnn import EGNN
from ...papers import Paper, by_id
from ...training.objective import device_of
from ..parts import PredictsName, WeightName, predicts_named, weight_named
from ..ranges import Checked, Rule, at_least, between, more_than, require
from ..recipe import Batch
from ..task import Task
from .proteins.chains import SCALE, alphas, lengths, whole
from .proteins.denoising import Chains
from .proteins.motif import find_motif, numbered_from_one, segments
from .proteins.presets import SMALL, TINY, TRAINING
from .proteins.task import BACKBONES

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["SMCDiff"]


@dataclass(frozen=True)
class SMCDiff(Checked):
    """An E(3)-equivariant network of C-alpha atoms; a particle filter on one shared forward path keeps a motif.

    It cannot tell a chain from its mirror image: left-handed helices are as likely as right-handed ones.
    """

    paper: ClassVar[Paper] = by_id("smcdiff")
    task: ClassVar[Task] = BACKBONES
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *("steps", "conditioning", "particles", "trigger", "motif", "length", "before"),
    )
    LEFT_OUT: ClassVar[str] = (
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
        if self.motif:
            segments(self.motif)

    @classmethod
    def training(cls, preset: str) -> dict[str, Any]:
        """Options of the training loop that go with a preset, where they are not its defaults."""
        return dict(TRAINING.get(preset, {}))

    def fitted(self, facts: "Facts") -> Self:
        """Fill what comes from the data: the law of lengths."""
        found = facts.scalars.get("length", (self.shortest, self.longest))
        kept = (min(max(round(each), self.shortest), self.longest) for each in found)
        return replace(self, lengths=self.lengths or tuple(kept))

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
        return Chains(network, discrete_times(schedule), weight)

    def drawn(self, objective: Any, batch: Batch) -> Batch:
        """Chains from seeds (B,): "coords" (B, longest, 3) in Angstrom, 0 beyond "length" (B,)."""
        seeds = [int(seed) for seed in batch["seed"]]
        counts = [self.length or self._length(seed) for seed in seeds]
        most = max(*counts, self.longest)
        mask = (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).float()
        mask = mask.to(device_of(objective))
        noise = _Within(Seeded(seeds), most)
        denoiser = Given(objective.network, mask=mask).eval()
        x = self._walked(DDPM(denoiser, noise, w=1.0), mask)
        coords = x.new_zeros(len(seeds), most, 3)
        coords[:, : x.shape[1]] = _in_angstrom(x, mask)
        return {"coords": coords, "length": torch.tensor(counts, device=x.device)}

    def predict(self, objective: Any, batch: Batch) -> Batch:
        """A scaffold of the motif of every case, case by case.

        Args:
            batch: "coords" and perhaps "length" and "residues" (see `BACKBONES`), "seed" int64 (B,).

        Raises:
            UserError: no motif is set, or a case does not hold it.
        """
        if not self.motif:
            raise UserError(
                "a scaffold needs a motif: --set motif=A10-25; `radiffuse sample` makes chains without"
            )
        made = [
            self.scaffold(objective, {key: value[row : row + 1] for key, value in batch.items()})
            for row in range(len(batch["coords"]))
        ]
        most = max(batch["coords"].shape[1], self.length)
        found = {
            key: torch.stack([_padded(one[key], most) for one in made])
            for key in ("coords", "motif")
        }
        return {**found, "length": torch.stack([one["length"] for one in made])}

    def scaffold(self, objective: Any, batch: Batch) -> Batch:
        """One case's: "coords" (N, 3) in Angstrom, about the middle of the motif, "motif" (N,) and "length" ()."""
        device = device_of(objective)
        chain = alphas(batch["coords"])[0, : int(lengths(batch)[0])]
        named = (
            batch["residues"][0, : len(chain)]
            if "residues" in batch
            else numbered_from_one(len(chain))
        )
        motif = find_motif(self.motif, named, chain.isfinite().all(-1), self.length, self.before)
        places = list(motif.places)
        y, known = torch.zeros(2, 1, motif.length, 3, device=device)
        given = chain[list(motif.rows)]
        y[0, places], known[0, places] = ((given - given.mean(0)) / SCALE).to(y), 1.0
        seed = int(batch["seed"][0])
        count = self.particles if self.conditioning == "smcdiff" else 1
        noise = Seeded(derive(seed, "particle", k) for k in range(count))
        mask = torch.ones(count, motif.length, device=device)
        denoiser = Given(objective.network, mask=mask).eval()
        x = self._walked(self.make_sampler(denoiser, y, known, noise), mask)
        chosen = x[derive(seed, "chosen") % count] * SCALE
        return {
            "coords": chosen,
            "motif": known[0, :, 0],
            "length": torch.tensor(motif.length, device=device),
        }

    def make_sampler(self, denoiser: Denoiser, y: Tensor, known: Tensor, noise: Noise) -> Sampler:
        """The sampler that keeps a motif y (1, N, 3), known (1, N, 3) where it is."""
        if self.conditioning == "smcdiff":
            return shared_path.SMCDiff(denoiser, y, known, noise, self.particles, self.trigger)
        return shared_path.Replacement(
            denoiser, y, known, noise, fixed=self.conditioning == "fixed"
        )

    def _walked(self, sampler: Sampler, mask: Tensor) -> Tensor:
        """The end of a chain from noise, (B, N, 3)."""
        schedule = self.schedule()
        like = mask.new_zeros(*mask.shape, 3)
        return sampler(prior(schedule, like, sampler.noise), grids.strided(schedule, self.steps))

    def _length(self, seed: int) -> int:
        """A length by the law of `lengths`."""
        law = torch.tensor(self.lengths, dtype=torch.float64)
        share = derive(seed, "length") / 2**63
        return round(float(torch.quantile(law, share)))

    @classmethod
    def small(cls) -> Self:
        return cls(**SMALL)

    @classmethod
    def tiny(cls) -> Self:
        return cls(**TINY)


class _Within:
    """Noise of chains cut from noise of `most` residues, so that a chain's does not depend on the others' lengths."""

    def __init__(self, noise: Noise, most: int) -> None:
        self.noise, self.most = noise, most

    def __call__(self, like: Tensor) -> Tensor:
        return self.noise(like.new_zeros(len(like), self.most, 3))[:, : like.shape[1]]


def _padded(x: Tensor, most: int) -> Tensor:
    """x (N, *) with zeros up to `most`."""
    return torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])


def _in_angstrom(x: Tensor, mask: Tensor) -> Tensor:
    """Chains about their mean."""
    mean = (x * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
    return (x - mean) * mask[..., None] * SCALE
