"""Bayesian MRI (Luo et al. 2023): the reverse Markov chain of the image times the likelihood."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from ...acquisition import Acquired, MaskName
from ...diffusion.denoiser import Denoiser
from ...diffusion.kernels import ancestral
from ...diffusion.losses import Times, stratified
from ...diffusion.noise import Noise, Seeded, derive
from ...diffusion.sample import Sampler, grids
from ...diffusion.sample.base import State
from ...diffusion.schedule import VE, Schedule
from ...errors import UserError
from ...inverse import Measurement
from ...papers import Paper, by_id
from ..ranges import Rule, at_least, below, more_than, none_or
from .complex_prior import ComplexPrior
from .presets import COMPLEX_LAW, SMALL_PRIOR, TINY_PRIOR, trained

__all__ = ["BayesMRI", "PosteriorChain"]

BURN_IN = derive(0, "burn-in")
"""Seed of what the draws of a case share."""


@dataclass(frozen=True)
class BayesMRI(ComplexPrior):
    r"""A Markov chain through the posterior at falling noise, with a prior of complex images.

    The defaults are the paper's demonstration: N = 100 levels from 1 to 0.001, the first 30 left out,
    K = 5 steps a level, $\lambda = 25$. One prediction is one chain; `--samples 10` runs ten, whose mean
    is the paper's minimum mean-square estimate and whose deviation its uncertainty, and
    `--set extend=200` goes on without noise to the maximum a posteriori. With K > 1 the repeated
    ancestral noise is less than a posterior's: where nothing is measured, the variance of Gaussian
    data tends to half of the prior's as K grows (K = 1: to all of it).

    The paper's burn-in is `--set burn_in=0.2`: all draws of a case share their chain down to that time, and
    walk apart below it. (Each draw walks the shared part anew, so it costs what independent draws do.)
    Its first network, NCSN with a ladder of ten levels, is `--ladder 10 --lowest 0.01 --highest 0.3 --steps 10
    --repeats 50 --skip 0 --weight-of-data 13 --weight-of-score 0.25`.
    """

    paper: ClassVar[Paper] = by_id("bayes-mri")
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = (
        *ComplexPrior.AFTER_TRAINING,
        *("weight_of_data", "weight_of_score", "repeats", "skip", "extend", "burn_in"),
    )

    RULES: ClassVar[dict[str, Rule]] = {
        "weight_of_data": at_least(0),
        "weight_of_score": more_than(0),
        "repeats": at_least(1),
        "skip": below(1),
        "extend": at_least(0),
        "burn_in": below(1),
        "ladder": none_or(at_least(2)),
    }
    TRAINED: ClassVar[Mapping[str, Any]] = trained(100_000, batch=10, learning_rate=1e-4, warmup=0)

    width: int = 64
    attention: tuple[int, ...] = ()
    blocks: int = 2
    mask: MaskName = "poisson-disc"
    acceleration: float = 10.0
    calibration: int = 20
    steps: int = 100
    """Number of noise levels N of the whole grid, the skipped ones counted."""
    lowest: float = 0.001
    highest: float = 1.0
    weight_of_data: float = 25.0
    """lambda of the likelihood."""
    weight_of_score: float = 1.0
    """kappa of the prior's score."""
    repeats: int = 5
    """K, steps a level."""
    skip: float = 0.3
    """Share of levels left out at the noisy end; more where the chain would be unstable there."""
    extend: int = 0
    """Steps without noise after the chain, towards the maximum a posteriori (the paper: 200)."""
    burn_in: float = 0.0
    """Time of the chain down to which all draws of a case are one; 0 = none of it."""
    ladder: int = 0
    """Levels from `highest` to `lowest` that the network is trained at; 0 = all between."""

    def schedule(self) -> Schedule:
        return VE(self.lowest, self.highest) if self.process == "ve" else super().schedule()

    def times(self, schedule: Schedule) -> Times:
        if not self.ladder:
            return super().times(schedule)
        return lambda count: stratified(count, self.ladder) / (self.ladder - 1)

    def chain(self, denoiser: Denoiser, acquired: Acquired, noise: Noise) -> Tensor:
        times = self.levels(denoiser.schedule)
        shared = Seeded([BURN_IN] * len(acquired.first)) if self.burn_in else noise
        x = uniform(shared, acquired.first)
        if self.warm:
            x, times = self.begin(denoiser.schedule, times, acquired.first, shared)
        one = int((times > self.burn_in).sum()) if self.burn_in else 0
        if one := min(one, len(times) - 2):  # the last step is every draw's own
            x = self.sampler_of(denoiser, acquired, shared)(x, times[: one + 1])
            times = times[one:]
        return self.sampler_of(denoiser, acquired, noise, self.extend)(x, times)

    def sampler_of(
        self, denoiser: Denoiser, acquired: Acquired, noise: Noise, extend: int = 0
    ) -> "PosteriorChain":
        """The chain that the fields describe."""
        weights = (self.weight_of_data, self.repeats, extend, self.weight_of_score)
        return PosteriorChain(denoiser, acquired.measurement, noise, *weights)

    def levels(self, schedule: Schedule) -> Tensor:
        r"""The times of the chain: the grid of N levels without the first ones.

        A step of the likelihood is stable where $\lambda\tau_i\|A^H A\| < 2$, and $\|A\| \le 1$ for coil maps
        whose squares sum to 1.

        Raises:
            UserError: fewer than two levels are left.
        """
        times = grids.uniform(self.steps - 1)
        sigma = schedule.sigma(times)
        tau = sigma[1:] * (1 - (sigma[1:] / sigma[:-1]) ** 2).sqrt()
        unstable = int((self.weight_of_data * tau >= 2).sum())
        times = times[max(unstable, round(self.skip * self.steps)) :]
        if len(times) < 2:
            raise UserError(
                f"no level of {self.steps} is stable with weight_of_data = {self.weight_of_data:g}; "
                "take more steps (--steps) or a smaller weight"
            )
        return times

    @classmethod
    def small(cls) -> Self:
        values = {**SMALL_PRIOR, **COMPLEX_LAW, "stop": 0.0, "acceleration": 4.0}
        values |= {"calibration": 0}
        return cls(**values, mask="gaussian-columns", steps=50, repeats=3)

    @classmethod
    def tiny(cls) -> Self:
        values = {**TINY_PRIOR, **COMPLEX_LAW, "acceleration": 4.0, "calibration": 0}
        return cls(**values, steps=8, repeats=2, extend=2)


def uniform(noise: Noise, like: Tensor) -> Tensor:
    """Uniform [0, 1) numbers of the shape of `like`, each part of complex ones: Phi of the noise."""
    z = noise(like)
    if z.is_complex():
        return torch.view_as_complex(torch.special.ndtr(torch.view_as_real(z)))
    return torch.special.ndtr(z)


class PosteriorChain(Sampler):
    r"""K times a level: the learned ancestral step, a drift to the data, and noise.

    $$ x \leftarrow x + \kappa d_i\,s(x,\sigma_i) - \lambda\tau_i (A^H A x - A^H y) + \tau_i z $$

    with $d_i = \sigma_i^2 - \sigma_{i-1}^2$ and $\tau_i^2 = \sigma_{i-1}^2 d_i/\sigma_i^2$, the
    variance of the ancestral step: the likelihood's weight falls with the noise.

    Args:
        weight: lambda.
        repeats: K.
        extend: steps without noise at the last level, after the chain.
        kappa: weight of the score.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise,
        weight: float = 25.0,
        repeats: int = 5,
        extend: int = 0,
        kappa: float = 1.0,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.weight, self.kappa = measurement, weight, kappa
        self.repeats, self.extend = repeats, extend

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x = x_t
        for _ in range(self.repeats):
            x = self.once(x, t, s, self.noise(x))
        return x, (t, s)

    def once(self, x: Tensor, t: Tensor, s: Tensor, z: Tensor | None) -> Tensor:
        """One step from t to s; without z its mean."""
        m = self.measurement
        mean, variance = ancestral(self.schedule, x, self.denoiser(x, t), t, s)
        tau = variance.sqrt()
        x = torch.lerp(x, mean, self.kappa) + self.weight * tau * m.adjoint(m.residual(x), x)
        return x if z is None else x + tau * z

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        if state is not None:
            last, s = state
            for _ in range(self.extend):
                x = self.once(x, last, s, None)
        return x
