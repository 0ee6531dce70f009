"""Losses and gradient norms without waiting for the device, and what to say when one is not finite.

Values are kept on the device and read all at once at every log line and before every checkpoint,
so a checkpoint never holds weights behind a loss or gradient that was not finite.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from . import processes
from .ema import local
from .options import TrainOptions

# Loss scaling skips a step now and then; this many in a row is no accident.
SKIPS = 32
_GROWTH = 100.0


@dataclass(frozen=True)
class Turn:
    """One update of one player."""

    step: int
    player: str
    loss: Tensor
    norm: Tensor


class Meter:
    """Means since the last log line; finds the first value that is not finite.

    Args:
        scaled: fp16 with loss scaling: single values that are not finite are skipped steps.
        cause: called with (step, player, what) where one is not finite; returns the cause.
    """

    def __init__(self, *, scaled: bool, cause: Callable[[int, str, str], str]) -> None:
        self._scaled = scaled
        self._cause = cause
        self._turns: list[Turn] = []
        self._sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._skipped = 0
        self._typical: dict[str, list[float]] = {}  # smoothed gradient norm, now and lowest

    def add(self, turn: Turn) -> None:
        """Keep the values of one update; nothing is read yet."""
        self._turns.append(turn)

    def read(self) -> None:
        """Read the values kept since last time; the loss becomes its mean over the processes.

        Raises:
            UserError: one is not finite; names step, player and, as far as known, the cause.
        """
        if not self._turns:
            return
        turns, self._turns = self._turns, []
        losses = torch.stack([turn.loss.float() for turn in turns])
        processes.sum_(losses)
        values = torch.stack([losses, torch.stack([turn.norm.float() for turn in turns])]).tolist()
        for turn, loss, norm in zip(turns, *values, strict=True):
            finite = math.isfinite(loss) and math.isfinite(norm)
            self._skipped = 0 if finite else self._skipped + 1
            if finite:
                self._count(turn.player, loss, norm)
            elif not self._scaled or self._skipped >= SKIPS:
                self._refuse(turn, loss, norm)

    def _count(self, player: str, loss: float, norm: float) -> None:
        sums = self._sums[player]
        sums[0], sums[1], sums[2] = sums[0] + 1, sums[1] + loss, sums[2] + norm
        now, lowest = self._typical.get(player, (norm, norm))
        now += 0.1 * (norm - now)
        self._typical[player] = [now, min(now, lowest)]

    def _refuse(self, turn: Turn, loss: float, norm: float) -> None:
        what = "gradient" if math.isfinite(loss) else "loss"
        value = norm if what == "gradient" else loss
        cause = self._cause(turn.step, turn.player, what)
        raise UserError(
            f"training stopped: the {what} of {turn.player} became {value} at step {turn.step}: "
            f"{cause}; a checkpoint that was written is kept"
        )

    def grown(self, player: str) -> bool:
        """Whether the gradients of `player` had become far longer than they once were."""
        now, lowest = self._typical.get(player, (0.0, 0.0))
        return now > _GROWTH * lowest

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean loss and gradient norm of each player since the last call."""
        counted = {name: sums for name, sums in self._sums.items() if sums[0]}
        losses = {name: sums[1] / sums[0] for name, sums in counted.items()}
        norms = {name: sums[2] / sums[0] for name, sums in counted.items()}
        self._sums.clear()
        return losses, norms

    def beside(self, step: int) -> dict[str, float]:
        """What a line of the log says beside the means."""
        return {}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that the log goes on as if there had been no stop."""
        return {"sums": dict(self._sums), "typical": self._typical, "skipped": self._skipped}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        self._sums.update(state["sums"])
        self._typical = dict(state["typical"])
        self._skipped = state["skipped"]


def bad_name(tensors: Mapping[str, Tensor]) -> str | None:
    """The first of `tensors` with a value that is not finite on any process, None where all are.

    All processes take part.
    """
    floating = {name: local(value.detach()) for name, value in tensors.items()}
    floating = {name: value for name, value in floating.items() if value.is_floating_point()}
    if not floating:
        return None
    bad = torch.stack([~torch.isfinite(value).all() for value in floating.values()])
    agreed = processes.agree(bad.tolist())
    return next((name for name, is_bad in zip(floating, agreed, strict=True) if is_bad), None)


def bad_case(
    batch: Callable[[list[int]], Mapping[str, Tensor]], indices: list[int]
) -> tuple | None:
    """(index, key) of the first case whose data are not finite, None where all are."""
    for index in indices:
        key = bad_name(batch([index]))
        if key is not None:
            return index, key
    return None


def likely_cause(what: str, options: TrainOptions, *, grown: bool) -> str:
    """What is left as the cause where data and weights are finite.

    Args:
        what: "loss" or "gradient".
        options: of the loop.
        grown: whether the gradients had become much longer before.
    """
    if options.precision == "fp16":
        return "fp16 overflows; use --train.precision bf16 or fp32"
    if grown:
        return (
            f"its gradients had grown before, so the learning rate {options.learning_rate}"
            " is too high; lower --train.learning-rate or lengthen --train.warmup"
        )
    if what == "gradient":
        return (
            "data, weights and loss were finite, so a derivative in the network or loss is not "
            "(a root or division at zero); a lower --train.learning-rate may avoid it"
        )
    return "data and weights were finite; lower --train.learning-rate"
