"""An adaptive Runge-Kutta integrator with one step size a case (Dormand & Prince 1980, 5(4)).

Library integrators share one step over the batch, so a case's result would depend on its company.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["dormand_prince"]

State = tuple[Tensor, ...]

_NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.device, like.real.dtype).reshape(-1, *[1] * (like.ndim - 1))


def _combine(state: State, slopes: list[State], weights: tuple[float, ...], h: Tensor) -> State:
    return tuple(
        x + _rows(h, x) * sum(w * k[i] for w, k in zip(weights, slopes, strict=False) if w)
        for i, x in enumerate(state)
    )


def _error_norm(state: State, new: State, error: State, rtol: float, atol: float) -> Tensor:
    squares = torch.zeros(len(state[0]), dtype=torch.float64)
    count = 0
    for x, y, e in zip(state, new, error, strict=True):
        scale = atol + rtol * torch.maximum(x.abs(), y.abs())
        squares += ((e.abs() / scale) ** 2).flatten(1).sum(1).double().cpu()
        count += x[0].numel()
    return torch.sqrt(squares / count)


def dormand_prince(
    slope: Callable[[State, Tensor], State],
    state: State,
    start: float,
    stop: float,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    most_steps: int = 10_000,
) -> State:
    """Integrate d state / dt = slope(state, t) from `start` to `stop` (either direction).

    Args:
        slope: takes a state (tuple of (B, *)) and times (B,) in float64; returns its derivative.
        state: tuple of tensors (B, *), sharing B; every case has its own step size.

    Raises:
        ArithmeticError: a case needs more than `most_steps` steps (a stiff or broken field).
    """
    batch = len(state[0])
    t = torch.full((batch,), float(start), dtype=torch.float64)
    span = stop - start
    h = torch.full_like(t, 0.01 * span)
    for _ in range(most_steps):
        left = stop - t
        active = left.abs() > 1e-12 * abs(span)
        if not bool(active.any()):
            return state
        h = torch.where(h.abs() > left.abs(), left, h)
        slopes: list[State] = []
        for node, row in zip(_NODES, _STAGES, strict=True):
            at = _combine(state, slopes, row, h) if row else state
            slopes.append(slope(at, t + node * h))
        new = _combine(state, slopes, _STAGES[-1], h)
        error = _combine(tuple(torch.zeros_like(x) for x in state), slopes, _ERROR, h)
        norm = _error_norm(state, new, error, rtol, atol)
        accepted = (norm <= 1) & active
        state = tuple(
            torch.where(_rows(accepted, x).bool(), y, x) for x, y in zip(state, new, strict=True)
        )
        t = torch.where(accepted, t + h, t)
        h = h * (0.9 * norm.clamp(min=1e-10) ** -0.2).clamp(0.2, 10.0)
    raise ArithmeticError(
        f"the integrator needs more than {most_steps} steps; loosen rtol and atol"
    )
