"""A method's constants beside those of its source: a TOML file beside each recipe, METHOD.toml.

    small = "what --preset small departs from, in one line"
    data = ["channels", "size"]                       # fields filled from the data
    [first]                                           # options of a first stage, where there is one
    [later.STAGE]                                     # and of each stage after the run's own training
    [train]
    batch = { source = 128, where = "code: train.py" }
    ema = { source = "exponential 0.9999", ours = [0.0125], where = "section 4", why = "same width" }
    [recipe]
    dropout = { ours = 0.0, where = "nothing said", why = "..." }
    [ours]
    "why the source has no such choice" = ["field", "train.option"]
    [missing]
    "part of the source" = "why it is not here"

`source` is what the card, paper or official code says, `ours` what the preset `paper` holds where that
differs. This module imports no torch.
"""

import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..papers import Paper

__all__ = ["STATED", "Constant", "Departures", "departures", "worded"]

STATED = (
    *("steps", "batch", "learning_rate", "warmup", "cooldown", "betas", "weight_decay", "clip"),
    *("ema", "mirror"),
)
"""Options of the training loop of which every table says what the source did."""


@dataclass(frozen=True)
class Constant:
    """One constant of a method.

    Attributes:
        name: the recipe's field, `train.OPTION`, or `first.OPTION` and `STAGE.OPTION` of other stages.
        source: what the source says; None where it says nothing.
        where: the place in the source.
        ours: what the preset `paper` holds.
        why: why that differs; "" where it does not.
    """

    name: str
    source: Any
    where: str
    ours: Any
    why: str = ""


@dataclass(frozen=True)
class Departures:
    """The table of a method.

    Attributes:
        constants: as many as the source has, in the order of the file.
        ours: reason -> names of fields and options that the source has not.
        missing: part of the source that is not built -> why.
        data: fields that the data fill.
        small: what the preset `small` departs from.
    """

    constants: tuple[Constant, ...]
    ours: dict[str, list[str]]
    missing: dict[str, str]
    data: tuple[str, ...]
    small: str

    @property
    def changed(self) -> tuple[Constant, ...]:
        """The constants in which `paper` departs from its source."""
        return tuple(each for each in self.constants if each.why)


def departures(paper: Paper) -> Departures | None:
    """The table of a method that has a recipe; None where there is none beside it."""
    found = importlib.util.find_spec(paper.recipe.partition(":")[0])
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).with_name(f"{paper.id}.toml")
    if not file.is_file():
        return None
    held = tomllib.loads(file.read_text(encoding="utf-8"))
    constants = [
        *(_constant(f"first.{name}", row) for name, row in held.get("first", {}).items()),
        *(_constant(f"train.{name}", row) for name, row in held["train"].items()),
        *(
            _constant(f"{stage}.{name}", row)
            for stage, rows in held.get("later", {}).items()
            for name, row in rows.items()
        ),
        *(_constant(name, row) for name, row in held["recipe"].items()),
    ]
    return Departures(
        tuple(constants),
        held.get("ours", {}),
        held.get("missing", {}),
        tuple(held.get("data", ())),
        held["small"],
    )


def worded(held: Any) -> str:
    """A value of a table as TOML has it, words without quotes."""
    if isinstance(held, bool):
        return str(held).lower()
    if isinstance(held, list):
        return f"[{', '.join(worded(each) for each in held)}]"
    return f"{held:_}" if isinstance(held, int) and held >= 10_000 else str(held)


def _constant(name: str, row: dict[str, Any]) -> Constant:
    source = row.get("source")
    return Constant(name, source, row["where"], row.get("ours", source), row.get("why", ""))
