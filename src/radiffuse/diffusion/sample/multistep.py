r"""Exponential multistep samplers in $\lambda = \log(\alpha/\sigma)$: DPM-Solver++ and UniPC.

With $h = \lambda_s - \lambda_t$ the flow is $x_s = \tfrac{\sigma_s}{\sigma_t} x_t +
\sigma_s\int_{\lambda_t}^{\lambda_s} e^{\lambda}\,\hat x_0(\lambda)\,d\lambda$; the samplers
differ in how they interpolate $\hat x_0$ through the last few evaluations.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..kernels import reverse
from ..noise import Noise, gaussian
from .base import Sampler, State

__all__ = ["DPMSolver", "DPMSolverSDE", "UniPC"]


class Evaluation(NamedTuple):
    """A past denoiser output and its lambda."""

    ratio: float
    x_0: Tensor


def _lambda(sampler: Sampler, t: Tensor) -> float:
    return float(sampler.schedule.log_ratio(t))


class DPMSolver(Sampler):
    r"""DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): order 2, one network call a step.

    $x_s = \tfrac{\sigma_s}{\sigma_t}x_t - \alpha_s(e^{-h}-1)\big[D_t + \tfrac{1}{2r}(D_t-D_{prev})\big]$,
    $r = h_{prev}/h$; the first step, and one that ends without noise, are of order 1 (DDIM).

    With eta > 0 a step takes $\eta^2$ of the variance of the ancestral step's noise in place of the noise it
    predicts (Song et al. 2021, eq. 16), after the same interpolation, and the weak order is 1. New noise
    mends errors of the network, old noise spares steps; between them lies the best chain of few calls.
    """

    order = 2

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian, eta: float = 0.0) -> None:
        super().__init__(denoiser, noise)
        self.eta = eta
        if eta:
            self.order = 1

    def init(self, x: Tensor, t: Tensor) -> State:
        return None

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.denoiser(x_t, t)
        now, then = _lambda(self, t), _lambda(self, s)
        best = x_0
        if state is not None and math.isfinite(state.ratio) and math.isfinite(then):
            best = x_0 + (then - now) / (2 * (now - state.ratio)) * (x_0 - state.x_0)
        return self._move(x_t, best, t, s), Evaluation(now, x_0)

    def _move(self, x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return reverse(self.schedule, x_t, x_0, t, s, self.eta, self.noise)


class DPMSolverSDE(DPMSolver):
    r"""SDE-DPM-Solver++(2M) (Lu et al. 2022, appendix): the same for the reverse SDE.

    $x_s = \tfrac{\sigma_s}{\sigma_t}e^{-h}x_t + \alpha_s(1-e^{-2h})\big[D_t+\tfrac{1}{2r}(D_t-D_{prev})\big]
    + \sigma_s\sqrt{1-e^{-2h}}\,z$. Its noise is exact and its interpolation the deterministic
    solver's, so the weak order is 1: `DPMSolver` with eta = 1.
    """

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian) -> None:
        super().__init__(denoiser, noise, eta=1.0)


class History(NamedTuple):
    """UniPC's memory: past evaluations, oldest first, and where the last predictor started."""

    past: tuple[Evaluation, ...]
    x: Tensor | None
    t: Tensor | None


class UniPC(Sampler):
    r"""UniPC (Zhao et al. 2023), data prediction, $B(h) = e^{-h}-1$; one network call a step.

    The evaluation at the predicted point first corrects that point (UniC), then predicts the next
    (UniP). Order p uses the last p evaluations; the corrector adds the new one.

    Args:
        order: p, 1 to 3.
    """

    def __init__(self, denoiser: Denoiser, noise: Noise = gaussian, order: int = 2) -> None:
        super().__init__(denoiser, noise)
        self.order = order

    def init(self, x: Tensor, t: Tensor) -> State:
        return History((), None, None)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        new = Evaluation(_lambda(self, t), self.denoiser(x_t, t))
        if state.x is not None:
            x_t = self._update(state.x, state.t, t, state.past, new)
        past = (*state.past, new)[-self.order :]
        x_s = self._update(x_t, t, s, past, None)
        return x_s, History(past, x_t, t)

    def _update(
        self,
        x_t: Tensor,
        t: Tensor,
        s: Tensor,
        past: tuple[Evaluation, ...],
        new: Evaluation | None,
    ) -> Tensor:
        """From t to s with `past` (its last is at t) and, to correct, the evaluation at s."""
        anchor, h = past[-1], _lambda(self, s) - past[-1].ratio
        first = reverse(self.schedule, x_t, anchor.x_0, t, s)
        others = [*past[:-1], *([new] if new is not None else [])]
        others = [e for e in others if math.isfinite(e.ratio)]
        if not others or not math.isfinite(h):
            return first
        nodes = [(e.ratio - anchor.ratio) / h for e in others]
        weights = _uniform_weights(nodes, h)
        change = sum(
            (w / r) * (e.x_0 - anchor.x_0) for w, r, e in zip(weights, nodes, others, strict=True)
        )
        alpha_s, _ = self.schedule(s, x_t)
        return first - alpha_s * math.expm1(-h) * change


def _uniform_weights(nodes: list[float], h: float) -> list[float]:
    r"""Solve $\sum_m a_m r_m^{n-1} = n!\,\varphi_{n+1}(-h)\,h'/B$ for n = 1.. (Zhao et al. 2023, theorem 3.1).

    One node takes the paper's simplification a = 1/2, which keeps the order.
    """
    if len(nodes) == 1:
        return [0.5]
    base = math.expm1(-h)
    right, phi = [], base / -h - 1
    for n in range(1, len(nodes) + 1):
        right.append(phi * math.factorial(n) / base)
        phi = phi / -h - 1 / math.factorial(n + 1)
    powers = torch.tensor([[r**n for r in nodes] for n in range(len(nodes))], dtype=torch.float64)
    solution = torch.linalg.solve(powers, torch.tensor(right, dtype=torch.float64))
    return [float(value) for value in solution]
