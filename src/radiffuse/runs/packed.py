"""A run packed to be handed on: weights, configuration and what was measured; no data, no names of folders or files."""

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.files import read_json, write_json
from ..data.records import LATENTS
from ..errors import UserError
from ..training.checkpoint import MODEL, model_sha256
from ..training.progress import say
from ..training.tensorfile import metadata_of, opened, save
from . import config
from .calibration import CALIBRATION
from .first import CODES, FIRST
from .named import HUB
from .run import CONFIG, MANIFEST, open_run

__all__ = ["Stored", "pack", "without_paths"]

Stored = Literal["fp32", "bf16"]

_LEFT_OUT = ("cases", "folder", "pictures", "environment", "command", "run")
"""Of metrics.json: what names cases, files or a machine."""


def pack(run: Path, folder: Path, stored: Stored = "fp32") -> None:
    """Write a run into `folder`, a new one, as it is handed on, but for its card.

    Args:
        run: a finished run.
        folder: to be made.
        stored: as numbers of which precision; bf16 halves the file, and rounds matrices and kernels to 8 bits.

    Raises:
        UserError: the run is not finished, or something in it is damaged.
    """
    whole = open_run(run)
    manifest = dict(whole.manifest)
    if (run / FIRST).is_dir():
        sha256 = _stage(run / FIRST, folder / FIRST, stored)
        manifest["first"] = {**manifest.get("first", {}), "sha256": sha256}
    before = _model(run / MODEL, folder / MODEL, stored)
    manifest |= {"model_sha256": before, "command": without_paths(manifest.get("command", ""))}
    data = manifest.get("data", {})
    manifest["data"] = {**data, "path": _last(data.get("path", ""))}
    write_json(folder / MANIFEST, manifest)
    for name in getattr(whole.objective, "later", {}):
        told = read_json(run / name / MANIFEST)
        after = _stage(run / name, folder / name, stored)
        write_json(folder / name / MANIFEST, {**told, "model_sha256": after, "after": before})
        before = after
    made_with = whole.config
    source = replace(made_with.data, path=_last(made_with.data.path))
    command = without_paths(made_with.command)
    config.write_config(folder / CONFIG, replace(made_with, data=source, command=command))
    if (run / CALIBRATION).is_file():
        record = read_json(run / CALIBRATION)
        write_json(folder / CALIBRATION, {**record, "model_sha256": manifest["model_sha256"]})
    if (run / LATENTS).is_file():
        shutil.copyfile(run / LATENTS, folder / LATENTS)
    metrics = _metrics(run)
    if metrics and manifest.get("private"):
        say(
            f"note: {run / 'metrics.json'}: was measured on images, outside of the guarantee of the private training, "
            "and is left out"
        )
    elif metrics.get("model_sha256") in (whole.model_sha256, manifest["model_sha256"]):
        write_json(folder / "metrics.json", metrics)
    elif metrics:
        say(f"note: {run / 'metrics.json'}: is of another model, and is left out")


def _stage(run: Path, folder: Path, stored: Stored) -> str:
    """Write a stage of a run, and give the SHA-256 of its model."""
    sha256 = _model(run / MODEL, folder / MODEL, stored)
    if (run / CODES).is_file():
        shutil.copyfile(run / CODES, folder / CODES)
    return sha256


def _model(source: Path, target: Path, stored: Stored) -> str:
    with opened(source) as file:
        tensors = {name: _rounded(file.get_tensor(name), stored) for name in file.keys()}  # noqa: SIM118 (not a dict)
        save(target, tensors, metadata_of(file))
    return model_sha256(target)


def _rounded(tensor: Tensor, stored: Stored) -> Tensor:
    """Matrices and kernels in the precision asked for; vectors, which take no room, as they are."""
    large = tensor.dim() > 1 and tensor.is_floating_point()
    return tensor.to(torch.bfloat16) if large and stored == "bf16" else tensor


def _last(path: str) -> str:
    """The last part of a path, which says what the data are called; embedded names stay."""
    return path if config.is_embedded(path) else Path(path).name


def without_paths(command: str) -> str:
    """A command with the last part of each path alone, for folders may be called after people."""
    try:
        words = shlex.split(command)
    except ValueError:  # not written by us
        return ""
    return shlex.join(_last_of_word(word) for word in words)


def _last_of_word(word: str) -> str:
    if HUB.fullmatch(word):
        return word
    name, equals, path = word.rpartition("=")
    last = path.rstrip("/").rpartition("/")[2]
    return word if config.is_embedded(word) else f"{name}{equals}{last}"


def _metrics(run: Path) -> dict[str, Any]:
    """What was measured, without values or names of single cases."""
    if not (run / "metrics.json").is_file():
        return {}
    record = read_json(run / "metrics.json")
    if not isinstance(record, dict):
        raise UserError(f"{run / 'metrics.json'}: holds no metrics; evaluate the run again")
    kept: dict[str, Any] = _without_people(
        {name: value for name, value in record.items() if name not in _LEFT_OUT}
    )
    kept["command"] = without_paths(str(record.get("command", "")))
    if isinstance(data := kept.get("data"), dict):
        kept["data"] = {**data, "source": _last(str(data.get("source", "")))}
    return kept


def _without_people(value: Any) -> Any:
    """The same without what stands there patient by patient."""
    if isinstance(value, dict):
        return {k: _without_people(v) for k, v in value.items() if k != "per_patient"}
    return value
