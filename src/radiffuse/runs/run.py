"""A run folder: what made it (`config.toml`, `manifest.json`) and what it learned.

RUN holds `config.toml` (complete, replayable), `model.safetensors` (EMA weights of every player,
named "PLAYER.parameter"), `checkpoint/` (to resume), `log.jsonl` and `manifest.json` (version,
commit, seed, data fingerprint and facts, environment).
"""

import dataclasses
import datetime
import os
import platform
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from .. import __version__, papers
from ..applications import fields
from ..data.dataset import Cases, Facts
from ..data.files import write_json
from ..data.records import FORMAT, Manifest, read_record
from ..data.seen import seen
from ..errors import UsageError, UserError, did_you_mean
from ..training.checkpoint import MODEL, load_model, model_sha256
from ..training.objective import Objective, device_of
from ..training.options import Precision, TrainOptions
from ..training.progress import say
from ..training.tensorfile import told_sha256
from . import config
from .calibration import with_calibration
from .config import Config
from .first import load_first
from .later import load_later

CONFIG = "config.toml"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Run:
    """A finished training, ready to be used.

    Attributes:
        path: the run folder.
        config: what it was made with.
        recipe: the recipe with every field filled.
        objective: the recipe's objective; its players hold the EMA weights, in evaluation mode.
        manifest: contents of `manifest.json`; empty where the file is missing.
        model_sha256: of what `model.safetensors` holds.
    """

    path: Path
    config: Config
    recipe: Any
    objective: Objective
    manifest: dict[str, Any]
    model_sha256: str

    @property
    def generative(self) -> bool:
        """Whether the recipe makes images from seeds alone (`sample` instead of `predict`)."""
        return self.recipe.task.name == "generation"

    @property
    def drawn(self) -> Callable[[Any, dict[str, Tensor]], dict[str, Tensor]] | None:
        """What makes images of seeds, (objective, batch) -> images by key; None where nothing does."""
        draw: Any = getattr(self.recipe, "drawn", self.recipe.predict if self.generative else None)
        return draw

    @property
    def device(self) -> torch.device:
        """Where the players are."""
        return device_of(self.objective)

    @property
    def options(self) -> TrainOptions:
        """How what predicts was trained, the last stage; the defaults where its network is that of another run.

        Raises:
            UserError: its configuration holds another kind of value.
        """
        *_, last = self.config.train, *self.config.later.values()
        return fields.build(TrainOptions, last, where=f"{self.path}: [train]")

    @property
    def budget(self) -> TrainOptions:
        """As `options`, for as long as both stages together: what baselines are trained for; where a last stage learns
        from what the others make, as long as that.
        """
        options = self.options
        if not self.config.first or self.config.later:
            return options
        first = fields.build(TrainOptions, self.config.first, where=f"{self.path}: [first]")
        both = {
            name: (getattr(options, name), getattr(first, name)) for name in ("steps", "minutes")
        }
        added = {name: sum(pair) for name, pair in both.items() if None not in pair}
        return dataclasses.replace(options, **added)

    def with_steps(self, steps: int | None) -> "Run":
        """The same run, its sampler set to `steps`; None leaves the recipe's own number.

        Raises:
            UsageError: the recipe has no number of steps.
        """
        if steps is None:
            return self
        if not hasattr(self.recipe, "steps"):
            raise UsageError(f"--steps: {self.config.method} has no number of steps to set")
        return dataclasses.replace(self, recipe=dataclasses.replace(self.recipe, steps=steps))

    def with_precision(self, precision: Precision) -> "Run":
        """The same run, its networks called in `precision`; samplers and operators stay as they are.

        Changes the networks in place. In bf16 a case differs by the batch it is in, more than by the last bits of fp32.

        Args:
            precision: fp32, bf16 or fp16.

        Raises:
            UsageError: fp16 without a GPU.
        """
        if precision == "fp32":
            return self
        from ..training.player import accelerator_for

        accelerator = accelerator_for(TrainOptions(precision=precision), "--precision")
        for network in self.objective.players.values():
            accelerator.prepare_model(network, evaluation_mode=True)
        return self

    def with_settings(self, values: Mapping[str, str]) -> "Run":
        """The same run with fields changed that only prediction reads.

        Args:
            values: field -> value as one would type it.

        Raises:
            UsageError: the method has no such field, it belongs to the network, or the value is wrong.
        """
        if not values:
            return self
        free = tuple(getattr(self.recipe, "AFTER_TRAINING", ()))
        for name in values:
            if name not in free:
                hint = did_you_mean(name, free, f"there are {', '.join(free) or 'none'}")
                raise UsageError(
                    f"--set {name}: {self.config.method} has no such setting after training; {hint}"
                )
        given = {name: _typed(text) for name, text in values.items()}
        try:
            recipe = fields.replaced(self.recipe, given, "--set")
        except UserError as error:
            raise UsageError(str(error)) from None
        return dataclasses.replace(self, recipe=recipe)


def _typed(text: str) -> Any:
    """A word of the command line as the value it means: 8, 0.5, true, [1, 2], or a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def open_run(path: Path | str) -> Run:
    """Open a run folder and load its EMA weights.

    A model that nothing tells the SHA-256 of, as older versions wrote it, opens with a notice.

    Raises:
        UserError: there is no run there, its training has not finished, its model file is cut
            short, damaged, not the one that its manifest names or of another configuration, or
            another version wrote it.
    """
    path = Path(path)
    made_with = read_run_config(path)
    recipe = recipe_of(made_with, where=f"{path / CONFIG}: [recipe]")
    model = path / MODEL
    if not model.is_file():
        raise UserError(
            f"{path}: training has not finished ({MODEL} is missing); "
            "run the same train command again with --resume"
        )
    objective = prior_of(made_with, recipe, str(path / CONFIG)).objective()
    load_model(objective, model)
    manifest = read_record(path / MANIFEST, Manifest) if (path / MANIFEST).is_file() else {}
    if hasattr(recipe, "first_objective"):
        load_first(objective, path, manifest)
    known = _known(model, manifest)
    if hasattr(recipe, "calibrated"):
        recipe = with_calibration(recipe, path, known)
    stages = getattr(objective, "later", {})
    if stages:
        load_later(objective, path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for part in (objective, *stages.values()):
        for player in part.players.values():
            player.to(device).eval().requires_grad_(False)
    return Run(path, made_with, recipe, objective, manifest, known)


def _known(model: Path, manifest: Mapping[str, Any]) -> str:
    """The SHA-256 of a model that has been read, which the manifest has to name if it names any."""
    found, named = model_sha256(model), manifest.get("model_sha256")
    names = [named] if isinstance(named, str) else named or []
    if names and found not in names:
        raise UserError(
            f"{model}: is not the model that {MANIFEST} names (SHA-256 {found[:12]}, not "
            f"{' or '.join(name[:12] for name in names)}); put the right one back, or write it again "
            "from the checkpoint: the train command with --resume"
        )
    if not names and not told_sha256(model):
        say(f"note: {model}: an older version wrote it, so damage to it cannot be seen")
    return found


def read_run_config(path: Path | str) -> Config:
    """Read the configuration of a run folder.

    Raises:
        UserError: there is no run folder, or its configuration cannot be used.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: there is no such run folder")
    if not (path / CONFIG).is_file():
        raise UserError(f"{path}: not a run folder ({CONFIG} is missing)")
    return config.read_config(path / CONFIG)


def recipe_of(made_with: Config, where: str) -> Any:
    """The recipe that a configuration describes.

    Raises:
        UserError: its method is unknown or not implemented, or a field is wrong.
    """
    try:
        kind = recipe_class(made_with.method)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if made_with.distilled:
        from ..applications.generation.distilled import distilled

        teacher: Any = kind
        return fields.build(distilled(teacher), made_with.recipe, where=where)
    default = config.preset(kind, made_with.preset)
    return fields.recorded(kind, made_with.recipe, where=where, default=default)


def prior_of(made_with: Config, recipe: Any, where: str) -> Any:
    """The recipe whose network a run uses: its own, or that of a prior trained elsewhere."""
    if not made_with.prior:
        return recipe
    method = str(made_with.prior["method"])
    kind = recipe_class(method)
    return fields.recorded(
        kind, made_with.prior["recipe"], where=f"{where}: [prior]", default=kind()
    )


def recipe_class(method: str) -> type[Any]:
    """The recipe of a method.

    Raises:
        UsageError: there is no such method.
        UserError: the method has no recipe yet; names those that have.
    """
    return papers.by_id(method).load()


def command_line(arguments: Sequence[str]) -> str:
    """The command as one would type it."""
    return shlex.join(["radiffuse", *arguments])


def environment() -> dict[str, Any]:
    """Versions, machine and threads: what can change a number."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _cpu() -> str:
    """The processor's name where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def commit() -> str | None:
    """The git commit this package runs from, "+changes" where files differ; None if installed."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{name}+changes" if changed else name or None


def _git(root: Path, *words: str) -> str:
    """What git says, which writes nothing meanwhile: killed, it would leave a lock in somebody's repository."""
    command = ["git", "--no-optional-locks", *words]
    found = subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True, timeout=10
    )
    return found.stdout.strip()


def about(cases: Cases, facts: Facts, made_with: Config) -> dict[str, Any]:
    """What `manifest.json` says of a training that begins now."""
    return {
        "format": FORMAT,
        "version": __version__,
        "commit": commit(),
        "method": made_with.method,
        "preset": made_with.preset,
        "seed": made_with.train.get("seed"),
        "data": {
            **fields.plain(made_with.data),
            "fingerprint": cases.fingerprint,
            "cases": len(cases),
            "facts": dataclasses.asdict(facts),
            "stored": stored(cases),
            "seen": seen(cases.split("train")),
        },
        "environment": environment(),
        "command": made_with.command,
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def stored(cases: Cases) -> dict[str, Any]:
    """How the first image is stored, or the first volume where there are any: samples are written alike."""
    images = {key: cases.image(0, key) for key in (*cases.image_keys, *cases.mask_keys)}
    if not images:
        return {}
    image = max(images.values(), key=lambda image: len(image.size))
    modalities = {key: one.modality for key, one in images.items() if one.modality}
    return {
        "range": None if image.range is None else list(image.range),
        "dtype": str(image.data.dtype).removeprefix("torch."),
        "affine": None if image.affine is None else image.affine.tolist(),
        "format": image.format,
        **({"modality": modalities} if modalities else {}),
    }


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json` of a run folder."""
    write_json(path / MANIFEST, manifest)


def record_model(path: Path, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Write `manifest.json` with the SHA-256 of the model beside it, or of the two that may be."""
    named = {"model_sha256": names[0] if len(names) == 1 else list(names)} if names else {}
    write_manifest(path, {**manifest, **named})
