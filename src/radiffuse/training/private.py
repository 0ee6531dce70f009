"""Differentially private training (DP-SGD): one patient's images change the model within a bound.

A step takes each patient with the same probability, and one image of theirs by lot. The gradient is the mean over
`draws` noise levels and noises of that image (Dockhorn et al. 2023, DPDM), shortened to `clip`; to the sum over
patients is added Gaussian noise, and it is divided by the mean number of patients. What follows, Adam and the averages
of the weights, sees nothing else of the data. Opacus shortens, sums and adds noise, and accounts for it.

The loss is a number of the data and is neither shown nor written. All randomness comes from a secret of the process:
who knew the noise could take it off again.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import processes
from .batches import Part
from .budget import Plan, Unit
from .health import Meter, Turn, likely_cause
from .loop import Trainer, Who
from .objective import Denoising
from .player import backward

__all__ = ["Ledger", "Private", "people", "refuse_objective"]


class Ledger:
    """What is spent of a plan, for the manifest.

    Attributes:
        plan: of the training.
        told: as `Plan.told`, of the last step that was asked for.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.told: dict[str, Any] = {}
        self.at(0)

    def at(self, step: int) -> None:
        """Account for `step` steps."""
        self.told.update(self.plan.told(step))


class PrivateMeter(Meter):
    """Means of the noised gradient alone, and what is spent."""

    plan: Plan

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        return {}, super().means()[1]

    def beside(self, step: int) -> dict[str, float]:
        return {"epsilon": self.plan.spent(step)}


class Private(Trainer):
    """The training loop with private steps.

    Args:
        objective, cases, options, out, about, record: as `Trainer`.
        ledger: of its budget.
        members: the cases of each patient.
        secret: seed of all that is random; None draws one, as a training must.
    """

    def __init__(
        self,
        *arguments: Any,
        ledger: Ledger,
        members: Sequence[Sequence[int]],
        secret: int | None = None,
    ) -> None:
        self.ledger, self.plan, self.members = ledger, ledger.plan, members
        super().__init__(*arguments)
        ((self.name, self.player),) = self.players.items()
        self.meter = PrivateMeter(scaled=False, cause=self.cause)
        self.meter.plan = self.plan
        seed = secrets.randbits(63) if secret is None else secret
        self.lots = torch.Generator().manual_seed(seed)
        noise = torch.Generator(self.accelerator.device).manual_seed(seed ^ 1)
        self.mechanism = _mechanism(self.player._optimizer, self.plan, noise)

    def _settings(self) -> dict[str, Any]:
        """Without the fingerprint of the data: who has them could tell by it that they were trained on."""
        plan = self.plan.told(0)
        fixed = ("unit", "units", "batch", "steps", "clip", "noise_multiplier", "accountant")
        settings = {**super()._settings(), "the data": ""}
        return settings | {f"the private plan's {name}": plan[name] for name in fixed}

    def _fetch(self) -> tuple[list[Part], Exception | None]:
        steps = min(self.options.budget()[0], self.plan.steps)
        if self.step >= steps:
            return [], None
        try:
            return list(self._drawn()), None
        except (UserError, OSError, ValueError, RuntimeError) as error:
            return [], error

    def finished(self) -> bool:
        return self.step >= self.plan.steps or super().finished()

    def _drawn(self) -> Iterator[Part]:
        """Of each patient in this step one image, as often as noise is drawn for it."""
        taken = torch.rand(len(self.members), generator=self.lots) < self.plan.rate
        lots = torch.rand(len(self.members), generator=self.lots)
        for at in taken.nonzero().flatten().tolist():
            mine = self.members[at]
            index = mine[min(int(lots[at] * len(mine)), len(mine) - 1)]
            one = self.cases.batch([index])
            repeated = {
                key: value.repeat_interleave(self.plan.draws, 0) for key, value in one.items()
            }
            yield Part(0, 1.0, repeated)

    def _turn(self, turn: int, losses: list[tuple[Part, Iterator[tuple[Who, Tensor]]]]) -> bool:
        """The one turn of a step: the noised mean of the shortened gradients."""
        if turn:
            return False
        self.noised_gradient(losses)
        norm = self.player.update(0)
        self.meter.add(Turn(self.step + 1, self.name, torch.zeros_like(norm), norm))
        return True

    def noised_gradient(self, losses: Sequence[tuple[Part, Iterator[tuple[Who, Tensor]]]]) -> None:
        """Leave in the parameters the gradient of a step, from one part a patient."""
        parameters: list[Any] = list(self.player.parameters)  # Opacus keeps more at each
        for parameter in parameters:  # of a step without patients, which is noise alone
            parameter.grad_sample = parameter.new_zeros((0, *parameter.shape))
        self.mechanism.clip_and_accumulate()
        for part, iterator in losses:
            self._seed(part.slot, 0)
            _, loss = next(iterator)
            backward([self.player], loss)
            for parameter in parameters:
                grad = parameter.grad
                parameter.grad_sample = (
                    torch.zeros_like(parameter) if grad is None else grad.detach()
                )[None]
                parameter.grad = None
            self.mechanism.clip_and_accumulate()
        for _, iterator in losses:  # what an objective does after its loss, as counting its steps
            next(iterator, None)
        self.mechanism.add_noise()
        self.mechanism.scale_grad()
        for parameter in parameters:
            parameter.grad_sample = parameter.summed_grad = None

    def _seed(self, slot: int, turn: int) -> None:
        """From the secret, and new for every patient: a seed by place would make others' draws depend on who came."""
        seed = int(torch.randint(2**62, (), generator=self.lots))
        torch.default_generator.manual_seed(seed)
        device = self.accelerator.device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)

    def cause(self, step: int, player: str, what: str) -> str:
        return likely_cause(what, self.options, grown=self.meter.grown(player))

    def save_model(self) -> None:
        self.ledger.at(self.step)
        super().save_model()


def _mechanism(optimizer: torch.optim.Optimizer, plan: Plan, noise: torch.Generator) -> Any:
    """What shortens, sums and adds noise."""
    from opacus.optimizers import DPOptimizer

    return DPOptimizer(
        optimizer,
        noise_multiplier=plan.noise_multiplier,
        max_grad_norm=plan.clip,
        expected_batch_size=plan.batch,
        generator=noise,
    )


def people(ids: Sequence[str], patients: Sequence[str]) -> tuple[Unit, list[list[int]]]:
    """Whether the data name patients, and the cases of each of them."""
    members: dict[str, list[int]] = {}
    for index, patient in enumerate(patients):
        members.setdefault(patient, []).append(index)
    named = tuple(ids) != tuple(patients)
    return ("patient" if named else "image"), list(members.values())


def refuse_objective(method: str, objective: Any) -> None:
    """Refuse what is not one network trained on images alone, one by one.

    Raises:
        UserError: several players, batch statistics, or a loss that reads more than its own image; or Opacus is not
            there, or there are several processes.
    """
    why = ""
    if processes.world() > 1:
        why = "trains in one process; start it without torchrun"
    elif len(objective.players) > 1:
        names = ", ".join(objective.players)
        why = f"trains one network, and {method} has {len(objective.players)}: {names}"
    elif not isinstance(objective, Denoising) or not _alone(objective):
        why = f"is of methods that learn from one image at a time, and {method} is none"
    if why:
        raise UserError(f"--train.private {why}")
    (network,) = objective.players.values()
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase) and not _of_one(module):
            raise UserError(
                f"--train.private: {method}'s network takes statistics over a batch ({name}), which mix patients"
            )


def _of_one(module: nn.Module) -> bool:
    """Whether a norm is of each image alone, and remembers nothing."""
    instance = isinstance(module, nn.modules.instancenorm._InstanceNorm)
    return instance and not module.track_running_stats


def _alone(objective: Denoising) -> bool:
    """Whether the objective is plain denoising, whose loss is a mean over its batch."""
    return type(objective).losses is Denoising.losses and (
        type(objective).condition is Denoising.condition
    )
