"""DiffuseRecon (Peng et al. 2022): coarse samples of slice pairs, their mean, a short refinement."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor

from ...acquisition import Acquired, MaskName
from ...diffusion.denoiser import Denoiser
from ...diffusion.guidance import Clipped
from ...diffusion.losses import Times, discrete_times
from ...diffusion.noise import Noise, Seeded
from ...diffusion.sample import DDPM, grids, prior
from ...diffusion.schedule import Discrete, Schedule
from ...errors import UserError
from ...inverse import Constrained, Measurement, data_consistency
from ...papers import Paper, by_id
from ..parts import PredictsName
from ..presets import PRECONDITIONED, SMALL, TINY
from ..ranges import Rule, at_least
from ..recipe import Batch
from .complex_prior import ComplexPrior, phased
from .posterior import check_solver, prior_denoiser
from .presets import trained
from .stacks import Stack, in_units, replaced, side_by_side

if TYPE_CHECKING:
    from ...data.dataset import Facts

__all__ = ["DiffuseRecon"]


@dataclass(frozen=True)
class DiffuseRecon(ComplexPrior):
    r"""An unconditional DDPM of two adjacent complex slices, guided by replacing k-space.

    **Coarse**: of every pair with slice s or s + 1 in it, `chains` chains of `steps` respaced steps;
    after each, what was measured replaces the image's k-space, noised to the level t - 1 moved to
    with fresh noise, $\sqrt{\bar\alpha_{t-1}}\,y + \sqrt{1-\bar\alpha_{t-1}}\,A z$ (the released code takes the
    network's own noise estimate instead). **Fine**: from the mean over samples and pairs, the last
    `refine` of `respaced` steps without noise, k-space replaced by y itself.

    The replacement is $x + A^H(y_{t-1} - A x)$: exact for one coil, as in the paper; for several coils
    (our extension) it is the same step towards the data. Where the data do not say which slices
    lie side by side (`slice` numbers), or are volumes, the state is one image, and there is one pair.
    The noise process is always the cosine list of `timesteps` betas; `process` plays no part.
    """

    paper: ClassVar[Paper] = by_id("diffuse-recon")
    REFINES: ClassVar[bool] = True
    NEIGHBOURS: ClassVar[tuple[int, ...]] = (-1, 1, 2)
    """Slices beside each case that the batches hold as "image_neighbours", "kspace_neighbours"."""
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *ComplexPrior.AFTER_TRAINING,
        *("chains", "respaced", "refine"),
    )

    RULES: ClassVar[dict[str, Rule]] = {
        "timesteps": at_least(2),
        "chains": at_least(1),
        "respaced": at_least(1),
        "refine": at_least(0),
    }

    BEGINS: ClassVar[str] = "noise alone"
    TRAINED: ClassVar[Mapping[str, Any]] = trained(
        150_000, batch=1, decay=0.9999, learning_rate=1e-4, warmup=0, clip=0.0
    )
    process: Literal["vp", "sub-vp", "ve", "sigma-power", "edm", "flow"] = "vp"
    predicts: PredictsName = "noise"
    timesteps: int = 4000
    """Number of betas, T."""
    multiples: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    blocks: int = 3
    attention: tuple[int, ...] = (6,)
    dropout: float = 0.3
    mask: MaskName = "gaussian-columns"
    acceleration: float = 8.0
    coils: int = 1
    steps: int = 100
    """Coarse steps."""
    chains: int = 10
    """Coarse samples that are averaged."""
    respaced: int = 500
    """Steps of the fine chain, were it walked in full."""
    refine: int = 20
    """The last ones of these, which are walked; 0 = the mean of the coarse samples."""

    @property
    def pair(self) -> int:
        """Slices in the state of the chain."""
        return max(1, self.channels // 2) if self.values == "channels" else 1

    def fitted(self, facts: "Facts") -> Self:
        filled = super().fitted(facts)
        beside = self.values == "channels" and "image_neighbours" in facts.channels
        return replace(filled, channels=self.channels or 4) if beside else filled

    def schedule(self) -> Discrete:
        return Discrete.cosine(self.timesteps)

    def chain_schedule(self) -> Schedule:
        return self.schedule()

    def times(self, schedule: Schedule) -> Times:
        return discrete_times(cast(Discrete, schedule))

    def slices(self, batch: Batch) -> Tensor:
        """Slice s, or s and s + 1 with one phase."""
        image = batch["image"]
        channels = image.shape[1]
        if self.pair == 2:
            following = batch["image_neighbours"][:, channels : 2 * channels]
            image = torch.cat([image, following], 1)
        return phased(image, channels, self.phase)

    def acquire(self, batch: Batch) -> Acquired:
        """The measurement of slice s; with its neighbours (`Stack`) where the batch holds them."""
        target = super().acquire(batch)
        key = "kspace" if "kspace" in batch else "image"
        if self.pair == 1 or f"{key}_neighbours" not in batch:
            return target
        beside = batch[f"{key}_neighbours"].chunk(len(self.NEIGHBOURS), 1)
        # neighbours have the phase and the coils of their slice, as in training; masks and noise are their own
        scan = {"scan": batch[key]} if key == "image" else {}
        made = (super(DiffuseRecon, self).acquire({key: x, **scan}) for x in beside)
        around = [in_units(each, target) for each in made]
        known = {field.name: getattr(target, field.name) for field in fields(Acquired)}
        return Stack(**known, around=tuple(around))

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        coarse = self.coarse(denoiser, acquired, noise)
        return self.fine(denoiser, acquired, coarse.mean(0), noise)[:, :1]

    def coarse(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        """Samples of slices s (and s + 1): (K, B, n, *S), K from each pair that holds the slice."""
        schedule = self.schedule()
        times = grids.strided(schedule, self.steps)
        runs = []
        for pair in self.pairs(acquired):
            project = data_consistency(pair, noised=True, inverse=pair.A.adjoint)
            sampler = Constrained(DDPM(Clipped(denoiser), noise, w=1.0), project)
            like = pair.A.adjoint(pair.y)
            starts = (prior(schedule, like, noise) for _ in range(self.chains))
            runs.append(torch.stack([sampler(x, times) for x in starts]))
        if len(runs) == 1:
            return runs[0]
        before, here, after = runs
        s = torch.cat([before[:, :, 1:], here[:, :, :1]])
        return torch.cat([s, torch.cat([here[:, :, 1:], after[:, :, :1]])], 2)

    def fine(self, denoiser: Denoiser, acquired: Acquired, x: Tensor, noise: Noise) -> Tensor:
        """The last steps of a longer chain from x (B, n, *S), not noised again: means only."""
        if self.refine == 0:
            return x
        pairs = self.pairs(acquired)
        pair = pairs[len(pairs) // 2]
        times = grids.strided(self.schedule(), self.respaced)[-self.refine - 1 :]
        mean = DDPM(Clipped(denoiser), torch.zeros_like)
        return Constrained(mean, replaced(pair))(x, times)

    def pairs(self, acquired: Acquired) -> list[Measurement]:
        """(s - 1, s), (s, s + 1), (s + 1, s + 2) side by side; slice s alone; or s twice."""
        if self.pair == 1:
            return [acquired.measurement]
        if not isinstance(acquired, Stack):
            return [side_by_side(acquired, acquired)]
        before, following, next_ = acquired.around
        row = (before, acquired, following, next_)
        return [side_by_side(row[j], row[j + 1]) for j in range(3)]

    def drawn(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        if self.solver != "paper" and self.pair == 2:
            raise UserError("this prior knows pairs of slices; only --set solver=paper can use it")
        return super().drawn(objective, acquired, seeds)

    def estimate(
        self, objective: Any, acquired: Acquired, seeds: Sequence[int]
    ) -> tuple[Tensor, Batch]:
        """The refined image, and the deviation of the coarse samples' magnitudes, (B, 1, *S)."""
        if self.solver != "paper":
            return super().estimate(objective, acquired, seeds)
        check_solver(self)
        denoiser, noise = prior_denoiser(self, objective, acquired.first), Seeded(seeds)
        with torch.no_grad():
            coarse = self.coarse(denoiser, acquired, noise)
            x = self.fine(denoiser, acquired, coarse.mean(0), noise)[:, :1]
        spread = coarse[:, :, :1].abs().std(0, correction=min(1, len(coarse) - 1))
        return x, {"deviation": spread}

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL, **PRECONDITIONED}
        return cls(**values, acceleration=4.0, coils=8, steps=30, chains=4)

    @classmethod
    def tiny(cls) -> Self:
        values = {**TINY, **PRECONDITIONED}
        return cls(**values, steps=3, chains=2, respaced=20, refine=2, acceleration=4.0)
