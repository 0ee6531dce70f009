r"""Noise schedules: the pair (alpha, sigma) of a Gaussian corruption, and all that follows from it.

A clean image $x_0$ seen at time $t \in [0, 1]$ (0 = clean) is

$$ p(x_t \mid x_0) = N(\alpha_t x_0, \sigma_t^2 I). $$

The stochastic differential equation $dx = f x\,dt + g\,dw$ with these marginals has

$$ f = \frac{d \log \alpha}{dt}, \qquad g^2 = \frac{d \sigma^2}{dt} - 2 f \sigma^2 $$

(Song et al. 2021, eq. 29-33; Karras et al. 2022, appendix B), so DDPM, NCSN and the SDEs differ in
two functions only.

| symbol | here | DDPM | NCSN | EDM |
|---|---|---|---|---|
| $\alpha_t$ | `alpha(t)` | $\sqrt{\bar\alpha_t}$ | 1 | 1 |
| $\sigma_t$ | `sigma(t)` | $\sqrt{1-\bar\alpha_t}$ | $\sigma_i$ | $\sigma$ |
| $\lambda_t$ | `log_ratio(t)` = $\log(\alpha_t/\sigma_t)$ | half the log-SNR | | $-\log\sigma$ |

All arithmetic is done in float64 (a schedule is a handful of numbers) and cast once to the real
dtype of the image, also where the image is complex.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = [
    "EDM",
    "VE",
    "VP",
    "Cosine",
    "Discrete",
    "Rectified",
    "Schedule",
    "SigmaPower",
    "Stretched",
    "SubVP",
    "expand",
]


ROUNDING = 1e-9
"""Times may miss [0, 1] by so much."""


def expand(value: Tensor, like: Tensor) -> Tensor:
    """Append axes to `value` of shape () or (B,) until it broadcasts over `like` (B, *)."""
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim)) if value.ndim else value


def _real(dtype: torch.dtype) -> torch.dtype:
    return torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype


class Schedule(ABC):
    """The functions alpha and sigma on [0, 1]; sigma / alpha must grow with t."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale at time t, same shape as t."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise standard deviation at time t, same shape as t."""

    @property
    def smallest(self) -> float:
        """The time nearest to 0 at which a network is trained, and the flow still has noise."""
        return 1e-5

    def __call__(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) broadcast over `like` (B, *), in its real dtype and on its device.

        Raises:
            ValueError: a time outside of [0, 1], as the number n of a step of a chain is one.
        """
        t64 = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        if not torch.compiler.is_exporting() and not bool(
            ((t64 >= -ROUNDING) & (t64 <= 1 + ROUNDING)).all()
        ):
            raise ValueError(
                f"times lie in [0, 1] (0 = clean), not {float(t64.nan_to_num(torch.inf).max()):g}; "
                "the n-th of the N steps of a chain is t = n / N"
            )
        device, dtype = like.device, _real(like.dtype)
        alpha, sigma = self.alpha(t64).to(device, dtype), self.sigma(t64).to(device, dtype)
        return expand(alpha, like), expand(sigma, like)

    def log_ratio(self, t: Tensor) -> Tensor:
        r"""$\lambda_t = \log(\alpha_t / \sigma_t)$, half the log signal-to-noise ratio."""
        t = t.double()
        return torch.log(self.alpha(t)) - torch.log(self.sigma(t))

    def time(self, log_ratio: Tensor) -> Tensor:
        r"""The inverse of `log_ratio`: the t in [0, 1] with $\log(\alpha_t/\sigma_t)$ as given.

        Values outside the schedule's range give the nearer end. Bisection to the last float64 bit,
        so that moving a network from one schedule to another is exact.
        """
        target = log_ratio.double()
        low, high = torch.zeros_like(target), torch.ones_like(target)
        for _ in range(64):
            middle = (low + high) / 2
            cleaner = self.log_ratio(middle) > target
            low, high = torch.where(cleaner, middle, low), torch.where(cleaner, high, middle)
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        cleanest, noisiest = self.log_ratio(ends)
        t = torch.where(target >= cleanest, torch.zeros_like(low), (low + high) / 2)
        return torch.where(target <= noisiest, torch.ones_like(low), t)

    def drift(self, t: Tensor) -> Tensor:
        r"""$f(t) = d \log \alpha / dt$ by autodiff."""
        alpha, slope = self._slope(self.alpha, t)
        return slope / alpha

    def diffusion(self, t: Tensor) -> Tensor:
        r"""$g(t) = \sqrt{d\sigma^2/dt - 2 f \sigma^2}$ by autodiff; t > 0."""
        sigma, slope = self._slope(self.sigma, t)
        return (2 * sigma * slope - 2 * self.drift(t) * sigma**2).clamp(min=0).sqrt()

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        r"""$(d\alpha/dt, d\sigma/dt)$ by autodiff."""
        return self._slope(self.alpha, t)[1], self._slope(self.sigma, t)[1]

    @staticmethod
    def _slope(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
        # elementwise, so reverse mode gives each slope; torch.func.jvp would script decompositions
        with torch.enable_grad():
            t = t.detach().double().requires_grad_()
            value = function(t)
            if not value.requires_grad:
                return value, torch.zeros_like(value)
            (slope,) = torch.autograd.grad(value.sum(), t)
        return value.detach(), slope


@dataclass(frozen=True)
class VP(Schedule):
    r"""Variance preserving, linear beta (Song et al. 2021, eq. 32-33).

    $\log\alpha = -\tfrac14 t^2(\beta_1-\beta_0) - \tfrac12 t \beta_0$, $\sigma^2 = 1-\alpha^2$.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self._log_alpha(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self._log_alpha(t)))


@dataclass(frozen=True)
class SubVP(VP):
    r"""Sub-VP (Song et al. 2021, eq. 28): alpha of `VP`, standard deviation $\sigma = 1-\alpha^2$."""

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self._log_alpha(t))


@dataclass(frozen=True)
class VE(Schedule):
    r"""Variance exploding, geometric: $\alpha=1$, $\sigma=\sigma_{min}(\sigma_{max}/\sigma_{min})^t$.

    The NCSN ladder is this schedule on a uniform grid (Song & Ermon 2019, section 4.2).
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(t * math.log(self.sigma_max / self.sigma_min))


@dataclass(frozen=True)
class SigmaPower(Schedule):
    r"""The SDE $dx = \sigma^t dw$: $\alpha=1$, $\sigma_t^2 = (\sigma^{2t}-1)/(2\log\sigma)$."""

    base: float = 25.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        log = math.log(self.base)
        return torch.sqrt(torch.expm1(2 * t * log) / (2 * log))


@dataclass(frozen=True)
class EDM(Schedule):
    r"""Karras et al. 2022: $\alpha=1$, $\sigma^{1/\rho}$ linear in t, so a uniform grid is eq. 5."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + t * (high - low)) ** self.rho


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Cosine (Nichol & Dhariwal 2021, eq. 17): $\alpha=\cos a(t)/\cos a(0)$,
    $a(t)=\tfrac{t+s}{1+s}\tfrac\pi2$.

    alpha(1) = 0 exactly: start a noise-predicting network at t < 1, or predict velocity.
    """

    offset: float = 0.008

    def alpha(self, t: Tensor) -> Tensor:
        def angle(u: Tensor) -> Tensor:
            return (u + self.offset) / (1 + self.offset) * (math.pi / 2)

        cosine = torch.cos(angle(t)) / torch.cos(angle(torch.zeros_like(t)))
        return torch.where(t >= 1, 0 * cosine, cosine)

    def sigma(self, t: Tensor) -> Tensor:
        # 1 - alpha^2 as a product, exact near t = 0
        first = self.offset / (1 + self.offset) * (math.pi / 2)
        angle = (t + self.offset) / (1 + self.offset) * (math.pi / 2)
        squared = torch.sin(angle - first) * torch.sin(angle + first) / math.cos(first) ** 2
        return torch.sqrt(torch.where(t >= 1, torch.ones_like(t), squared))


@dataclass(frozen=True)
class Rectified(Schedule):
    r"""Rectified flow (Liu et al. 2023): $x_t = (1-t) x_0 + t z$."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t


@dataclass(frozen=True, eq=False)
class Discrete(Schedule):
    r"""Any list of betas: $\bar\alpha_i = \prod_{j\le i}(1-\beta_j)$ at $t = i/T$, and $\bar\alpha_0 = 1$.

    Between grid points $\log\bar\alpha$ is linear (Lu et al. 2022), so that the network may be asked
    at any time; step i of T (1-based, as in the papers) is t = i / T, the code's index is i - 1.
    If the last $\bar\alpha$ is 0 (zero terminal SNR), $\alpha$ itself is linear on the last interval.

    Raises:
        ValueError: betas outside (0, 1], or not one axis.
    """

    betas: Tensor
    _log_alpha: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        betas = self.betas.double()
        if betas.ndim != 1 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError("betas must be one axis of numbers in (0, 1]")
        if bool((betas[:-1] == 1).any()):
            raise ValueError("only the last beta may be 1 (zero signal at the end)")
        log_alpha = torch.cat([torch.zeros(1).double(), torch.cumsum(torch.log1p(-betas), 0) / 2])
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "_log_alpha", log_alpha)

    def __repr__(self) -> str:
        least, most = float(self.betas.min()), float(self.betas.max())
        return f"Discrete({len(self.betas)} betas, {least:.3g} to {most:.3g})"

    @property
    def steps(self) -> int:
        """T, the number of betas."""
        return len(self.betas)

    @property
    def smallest(self) -> float:
        return 1 / self.steps

    def _interpolated(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(finite log alpha, factor in [0, 1] that reaches 0 only with zero terminal SNR)."""
        position = t * self.steps
        left = position.detach().floor().clamp(0, self.steps - 1).long()
        fraction = position - left
        start, end = self._log_alpha[left], self._log_alpha[left + 1]
        vanishing = torch.isinf(end)
        log = start + fraction * torch.where(vanishing, torch.zeros_like(end), end - start)
        return log, torch.where(vanishing, 1 - fraction, torch.ones_like(fraction))

    def time(self, log_ratio: Tensor) -> Tensor:
        """The inverse of `log_ratio`, in closed form where some signal is left at the end."""
        grid = self._log_alpha
        if bool(torch.isinf(grid[-1])):
            return super().time(log_ratio)
        target = torch.nn.functional.logsigmoid(2 * log_ratio.double()) / 2
        right = torch.searchsorted(-grid, -target).clamp(1, self.steps)
        left = right - 1
        fraction = ((target - grid[left]) / (grid[right] - grid[left])).clamp(0, 1)
        return (left + fraction) / self.steps

    def alpha(self, t: Tensor) -> Tensor:
        log, factor = self._interpolated(t)
        return torch.exp(log) * factor

    def sigma(self, t: Tensor) -> Tensor:
        log, factor = self._interpolated(t)
        squared = -torch.expm1(2 * log) + torch.exp(2 * log) * (1 - factor**2)
        return torch.sqrt(squared.clamp(min=0))

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "Discrete":
        """Ho et al. 2020; for T other than 1000 both ends are multiplied by 1000 / T."""
        scale = 1000 / steps
        return cls(torch.linspace(scale * start, scale * end, steps, dtype=torch.float64))

    @classmethod
    def scaled_linear(
        cls, steps: int = 1000, start: float = 0.0015, end: float = 0.0195
    ) -> "Discrete":
        """Latent diffusion (Rombach et al. 2022): sqrt(beta) is linear."""
        return cls(torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2)

    @classmethod
    def cosine(cls, steps: int = 1000, offset: float = 0.008, most: float = 0.999) -> "Discrete":
        """Nichol & Dhariwal 2021, eq. 17, betas clipped at `most`."""
        t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        product = torch.cos((t + offset) / (1 + offset) * (math.pi / 2)) ** 2
        return cls((1 - product[1:] / product[:-1]).clamp(max=most))

    @classmethod
    def sigmoid(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> "Discrete":
        """GeoDiff (Xu et al. 2022): beta a sigmoid of an even grid on [-6, 6]."""
        grid = torch.linspace(-6, 6, steps, dtype=torch.float64)
        return cls(torch.sigmoid(grid) * (end - start) + start)

    def zero_terminal(self) -> "Discrete":
        r"""Rescale $\sqrt{\bar\alpha}$ linearly so that the last is 0 (Lin et al. 2024, algorithm 1)."""
        root = torch.exp(self._log_alpha[1:])
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        product = torch.cat([torch.ones(1).double(), root**2])
        return Discrete(1 - product[1:] / product[:-1])


@dataclass(frozen=True)
class Stretched(Schedule):
    r"""The same alpha, and sigma times a factor: the schedule of data in units 1 / factor as large.

    If $m_t = \alpha m + \sigma z$ and $x = k m$, then $x_t = k m_t = \alpha x + (k\sigma) z$.
    """

    inner: Schedule
    factor: float

    @property
    def smallest(self) -> float:
        return self.inner.smallest

    def alpha(self, t: Tensor) -> Tensor:
        return self.inner.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.factor * self.inner.sigma(t)
