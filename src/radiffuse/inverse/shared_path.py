r"""Known values inside a chain: replaced at every step, or weighed by a particle filter (SMCDiff).

Trippe et al. 2023, algorithm 2: the known part y is diffused **once**, and all particles of a case walk along that
one path $y_t$. At each step it takes the place of their known part, and they are weighed by how likely their own
step goes where the path goes,

$$ w_k \propto w_k\, N(y_s;\ \mu_\theta(x_{t,k})_M,\ \beta I), $$

s < t the time stepped to, and drawn anew where the weights have become unequal. As their number grows, particles
become draws from p(x | y) of the chain's own prior (proposition 2); without weights they do not.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.kernels import ancestral, diffuse, posterior
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from ..errors import UserError

__all__ = ["Replacement", "SMCDiff", "residual"]


@dataclass(frozen=True)
class _Walk:
    """The known part at the time at hand, one a case (B, *), and log-weights (B, K)."""

    path: Tensor
    log_weight: Tensor


class Replacement(Sampler):
    """The known part is put in place before every ancestral step of variance beta ("fixed large").

    Row b K + k of x is particle k of case b. The result holds the chain's own last estimate of the known part too.

    Args:
        y: the known values, (B, *); what it holds elsewhere is not looked at.
        known: where they are, (B, *) or (1, *), broadcastable over x.
        particles: K.
        fixed: put the clean values in place at all times, instead of diffused ones.

    Raises:
        UserError: x has not K rows a case.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        known: Tensor,
        noise: Noise = gaussian,
        particles: int = 1,
        fixed: bool = False,
    ) -> None:
        super().__init__(denoiser, noise)
        self.y, self.known = y, known.bool().expand_as(y)
        self.particles, self.fixed = particles, fixed

    def init(self, x: Tensor, t: Tensor) -> State:
        if len(x) != len(self.y) * self.particles:
            raise UserError(
                f"{self.particles} particles a case and {len(self.y)} cases need "
                f"{self.particles * len(self.y)} rows, got {len(x)}"
            )
        path = self.y if self.fixed else diffuse(self.schedule, self.y, t, self._shared(x))
        return _Walk(path, torch.zeros(len(self.y), self.particles, device=x.device))

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_t = self._replaced(x_t, state.path)
        mean, variance = ancestral(self.schedule, x_t, self.denoiser(x_t, t), t, s, 1.0)
        path = self._earlier(state.path, x_t, t, s)
        mean, log_weight = self.weighed(mean, variance, path, state.log_weight)
        return mean + torch.sqrt(variance) * self.noise(mean), _Walk(path, log_weight)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return super().finish(self._replaced(x, state.path), t, state) if self._noisy(t) else x

    def weighed(
        self, mean: Tensor, variance: Tensor, path: Tensor, log_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means (B K, *) of the next step and log-weights (B, K), once the path there is known: as they are."""
        return mean, log_weight

    def _noisy(self, t: Tensor) -> bool:
        return bool(self.schedule.sigma(t) > 0)

    def _shared(self, x: Tensor) -> Tensor:
        """Noise of the shape of y: that of each case's first particle."""
        return self.noise(x)[:: self.particles]

    def _replaced(self, x: Tensor, path: Tensor) -> Tensor:
        return torch.where(self._rows(self.known), self._rows(path), x)

    def _rows(self, each: Tensor) -> Tensor:
        return each.repeat_interleave(self.particles, 0)

    def _earlier(self, path: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The path at s < t. From its end backwards, by q(y_s | y_t, y): the law of a walk forwards from y."""
        if self.fixed:
            return path
        mean, variance, _ = posterior(self.schedule, path, self.y, t, s)
        return mean + torch.sqrt(variance) * self._shared(x)


class SMCDiff(Replacement):
    """Replacement along one path of all particles, weighed and resampled.

    A case is resampled where $\\sum_k |K w_k - 1|$ is more than `trigger` K, and at the end, so that its rows are
    equally weighted draws; in what order they stand says something of their weight, so take one at random.

    Args:
        denoiser, y, known, noise, particles: as `Replacement`.
        trigger: of resampling, between 0 (always) and 2 (never).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        y: Tensor,
        known: Tensor,
        noise: Noise = gaussian,
        particles: int = 64,
        trigger: float = 0.75,
    ) -> None:
        super().__init__(denoiser, y, known, noise, particles)
        self.trigger = trigger

    def weighed(
        self, mean: Tensor, variance: Tensor, path: Tensor, log_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        if not bool(variance.max() > 0):  # the last step: the path ends at y for all
            return mean, log_weight
        off = torch.where(self._rows(self.known), mean - self._rows(path), 0.0)
        likelihood = -(off.square() / (2 * variance)).flatten(1).sum(1)
        return self._resampled(mean, log_weight + likelihood.view_as(log_weight), self.trigger)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return self._resampled(super().finish(x, t, state), state.log_weight, -1.0)[0]

    def _resampled(self, x: Tensor, log_weight: Tensor, trigger: float) -> tuple[Tensor, Tensor]:
        log_weight = torch.log_softmax(log_weight, 1)
        u = torch.special.ndtr(self.noise(x.real.flatten(1)[:, :1])).view_as(log_weight)
        count = self.particles
        unequal = (count * log_weight.exp() - 1).abs().sum(1, keepdim=True) > trigger * count
        if not bool(unequal.any()):
            return x, log_weight
        stay = torch.arange(count, device=x.device).expand_as(log_weight)
        chosen = torch.where(unequal, residual(log_weight, u), stay)
        first = torch.arange(0, len(x), count, device=x.device)[:, None]
        return x[(first + chosen).flatten()], torch.where(unequal, 0.0, log_weight)


def residual(log_weight: Tensor, u: Tensor) -> Tensor:
    """Residual resampling: particle k is chosen floor(K w_k) times, and the rest are drawn by what is left of K w_k.

    Args:
        log_weight: (B, K), normalised.
        u: (B, K), uniform in (0, 1).

    Returns:
        (B, K), the chosen indices: the certain ones first.
    """
    count = log_weight.shape[1]
    expected = count * log_weight.double().exp()
    # K w_k that is a whole number but for rounding is that number
    certain = (expected + 1e-6 * count).floor().clamp(max=count)
    left = (expected - certain).clamp(min=0)
    ends = certain.cumsum(1).contiguous()
    places = torch.arange(count, device=ends.device, dtype=ends.dtype).expand_as(ends).contiguous()
    copies = torch.searchsorted(ends, places, right=True)
    shares = left.cumsum(1) / left.sum(1, keepdim=True).clamp(min=1e-12)
    drawn = torch.searchsorted(shares.contiguous(), u.to(shares).contiguous())
    return torch.where(places < ends[:, -1:], copies, drawn).clamp(max=count - 1)
