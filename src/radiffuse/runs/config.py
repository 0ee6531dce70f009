"""`config.toml`: what a run was made with, complete and replayable, and recipes built from it.

A configuration has four tables: `[run]` (format, method, preset, command, fitted), `[recipe]`
(the recipe's fields), `[train]` (the fields of TrainOptions) and `[data]` (path, map, range, size,
seed); `[first]` where an auto-encoder is trained first (as `[train]`), `[later.STAGE]` for each stage after the run's
own training, `[prior]` where the network is that of
another run, and `[distilled]` where it learned from another run's. A field that is None is left out, for
TOML has no such value. No torch is imported here.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from ..applications.fields import T, build, checked, plain
from ..applications.ranges import between, refuse
from ..data.files import check_regular, write_text
from ..data.formats.pseudonyms import Names
from ..data.planes import Cut
from ..data.records import FORMAT, refuse_format
from ..errors import UsageError, UserError, did_you_mean
from ..papers import named

PRESETS = ("paper", "small", "tiny")
DEFAULT = "small"
"""The preset where none is named: `paper` takes days of a GPU for most methods."""


@dataclass(frozen=True)
class DataSource:
    """Where the data of a run come from: the arguments of `open_cases`.

    Attributes:
        path: file or folder, absolute in what is written now, or the name of an embedded set
            ("brains", "brains3d", "shapes3d", "vessels", "backbones").
        map: key -> column, which column plays which role.
        range: by image key, the stored values that become [-1, 1]; {} where the data decide.
        size: spatial size every image is brought to; () leaves the size alone.
        seed: seed of embedded data and of splits made here.
        orientation: axis codes that volumes have inside, as found in training; "" where unknown.
        codes: stored numbers of masks that mean the labels 0, 1, 2 ..., as found in training.
        slices: where volumes are cut into slices.
        names: what cases of DICOM data are called: pseudonyms, or plainly as their headers say.
        series: words that choose series of a DICOM folder; () takes all.
        leak: what to do where a patient or an image stands on both sides of a split: auto, refuse,
            drop or keep.

    Raises:
        OutOfRange: a side of `size` is not positive.
    """

    path: str
    map: dict[str, str] = field(default_factory=dict)
    range: dict[str, tuple[float, float]] = field(default_factory=dict)
    size: tuple[int, ...] = ()
    seed: int = 0
    leak: Literal["auto", "refuse", "drop", "keep"] = "auto"
    orientation: str = ""
    codes: tuple[int, ...] = ()
    slices: Cut = "none"
    names: Names = "pseudonym"
    series: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse(self, {"size": between(1, 65535)})


def located(path: str) -> str:
    """A path as it works from any folder: absolute; names of embedded sets and "" stay."""
    return path if not path or is_embedded(path) else os.path.abspath(path)


EMBEDDED = ("brains", "brains3d", "shapes3d", "vessels", "backbones")
"""Names of data that come with the library."""


def is_embedded(path: str) -> bool:
    """Whether this names data that come with the library."""
    return path.partition(":")[0] in EMBEDDED


@dataclass(frozen=True)
class Config:
    """The contents of `config.toml`.

    Attributes:
        method: method id.
        preset: the preset that overrides were applied to.
        recipe: every field of the recipe, as plain values.
        train: every field of TrainOptions that is not None.
        data: where the training data come from.
        fitted: names of the recipe's fields that were filled from the data.
        command: the command that made the run.
        prior: method and recipe of the run whose network this one uses; {} for its own.
        first: as `train`, of the first stage; {} where there is none.
        later: as `train`, of each later stage by its name.
        distilled: where the run it learned from lies, and the SHA-256 of its model; {} where images alone taught it.
    """

    method: str
    preset: str
    recipe: Mapping[str, Any]
    train: Mapping[str, Any]
    data: DataSource
    fitted: tuple[str, ...] = ()
    command: str = ""
    prior: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    distilled: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How results made with it are called: METHOD, or METHOD (PRESET) where that is not the paper's; and how it was
        distilled, where it was."""
        name = named(self.method, self.preset)
        if not self.distilled:
            return name
        return f"{name}, {self.recipe.get('way')} to {self.recipe.get('calls')}"

    def toml(self) -> str:
        """The text of `config.toml`."""
        run = {
            "format": FORMAT,
            "method": self.method,
            "preset": self.preset,
            "fitted": list(self.fitted),
            "command": self.command,
        }
        tables = {"run": run, "recipe": self.recipe, "train": self.train, "data": plain(self.data)}
        more = {"first": self.first, "later": self.later, "prior": self.prior}
        more |= {"distilled": self.distilled}
        return toml({**tables, **{name: table for name, table in more.items() if table}})


def toml(tables: Mapping[str, Any]) -> str:
    """TOML with every list of numbers or words on one line."""
    text = tomli_w.dumps(tables)
    return re.sub(r"\[\n([^\[\]]*?),\n\]", _on_one_line, text)


def _on_one_line(array: re.Match[str]) -> str:
    return "[" + ", ".join(line.strip() for line in array[1].split(",\n")) + "]"


def write_config(path: Path | str, config: Config) -> None:
    """Write `config` to `path` in one move."""
    write_text(path, config.toml())


def read_config(path: Path | str) -> Config:
    """Read a `config.toml`.

    Raises:
        UserError: the file is missing, is not TOML, is of another version, or lacks a table.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        check_regular(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give the config.toml in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid TOML ({error})") from None
    _check_tables(path, tables)
    run = tables["run"]
    command = run.get("command", "")
    fitted = run.get("fitted", [])
    return Config(
        method=run["method"],
        preset=run["preset"],
        recipe=tables["recipe"],
        train=tables["train"],
        data=build(DataSource, tables["data"], where=f"{path}: [data]"),
        fitted=checked("fitted", fitted, tuple[str, ...], where=f"{path}: [run]"),
        command=checked("command", command, str, where=f"{path}: [run]"),
        prior=_prior(path, tables.get("prior", {})),
        first=checked("first", tables.get("first", {}), dict, where=f"{path}: [first]"),
        distilled=checked("distilled", tables.get("distilled", {}), dict, where=f"{path}"),
        later={
            name: checked(name, table, dict, where=f"{path}: [later]")
            for name, table in checked(
                "later", tables.get("later", {}), dict, where=f"{path}"
            ).items()
        },
    )


def _prior(path: Path, table: Any) -> Mapping[str, Any]:
    kinds = {"method": str, "recipe": dict}
    if table == {}:
        return table
    if isinstance(table, dict) and all(isinstance(table.get(k), kinds[k]) for k in kinds):
        return table
    raise UserError(f"{path}: [prior] must hold a method and its recipe")


def _check_tables(path: Path, tables: dict[str, Any]) -> None:
    run = tables.get("run")
    if not isinstance(run, dict) or "format" not in run:
        raise UserError(f"{path}: not a radiffuse configuration ([run] format is missing)")
    refuse_format(path, run["format"], "use that version, or train again")
    for name in ("recipe", "train", "data"):
        if not isinstance(tables.get(name), dict):
            raise UserError(f"{path}: the table [{name}] is missing")
    for name in ("method", "preset"):
        if name not in run:
            raise UserError(f"{path}: [run] {name} is missing")
        checked(name, run[name], str, where=f"{path}: [run]")
    if run["preset"] not in PRESETS:
        raise UserError(
            f"{path}: [run] preset is {run['preset'][:60]!r}, none of {', '.join(PRESETS)}"
        )


def preset(recipe: type[T], name: str) -> T:
    """A recipe's preset: "paper" (its defaults), "small" or "tiny".

    Raises:
        UsageError: there is no such preset; names the nearest.
    """
    if name not in PRESETS:
        hint = did_you_mean(name, PRESETS, f"there are {', '.join(PRESETS)}")
        raise UsageError(f"no preset is called '{name}'; {hint}")
    return recipe() if name == "paper" else getattr(recipe, name)()
