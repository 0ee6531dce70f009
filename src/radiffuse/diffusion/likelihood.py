r"""Likelihoods: exact by the probability-flow ODE, and the variational bound of the chain.

Along the flow $\log p_0(x_0) = \log p_1(x_1) + \int_0^1 \nabla\!\cdot v(x_t, t)\,dt$ (Song et al. 2021,
eq. 39), with the divergence by Hutchinson's estimator or exactly.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor

from .denoiser import Denoiser
from .integrate import dormand_prince
from .kernels import ancestral, diffuse, posterior
from .noise import Noise, Seeded, gaussian
from .sample.ode import flow
from .schedule import Discrete, Schedule

__all__ = [
    "bits_per_dimension",
    "discretised_nll",
    "log_likelihood",
    "normal_kl",
    "step_kl",
    "variational_bound",
]


def log_likelihood(
    denoiser: Denoiser,
    x: Tensor,
    noise: Seeded | None,
    smallest: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    r"""log p(x) in nats, (B,), of data x (B, *) under the flow, prior $N(0, \sigma(1)^2 I)$.

    Args:
        noise: source of the Rademacher probes of Hutchinson's estimator (unbiased); None computes
            the divergence exactly with one backward pass a dimension (small problems).
        smallest: the time at which x is taken to lie.
    """
    probe = None if noise is None else noise.signs(x)

    def slope(state: tuple[Tensor, ...], t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x_t = state[0].detach().requires_grad_()
            v = flow(denoiser, x_t, t)
            divergence = _divergence(v, x_t, probe)
        return v.detach(), divergence.to(state[1])

    start = torch.zeros(len(x), 1, dtype=torch.float64)
    x_1, integral = dormand_prince(slope, (x, start), smallest, 1.0, rtol, atol)
    _, sigma = denoiser.schedule(torch.tensor(1.0), x.double())
    flat = x_1.double().flatten(1)
    dims = flat.shape[1]
    log_prior = -0.5 * (flat**2).sum(1) / sigma.cpu() ** 2 - dims * (
        torch.log(sigma.cpu()) + 0.5 * math.log(2 * math.pi)
    )
    return log_prior + integral[:, 0]


def _divergence(v: Tensor, x: Tensor, probe: Tensor | None) -> Tensor:
    if probe is not None:
        (gradient,) = torch.autograd.grad(v, x, probe)
        return (gradient * probe).flatten(1).sum(1, keepdim=True)
    total = torch.zeros(len(x), 1, dtype=x.dtype)
    columns = v.flatten(1)
    for i in range(columns.shape[1]):
        (gradient,) = torch.autograd.grad(columns[:, i].sum(), x, retain_graph=True)
        total = total + gradient.flatten(1)[:, i : i + 1]
    return total


def bits_per_dimension(
    denoiser: Denoiser,
    x: Tensor,
    levels: int = 256,
    seeds: Iterable[int] | None = None,
    rtol: float = 1e-3,
    atol: float = 1e-3,
) -> Tensor:
    r"""Bits per dimension (B,) of images stored with `levels` grey values over [-1, 1].

    x (B, C, *S) lies on the grid; uniform dequantisation over a bin of width 2 / levels makes it a
    density (Theis et al. 2016), so this is an upper bound of the discrete code length:
    $-\log_2 p(x + u)/D + \log_2(levels/2)$.

    Args:
        seeds: one a case, for dequantisation and Hutchinson's probes (0, 1, ... by default).
    """
    noise = Seeded(range(len(x)) if seeds is None else seeds)
    # [-1, 1] holds levels - 1 gaps: widen to levels bins, then fill each bin evenly
    spread = x * (levels - 1) / levels + (2 * noise.uniform(x) - 1) / levels
    nats = -log_likelihood(denoiser, spread, noise, rtol=rtol, atol=atol)
    dims = x[0].numel()
    return (nats / dims + math.log(levels / 2)) / math.log(2)


@torch.no_grad()
def variational_bound(
    denoiser: Denoiser,
    x: Tensor,
    schedule: Discrete,
    noise: Noise = gaussian,
    w: float | None = 0.0,
    levels: int = 256,
) -> Tensor:
    r"""The bound of the T-step chain in bits per dimension, (B,) (Ho et al. 2020, eq. 5).

    Prior KL + sum of KL(q(x_s | x_t, x_0) || p(x_s | x_t)) + discretised decoder at the last step,
    every t with a fresh x_t.

    Args:
        denoiser: E[x_0 given x_t] under `schedule` (`Rescheduled` brings others to it).
        x: images on the grid of `levels` values over [-1, 1], (B, C, *S).
        w: the chain's variance, as in `kernels.ancestral`; None for a learned one. The decoder's, where it
            is not learned, is the posterior's of the step before (Ho et al. 2020, "fixedlarge" too).

    Raises:
        ValueError: the chain has one step: the last step's lower variance is that of the one before.
    """
    if schedule.steps < 2:
        raise ValueError("the bound needs a chain of at least 2 steps, and this one has 1")
    times = torch.linspace(1, 0, schedule.steps + 1, dtype=torch.float64)
    alpha, sigma = schedule(times[0], x)
    zero = torch.zeros_like(x)
    total = normal_kl(alpha * x, 2 * torch.log(sigma).expand_as(x), zero, zero).flatten(1).sum(1)
    floor = posterior(schedule, x, x, times[-3], times[-2])[1]
    for t, s in pairwise(times):
        x_t = diffuse(schedule, x, t, noise(x))
        place: float | Tensor
        estimate, place = (denoiser(x_t, t), w) if w is not None else denoiser.with_variance(x_t, t)
        if float(s) > 0:
            term = step_kl(schedule, x_t, x, estimate, t, s, place)
        else:
            large = posterior(schedule, x_t, x, t, s)[2]
            top = large if w is None else floor
            log_variance = place * top.log() + (1 - place) * floor.log()
            term = discretised_nll(x, estimate, log_variance / 2 * torch.ones_like(x), levels)
        total = total + term.flatten(1).sum(1)
    return total / (x[0].numel() * math.log(2))


def step_kl(
    schedule: Schedule,
    x_t: Tensor,
    x_0: Tensor,
    estimate: Tensor,
    t: Tensor,
    s: Tensor,
    w: float | Tensor = 0.0,
) -> Tensor:
    r"""KL(q(x_s | x_t, x_0) || p(x_s | x_t)) of a step from t to s > 0, element by element, in nats (B, *).

    With equal variances (w = 0) $\lVert\tilde\mu - \mu_\theta\rVert^2 / 2\tilde\beta$ (Ho et al. 2020, eq. 8-12), for
    s the step before t $\frac{\beta_t^2}{2\tilde\beta_t\,(1-\beta_t)(1-\bar\alpha_t)}(z - \hat z)^2$ of the noise.

    Args:
        x_t, x_0: a noisy image and the image it is of, (B, *).
        estimate: the denoiser's answer at x_t.
        w: the variance of p, as in `kernels.ancestral`.
    """
    true, small, _ = posterior(schedule, x_t, x_0, t, s)
    mean, variance = ancestral(schedule, x_t, estimate, t, s, w)
    log_variance = torch.as_tensor(variance).log().expand_as(x_t)
    return normal_kl(true, small.log().expand_as(x_t), mean, log_variance)


def normal_kl(mean_p: Tensor, log_p: Tensor, mean_q: Tensor, log_q: Tensor) -> Tensor:
    """KL(N(mean_p, exp log_p) || N(mean_q, exp log_q)) of scalars, in nats; log variances."""
    return 0.5 * (
        log_q - log_p + torch.exp(log_p - log_q) + (mean_p - mean_q) ** 2 * torch.exp(-log_q) - 1
    )


def discretised_nll(x: Tensor, mean: Tensor, log_std: Tensor, levels: int = 256) -> Tensor:
    """-log of the mass that N(mean, std^2) gives to the bin of x, in nats a value.

    x on a grid of `levels` values from -1 to 1; the end bins reach to infinity (Ho et al. 2020,
    eq. 13). Computed from log-cdf differences, so no clamp saturates it far from the mean.
    """
    half = 1 / (levels - 1)
    low, high = (x - half - mean) * torch.exp(-log_std), (x + half - mean) * torch.exp(-log_std)
    low = torch.where(x < -1 + half, torch.full_like(low, -math.inf), low)
    high = torch.where(x > 1 - half, torch.full_like(high, math.inf), high)
    # mirror to the left tail, where log_ndtr keeps its precision
    flip = low + high > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    gap = torch.where(torch.isinf(low), torch.full_like(low, -math.inf), log_low - log_high)
    return -(log_high + torch.log(-torch.expm1(gap.clamp(max=-torch.finfo(gap.dtype).eps))))
