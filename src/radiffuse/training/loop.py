"""The one training loop: any objective, any number of players, one process or many.

A step takes `batch` cases, cut into micro-batches. Each yield of `objective.losses` is a turn: the
player named (or the players, a tuple of names) is updated from the sum of the gradients of that
loss over all micro-batches and processes, and only then the objective's code goes on. Every turn
of every micro-batch seeds torch's global generator from (seed, step, micro-batch, turn), so that a
run can be cut anywhere.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec
import safetensors
import torch
from torch import Tensor, nn

from ..errors import UsageError, UserError
from . import checkpoint, processes
from .batches import Batch, Batches, Part, Readable, augmentation, place, seed_of
from .ema import PowerAverage, write_snapshot
from .health import Meter, Turn, bad_case, bad_name, likely_cause
from .interrupt import Interrupt
from .options import TrainOptions
from .player import Player, accelerator_for, backward
from .progress import Reporter, say

__all__ = ["TrainOptions", "train"]

_BEFORE = -1
"""The turn before the first, in which a batch is augmented."""

Who = str | tuple[str, ...]
"""The player whose turn it is, or the players that share one loss."""


class Trainable(Protocol):
    """What the loop needs of an objective.

    Two attributes are optional: `rates`, a factor of the learning rate by player (1 where none is
    given), and `unaveraged`, players whose last weights are kept in place of an average (critics).
    """

    players: dict[str, nn.Module]

    def losses(self, batch: Batch, /) -> Iterator[tuple[Who, Tensor]]: ...


def train(
    objective: Trainable,
    cases: Readable,
    options: TrainOptions,
    out: Path | str,
    *,
    resume: bool = False,
    about: Mapping[str, Any] | None = None,
    record: Callable[[Sequence[str]], None] | None = None,
    kind: "Callable[..., Trainer] | None" = None,
) -> None:
    """Train the players of `objective` on `cases` into the run folder `out`.

    Writes checkpoint/, log.jsonl, model.safetensors (the first averaged width) and, if wanted,
    snapshots/ and tensorboard/. Afterwards the players hold what model.safetensors holds.

    Args:
        objective: see `radiffuse.training.objective`.
        cases: what `cases.batch(indices)` returns is handed to `objective.losses`.
        options: of the loop.
        out: run folder.
        resume: go on from the newest checkpoint in `out`; from the beginning if there is none.
        about: plain facts of the run; about["method"] is written to the model file.
        record: told the SHA-256 of the models that may lie in `out` whenever one is written
            (`checkpoint.save_model`).
        kind: of the trainer, where it is another (`private.Private`).

    Raises:
        UserError: `out` holds another run, a damaged checkpoint or one of other options; the loss
            is not finite; the disk is full.
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM, after saving.
    """
    if options.private and kind is None:
        raise UserError("--train.private is of `radiffuse train` of one network alone")
    out = Path(out)
    if not resume:
        checkpoint.refuse_started(out)
    if len(cases) == 0:
        raise UserError("there are no cases to train on")
    processes.start()
    trainer = (kind or Trainer)(objective, cases, options, out, dict(about or {}), record)
    try:
        folder = checkpoint.newest(out)
        if folder is not None:
            trainer.load(folder)
        if trainer.finished():
            say(f"{out}: training is done already ({trainer.step} steps)")
            trainer.save_model()
        else:
            trainer.run()
    finally:
        trainer.release()
    trainer.adopt()


class Trainer:
    """The state of one training run."""

    def __init__(
        self,
        objective: Trainable,
        cases: Readable,
        options: TrainOptions,
        out: Path,
        about: dict[str, Any],
        record: Callable[[Sequence[str]], None] | None,
    ) -> None:
        self.objective, self.cases, self.options, self.out = objective, cases, options, out
        self.about, self.record = about, record
        self.settings = self._settings()  # now: files of the data may be gone at a checkpoint
        self.accelerator = accelerator_for(options)
        self.modules = dict(objective.players)
        self.players = {
            name: Player(module, options, self.accelerator) for name, module in self.modules.items()
        }
        self.rates: dict[str, float] = {name: 1.0 for name in self.modules}
        self.rates |= dict(getattr(objective, "rates", {}))
        last = set(getattr(objective, "unaveraged", ()))
        if not {*self.rates, *last} <= self.modules.keys():
            raise ValueError("`rates` and `unaveraged` name players that the objective lacks")
        kept = {n: t for n, t in self.trained().items() if n.partition(".")[0] not in last}
        self.average = PowerAverage(kept, options.ema)
        self.meter = Meter(scaled=self.accelerator.scaler is not None, cause=self.cause)
        self.batches = Batches(
            cases, batch=options.batch, accumulate=options.accumulate, seed=options.seed
        )
        if self.batches.slots > options.batch:
            raise UsageError(
                f"--train.batch {options.batch} is less than the {self.batches.slots} "
                "micro-batches it is cut into (processes x --train.accumulate)"
            )
        self.augment = augmentation(options, cases)
        self.step = 0
        self.seconds = 0.0

    def trained(self) -> dict[str, Tensor]:
        """The parameters that are trained, named as in a model file."""
        return {
            f"{name}.{key}": tensor
            for name, player in self.players.items()
            for key, tensor in player.named.items()
        }

    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.options.share(self.step, self.seconds) >= 1

    # --- the loop ------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the budget is used up or a signal comes."""
        self._refuse_bad_weights()
        if processes.is_main():
            checkpoint.sweep(self.out)
        reporter = Reporter(self.out, self.options, self.meter, self.step, self.seconds)
        saved = time.monotonic()
        begun = saved - self.seconds
        try:
            with Interrupt() as interrupt:
                while True:
                    parts, error = self._fetch()
                    now = time.monotonic()
                    due = now - saved >= 60 * self.options.checkpoint_minutes
                    mine = [now - begun, float(due)] if processes.is_main() else [0.0, 0.0]
                    wishes = [*mine, float(interrupt.raised), float(error is not None)]
                    self.seconds, save, stop, failed = processes.agree(wishes)
                    if failed or stop or self.finished():
                        break
                    if save:
                        self.save()
                        saved = time.monotonic()
                    self.take(parts)
                    reporter.step(self.step, self.seconds)
                if self.finished():
                    reporter.last(self.step, self.seconds)
                if self.step:
                    self.save()
        finally:
            reporter.close()
        if failed:
            raise error or UserError("another process could not read its data")
        if stop and not self.finished():
            say(f"stopped at step {self.step}, all saved; run again to go on (train: --resume)")
            raise KeyboardInterrupt
        say(f"{self.out}: trained {self.step} steps in {self.seconds / 60:.1f} min")

    def _fetch(self) -> tuple[list[Part], Exception | None]:
        """The micro-batches of this step, or why they could not be read."""
        steps, _ = self.options.budget()
        if self.step >= steps:
            return [], None
        try:
            return self.batches(self.step, steps - 1), None
        except (UserError, OSError, ValueError, RuntimeError) as error:
            return [], error

    def take(self, parts: list[Part]) -> None:
        """One step: every turn of every player, then the averages."""
        rate = self.options.rate(self.step, self.seconds)
        for name, player in self.players.items():
            player.set_rate(rate * self.rates[name])
        losses = [(part, iter(self.objective.losses(self._view(part)))) for part in parts]
        turn = 0
        while self._turn(turn, losses):
            turn += 1
        if turn == 0:
            raise ValueError("objective.losses yielded nothing")
        for player in self.players.values():
            processes.copy_from_main(player.module.buffers())
        self.step += 1
        self.average.update(self.step)
        every = self.options.snapshot_every
        if every and self.step % every == 0:
            self._together(lambda: write_snapshot(self.out, self.step, self.average.averages))

    def _view(self, part: Part) -> Batch:
        """A micro-batch on the device, augmented."""
        device, channels_last = self.accelerator.device, self.options.channels_last
        batch = place(part.batch, device, channels_last)
        if not self.augment:
            return batch
        self._seed(part.slot, _BEFORE)
        return place(self.augment(batch), device, channels_last)

    def _turn(self, turn: int, losses: list[tuple[Part, Iterator[tuple[Who, Tensor]]]]) -> bool:
        """Advance every micro-batch by one yield and update who is named; False at the end."""
        named = set()
        total = torch.zeros((), device=self.accelerator.device)
        for part, iterator in losses:
            self._seed(part.slot, turn)
            who, loss = next(iterator, (None, total))
            named.add(who)
            if who is not None:
                backward([self.players[name] for name in _names(who)], loss * part.weight)
                total += loss.detach() * part.weight
        (who,) = named  # the same on every micro-batch, or the objective is wrong
        if who is None:
            return False
        norms = {name: self.players[name].update(self.options.clip) for name in _names(who)}
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.update()
        for player in self.players.values():
            player.forget()
        for name, norm in norms.items():
            self.meter.add(Turn(self.step + 1, name, total, norm))
        return True

    def _seed(self, slot: int, turn: int) -> None:
        """Seed the global generators; `torch.manual_seed` does the same for devices not there."""
        seed = seed_of(self.options.seed, self.step, slot, turn)
        torch.default_generator.manual_seed(seed)
        device = self.accelerator.device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(seed)

    # --- what is saved -------------------------------------------------------------------------

    def averaged(self) -> dict[str, Tensor]:
        """The average of the first width, named as in a model file."""
        return self.average.averages[self.options.ema[0]]

    def _settings(self) -> dict[str, Any]:
        """What a run must share with the run it goes on from, named as shown to the user."""
        options = self.options.fixed().items()
        return {f"--train.{name.replace('_', '-')}": value for name, value in options} | {
            "the method": self.about.get("method", ""),
            "the data": getattr(self.cases, "fingerprint", ""),
        }

    def save(self) -> None:
        """Write a checkpoint and the model, unless something in them is not finite."""
        self.meter.read()
        self._refuse_bad_weights()
        scaler = self.accelerator.scaler
        facts = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": self.settings,
            "meter": self.meter.state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
            "processes": processes.world(),
            "versions": {"torch": torch.__version__, "safetensors": safetensors.__version__},
        }
        tensors = self._weights_and_averages() | self._moments()
        self._together(lambda: checkpoint.write_checkpoint(self.out, self.step, tensors, facts))
        self.save_model()

    def save_model(self) -> None:
        """Write model.safetensors."""
        self._together(
            lambda: checkpoint.save_model(
                self.objective,
                self.out / checkpoint.MODEL,
                method=str(self.about.get("method", "")),
                step=self.step,
                tensors=self.averaged(),
                record=self.record,
            )
        )

    def _together(self, write: Callable[[], None]) -> None:
        """Write on the main process; where that fails, every process stops."""
        error = None
        try:
            write()
        except UserError as caught:
            error = caught
        if processes.agree([float(error is not None)])[0]:
            raise error or UserError("the main process could not write")

    def _weights_and_averages(self) -> dict[str, Tensor]:
        weights = checkpoint.model_tensors(self.objective)
        return {f"weights/{name}": tensor for name, tensor in weights.items()} | {
            f"ema/{width!r}/{name}": tensor
            for width, average in self.average.averages.items()
            for name, tensor in average.items()
        }

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"optimizer/{kind}/{name}.{key}": value
            for name, player in self.players.items()
            for key, state in player.optimizer_state().items()
            for kind, value in state.items()
        }

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            UserError: it is damaged, or of other options, data or networks.
        """
        facts = checkpoint.read_facts(folder)
        checkpoint.refuse_others(folder, self.settings, facts.settings)
        tensors = self._weights_and_averages()
        names = {name: name.split("/")[-1] for name in tensors}
        checkpoint.read_tensors(folder, tensors, names)
        state = checkpoint.optimizer_tensors(folder, self.trained())
        for name, player in self.players.items():
            player.load_optimizer_state(
                {key: state[f"{name}.{key}"] for key in player.named if f"{name}.{key}" in state}
            )
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(facts.scaler)
        self.meter.load(msgspec.to_builtins(facts.meter))
        self.step, self.seconds = facts.step, facts.seconds

    # --- trouble ---------------------------------------------------------------------------------

    def _refuse_bad_weights(self) -> None:
        name = bad_name(checkpoint.model_tensors(self.objective))
        if name is not None:
            raise UserError(
                f"training stopped at step {self.step}: the weights {name} are not finite"
                + ("; a checkpoint that was written is kept" if self.step else "")
            )

    def cause(self, step: int, player: str, what: str) -> str:
        """Why a loss or gradient is not finite, as far as can be known."""
        trained = self.trained()
        tensors = checkpoint.model_tensors(self.objective)
        frozen = {name: tensor for name, tensor in tensors.items() if name not in trained}
        bad = bad_case(self.cases.batch, self.batches.indices(step - 1))
        if bad is not None:
            index, key = bad
            ids = getattr(self.cases, "ids", None)
            return f"the data are not finite: {key} of case {ids[index] if ids else index}"
        name = bad_name(frozen)
        if name is not None:
            return f"{name} is not finite"
        return likely_cause(what, self.options, grown=self.meter.grown(player))

    def release(self) -> None:
        """Give the objective its own networks back."""
        self.batches.close()
        for name, player in self.players.items():
            player.release()
            self.objective.players[name] = player.module

    @torch.no_grad()
    def adopt(self) -> None:
        """Leave the averaged weights in the networks."""
        trained = self.trained()
        for name, value in self.averaged().items():
            trained[name].copy_(value)


def _names(who: Who) -> tuple[str, ...]:
    return (who,) if isinstance(who, str) else who
