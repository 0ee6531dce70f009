"""Score-MRI (Chung & Ye 2022): one magnitude prior, complex multi-coil MRI by hard data consistency."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...diffusion.complex_images import Parts
from ...diffusion.denoiser import Denoiser
from ...diffusion.noise import Noise
from ...diffusion.sample import DDPM, Langevin, Sampler, Then, grids, signal_to_noise
from ...diffusion.sample.base import State
from ...inverse import Constrained, Measurement, data_consistency
from ...operators import Coils, Fourier, LinearOperator, Mask
from ...operators.coils import root_sum_of_squares
from ...papers import Paper, by_id
from ..ranges import Rule, at_least, more_than
from .base import Reconstruction
from .presets import SMALL_PRIOR, TINY_PRIOR, trained

__all__ = ["ScoreMRI", "Sense"]


@dataclass(frozen=True)
class ScoreMRI(Reconstruction):
    """Predictor-corrector of the VE SDE; measured k-space is put back, without noise, after both.

    `combine` says what the chain walks on: every coil's image ("coils", algorithm 4: the root of
    the sum of squares at the end), the same with a SENSE step now and then ("hybrid", algorithm 5),
    or the one image behind all coils ("sense", the SENSE step alone at every level, 2 K times
    cheaper; algorithm 2 and 3 for one coil). The N levels begin at `highest`, or where that is lower at
    the highest one that the network was trained at.
    """

    paper: ClassVar[Paper] = by_id("score-mri")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *Reconstruction.AFTER_TRAINING,
        *("combine", "every", "ratio"),
    )

    RULES: ClassVar[dict[str, Rule]] = {"every": at_least(1), "ratio": more_than(0)}
    TRAINED: ClassVar[Mapping[str, Any]] = trained(2_400_000, batch=1, decay=0.999)

    coils: int = 15
    values: Literal["auto", "real", "parts"] = "parts"
    steps: int = 2000
    stop: float = 1e-5
    combine: Literal["sense", "coils", "hybrid"] = "hybrid"
    """What the chain walks on."""
    every: int = 50
    """Steps between SENSE steps of "hybrid"."""
    ratio: float = 0.16
    """Signal-to-noise ratio r of the corrector."""

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        if self.combine == "sense":
            return self.walk(denoiser, acquired.measurement, acquired.first, noise)
        assert acquired.maps is not None and acquired.mask is not None
        y, s = acquired.measurement.y, acquired.measurement.std
        axes = y.dim() - 2
        one: LinearOperator = Mask(acquired.mask) @ Fourier(axes)
        coils = Measurement(y, one, s)
        sense = Measurement(y, one @ Coils(acquired.maps), s) if self.combine == "hybrid" else None
        prior = denoiser if isinstance(denoiser, Parts) else Parts(denoiser)
        x = self.walk(prior, coils, one.adjoint(y), noise, sense, acquired.maps)
        # the combined magnitude takes the phase of the image behind the coils: |x| alone explains no y
        return root_sum_of_squares(x) * torch.sgn(Coils(acquired.maps).adjoint(x))

    def walk(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        first: Tensor,
        noise: Noise,
        sense: Measurement | None = None,
        maps: Tensor | None = None,
    ) -> Tensor:
        """The predictor-corrector chain with data consistency after both."""
        project = data_consistency(measurement, inverse=measurement.A.adjoint)
        corrector = Langevin(denoiser, noise, signal_to_noise(self.ratio))
        sampler: Sampler = Then(
            Constrained(DDPM(denoiser, noise, w=1.0), project), Constrained(corrector, project)
        )
        times = grids.uniform(self.steps, self.trained_to(denoiser), self.stop)
        x, times = self.begin(denoiser.schedule, times, first, noise)
        if sense is not None and maps is not None:
            sampler = Sense(sampler, sense, maps, self.every, len(times) - 1)
        return sampler(x, times)

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL_PRIOR, "filtered": True, "stop": 0.0, "steps": 100, "coils": 8}
        return cls(**values, combine="sense", values="auto", lowest=0.005, highest=10.0)

    @classmethod
    def tiny(cls) -> Self:
        values = {**TINY_PRIOR, "filtered": True, "steps": 4, "coils": 8}
        return cls(**values, highest=10.0, every=2)


class Sense(Sampler):
    r"""Every few steps the coil images X are made to agree with one image (algorithm 5).

    $z = C^H X$, $z \leftarrow z + \lambda A^H (y - A z)$, $X \leftarrow C z$ with A = M F C and lambda falling
    linearly from 1 to 0.2 over the chain.

    Args:
        sampler: walks coil images (B, K, *S).
        measurement: of the one image.
        maps: C, (B, K, *S).
        every: steps between two of these.
        steps: of the whole chain.
    """

    def __init__(
        self, sampler: Sampler, measurement: Measurement, maps: Tensor, every: int, steps: int
    ) -> None:
        super().__init__(sampler.denoiser, sampler.noise)
        self.sampler, self.measurement, self.coils = sampler, measurement, Coils(maps)
        self.every, self.steps = every, steps

    def init(self, x: Tensor, t: Tensor) -> State:
        return 0, self.sampler.init(x, t)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        number, inner = state
        x, inner = self.sampler.step(x_t, t, s, inner)
        if number % self.every == 0:
            x = self.agree(x, 1.0 - 0.8 * number / max(self.steps - 1, 1))
        return x, (number + 1, inner)

    def agree(self, x: Tensor, strength: float) -> Tensor:
        """The SENSE step of coil images (B, K, *S)."""
        z = self.coils.adjoint(x)
        z = z + strength * self.measurement.A.adjoint(self.measurement.residual(z))
        return self.coils(z)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return self.sampler.finish(x, t, state[1])
