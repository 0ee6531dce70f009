r"""Loss weights and the times a network is trained at.

Every loss of the field is $E\,w(t)\,\|\hat z - z\|^2$ for some weight on the *noise* error. With
$\Delta = c_x\sigma - c_z\alpha$ of the network's parametrisation, an error $e$ of its output is a
noise error $-\alpha e/\Delta$ and a clean error $\sigma e/\Delta$, so a weight here is what
multiplies the squared *output* error, computed without dividing by a vanishing alpha or sigma:

| weight | on the noise error | from |
|---|---|---|
| `simple` | 1 | Ho et al. 2020, eq. 14; with $\sigma^2\|s\|^2$ also NCSN |
| `likelihood` | $g^2/\sigma^2$ | Song et al. 2021 (maximum likelihood training) |
| `p2(k, gamma)` | $1/(k+SNR)^\gamma$ | Choi et al. 2022 |
| `min_snr(gamma)` | $\min(SNR,\gamma)/SNR$ | Hang et al. 2023 |
| `karras(s)` | $(\alpha^2s^2+\sigma^2)/(s\alpha)^2$ | Karras et al. 2022, table 1 |
| `output` | $\Delta^2/\alpha^2$ | plain MSE of the output: v-prediction, flow matching |
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .parametrization import Predicts
from .schedule import Discrete, Schedule

__all__ = [
    "Times",
    "Weight",
    "discrete_times",
    "karras",
    "likelihood",
    "log_normal",
    "min_snr",
    "output",
    "p2",
    "simple",
    "stratified",
    "uniform_times",
]

Weight = Callable[[Schedule, Tensor, Predicts], Tensor]
"""(schedule, t (B,), parametrisation) -> factor (B,) of the squared output error, float64."""

Times = Callable[[int], Tensor]
"""batch size -> times (B,), float64, from torch's global generator."""


def _parts(schedule: Schedule, t: Tensor, predicts: Predicts) -> tuple[Tensor, Tensor, Tensor]:
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    c_x, c_z = predicts.coefficients(alpha, sigma)
    return alpha, sigma, c_x * sigma - c_z * alpha


def simple(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
    """Squared noise error, unweighted; equal to the sigma^2-weighted score error."""
    alpha, _, delta = _parts(schedule, t, predicts)
    return (alpha / delta) ** 2


def output(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
    """Squared error of the network's output as it is."""
    return torch.ones_like(t)


def likelihood(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
    r"""$g^2$ on the squared score error."""
    return simple(schedule, t, predicts) * (schedule.diffusion(t) / schedule.sigma(t)) ** 2


def p2(k: float = 1.0, gamma: float = 1.0) -> Weight:
    """Less weight where the image is hardly noisy."""

    def weight(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
        alpha, sigma, delta = _parts(schedule, t, predicts)
        return (alpha / delta) ** 2 / (k + (alpha / sigma) ** 2) ** gamma

    return weight


def min_snr(gamma: float = 5.0) -> Weight:
    """The clean error weighted by the signal-to-noise ratio, at most gamma."""

    def weight(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
        alpha, sigma, delta = _parts(schedule, t, predicts)
        return torch.minimum((alpha / delta) ** 2, gamma * (sigma / delta) ** 2)

    return weight


def karras(data_std: float = 0.5) -> Weight:
    """EDM's weight: the output error as it is, if the network predicts `edm(data_std)`."""

    def weight(schedule: Schedule, t: Tensor, predicts: Predicts) -> Tensor:
        alpha, sigma, delta = _parts(schedule, t, predicts)
        return (alpha**2 * data_std**2 + sigma**2) / (data_std * delta) ** 2

    return weight


def _strata(count: int) -> Tensor:
    """Uniform numbers, one in each of `count` equal intervals, in random order (less variance)."""
    jitter = torch.rand(count, dtype=torch.float64)
    return ((torch.arange(count) + jitter) / count)[torch.randperm(count)]


def stratified(count: int, kinds: int) -> Tensor:
    """`count` of the whole numbers 0 .. kinds - 1 as float64, uniform, one in each of as many strata."""
    return (_strata(count) * kinds).floor().clamp(max=kinds - 1)


def uniform_times(smallest: float = 1e-5) -> Times:
    """t uniform on [smallest, 1] (Song et al. 2021), stratified over the batch."""
    return lambda count: smallest + (1 - smallest) * _strata(count)


def discrete_times(schedule: Discrete, share: float = 1.0) -> Times:
    """t = i / T, i uniform on 1..T (Ho et al. 2020), stratified over the batch.

    With a `share` below 1 only on 1 .. share T, the part of the chain that is used.
    """
    most = max(1, round(share * schedule.steps))
    return lambda count: (stratified(count, most) + 1) / schedule.steps


def log_normal(schedule: Schedule, mean: float = -1.2, std: float = 1.2) -> Times:
    r"""$\log(\sigma/\alpha)\sim N(mean, std^2)$ (Karras et al. 2022), stratified over the batch."""

    def times(count: int) -> Tensor:
        normal = math.sqrt(2) * torch.erfinv(2 * _strata(count).clamp(1e-9, 1 - 1e-9) - 1)
        return schedule.time(-(mean + std * normal))

    return times
