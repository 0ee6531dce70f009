r"""The privacy budget of a training: how much noise keeps to it, and how much is spent (Opacus's accountants).

A mechanism is $(\varepsilon, \delta)$-differentially private (Dwork & Roth 2014) if for any two sets of people that
differ by one person, and any set S of models, $P(S) \le e^\varepsilon P'(S) + \delta$. A step of DP-SGD
(Abadi et al. 2016) is the Gaussian mechanism on a Poisson sample; its noise multiplier is the deviation of the noise
over the largest length of one person's gradient.
"""

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import UsageError
from .options import TrainOptions

__all__ = ["EPSILON", "Plan", "Unit", "planned", "refuse_options"]

DELTA, DRAWS, EPSILON = 1e-5, 8, 10.0
ACCOUNTANT = "prv"
"""Numerical composition of privacy losses (Gopi et al. 2021): the tightest that Opacus has."""
QUICK = "rdp"
"""The accountant of what is only advice."""
ALMOST = 0.01
"""By how much less than the budget may be spent, relative."""

Unit = Literal["patient", "image"]


@dataclass(frozen=True)
class Plan:
    """A private training, decided before its first step.

    Attributes:
        epsilon, delta: the budget.
        unit: whose images the bound is about: a patient, or one image where the data name no patients.
        units: of them in training.
        batch: mean number of them in a step; each is in it with probability batch / units (Poisson sampling).
        steps: the most there will be.
        clip: largest norm of a unit's gradient.
        noise_multiplier: deviation of the noise in each number of the summed gradient, over `clip`.
        draws: of noise level and noise that a unit's gradient is the mean of (Dockhorn et al. 2023).
        accountant: of Opacus.
    """

    epsilon: float
    delta: float
    unit: Unit
    units: int
    batch: int
    steps: int
    clip: float
    noise_multiplier: float
    draws: int
    accountant: str = ACCOUNTANT

    @property
    def rate(self) -> float:
        """The sampling rate."""
        return self.batch / self.units

    def spent(self, steps: int) -> float:
        """Epsilon after so many steps, at `delta`; 0 after none, infinite without noise."""
        if steps == 0:
            return 0.0
        if self.noise_multiplier == 0:
            return math.inf
        return _epsilon(self.accountant, self.noise_multiplier, self.rate, steps, self.delta)

    def told(self, steps: int) -> dict[str, Any]:
        """What a manifest says: the plan, and what `steps` steps have spent of it."""
        return {
            **dataclasses.asdict(self),
            "sampling_rate": self.rate,
            "steps_taken": steps,
            "epsilon_spent": self.spent(steps),
        }


def planned(options: TrainOptions, unit: Unit, units: int, parameters: int) -> Plan:
    """The plan of a training whose budget the noise is found from.

    Args:
        options: of the loop, `private`.
        unit, units: as of `Plan`.
        parameters: numbers that are trained.

    Raises:
        UsageError: no number of steps, a batch of more than there are, a delta that protects nobody, or so much noise
            that nothing can be learned; says what would be enough.
    """
    steps, epsilon = options.steps, options.epsilon
    if epsilon is None:
        raise UsageError(f"--train.private: name the budget, as --train.epsilon {EPSILON:g}")
    if steps is None:
        raise UsageError(
            "--train.private: the noise is found from the number of steps, which has to be known before: "
            "--train.steps N (--train.minutes may stop earlier, and spends less)"
        )
    if options.batch > units:
        raise UsageError(
            f"--train.batch {options.batch}: there are {units} {unit}s to sample from; take {units} or less"
        )
    delta = options.delta or DELTA
    if delta * units >= 1:
        raise UsageError(
            f"--train.delta {delta:g}: with {units} {unit}s it has to be less than {1 / units:.2g}, or to publish one "
            "of them would count as private"
        )
    noise = _noise(ACCOUNTANT, epsilon, delta, options.batch / units, steps)
    if noise is None or _drowned(noise, options.batch, steps, parameters):
        raise UsageError(_advice(epsilon, delta, options.batch, units, steps, parameters, unit))
    draws = options.draws or DRAWS
    return Plan(
        *(epsilon, delta, unit, units, options.batch, steps, options.clip, noise, draws, ACCOUNTANT)
    )


def refuse_options(options: TrainOptions) -> None:
    """Refuse options of the loop that private training does not know.

    Raises:
        UsageError: names the option.
    """
    refused = {
        "accumulate": (options.accumulate != 1, "it goes patient by patient anyway; leave it"),
        "clip": (not options.clip, "it needs the largest norm of a patient's gradient, as 1"),
        "shard": (options.shard, "it trains in one process"),
        "precision": (options.precision == "fp16", "its loss scaling skips steps; take bf16"),
        "compile": (options.compile, "it is not compiled; leave it"),
    }
    for name, (wrong, why) in refused.items():
        if wrong:
            raise UsageError(f"--train.{name} does not go with --train.private: {why}")


def _noise(kind: str, epsilon: float, delta: float, rate: float, steps: int) -> float | None:
    """The least noise multiplier that keeps to the budget, None where none does."""
    from opacus.accountants.utils import get_noise_multiplier

    budget = {"target_epsilon": epsilon, "target_delta": delta, "sample_rate": rate, "steps": steps}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the orders that RDP tries on the way
        try:
            found = get_noise_multiplier(
                **budget, accountant=kind, epsilon_tolerance=ALMOST * epsilon
            )
        except ValueError:
            return None
    return float(found)


def _epsilon(kind: str, noise: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import create_accountant

    accountant = create_accountant(kind)
    accountant.history = [(noise, rate, steps)]
    return float(accountant.get_epsilon(delta=delta))


def _drowned(noise: float, batch: int, steps: int, parameters: int) -> bool:
    """Whether even gradients that all agree would add up to less than the noise does.

    All steps together move by steps * clip at most, and the noise by sqrt(steps * parameters) * noise * clip / batch.
    """
    return math.sqrt(steps) * batch < noise * math.sqrt(parameters)


def _advice(
    epsilon: float, delta: float, batch: int, units: int, steps: int, parameters: int, unit: Unit
) -> str:
    """Which batch, budget or network would be enough, each alone."""

    def works(epsilon: float, batch: int) -> float | None:
        noise = _noise(QUICK, epsilon, delta, batch / units, steps)
        return None if noise is None or _drowned(noise, batch, steps, parameters) else noise

    larger = [batch * 2**k for k in range(1, 24) if batch * 2**k < units] + [units]
    enough = next((size for size in larger if works(epsilon, size) is not None), None)
    looser = next((epsilon * 2**k for k in range(1, 8) if works(epsilon * 2**k, batch)), None)
    ways = [
        f"--train.batch {enough}" if enough else "",
        f"--train.epsilon {looser:g}" if looser else "",
    ]
    said = " or ".join(way for way in ways if way)
    begun = (
        f"{said} would do, or"
        if said
        else f"no batch would do, nor 128 times the epsilon: it takes more {unit}s, or"
    )
    return (
        f"--train.epsilon {epsilon:g} cannot be reached with {batch} of {units} {unit}s a step and {steps} steps: the "
        f"noise would drown all that can be learned; {begun} a network of fewer than {parameters:,} parameters "
        "(--width)"
    )
