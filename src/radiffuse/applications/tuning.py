"""The setting of a classical method, chosen on validation cases."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import UserError
from ..inverse import Measurement
from ..metrics.fidelity import nmse

__all__ = ["Setting", "Tuned", "choose", "tune"]

Setting = TypeVar("Setting", bound=Hashable)


@dataclass(frozen=True)
class Tuned:
    """The best weight, and the mean NMSE of each that was tried."""

    weight: float
    errors: dict[float, float]


def choose(
    method: Callable[[Measurement, Tensor, Setting], Tensor],
    validation: Sequence[tuple[Measurement, Tensor]],
    settings: Iterable[Setting],
) -> dict[Setting, float]:
    """Mean NMSE over all cases of `validation` for each setting; `min(errors, key=errors.get)` is best.

    Args:
        method: method(measurement, like, setting) -> x.
        validation: measurements and what they were made from, (B, C, *S).
        settings: to be tried.
    """
    errors = {}
    for setting in settings:
        each = [nmse(method(m, truth, setting), truth) for m, truth in validation]
        errors[setting] = float(torch.cat(each).mean())
    return errors


def tune(
    method: Callable[[Measurement, Tensor, float], Tensor],
    validation: Sequence[tuple[Measurement, Tensor]],
    weights: Sequence[float],
    more: int = 8,
) -> Tuned:
    """The weight of least mean NMSE on validation measurements, from a geometric grid.

    Where the best one lies at an end, the grid grows there by its own ratio, `more` times at most.

    Raises:
        UserError: no validation measurement, or a weight that is not positive.
    """
    if not validation or not weights or min(weights) <= 0:
        raise UserError("tuning needs validation measurements, and weights above 0")
    errors = choose(method, validation, sorted(set(weights)))
    for _ in range(more):
        tried = sorted(errors)
        best = min(errors, key=errors.__getitem__)
        if len(tried) < 2 or best not in (tried[0], tried[-1]):
            break
        ratio = tried[1] / tried[0] if best == tried[0] else tried[-2] / tried[-1]
        errors |= choose(method, validation, [best / ratio])
    best = min(errors, key=errors.__getitem__)
    return Tuned(best, {w: errors[w] for w in sorted(errors) if math.isfinite(errors[w])})
