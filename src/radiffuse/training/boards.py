"""Where the numbers of log.jsonl go as well: TensorBoard, MLflow, Weights & Biases; imported where asked for."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..data.files import read_json, write_json
from ..errors import UserError
from . import processes
from .options import TrainOptions

__all__ = ["Board", "boards"]

_MLFLOW, _WANDB = "mlflow.json", "wandb.json"
"""In the run folder: which run over there is this one, so that a training that goes on goes on there."""


class Board(Protocol):
    """Takes the numbers of one step at a time."""

    def write(self, numbers: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


class Lenient:
    """A board whose failures end nothing: it is told of once, and the training goes on."""

    def __init__(self, board: Board) -> None:
        self._board: Board | None = board

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        self._try(lambda board: board.write(numbers, step))

    def close(self) -> None:
        self._try(lambda board: board.close())

    def _try(self, call: Callable[[Board], None]) -> None:
        try:
            if self._board is not None:
                call(self._board)
        except UserError as error:
            self._board = None
            if processes.is_main():
                line = f"note: {error}; the training goes on, and log.jsonl has every number"
                print(line, file=sys.stderr)


def boards(run: Path, options: TrainOptions, step: int) -> list[Board]:
    """Those that the options ask for.

    Args:
        run: run folder.
        options: of the training.
        step: later lines are written again.

    Raises:
        UserError: its package is missing, or it cannot be reached.
    """
    found: list[Board] = []
    if options.tensorboard:
        found.append(TensorBoard(run, step))
    if options.mlflow:
        found.append(Lenient(MLflow(run, options.mlflow)))
    if options.wandb:
        found.append(WandB(run, options.wandb))
    return found


def flat(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of log.jsonl, those of players as "loss/network"."""
    found = {}
    for key, value in line.items():
        for name, number in (value if isinstance(value, dict) else {"": value}).items():
            if isinstance(number, int | float):
                found[f"{key}/{name}".rstrip("/")] = float(number)
    return found


class TensorBoard:
    """Files in the folder tensorboard/ of the run."""

    def __init__(self, run: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "tensorboard") from None
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        self._writer.close()


class MLflow:
    """A run of the experiment "radiffuse" behind a tracking URI, called after the run folder."""

    def __init__(self, run: Path, uri: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow.entities import Metric
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise _missing("mlflow", "mlflow") from None
        self._metric, self._uri = Metric, uri
        with self._told():
            self._client: Any = MlflowClient(tracking_uri=uri)
            self._id = self._known(run) or self._begun(run)

    def _known(self, run: Path) -> str:
        """The run over there that an interrupted training wrote into; "" where there is none."""
        if not (run / _MLFLOW).is_file():
            return ""
        told = read_json(run / _MLFLOW)
        return str(told["run_id"]) if told.get("uri") == self._uri else ""

    def _begun(self, run: Path) -> str:
        found = self._client.get_experiment_by_name("radiffuse")
        experiment = found.experiment_id if found else self._client.create_experiment("radiffuse")
        made = self._client.create_run(experiment, run_name=run.name)
        write_json(run / _MLFLOW, {"uri": self._uri, "run_id": made.info.run_id})
        return str(made.info.run_id)

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        now = int(1000 * time.time())
        metrics = [self._metric(name, number, now, step) for name, number in numbers.items()]
        with self._told():
            self._client.log_batch(self._id, metrics=metrics)

    def close(self) -> None:
        with self._told():
            self._client.set_terminated(self._id)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, OSError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"--train.mlflow {self._uri}: {said}") from None


class WandB:
    """A run of a project of Weights & Biases, called after the run folder; `WANDB_MODE=offline` keeps it here."""

    def __init__(self, run: Path, project: str) -> None:
        try:
            import wandb
        except ImportError:
            raise _missing("wandb", "wandb") from None
        known = (
            read_json(run / _WANDB)["id"] if (run / _WANDB).is_file() else wandb.util.generate_id()
        )
        try:
            self._run: Any = wandb.init(
                project=project, id=known, name=run.name, dir=str(run), resume="allow"
            )
        except (wandb.errors.Error, OSError) as error:
            said = " ".join(str(error).split())[:200]
            raise UserError(f"--train.wandb {project}: {said}") from None
        write_json(run / _WANDB, {"project": project, "id": known})

    def write(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def _missing(option: str, package: str) -> UserError:
    return UserError(
        f"--train.{option} needs the package {package}: pip install 'radiffuse[{package}]'"
    )
