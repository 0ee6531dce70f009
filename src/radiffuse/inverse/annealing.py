r"""DAPS (Zhang et al. 2024): every level draws a clean image anew and noises it to the next level.

If $x_t \sim p(x_t\mid y)$, a draw $x_0 \sim p(x_0\mid x_t, y)$ noised to s follows $p(x_s\mid y)$: DAPS is
exact whenever its draw is, at any number of levels. The draws offered are

| draw | $p(x_0\mid x_t)$ taken as | exact for |
|---|---|---|
| `langevin_draw` | $N(\hat x, r^2 I)$, $\hat x$ by the flow; Langevin steps (the paper's) | none |
| `white_draw` | $N(\hat x_0, r^2 I)$, in closed form | white Gaussian data |
| `matched_draw` | $N(\hat x_0, \tfrac{\sigma^2}{\alpha}J)$, in closed form | Gaussian data |
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.kernels import diffuse, reverse
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from ..diffusion.schedule import expand
from ..errors import UserError
from ..operators.base import conjugate_gradient, norm
from .conditioned import jacobian_covariance
from .measurement import Measurement, white_spread

__all__ = ["DAPS", "Draw", "langevin_draw", "matched_draw", "white_draw"]

Draw = Callable[[Denoiser, Measurement, Tensor, Tensor, Noise], Tensor]
"""(denoiser, measurement, x_t (B, *), t, noise source) -> x_0 (B, *), about p(x_0 | x_t, y)."""
Linear = Callable[[Tensor], Tensor]


class DAPS(Sampler):
    """Decoupled annealing (Zhang et al. 2024, algorithm 1).

    Args:
        draw: of x_0 given x_t and y; `langevin_draw()`, the paper's, if None.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        draw: Draw | None = None,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.draw = measurement, draw or langevin_draw()

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.draw(self.denoiser, self.measurement, x_t, t, self.noise)
        return diffuse(self.schedule, x_0, s, self.noise(x_t)), state

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        if bool(self.schedule.sigma(t) == 0):
            return x
        return self.draw(self.denoiser, self.measurement, x, t, self.noise)


def langevin_draw(
    count: int = 100, rate: float = 0.5, flow_steps: int = 5, data_std: float = 0.5
) -> Draw:
    r"""The paper's draw: $\hat x$ by `flow_steps` steps of the flow, then Langevin from there.

    $x \leftarrow x + \varepsilon\,[A^H(y-Ax)/s^2 + (\hat x-x)/r^2] + \sqrt{2\varepsilon}\,z$ with
    $\varepsilon$ = rate over the largest curvature, $\|A\|^2/s^2 + 1/r^2$ (the paper tunes it by hand).

    Args:
        count: Langevin steps; they ask the operator, not the network.
        rate: of the largest stable step, in (0, 2).
        flow_steps: network calls; 1 is the posterior mean itself.
        data_std: d in r (the paper's r_t = sigma_t is d to infinity).
    """

    def draw(
        denoiser: Denoiser, measurement: Measurement, x_t: Tensor, t: Tensor, noise: Noise
    ) -> Tensor:
        x_hat = _flowed(denoiser, x_t, t, flow_steps)
        r2 = white_spread(denoiser.schedule, t, x_t, data_std)
        size = expand(norm(measurement.A, x_t).to(x_t.real.dtype), x_t)
        s2 = expand(measurement.deviations.to(x_t.device, x_t.real.dtype), x_t) ** 2
        if not bool((s2 > 0).all()):
            raise UserError(
                "Langevin steps need noise in the measurement, std > 0; white_draw needs none"
            )
        step = rate / (size**2 / s2 + 1 / r2)
        x = x_hat
        for _ in range(count):
            slope = measurement.adjoint(measurement.residual(x), x) / s2 + (x_hat - x) / r2
            x = x + step * slope + torch.sqrt(2 * step) * noise(x)
        return x

    return draw


def white_draw(data_std: float = 0.5, iterations: int = 20) -> Draw:
    """The closed form with covariance r^2 I, by conjugate gradients."""

    def draw(
        denoiser: Denoiser, measurement: Measurement, x_t: Tensor, t: Tensor, noise: Noise
    ) -> Tensor:
        x_0 = denoiser(x_t, t)
        r2 = white_spread(denoiser.schedule, t, x_t, data_std)
        x = x_0 + torch.sqrt(r2) * noise(x_0)
        return _conditioned(measurement, x, lambda v: r2 * v, noise, iterations)

    return draw


def matched_draw(iterations: int = 20, rank: int = 20) -> Draw:
    """The closed form with the covariance of the network's Jacobian.

    Args:
        iterations: of the conjugate gradients, a backward pass each.
        rank: Lanczos steps for the covariance's square root, a backward pass each.
    """

    def draw(
        denoiser: Denoiser, measurement: Measurement, x_t: Tensor, t: Tensor, noise: Noise
    ) -> Tensor:
        x_0, covariance = jacobian_covariance(denoiser, x_t, t)
        x = x_0 + square_root(covariance, noise(x_0), rank)
        return _conditioned(measurement, x, covariance, noise, iterations)

    return draw


def _conditioned(
    measurement: Measurement, x: Tensor, covariance: Linear, noise: Noise, iterations: int
) -> Tensor:
    """A draw x of N(m, V) made one of N(m, V) given y (Matheron's rule; Hoffman & Ribak 1991)."""
    m = measurement
    gap = m.residual(x) + m.std * noise(m.y)
    v = conjugate_gradient(
        lambda v: m.A(covariance(m.adjoint(v, x))) + m.std**2 * v, gap, iterations=iterations
    )
    return x + covariance(m.adjoint(v, x))


def _flowed(denoiser: Denoiser, x: Tensor, t: Tensor, steps: int) -> Tensor:
    """The clean end of the flow from (x, t), the last step being the posterior mean."""
    times = torch.linspace(float(t), 0, steps + 1, dtype=torch.float64)
    for k in range(steps - 1):
        x = reverse(denoiser.schedule, x, denoiser(x, times[k]), times[k], times[k + 1])
    return denoiser(x, times[steps - 1])


def square_root(apply: Linear, z: Tensor, rank: int) -> Tensor:
    r"""$V^{1/2} z$ for symmetric $V \ge 0$ by Lanczos, each case for itself; exact at full rank.

    $\|z\|\,Q\,T^{1/2} e_1$ with V's tridiagonal form T on the Krylov space of z (Saad 1992).
    """
    parts = torch.view_as_real(z) if z.is_complex() else z
    flat = parts.flatten(1)

    def image(q: Tensor) -> Tensor:
        v = q.view(parts.shape)
        v = apply(torch.view_as_complex(v.contiguous()) if z.is_complex() else v)
        return (torch.view_as_real(v) if v.is_complex() else v).flatten(1)

    size = flat.norm(dim=1, keepdim=True)
    rows, steps = len(flat), min(rank, flat.shape[1])
    basis = [flat / size.clamp(min=torch.finfo(flat.dtype).tiny)]
    T = torch.zeros(rows, steps, steps, dtype=flat.dtype, device=flat.device)
    for k in range(steps):
        w = image(basis[k])
        scale = w.norm(dim=1, keepdim=True)
        T[:, k, k] = (basis[k] * w).sum(1)
        for _ in range(2):  # twice is enough to stay orthogonal in floating point
            for q in basis:
                w = w - (q * w).sum(1, keepdim=True) * q
        rest = w.norm(dim=1, keepdim=True)
        # a case whose Krylov space is exhausted goes on with zeros, which add nothing
        alive = rest > 1e3 * torch.finfo(flat.dtype).eps * scale
        basis.append(torch.where(alive, w / torch.where(alive, rest, 1.0), 0.0))
        if k + 1 < steps:
            T[:, k, k + 1] = T[:, k + 1, k] = torch.where(alive, rest, 0.0)[:, 0]
    values, vectors = torch.linalg.eigh(T)
    weights = (vectors * values.clamp(min=0).sqrt()[:, None] * vectors[:, :1]).sum(2)
    root = size * torch.einsum("kbn,bk->bn", torch.stack(basis[:steps]), weights)
    root = root.view(parts.shape)
    return torch.view_as_complex(root.contiguous()) if z.is_complex() else root
