"""The library as in a notebook: `load` a run, `train` one, and use it on paths, cases or arrays.

Every call does what the command of the same name does, and gives what it wrote as Python objects. Numbers are
those of the command, to the bit.
"""

import contextlib
import dataclasses
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from .applications.generation.sampling import chain
from .applications.task import Task
from .commands import evaluate, predict, sample
from .commands import train as train_command
from .commands.export import told_alone
from .commands.parsing import flags_of
from .commands.subset import subset_of
from .commands.written import REPORT
from .data.columns import names_image, names_raw
from .data.dataset import Cases, from_iterable, open_cases
from .data.files import read_json
from .data.formats.by_ending import read_image
from .data.image import Image
from .data.planes import Cut
from .diffusion.denoiser import Denoiser
from .errors import UserError
from .runs.named import card_of, found_run
from .runs.notebook import Metrics, Prediction, Trajectory
from .runs.run import Run, open_run
from .training.options import TrainOptions
from .training.progress import say

__all__ = ["Metrics", "Model", "Prediction", "Trajectory", "load", "open", "train"]

open = open_cases

_LOOP = {field.name for field in dataclasses.fields(TrainOptions)}


class Model:
    """A trained run.

    Attributes:
        run: recipe, objective, configuration and manifest (`radiffuse.Run`).
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def __repr__(self) -> str:
        return f"Model({self.run.config.name}, {self.run.path})"

    @property
    def denoiser(self) -> Denoiser:
        r"""$E[x_0\mid x_t]$ of the trained network, for any sampler of the library.

        Raises:
            UserError: the method has none (a registration, a generator of one pass), or one of a case: its network is
                told an image beside.
        """
        make = getattr(self.run.recipe, "denoiser", None)
        if make is None:
            raise UserError(
                f"{self.run.config.method} has no denoiser of its own; use predict or sample"
            )
        if not told_alone(make):
            raise UserError(
                f"the network of {self.run.config.method} is told more than an image and a time: it is a denoiser of "
                "one case; recipe.denoiser(objective, ...) makes it, predict uses it"
            )
        found: Denoiser = make(self.run.objective)
        return found.eval()

    def sample(self, count: int, out: Path | str | None = None, **settings: Any) -> list[Image]:
        """New images, each from its own seed, as `radiffuse sample` draws them.

        Args:
            count: how many.
            out: folder to keep the files in; None: none is kept.
            settings: flags of the command (seed, batch, steps, labels), or fields of the recipe that only
                prediction reads.

        Raises:
            UserError: as the command.
        """
        with _folder(out) as folder:
            words = ["--count", str(count), *self._flags(sample.Flags, settings)]
            _quietly(sample.run, [str(self.run.path), "--out", str(folder), *words])
            entries = read_json(folder / "predictions.json")["predictions"]
            first = next(iter(entries[0]["files"]))
            return [read_image(folder / entry["files"][first]) for entry in entries]

    def trajectory(self, seed: int = 0, labels: Sequence[int] | None = None) -> Trajectory:
        """The way from noise to image of the first six samples of a seed.

        Args:
            seed: as `sample`.
            labels: the class of each, of a model that is told it.

        Raises:
            UserError: the method draws no images from noise alone.
        """
        recipe = self.run.recipe
        if recipe.task.name != "generation" or not hasattr(recipe, "trajectory"):
            raise UserError(f"{self.run.config.method} draws no images from noise alone")
        told = None if labels is None else torch.tensor(labels)
        with torch.no_grad():
            return Trajectory(tuple(chain(recipe, self.run.objective, told, seed)))

    def predict(
        self, data: Any = None, out: Path | str | None = None, **settings: Any
    ) -> list[Prediction]:
        """Predictions of cases, as `radiffuse predict` makes them.

        Args:
            data: a path or name as the command takes it; `Cases`; one image as an `Image`, array or tensor
                (*S) or (C, *S) of stored values, or several by key; None: the training's held-out cases.
            out: folder to keep the files in; None: none is kept.
            settings: flags of the command (samples, seed, steps, map, split ...), or fields of the recipe that
                only prediction reads.

        Raises:
            UserError: as the command.
        """
        words, cases = self._named(data, settings)
        with _folder(out) as folder:
            words += self._flags(predict.Flags, settings)
            _quietly(predict.run, [str(self.run.path), "--out", str(folder), *words], cases)
            entries = read_json(folder / "predictions.json")["predictions"]
            return [_prediction(folder, entry) for entry in entries]

    def evaluate(self, data: Any = None, **settings: Any) -> Metrics:
        """The method beside its baselines, as `radiffuse evaluate` measures them; the record of metrics.json.

        Args:
            data: as `predict`; None: the training's held-out cases, and, of a run of one's own, RUN/metrics.json is
                written.
            settings: flags of the command (count, steps, samples, split, out ...), or fields of the recipe that
                only prediction reads.

        Raises:
            UserError: as the command.
        """
        words, cases = self._named(data, settings)
        own = data is None and card_of(self.run.path) is None
        keep = contextlib.nullcontext(self.run.path) if own else _folder(None)
        with keep as folder:
            out = Path(settings.pop("out", folder / "metrics.json"))
            words += ["--out", str(out), *self._flags(evaluate.Flags, settings)]
            _quietly(evaluate.run, [str(self.run.path), *words], cases)
            return Metrics(read_json(out))

    def _flags(self, flags: type, settings: Mapping[str, Any]) -> list[str]:
        """Keywords as words of a command: its own flags, and --set for fields of the recipe."""
        own = {flag.strip("-").replace("-", "_") for flag, *_ in flags_of(flags)}
        words = _words({name: value for name, value in settings.items() if name in own})
        rest = [f"{k}={_typed(v)}" for k, v in settings.items() if k not in own]
        return [*words, *(["--set", *rest] if rest else [])]

    def _named(self, data: Any, settings: dict[str, Any]) -> tuple[list[str], Cases | None]:
        """Data as words of a command, or as cases, read as `settings` say, which are taken out of these."""
        if data is None:
            return [], None
        if isinstance(data, str | Path):
            return ["--data", str(data)], None
        if isinstance(data, Cases):
            return [], self._opened(data)
        how = {name: settings.pop(name) for name in ("size", "range", "slices") if name in settings}
        return [], self._cases(data, **how)

    def _opened(self, cases: Cases) -> Cases:
        """Cases that were opened by themselves, scaled as in training.

        Raises:
            UserError: their labels or axes mean something else than in training.
        """
        made_with = self.run.config.data
        for name, ours in (("codes", made_with.codes), ("orientation", made_with.orientation)):
            theirs = getattr(cases, name)
            pictures = name == "orientation" and len(ours) != len(theirs)
            if ours and theirs and ours != theirs and not pictures:
                raise UserError(
                    f"{cases.source}: {name} are {theirs}, and those of the training {ours}; open them with "
                    f"{name}={ours!r}"
                )
        known = {key: made_with.range[key] for key in cases.ranges if key in made_with.range}
        for key, (low, high) in known.items():
            if cases.ranges[key] != (low, high):
                say(f"note: {cases.source}: {key} is scaled as in training, {low:g} to {high:g}")
        return dataclasses.replace(cases, ranges={**cases.ranges, **known})

    def _cases(
        self, data: Any, size: Any = (), range: Any = None, slices: Cut | None = None
    ) -> Cases:
        """One case in memory, read as the training's were but for what is said."""
        task, made_with = self.run.recipe.task, self.run.config.data
        if not isinstance(data, Mapping):
            data = {_key_of(data, task): data}
        known = (*task.reads, *task.given, *task.optional, *subset_of(self.run.recipe))
        return from_iterable(
            [{key: _channels_first(key, value, self.run) for key, value in data.items()}],
            roles=known,
            range=range
            or {key: made_with.range[key] for key in data if key in made_with.range}
            or None,
            size=tuple(size or made_with.size) or None,
            orientation=made_with.orientation,
            codes=made_with.codes,
            slices=slices or made_with.slices,
        )


def load(path: Path | str) -> Model:
    """A finished run: its folder, a model that ships with the library, a packed file, or hf://OWNER/NAME.

    Raises:
        UserError: as `radiffuse.open_run`.
    """
    return Model(open_run(found_run(path)))


def train(
    method: str,
    data: str | Path | Cases,
    out: Path | str,
    preset: str = "small",
    resume: bool = False,
    **settings: Any,
) -> Model:
    """Train a method, as `radiffuse train` does, into a run folder, and load it.

    Args:
        method: an id of `radiffuse methods`.
        data: a path or name, or `Cases` (`radiffuse.open`, `radiffuse.from_iterable`).
        out: run folder.
        preset: paper, small or tiny.
        resume: go on where an earlier training stopped.
        settings: options of the loop (minutes, steps, batch, learning_rate ...), other flags of the command (map, size)
            and fields of the recipe (width ...).

    Raises:
        UserError: as the command.
    """
    cases = data if isinstance(data, Cases) else None
    named = {f"train.{name}" if name in _LOOP else name: v for name, v in settings.items()}
    words = [method, "--data", str(data if cases is None else "memory"), "--out", str(out)]
    words += ["--preset", preset, *(["--resume"] if resume else []), *_words(named)]
    train_command.run(words, cases)
    return load(out)


def _words(settings: Mapping[str, Any]) -> list[str]:
    """Keywords as flags of the command line."""
    words: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        before, dot, last = flag.rpartition(".")
        if value is None:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--{before}{dot}no-{last}")
        elif isinstance(value, Mapping):
            words += [f"--{flag}", *(f"{key}={column}" for key, column in value.items())]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", str(value)]
    return words


def _typed(value: Any) -> str:
    """A value as --set reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_typed, value))}]"
    return str(value)


def _key_of(data: Any, task: Task) -> str:
    """What a lone array is to a method: k-space where it is complex, else the first image that it predicts from."""
    keys = task.given or task.reads
    measured = [key for key in keys if names_raw(key)]
    if measured and _is_complex(data):
        return measured[0]
    return next(filter(names_image, keys), keys[0])


def _channels_first(key: str, value: Any, run: Run) -> Any:
    """An image as `from_iterable` takes it: with a channel axis.

    Raises:
        UserError: it is complex.
    """
    if _is_complex(value) and not names_raw(key):
        raise UserError("the image is complex: give its magnitude, or both parts as two channels")
    axes = len(getattr(run.recipe, "size", ()))
    shape = getattr(value, "shape", ())
    return value[None] if axes and len(shape) == axes else value


def _is_complex(value: Any) -> bool:
    return "complex" in str(getattr(value, "dtype", ""))


@contextlib.contextmanager
def _folder(out: Path | str | None) -> Iterator[Path]:
    """The folder named, or one that goes at the end."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory(prefix="radiffuse-") as name:
        yield Path(name) / "out"


def _quietly(command: Callable[..., None], *arguments: Any) -> None:
    """A command without what it prints of its files; notices stay on stderr."""
    with contextlib.redirect_stdout(io.StringIO()):
        command(*arguments)


def _prediction(folder: Path, entry: Mapping[str, Any]) -> Prediction:
    files = {key: name for key, name in entry.get("files", {}).items() if key != REPORT}
    images = {key: read_image(folder / name) for key, name in files.items()}
    known = ("case", "files", "values", "shown", "written")
    rest = {key: value for key, value in entry.items() if key not in known}
    return Prediction(str(entry["case"]), {**images, **entry.get("values", {})}, rest)
