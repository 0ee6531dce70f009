"""`radiffuse models`: the models that come with the library, and the card of one."""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..data.columns import names_image
from ..errors import UsageError, did_you_mean
from ..report.card import readme, said_numbers
from ..runs.named import SHIPPED, card_of, shipped
from ..runs.run import open_run
from .columns import aligned
from .parsing import parse


@dataclass(frozen=True)
class Flags:
    """Which model.

    Attributes:
        name: of a model, whose card is printed; all are listed where left out.
        json: print JSON.
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Print the list, or one card."""
    flags = parse(Flags, arguments, "radiffuse models")
    names = shipped()
    if flags.name and flags.name not in names:
        hint = did_you_mean(flags.name, names, f"there are {', '.join(names) or 'none'}")
        raise UsageError(f"radiffuse models: no model {flags.name!r}; {hint}")
    cards: list[Any] = [card_of(SHIPPED / name) for name in ([flags.name] if flags.name else names)]
    if flags.json:
        print(json.dumps(cards[0] if flags.name else cards, indent=2))
    elif flags.name:
        print(readme(cards[0]).split("---\n", 2)[2].strip())
        print("\n".join(_use(flags.name)))
    else:
        _list(cards)


def _use(name: str) -> list[str]:
    """How a model is used, and what it takes images for."""
    opened = open_run(SHIPPED / name)
    task, recipe = opened.recipe.task, opened.recipe
    if task.name == "generation":
        return ["", "## How to use it", "", f"`radiffuse sample {name} --count 8 --out DIR`"]
    lines = ["", "## How to use it", "", f"`radiffuse predict {name} --data PATH --out DIR`"]
    if task.given:
        lines += ["", f"It predicts from {' or '.join(task.given)}."]
    images = [*filter(names_image, (*task.given, *task.reads))]
    told = recipe.simulates(images[-1:]) if hasattr(recipe, "simulates") else ""
    return [*lines, "", f"From {images[-1]}: {told}."] if told else lines


def _list(cards: Sequence[Any]) -> None:
    rows = [(card["name"], card["method"], said_numbers(card, most=1)) for card in cards]
    print("\n".join(aligned([("model", "method", "held out (best baseline)"), *rows])))
    print()
    for card in cards:
        words = f"{card['name']}: {card['title']}"
        print("\n".join(textwrap.wrap(words, 100, subsequent_indent="  ")))
    print(
        "\nA name stands wherever a run folder does: radiffuse predict NAME --data PATH --out DIR; "
        "radiffuse models NAME prints its card"
    )
