"""Model files and checkpoints: safetensors for tensors, JSON for the rest, never half a file.

A model file holds the networks of an objective, each tensor named "PLAYER.name". A checkpoint is a
folder checkpoint/step-XXXXXXXX/ with state.safetensors and state.json, all that training needs to
go on as if it had never stopped; the tensors' file holds the SHA-256 of both.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
import torch
from torch import Tensor, nn

from ..data import files
from ..data.files import read_json, write_json
from ..data.records import values_of
from ..errors import UserError
from . import processes
from .tensorfile import (
    fill,
    metadata_of,
    named_tensors,
    opened,
    require_same_shapes,
    told_sha256,
    write_tensors,
)

MODEL = "model.safetensors"
FOLDER = "checkpoint"
_MODEL_FORMAT = "radiffuse-model-1"
_FORMAT = "radiffuse-checkpoint-1"
_FACTS = "state.json sha256"


class Counts(msgspec.Struct):
    """Of `State`: see `health.Meter.state`."""

    sums: dict[str, Annotated[list[float], msgspec.Meta(min_length=3, max_length=3)]] = {}
    typical: dict[str, Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]] = {}
    skipped: int = 0


class State(msgspec.Struct):
    """What `state.json` of a checkpoint holds."""

    step: int
    seconds: float = 0.0
    settings: dict[str, Any] = {}
    meter: Counts = msgspec.field(default_factory=Counts)
    scaler: dict[str, Any] = {}


class HasPlayers(Protocol):
    """What a model file needs of an objective."""

    players: dict[str, nn.Module]


def model_tensors(objective: HasPlayers) -> dict[str, Tensor]:
    """The tensors of all players, named as in a model file."""
    return {
        f"{player}.{name}": tensor
        for player, module in objective.players.items()
        for name, tensor in named_tensors(module).items()
    }


def save_model(
    objective: HasPlayers,
    path: Path | str,
    *,
    method: str,
    step: int,
    tensors: Mapping[str, Tensor] | None = None,
    record: Callable[[Sequence[str]], None] | None = None,
) -> None:
    """Write the networks of `objective` to `path`.

    Args:
        objective: its players are written.
        path: a .safetensors file, replaced in one move.
        method: id of the method, stored beside the tensors.
        step: training steps behind these weights.
        tensors: written in place of the players' own of the same name, e.g. averaged weights.
        record: told the SHA-256 of the models that may lie at `path`: of the old and the new one
            before the move, so that a kill in between leaves none that is unknown, then of the new.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    metadata = {"format": _MODEL_FORMAT, "method": method, "step": str(step)}

    def announce(sha256: str) -> None:
        if record is not None:
            record([*models_at(path), sha256])

    write_tensors(path, model_tensors(objective) | dict(tensors or {}), metadata, announce)
    if record is not None and processes.is_main():
        record(models_at(path))


def models_at(path: Path) -> list[str]:
    """The SHA-256 of the model file `path`, if it is there and can be read."""
    try:
        return [model_sha256(path)] if path.is_file() else []
    except UserError:
        return []


def load_model(objective: HasPlayers, path: Path | str, whole: bool = True) -> dict[str, str]:
    """Read the networks of `objective` from `path`.

    Args:
        objective: its players are filled.
        path: a .safetensors file.
        whole: refuse a file that holds players beside these.

    Returns:
        What stands beside the tensors: "format", "method", "step".

    Raises:
        UserError: the file is missing, damaged, of another program, or of another network.
    """
    path = Path(path)
    with opened(path) as file:
        metadata = metadata_of(file)
        if metadata.get("format") != _MODEL_FORMAT:
            found = metadata.get("format", "no format name")
            raise UserError(f"{path}: expected a {_MODEL_FORMAT} file, found {found}")
        own = model_tensors(objective)
        names = dict(zip(own, own, strict=True))
        require_same_shapes(path, file, own, names, whole=whole)
        for name, tensor in own.items():
            fill(tensor, file.get_tensor(name))
    return metadata


def model_sha256(path: Path) -> str:
    """Names a model: the SHA-256 that its file tells, or that of the contents of an older one."""
    if told := told_sha256(path):
        return told
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def started(run: Path | str) -> bool:
    """Whether a run folder holds a training that was started (or finished)."""
    run = Path(run)
    log = run / "log.jsonl"
    logged = log.exists() and log.stat().st_size > 0
    return logged or (run / MODEL).exists() or newest(run) is not None


def refuse_started(run: Path | str) -> None:
    """Refuse to train into a folder that holds a run already.

    Raises:
        UserError: it does.
    """
    if started(run):
        raise UserError(
            f"{run}: holds a run already; pass --resume to go on with it, or another --out"
        )


def sweep(run: Path) -> None:
    """Remove what a killed process left half-written in the run folder and in those that belong to it."""
    inside = ("snapshots", "pictures", "features", "evaluated/*")
    for folder in [run, *(folder for name in inside for folder in run.glob(name))]:
        files.sweep(folder)
        for path in folder.glob(".tmp*"):  # of safetensors
            if path.is_file() and re.fullmatch(r"\.tmp\w{6}", path.name):
                path.unlink(missing_ok=True)


def newest(run: Path | str) -> Path | None:
    """The newest checkpoint folder of a run, None where there is none."""
    folders = [
        path
        for path in (Path(run) / FOLDER).glob("step-*")
        if re.fullmatch(r"step-\d+", path.name) and path.is_dir()
    ]
    return max(folders, key=lambda path: int(path.name.removeprefix("step-")), default=None)


def write_checkpoint(run: Path, step: int, tensors: Mapping[str, Tensor], facts: Any) -> None:
    """Write the checkpoint of `step`, then remove others. All processes take part.

    A checkpoint of this step that is there already stays: it was reached by the same steps, and to
    put another in its place takes a moment without any.

    Raises:
        UserError: the disk is full or the folder cannot be written; the last checkpoint stays.
    """
    folder = run / FOLDER / f"step-{step:08d}"
    if not processes.agree([float(processes.is_main() and folder.is_dir())])[0]:
        _write_new(folder, tensors, facts)
    if not processes.is_main():
        return
    for other in folder.parent.iterdir():
        if other != folder and re.fullmatch(r"(\.writing-)?step-\d+", other.name):
            shutil.rmtree(other, ignore_errors=True)


def _write_new(folder: Path, tensors: Mapping[str, Tensor], facts: Any) -> None:
    """Write a checkpoint beside its place, then move it there."""
    temporary = folder.with_name(f".writing-{folder.name}")
    try:
        if processes.is_main():
            shutil.rmtree(temporary, ignore_errors=True)
        metadata = {"format": _FORMAT}
        if processes.is_main():
            write_json(temporary / "state.json", {"format": _FORMAT, **facts})
            metadata[_FACTS] = _file_sha256(temporary / "state.json")
        write_tensors(temporary / "state.safetensors", tensors, metadata)
        if not processes.is_main():
            return
        for path in (*temporary.iterdir(), temporary):
            _to_disk(path)
        temporary.rename(folder)
        _to_disk(folder.parent)
    finally:
        if processes.is_main():
            shutil.rmtree(temporary, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until `path` is on the disk, so that a power cut does not leave a name without data."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_facts(folder: Path) -> State:
    """What a checkpoint says beside its tensors.

    Raises:
        UserError: it is damaged or of another program.
    """
    path = folder / "state.json"
    try:
        facts = read_json(path)
        if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
            raise UserError(f"{path}: not a checkpoint of this version of radiffuse")
        with opened(folder / "state.safetensors", check=False) as file:
            told = metadata_of(file).get(_FACTS)
        if told is not None and told != _file_sha256(path):
            raise UserError(f"{path}: damaged: it is not what was written (SHA-256)")
        return msgspec.convert(values_of(facts, State, path), State)
    except UserError as error:
        raise UserError(f"{error}; {_advice(folder)}") from None


def _file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _advice(folder: Path) -> str:
    return f"remove {folder} to start from the beginning"


def read_tensors(folder: Path, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    """Fill `tensors` from a checkpoint.

    Args:
        folder: of the checkpoint.
        tensors: live tensors by their name in the checkpoint.
        names: by the same names, what to call them in a message.

    Raises:
        UserError: the file is damaged or of another network.
    """
    path = folder / "state.safetensors"
    try:
        with opened(path) as file:
            own = {names[name]: tensor for name, tensor in tensors.items()}
            require_same_shapes(path, file, own, names)
            for name, tensor in tensors.items():
                fill(tensor, file.get_tensor(name))
    except UserError as error:
        if "another network" in str(error):
            raise UserError(f"{error}; resume with the recipe's own options") from None
        raise UserError(f"{error}; {_advice(folder)}") from None


def optimizer_tensors(
    folder: Path, parameters: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """The optimiser's state by parameter and kind, as stored in a checkpoint.

    Args:
        folder: of the checkpoint, which `read_tensors` has checked.
        parameters: by "PLAYER.name".
    """
    state: dict[str, dict[str, Tensor]] = {}
    with opened(folder / "state.safetensors", check=False) as file:
        for key in file.keys():  # noqa: SIM118 (not a dict)
            if not key.startswith("optimizer/"):
                continue
            _, kind, name = key.split("/", 2)
            value = file.get_tensor(key)
            if name in parameters and value.shape == parameters[name].shape:
                like = torch.empty_like(parameters[name].detach())
                fill(like, value)
                value = like
            state.setdefault(name, {})[kind] = value
    return state


def refuse_others(folder: Path, now: Mapping[str, Any], was: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of other settings.

    Args:
        folder: of the checkpoint.
        now: settings by the name to show.
        was: the same, as the checkpoint has them.

    Raises:
        UserError: names the first that differs.
    """
    for name, value in now.items():
        if name not in was and not value:
            continue  # an option that is off, and was not known then
        if value != was.get(name):
            raise UserError(
                f"{folder}: cannot go on with other settings: {name} is {value} now and was "
                f"{was.get(name, 'not set')}; give the same as before, or another --out"
            )
