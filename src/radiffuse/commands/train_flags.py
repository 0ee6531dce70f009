"""The flags of `radiffuse train METHOD`: the data's, the recipe's own fields, and the loop's."""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..applications import fields
from ..applications.backbone import Backbone
from ..data.formats.pseudonyms import PSEUDONYM, Names
from ..data.planes import Cut
from ..errors import UsageError
from ..runs import config
from ..runs.config import DataSource
from ..runs.run import recipe_class
from ..training.options import TrainOptions
from . import parsing
from .nodes import at_hand

PROG = "radiffuse train"
OWN = (
    "data",
    "node",
    "out",
    "preset",
    "config",
    "map",
    "range",
    "size",
    "slices",
    "data_leak",
    *("series", "names"),
    "resume",
    "prior",
    "autoencoder",
    "perceptual_weights",
    "first",
    "train",
    *("method", "network", "sampling"),
)
"""Names of the command's own flags. A recipe's field of such a name is filled from the data."""
METHOD, SAMPLING, NETWORK = "method", "sampling", "network"
GROUPS = {
    METHOD: "What the method is, and what it is told.",
    SAMPLING: "What prediction alone reads: --set changes it after training.",
    NETWORK: "How wide and deep the network is.",
}
"""The fields of a recipe, in the order of the help."""


@dataclass(frozen=True)
class Start:
    """What the flags begin from: a preset, or the configuration of an earlier run."""

    method: str
    kind: type[Any]
    preset: str
    recipe: Any
    train: TrainOptions
    first: TrainOptions
    data: DataSource | None
    later: Mapping[str, TrainOptions]

    @property
    def staged(self) -> bool:
        """Whether an auto-encoder is trained first."""
        return hasattr(self.kind, "first_training")


@dataclass(frozen=True)
class Order:
    """A `train` command, understood.

    Attributes:
        method, preset: as named.
        recipe: the recipe, not yet fitted to the data.
        train: options of the loop.
        data: where the data come from.
        out: run folder.
        resume: go on where an earlier training stopped.
        prior: run whose network is taken over in place of a training.
        first: options of the loop of the first stage, of methods that have one.
        autoencoder: run whose auto-encoder is taken over in place of a first stage.
        perceptual_weights: of the network of its perceptual distance; None: one is trained on the images.
        later: options of the loop of each stage after the run's own training, by its name.
    """

    method: str
    preset: str
    recipe: Any
    train: TrainOptions
    data: DataSource
    out: Path
    resume: bool
    prior: Path | None = None
    first: TrainOptions | None = None
    autoencoder: Path | None = None
    perceptual_weights: Path | None = None
    later: Mapping[str, TrainOptions] = field(default_factory=dict)


def order(arguments: Sequence[str]) -> Order:
    """Understand the words after `radiffuse train`.

    Raises:
        UserError: an unknown method or preset, an unknown flag, a wrong value.
    """
    start = _start(arguments)
    words = list(arguments[1:]) if arguments[0] == start.method else list(arguments)
    adopts = parsing.option(words, "--prior") is not None
    flags = parsing.parse(_flags_of(start, adopts), words, f"{PROG} {start.method}")
    data = DataSource(
        path=config.located(at_hand(flags.data, flags.node) or ""),
        map=parsing.pairs(flags.map),
        size=flags.size,
        seed=start.data.seed if start.data else 0,
        leak=flags.data_leak,
        slices=flags.slices,
        names=flags.names,
        series=flags.series,
    )
    if flags.range:
        data = dataclasses.replace(data, range={"": _pair(flags.range)})
    elif start.data:
        data = dataclasses.replace(data, range=start.data.range)
    grouped = _grouped(start.kind)
    recipe = start.kind(
        **{
            f.name: getattr(getattr(flags, grouped.get(f.name, METHOD)), f.name)
            for f in dataclasses.fields(start.kind)
        }
    )
    return Order(
        *(start.method, start.preset, recipe, flags.train, data),
        *(flags.out, flags.resume, flags.prior),
        first=flags.first if start.staged else None,
        autoencoder=flags.autoencoder if start.staged else None,
        perceptual_weights=flags.perceptual_weights if start.staged else None,
        later={name: getattr(flags, name) for name in start.later},
    )


def _pair(values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) != 2:
        raise UsageError("--range takes two numbers, LOW HIGH")
    return values[0], values[1]


def _start(arguments: Sequence[str]) -> Start:
    """The method and the defaults of all flags, from METHOD and --preset, or from --config."""
    method = arguments[0] if arguments and not arguments[0].startswith("-") else None
    file = parsing.option(arguments, "--config")
    preset = parsing.option(arguments, "--preset")
    if file is not None:
        return _from_config(Path(file), method, preset)
    if method is None:
        if {"-h", "--help"} & set(arguments):
            print(f"usage: {PROG} METHOD --data PATH --out RUN ...; {PROG} METHOD --help says more")
            raise SystemExit(0)
        raise UsageError(f"name a method first, as in `{PROG} ddpm --data PATH --out RUN`")
    kind = recipe_class(method)
    preset = preset or config.DEFAULT
    recipe = config.preset(kind, preset)
    options, first = (
        _training(getattr(kind, name, None), preset, arguments, flag)
        for name, flag in (("training", "--train"), ("first_training", "--first"))
    )
    later = {
        name: _training(partial(kind.later_training, name), preset, arguments, f"--{name}")
        for name in getattr(kind, "LATER", ())
    }
    return Start(method, kind, preset, recipe, options, first, None, later)


def _training(
    of_preset: Callable[[str], dict[str, Any]] | None,
    preset: str,
    arguments: Sequence[str],
    flag: str,
) -> TrainOptions:
    """The loop's options that go with a preset; a budget on the command line replaces its own."""
    options = {} if of_preset is None else of_preset(preset)
    if any(word.startswith((f"{flag}.steps", f"{flag}.minutes")) for word in arguments):
        options = {key: value for key, value in options.items() if key not in ("steps", "minutes")}
    return TrainOptions(**options)


def _from_config(file: Path, method: str | None, preset: str | None) -> Start:
    """What an earlier run began from; fields that its data had filled are open again."""
    earlier = config.read_config(file)
    if method not in (None, earlier.method):
        raise UsageError(f"{file}: is a configuration of {earlier.method}, not of {method}")
    if preset not in (None, earlier.preset):
        raise UsageError(f"--preset {preset}: {file} already says {earlier.preset}; leave it out")
    if earlier.distilled:
        raise UsageError(
            f"{file}: is of a run that learned from another; `radiffuse distill` makes it: {earlier.command}"
        )
    kind = recipe_class(earlier.method)
    default = config.preset(kind, earlier.preset)
    values = {**getattr(kind, "BEFORE", {}), **earlier.recipe}
    given = {name: value for name, value in values.items() if name not in earlier.fitted}
    recipe = fields.build(kind, given, where=f"{file}: [recipe]", default=default)
    options = fields.build(TrainOptions, earlier.train, where=f"{file}: [train]")
    first = fields.build(TrainOptions, earlier.first, where=f"{file}: [first]")
    later = {
        name: fields.build(
            TrainOptions, earlier.later.get(name, {}), where=f"{file}: [later.{name}]"
        )
        for name in getattr(kind, "LATER", ())
    }
    return Start(earlier.method, kind, earlier.preset, recipe, options, first, earlier.data, later)


def _flags_of(start: Start, adopts: bool) -> type[Any]:
    """The dataclass of all flags of one method, with their defaults; a prior brings its data."""
    data = start.data or DataSource("")
    words = tuple(f"{key}={column}" for key, column in data.map.items())
    values = {f.name: getattr(start.recipe, f.name) for f in dataclasses.fields(start.recipe)}
    path = {"default": data.path} if start.data or adopts else {}
    own = [
        _flag(
            "data",
            str,
            "file or folder of the data, dicomweb://... or dimse://..., or brains for embedded ones",
            **path,
        ),
        _flag("node", Path | None, "file by which a node of the data lets one in", default=None),
        _flag("out", Path, "run folder to write"),
        _flag("preset", str, "small (for a CPU), paper or tiny (for trials)", default=start.preset),
        _flag("config", Path | None, "replay this config.toml; flags go before it", default=None),
        _flag("map", tuple[str, ...], "which column is which, key=column words", default=words),
        _flag("range", tuple[float, ...], "LOW HIGH: stored values that become -1, 1", default=()),
        _flag("size", tuple[int, ...], "bring every image to this size", default=data.size),
        _flag(
            "slices",
            Cut,
            "cut volumes into slices, along a plane of the patient or axis 0, 1 or 2 of the array",
            default=data.slices,
        ),
        _flag(
            "data_leak",
            Literal["auto", "refuse", "drop", "keep"],
            "what to do where a patient or an image stands on both sides of a split",
            default=data.leak,
        ),
        _flag(
            "series",
            tuple[str, ...],
            "of a DICOM folder only these: UID, number, pseudonym, or pattern of description or modality",
            default=data.series,
        ),
        _flag(
            "names",
            Names,
            "what cases of DICOM are called; plain: as headers say",
            default=PSEUDONYM,
        ),
        _flag("resume", bool, "go on with the run in --out, if there is one", default=False),
        _flag(
            "prior",
            Path | None,
            "take the network of this run, trained elsewhere, and train nothing",
            default=None,
        ),
        *_recipe_flags(start.kind, values),
        ("train", TrainOptions, field(default=start.train)),
        *(_first_flags(start) if start.staged else ()),
        *((name, TrainOptions, field(default=options)) for name, options in start.later.items()),
    ]
    return make_dataclass("TrainFlags", own, kw_only=True, frozen=True)


def _first_flags(start: Start) -> list[tuple[str, Any, Any]]:
    """Flags of methods that train an auto-encoder first."""
    said = "take the auto-encoder of this run, and train none"
    seen = (
        "a ResNet-50 (.safetensors) for the perceptual distance; none: a small network of the data"
    )
    return [
        ("first", TrainOptions, field(default=start.first)),
        _flag("autoencoder", Path | None, said, default=None),
        _flag("perceptual_weights", Path | None, seen, default=None),
    ]


def _flag(name: str, hint: Any, help: str, **default: Any) -> tuple[str, Any, Any]:
    return name, Annotated[hint, tyro.conf.arg(help=help)], field(**default)


def _grouped(kind: type[Any]) -> dict[str, str]:
    """The group of help that each field of a recipe stands in."""
    after, network = (
        getattr(kind, "AFTER_TRAINING", ()),
        {f.name for f in dataclasses.fields(Backbone)},
    )
    groups = {f.name: METHOD for f in dataclasses.fields(kind)}
    groups |= {name: NETWORK for name in groups if name in network}
    return groups | {name: SAMPLING for name in groups if name in after}


def _recipe_flags(kind: type[Any], values: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The recipe as flags in groups, without the fields that have the name of one of the command's own.

    Each group is the whole recipe with the fields of the others hidden, for their documentation stands in its class.
    """
    hints, grouped = typing.get_type_hints(kind), _grouped(kind)
    flags = []
    for group, said in GROUPS.items():
        hidden = [
            (f.name, Annotated[hints[f.name], tyro.conf.Fixed, tyro.conf.Suppress], f.default)
            for f in dataclasses.fields(kind)
            if f.name in OWN or grouped[f.name] != group
        ]
        if len(hidden) == len(grouped) and group != METHOD:
            continue
        own = [(name, hint, field(default=default)) for name, hint, default in hidden]
        named = {"__doc__": said}
        shown: Any = make_dataclass(kind.__name__, own, bases=(kind,), frozen=True, namespace=named)
        hint = Annotated[shown, tyro.conf.OmitArgPrefixes]
        flags.append((group, hint, field(default=shown(**values))))
    return flags
