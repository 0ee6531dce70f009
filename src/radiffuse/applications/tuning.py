"""The setting of a method or of a baseline, chosen on validation cases: as many trials for each."""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..errors import UserError
from ..inverse import Measurement
from ..metrics.fidelity import nmse

__all__ = ["TRIALS", "Setting", "Tuned", "choose", "search", "tune"]

Setting = TypeVar("Setting", bound=Hashable)

TRIALS = 6
"""Settings that are tried of whatever is tuned, a method's as well as a baseline's."""


@dataclass(frozen=True)
class Tuned:
    """The best setting, the error of each that has one, and how many were tried."""

    weight: float
    errors: dict[float, float]
    trials: int


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
    trials: int = TRIALS,
) -> Tuned:
    """The weight of least mean NMSE on validation measurements: `search` over `choose`.

    Raises:
        UserError: no validation measurement, or a weight that is not positive.
    """
    if not validation or not weights or min(weights) <= 0:
        raise UserError("tuning needs validation measurements, and weights above 0")
    return search(lambda weight: choose(method, validation, [weight])[weight], weights, trials)


def search(error: Callable[[float], float], first: Sequence[float], trials: int = TRIALS) -> Tuned:
    """The setting of least error after exactly `trials` of them, whatever is tuned.

    The settings `first`, and then one after another: where the best lies at an end, the next by the ratio
    of the last two there; else the geometric mean of the best and its further neighbour, of two as far
    the better one.

    Args:
        error: of a setting above 0.
        first: at most `trials` settings.
        trials: how many are tried.
    """
    if not 0 < len(set(first)) <= trials or min(first) <= 0:
        raise ValueError(f"{trials} trials of the settings {list(first)}")
    errors = {setting: error(setting) for setting in sorted(set(first))}
    while len(errors) < trials:
        setting = _next(errors)
        errors[setting] = error(setting)
    best = min(errors, key=lambda setting: _or_infinite(errors[setting]))
    known = {each: errors[each] for each in sorted(errors) if math.isfinite(errors[each])}
    return Tuned(best, known, len(errors))


def _next(errors: dict[float, float]) -> float:
    """The setting to try after these."""
    tried = sorted(errors)
    place = min(range(len(tried)), key=lambda k: _or_infinite(errors[tried[k]]))
    best = tried[place]
    if len(tried) == 1:
        return 2 * best
    if place == 0:
        return best * best / tried[1]
    if place == len(tried) - 1:
        return best * best / tried[-2]

    def room(other: float) -> tuple[float, float]:
        return round(abs(math.log(other / best)), 9), -_or_infinite(errors[other])

    return math.sqrt(best * max(tried[place - 1], tried[place + 1], key=room))


def _or_infinite(error: float) -> float:
    return error if math.isfinite(error) else math.inf
