r"""Exact answers to test against, and the public conformance suite.

Gaussian and Gaussian-mixture data have exact denoisers under every schedule, so any error of a
sampler or likelihood is its own. `propagate` runs a sampler on Gaussian data *exactly*: with an
affine denoiser every step is an affine function of the start and of the noise, so the mean and the
standard deviation of the result follow from one batched run without Monte Carlo error.

`check_schedule`, `check_denoiser`, `check_sampler`, `check_operator`, `check_recipe` raise
AssertionError with the reason; they are what this library's own parts are tested by, and are open
to anybody's.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .diffusion.denoiser import Denoiser, score_of
from .diffusion.noise import Noise, Seeded, derive, gaussian
from .diffusion.sample.base import Sampler, prior
from .diffusion.schedule import Schedule

__all__ = [
    "CorrelatedDenoiser",
    "Counted",
    "GaussianDenoiser",
    "MixtureDenoiser",
    "check_denoiser",
    "check_operator",
    "check_recipe",
    "check_sampler",
    "check_schedule",
    "measured_order",
    "propagate",
]


class GaussianDenoiser(Denoiser):
    r"""The exact $E[x_0\mid x_t]$ of data $N(m, s^2 I)$: $m + \frac{\alpha s^2}{\alpha^2s^2+\sigma^2}(x_t-\alpha m)$.

    Args:
        schedule: the noise schedule.
        mean, std: m and s, numbers or tensors broadcastable over (B, *).
    """

    def __init__(
        self, schedule: Schedule, mean: float | Tensor = 0.5, std: float | Tensor = 0.2
    ) -> None:
        super().__init__()
        self.schedule, self.mean, self.std = schedule, mean, std

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.schedule(t, x_t)
        variance = torch.as_tensor(self.std, dtype=x_t.real.dtype) ** 2
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return self.mean + gain * (x_t - alpha * self.mean)


class CorrelatedDenoiser(Denoiser):
    r"""The exact denoiser of $N(m, C)$ over flattened cases: $m + \alpha C(\alpha^2C+\sigma^2)^{-1}(x_t-\alpha m)$.

    Args:
        schedule: the noise schedule.
        mean: m, (D,).
        covariance: C, (D, D).
    """

    def __init__(self, schedule: Schedule, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.schedule, self.mean, self.covariance = schedule, mean, covariance

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (torch.as_tensor(v).reshape(-1, 1, 1) for v in self.schedule(t, x_t))
        eye = torch.eye(len(self.mean), dtype=x_t.dtype)
        noisy = alpha**2 * self.covariance + sigma**2 * eye
        gain = alpha * torch.linalg.solve(noisy, self.covariance.expand_as(noisy)).mT
        gap = x_t.flatten(1) - alpha[..., 0] * self.mean
        return (self.mean + (gap[:, None] @ gain.mT)[:, 0]).reshape(x_t.shape)


class MixtureDenoiser(Denoiser):
    r"""The exact denoiser of $\sum_k w_k N(m_k, s_k^2 I)$ over flat vectors (B, D).

    Args:
        schedule: the noise schedule.
        weights: (K,), summing to 1.
        means: (K, D).
        stds: (K,).
    """

    def __init__(self, schedule: Schedule, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        super().__init__()
        self.schedule, self.weights, self.means, self.stds = schedule, weights, means, stds

    def log_density(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p_t(x_t), (B,)."""
        return torch.logsumexp(self._parts(x_t, t)[0], dim=1)

    def _parts(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha, sigma = (torch.as_tensor(v).reshape(-1, 1) for v in self.schedule(t, x_t))
        variance = alpha**2 * self.stds**2 + sigma**2  # (B or 1, K)
        gap = x_t[:, None] - alpha[..., None] * self.means
        dims = x_t.shape[1]
        log = self.weights.log() - 0.5 * (gap**2).sum(2) / variance
        log = log - 0.5 * dims * torch.log(2 * math.pi * variance)
        gain = alpha * self.stds**2 / variance
        return log, gap, gain

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        log, gap, gain = self._parts(x_t, t)
        each = self.means + gain[..., None] * gap
        return (torch.softmax(log, dim=1)[..., None] * each).sum(1)

    def sample(self, count: int) -> Tensor:
        """Draws from the mixture itself, (count, D)."""
        which = torch.multinomial(self.weights, count, replacement=True)
        z = torch.randn(count, self.means.shape[1], dtype=self.means.dtype)
        return self.means[which] + self.stds[which, None] * z


class Counted(Denoiser):
    """A denoiser that counts how often it is asked (`calls`)."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.calls = denoiser, denoiser.schedule, 0

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.denoiser(x_t, t)


class _Impulses:
    """A noise source that is zero but for row k's k-th draw, which is one (rows 2 and up)."""

    def __init__(self) -> None:
        self.draws = 0

    def __call__(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        if self.draws + 2 < len(z):
            z[self.draws + 2] = 1
        self.draws += 1
        return z


def propagate(
    make: Callable[[Denoiser, Noise], Sampler],
    denoiser: GaussianDenoiser,
    times: Tensor,
    start: tuple[float, float] | None = None,
    most_draws: int = 5000,
) -> tuple[float, float]:
    """Mean and standard deviation of a sampler's result on scalar Gaussian data, exactly.

    Args:
        make: builds the sampler from (denoiser, noise); its steps must be affine in x and noise.
        start: mean and standard deviation of x at times[0]; the sampler's prior by default.
        most_draws: upper bound of the number of noise draws.
    """
    if start is None:
        start = (0.0, float(denoiser.schedule.sigma(times[:1].double())))
    draws = _Impulses()
    rows = torch.zeros(2, 1, dtype=torch.float64)
    make(denoiser, draws)(rows, times)
    count = draws.draws
    if count > most_draws:
        raise ValueError(f"{count} noise draws, more than {most_draws}")
    x = torch.full((count + 2, 1), start[0], dtype=torch.float64)
    x[1] += start[1]
    result = make(denoiser, _Impulses())(x, times)[:, 0]
    response = result[1:] - result[0]
    return float(result[0]), float(response.square().sum().sqrt())


def measured_order(
    make: Callable[[Denoiser, Noise], Sampler],
    schedule: Schedule,
    grid: Callable[[int], Tensor],
    counts: tuple[int, ...] = (40, 80, 160),
    mean: float = 0.5,
    std: float = 0.2,
) -> float:
    """Slope of the error of mean and standard deviation against the step, on Gaussian data.

    The walk starts from the exact law at grid(N)[0], and is compared with the exact law where it
    stops; `finish` is left out, so only the steps are measured.
    """
    denoiser = GaussianDenoiser(schedule, mean, std)

    def bare(inner: Denoiser, noise: Noise) -> Sampler:
        sampler = make(inner, noise)
        sampler.finish = lambda x, t, state: x  # type: ignore[method-assign]
        return sampler

    def law(t: Tensor) -> tuple[float, float]:
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        return alpha * mean, math.hypot(alpha * std, sigma)

    errors = []
    for count in counts:
        times = grid(count)
        got, want = propagate(bare, denoiser, times, law(times[0])), law(times[-1])
        errors.append(max(abs(got[0] - want[0]), abs(got[1] - want[1])))
    slopes = [
        math.log(errors[i] / errors[i + 1]) / math.log(counts[i + 1] / counts[i])
        for i in range(len(counts) - 1)
    ]
    return slopes[-1]


def check_schedule(schedule: Schedule) -> None:
    """Shapes, monotone log-SNR, its inverse, and f, g against finite differences."""
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert alpha.shape == t.shape and sigma.shape == t.shape, "alpha and sigma keep the shape of t"
    assert bool((alpha >= 0).all() and (sigma > 0).all()), "alpha >= 0 and sigma > 0 inside (0, 1)"
    ratio = schedule.log_ratio(t)
    assert bool((ratio.diff() < 0).all()), "alpha / sigma must fall with t"
    back = schedule.log_ratio(schedule.time(ratio))
    assert torch.allclose(back, ratio, atol=1e-9), "time() must invert log_ratio()"
    h = 1e-6
    log_alpha = (schedule.alpha(t + h).log() - schedule.alpha(t - h).log()) / (2 * h)
    assert torch.allclose(schedule.drift(t), log_alpha, rtol=1e-4, atol=1e-5), "f = d log alpha/dt"
    variance = (schedule.sigma(t + h) ** 2 - schedule.sigma(t - h) ** 2) / (2 * h)
    g2 = variance - 2 * log_alpha * sigma**2
    assert torch.allclose(schedule.diffusion(t) ** 2, g2, rtol=1e-3, atol=1e-5), "g^2"
    image = torch.zeros(25, 2, 3, dtype=torch.complex64)
    a, s = schedule(t, image)
    assert a.shape == (25, 1, 1) and a.dtype == torch.float32, "broadcast, and real for complex x"
    assert not s.is_complex(), "sigma stays real"


def check_denoiser(denoiser: Denoiser, like: Tensor, noisy: float = 0.999) -> None:
    """Shape, dtype, times () and (B,) agree, cases independent, no noise = no change, no NaN."""
    t = torch.tensor(0.4, dtype=torch.float64)
    with torch.no_grad():
        out = denoiser(like, t)
        assert out.shape == like.shape and out.dtype == like.dtype, "keeps shape and dtype"
        rows = denoiser(like, t.expand(len(like)))
        assert torch.allclose(out, rows, atol=1e-4, rtol=1e-4), "t () and (B,) must agree"
        alone = denoiser(like[:1], t)
        assert torch.allclose(alone, out[:1], atol=1e-4, rtol=1e-4), "a case must not see others"
        far = denoiser(like, torch.tensor(noisy))
        assert bool(torch.isfinite(far.abs()).all()), "finite when noisy"
        score = score_of(denoiser, like, t)
        alpha, sigma = denoiser.schedule(t, like)
        tweedie = (like + sigma**2 * score) / alpha
        assert torch.allclose(tweedie, out, atol=1e-3, rtol=1e-3), "score and mean must agree"


def check_sampler(
    make: Callable[[Denoiser, Noise], Sampler],
    schedule: Schedule,
    grid: Callable[[int], Tensor],
    tolerance: float = 0.3,
) -> None:
    """The measured order reaches the claimed one; (seeded) rows do not depend on their batch."""
    denoiser = GaussianDenoiser(schedule, 0.5, 0.2)
    claimed = make(denoiser, gaussian).order
    order = measured_order(make, schedule, grid)
    assert order > claimed - tolerance, f"claims order {claimed}, measured {order:.2f}"
    seeds = [derive(7, k) for k in range(4)]
    like = torch.zeros(4, 3, dtype=torch.float64)

    def run(rows: slice) -> Tensor:
        noise = Seeded(seeds[rows])
        x = prior(schedule, like[rows], noise, float(grid(12)[0]))
        return make(denoiser, noise)(x, grid(12))

    together, alone = run(slice(0, 4)), run(slice(2, 3))
    assert torch.allclose(together[2:3], alone, atol=1e-10), "sample k depends on its batch"


def check_operator(operator: Any, x: Tensor, y: Tensor) -> None:
    """Linearity, <A x, y> = <x, A^H y>, and gradient = adjoint, to 1e-5 (float32) or 1e-10.

    Args:
        operator: callable, with `adjoint(y)`.
        x, y: arrays of the shapes of its domain and range.
    """
    tolerance = 1e-10 if x.real.dtype == torch.float64 else 1e-5

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.vdot(a.flatten(), b.flatten())

    a_x, a_y = operator(x), operator.adjoint(y)
    assert a_x.shape == y.shape and a_y.shape == x.shape, "shapes of A x and A^H y"
    scale = float(a_x.norm() * y.norm()) + 1e-30
    gap = abs(complex(inner(a_x, y) - inner(x, a_y)))
    assert gap <= tolerance * scale, (
        f"<Ax, y> and <x, A^H y> differ by {gap / scale:.2g} (relative)"
    )
    other = torch.roll(x, 1, dims=-1)
    mixed = operator(2 * x - 3 * other) - (2 * a_x - 3 * operator(other))
    assert float(mixed.norm()) <= 10 * tolerance * (float(a_x.norm()) + 1e-30) * 5, "not linear"
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(operator(leaf), leaf, y)
    error = float((gradient - a_y).norm()) / (float(a_y.norm()) + 1e-30)
    assert error <= 10 * tolerance, f"gradient and adjoint differ by {error:.2g} (relative)"


def check_recipe(kind: Any, facts: Any, batch: dict[str, Tensor], steps: int = 20) -> None:
    """A recipe's tiny preset trains (its loss falls on one batch), predicts, and repeats itself.

    A case alone is, but for rounding, what it is in a batch. The losses of a game (an objective says `GAME`) need
    not fall, only stay finite.

    Args:
        kind: the recipe class.
        facts: what `fitted` needs of the data.
        batch: a training batch.
    """
    recipe: Any = kind.tiny().fitted(facts)
    assert dataclasses.is_dataclass(type(recipe)), "a recipe is a frozen dataclass"
    assert recipe == recipe.fitted(facts), "fitted twice is fitted once"
    torch.manual_seed(0)
    objective = recipe.objective()
    before = _loss(objective, batch)
    optimisers = {
        name: torch.optim.Adam(player.parameters(), 3e-3)
        for name, player in objective.players.items()
    }
    for step in range(steps):
        torch.manual_seed(step)
        for who, loss in objective.losses(batch):
            names = (who,) if isinstance(who, str) else who
            for name in names:
                optimisers[name].zero_grad()
            loss.backward()
            for name in names:
                optimisers[name].step()
    after = _loss(objective, batch)
    if getattr(objective, "GAME", False):
        assert math.isfinite(after), f"the losses of the game are not finite: {after}"
    else:
        assert after < before, f"the loss does not fall: {before:.4f} -> {after:.4f}"
    asked = {"seed": torch.arange(len(next(iter(batch.values())))), **batch}
    if recipe.task.name == "generation":
        asked = {"seed": torch.arange(3)}
    if hasattr(recipe, "calibrated"):
        recipe = recipe.calibrated(objective, [asked])
    first, second = (recipe.predict(objective, asked) for _ in range(2))
    assert set(first) >= set(recipe.task.writes), f"a prediction holds {recipe.task.writes}"
    for key, value in first.items():
        assert bool(torch.isfinite(value).all()), f"{key} is not finite"
        assert torch.equal(value, second[key]), f"{key} differs between two equal calls"
    alone = recipe.predict(objective, {key: value[1:2] for key, value in asked.items()})
    for key, value in first.items():
        off = (alone[key] - value[1:2]).abs() > 5e-3 * value.abs().max().clamp_min(1)
        assert float(off.double().mean()) < 1e-2, f"{key} of a case depends on its batch"


def _loss(objective: Any, batch: dict[str, Tensor]) -> float:
    totals = []
    for seed in range(8):
        torch.manual_seed(1000 + seed)
        totals.append(sum(float(loss.detach()) for _, loss in _played(objective, batch)))
    return sum(totals) / len(totals)


def _played(objective: Any, batch: dict[str, Tensor]) -> Iterator[tuple[Any, Tensor]]:
    with torch.no_grad():
        yield from objective.losses(batch)
