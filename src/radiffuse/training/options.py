"""How to train: every field of `TrainOptions` is a `--train.*` flag. Needs no torch."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError

Precision = Literal["fp32", "bf16", "fp16"]

DEFAULT_STEPS = 10_000
MOST, MOST_STEPS = 1_000_000, 1_000_000_000
"""Larger numbers of images in a step, and of steps, are slips of the hand."""

# What may differ between a run and its continuation: the budget, and what is only reported.
FREE = ("steps", "minutes", "checkpoint_minutes", "log_every", "tensorboard", "mlflow", "wandb")


@dataclass(frozen=True)
class TrainOptions:
    """Options of the training loop.

    The batch is global: `batch` images make one optimiser step, on one process or on many. They
    are cut into (processes x accumulate) equal parts, so that neither number changes the result
    by more than rounding and the random draws of the parts.

    Raises:
        UsageError: a value is out of range; the message names the flag.
    """

    steps: int | None = None
    """Budget in optimiser steps. With `minutes` as well, the first to be reached ends the run;
    with neither, 10000 steps."""
    minutes: float | None = None
    """Budget in minutes of training, summed over interruptions. Resuming is bit-exact for budgets
    in steps; with a budget in minutes the clock decides how many steps there are."""
    batch: int = 16
    """Images in one optimiser step, over all processes and micro-batches together."""
    accumulate: int = 1
    """Micro-batches a process cuts its share of the batch into (less memory, same gradient)."""
    learning_rate: float = 2e-4
    """Learning rate at its highest."""
    warmup: int = 100
    """Steps of linear warm-up from zero."""
    decay: float = 0.0
    """Steps at full rate, after which it falls as sqrt(decay / step) (Karras 2024, EDM2); 0
    keeps it constant."""
    cooldown: float = 0.0
    """Last part of the budget, 0 to 1, over which the rate falls linearly to zero."""
    mirror: tuple[int, ...] = ()
    """Axes (0 = first) along which images are mirrored at random, masks and all images of a case
    alike. Not where left and right mean something."""
    turn: float = 0.0
    """Largest random turn in every plane, degrees; all images of a case alike."""
    zoom: float = 0.0
    """Largest random change of size: 0.1 is a factor from 1 / 1.1 to 1.1."""
    shift: float = 0.0
    """Largest random shift, as a share of each side."""
    clip: float = 1.0
    """Largest norm of a player's gradient, longer ones are shortened to it; 0 leaves them."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay rates of the first and second moment."""
    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""
    precision: Precision = "fp32"
    """Arithmetic inside the networks; weights, losses and averages stay fp32. fp16 needs a GPU."""
    ema: tuple[float, ...] = (0.05, 0.10)
    """Relative widths (sigma_rel) of the power-function averages of the weights that are kept; the
    first is the one model.safetensors holds. 0 is the last weights, no average."""
    snapshot_every: int = 0
    """Steps between stored snapshots of the averages, from which any other width can be made after
    training; 0 stores none."""
    seed: int = 0
    """Seed of the order of the cases and of every random draw in training."""
    checkpoint_minutes: float = 2.0
    """Minutes between checkpoints."""
    log_every: int = 50
    """Steps between lines of log.jsonl; also how long a loss that is not finite can go unseen."""
    compile: bool = False
    """Compile the networks with torch.compile."""
    channels_last: bool = False
    """Hold images and convolution weights with channels last (often faster)."""
    shard: bool = False
    """On several processes, split weights, gradients, averages and moments over them (FSDP), for
    networks that do not fit on one device."""
    private: bool = False
    """Differentially private training (DP-SGD by Opacus): what one patient's images change in the model is
    bounded by epsilon and delta, and `clip` is the largest norm of one patient's gradient. Needs steps and epsilon."""
    epsilon: float | None = None
    """Privacy budget of a private training; less is more private, 10 and less mean something."""
    delta: float | None = None
    """Chance with which the bound by epsilon may fail, far below one over the number of patients; 1e-5."""
    draws: int | None = None
    """Noise levels and noises a patient's gradient is the mean of, before it is shortened (DPDM's K); 8. They cost
    time, and no privacy."""
    tensorboard: bool = False
    """Write TensorBoard files to the folder tensorboard/ of the run as well."""
    mlflow: str = ""
    """Tracking URI of MLflow (sqlite:///runs.db, http://HOST:PORT) that is told the numbers as well."""
    wandb: str = ""
    """Project of Weights & Biases that is told the numbers as well; WANDB_MODE=offline keeps them here."""

    def __post_init__(self) -> None:
        for name in ("batch", "accumulate", "log_every"):
            _require(getattr(self, name) >= 1, name, "at least 1")
            _require(getattr(self, name) <= MOST, name, f"at most {MOST}")
        for name in ("warmup", "decay", "clip", "weight_decay", "snapshot_every"):
            _require(getattr(self, name) >= 0, name, "0 or more")
        _require(self.steps is None or self.steps >= 1, "steps", "at least 1")
        _require(self.steps is None or self.steps <= MOST_STEPS, "steps", f"at most {MOST_STEPS}")
        _require(
            self.minutes is None or 0 < self.minutes < math.inf,
            "minutes",
            "more than 0, and finite",
        )
        _require(self.checkpoint_minutes > 0, "checkpoint-minutes", "more than 0")
        _require(0 < self.learning_rate <= 1e6, "learning-rate", "more than 0, and 1e6 at most")
        _require(0 <= self.cooldown <= 1, "cooldown", "between 0 and 1")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", "between 0 and 1")
        _require(all(0 <= axis <= 2 for axis in self.mirror), "mirror", "of 0, 1 and 2")
        _require(0 <= self.turn <= 180, "turn", "between 0 and 180")
        _require(0 <= self.zoom < 1, "zoom", "between 0 and 1")
        _require(0 <= self.shift < 1, "shift", "between 0 and 1")
        _require(len(self.ema) >= 1, "ema", "at least one width")
        _require(all(0 <= width < 0.28 for width in self.ema), "ema", "between 0 and 0.28")
        _require(len(set(self.ema)) == len(self.ema), "ema", "all different")
        self._check_private()
        _require(self.precision in ("fp32", "bf16", "fp16"), "precision", "fp32, bf16 or fp16")

    def _check_private(self) -> None:
        _require(self.epsilon is None or 0 < self.epsilon < math.inf, "epsilon", "more than 0")
        _require(self.delta is None or 0 < self.delta < 1, "delta", "between 0 and 1")
        _require(self.draws is None or 1 <= self.draws <= MOST, "draws", "at least 1")
        given = [name for name in ("epsilon", "delta", "draws") if getattr(self, name) is not None]
        if given and not self.private:
            raise UsageError(f"--train.{given[0]} is of private training: add --train.private")

    def budget(self) -> tuple[float, float]:
        """The budget as (steps, seconds); infinite where it is not limited."""
        if self.steps is None and self.minutes is None:
            return DEFAULT_STEPS, math.inf
        return self.steps or math.inf, 60 * self.minutes if self.minutes else math.inf

    def share(self, step: int, seconds: float) -> float:
        """How much of the budget is used after `step` steps and `seconds` seconds; 1 is all."""
        steps, limit = self.budget()
        return max(step / steps, seconds / limit)

    def rate(self, step: int, seconds: float) -> float:
        """Learning rate of step number `step` (the first is 0).

        learning_rate * min((step + 1) / warmup, 1) / sqrt(max(step / decay, 1))
        * min((1 - share) / cooldown, 1), with the share of the budget used before the step.
        """
        rate = self.learning_rate
        if self.warmup:
            rate *= min((step + 1) / self.warmup, 1.0)
        if self.decay:
            rate /= math.sqrt(max(step / self.decay, 1.0))
        if self.cooldown:
            rate *= min(max(1.0 - self.share(step, seconds), 0.0) / self.cooldown, 1.0)
        return rate

    def fixed(self) -> dict[str, object]:
        """The options that a continued run must share with the run it continues."""
        values = dataclasses.asdict(self)
        return {name: _plain(value) for name, value in values.items() if name not in FREE}


def _plain(value: object) -> object:
    """`value` as it comes back from JSON."""
    return list(value) if isinstance(value, tuple) else value


def _require(condition: bool, name: str, rule: str) -> None:
    if not condition:
        raise UsageError(f"--train.{name.replace('_', '-')} must be {rule}")
