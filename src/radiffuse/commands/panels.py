"""Panels of the demonstration: a shipped model on people it has not seen, as its card says.

`demo` of a card: `data` and `map`, held-out cases; `words`, further words of predict or sample; `columns`, each
"HEADING = WHAT"; `rows`; `says`, a sentence; `legend`; `note`, a line under each row with values in braces; `yours`,
the command for images of one's own. WHAT is one of

    data:KEY     the case's own image or mask
    before       what prediction starts from, where the recipe simulates that (`entered`)
    out:KEY      an image or mask that was predicted
    heat:KEY     a map that was predicted, in colours from 0 to its largest value
    off:KEY,KEY  how far two images are from each other, from 0 to a quarter of the grey range
    sample       what was drawn from nothing, one after the other
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.dataset import Cases, open_cases
from ..data.files import read_json
from ..data.formats.by_ending import read_image
from ..data.image import Image, upright
from ..data.transforms import to_unit
from ..diffusion.noise import derive
from ..report.card import said_numbers
from ..report.gallery import Panel
from ..report.strip import grey, heat, labelled
from ..runs.run import Run, open_run
from .parsing import pairs

__all__ = ["panel"]

Pixels = np.ndarray
FAR = 0.5
"""A quarter of the grey range, [-1, 1]."""


@dataclass(frozen=True)
class Shown:
    """What there is of a demonstration.

    Attributes:
        run: the model.
        cases: held out.
        folder: of the predictions.
        entries: of them, by case.
    """

    run: Run
    cases: Cases
    folder: Path
    entries: Mapping[str, Sequence[Mapping[str, Any]]]

    def file(self, row: int, key: str) -> Image:
        """A predicted image, upright."""
        for entry in self.entries[self.cases.ids[row]]:
            if key in entry["files"]:
                return upright(read_image(self.folder / entry["files"][key]))
        raise KeyError(f"{self.folder}: no {key} of {self.cases.ids[row]}")

    def limits(self, row: int, key: str) -> tuple[float, float]:
        """The grey values that are black and white."""
        own = [name for name in (key, *self.run.config.data.range) if name in self.cases.ranges]
        return self.cases.ranges[own[0]] if own else (0.0, 255.0)

    def values(self, row: int) -> dict[str, Any]:
        """Numbers that were predicted, and what the data say."""
        found: dict[str, Any] = {}
        for entry in self.entries[self.cases.ids[row]]:
            found = {**entry.get("values", {}), **found}
        if "label" in self.cases.keys:
            label = int(self.cases.columns["label"].stack([self.cases.rows[row]])[0])
            found["truth"] = self.cases.class_names[label]
        return found


def panel(card: Mapping[str, Any], model: Path, folder: Path) -> Panel:
    """The panel of a model whose predictions lie in `folder`.

    Args:
        card: of the model.
        model: its folder.
        folder: filled by predict or sample, with its report beside.
    """
    asked = card["demo"]
    words = [column.split(" = ") for column in asked["columns"]]
    heads = tuple(head for head, _ in words)
    whats = [what for _, what in words]
    entries: dict[str, list[Any]] = {}
    for entry in read_json(folder / "predictions.json")["predictions"]:
        entries.setdefault(entry["case"], []).append(entry)
    notes: tuple[str, ...] = ()
    legend: list[str] = []
    if "sample" in whats:
        rows = _samples(folder, list(entries.values()), asked)
    else:
        shown = Shown(open_run(model), _opened(asked), folder, entries)
        count = min(asked.get("rows", 2), len(shown.cases))
        made = [_column(shown, head, what, count) for head, what in words]
        rows = tuple(zip(*(tiles for tiles, _ in made), strict=True))
        legend = [asked.get("legend", ""), *(line for _, line in made)]
        if "note" in asked:
            notes = tuple(asked["note"].format(**shown.values(row)) for row in range(count))
    return Panel(
        title=asked["title"],
        says=asked["says"],
        heads=heads if "sample" not in whats else (),
        rows=rows,
        notes=notes,
        legend=" ".join(filter(None, legend)),
        number=f"{said_numbers(card)}, n = {card['numbers'][0]['method'].get('n', '?')}"
        if card["numbers"]
        else "",
        command=asked["yours"],
        link=f"{folder.name}/report.html",
    )


def _opened(asked: Mapping[str, Any]) -> Cases:
    return open_cases(asked["data"], mapping=pairs(asked.get("map", ())))


def _column(shown: Shown, head: str, what: str, count: int) -> tuple[list[Pixels], str]:
    """One column of pictures, and what their colours mean."""
    kind, _, key = what.partition(":")
    rows = range(count)
    if kind == "heat":
        every = [shown.file(row, key).data.double() for row in rows]
        maps = [each.amax(0, keepdim=True).numpy() for each in every]  # of labels the largest
        most = max(float(np.quantile(each, 0.995)) for each in maps)
        return [heat(each, most) for each in maps], f"{head}: black 0, white {most:.3g}."
    if kind == "off":
        apart = [_apart(shown, row, *key.split(",")) for row in rows]
        return [heat(each, FAR) for each in apart], f"{head}: white a quarter of the grey range."
    makers: dict[str, Callable[[int], Pixels]] = {
        "data": lambda row: _own(shown, row, key),
        "before": lambda row: grey(_entered(shown, row)),
        "out": lambda row: _made(shown, row, key),
    }
    return [makers[kind](row) for row in rows], ""


def _own(shown: Shown, row: int, key: str) -> Pixels:
    image = upright(shown.cases.image(row, key))
    if key in shown.cases.mask_keys:
        return labelled(image.data.numpy())
    return grey(to_unit(image.data, shown.limits(row, key)).numpy())


def _made(shown: Shown, row: int, key: str) -> Pixels:
    image = shown.file(row, key)
    if key.split("-")[0] == "mask":
        return labelled(image.data.numpy())
    return grey(_unit(shown, row, key).numpy())


def _unit(shown: Shown, row: int, name: str) -> torch.Tensor:
    """An image of the data or of the prediction in [-1, 1]."""
    if name in shown.cases.image_keys:
        return to_unit(upright(shown.cases.image(row, name)).data, shown.limits(row, name))
    image = shown.file(row, name)
    return to_unit(image.data, image.range or shown.limits(row, name.split("-")[0]))


def _apart(shown: Shown, row: int, one: str, other: str) -> Pixels:
    """How far two images are from each other, where the grey range is 2."""
    found: Pixels = (_unit(shown, row, one) - _unit(shown, row, other)).abs().numpy()
    return found


def _entered(shown: Shown, row: int) -> Pixels:
    """What the first draw of a case started from."""
    seed = torch.tensor([derive(0, shown.cases.ids[row], 0)])
    entered = shown.run.recipe.entered({**shown.cases.batch([row]), "seed": seed})[0]
    affine = next(iter(shown.cases.image(row, key).affine for key in shown.cases.image_keys))
    return upright(Image(entered.float().cpu(), affine)).data.numpy()


def _samples(folder: Path, entries: Sequence[Any], asked: Mapping[str, Any]) -> Any:
    """What was drawn, in rows."""
    tiles = []
    for (entry,) in entries:
        image = upright(read_image(folder / next(iter(entry["files"].values()))))
        tiles.append(grey(to_unit(image.data, image.range or (0.0, 255.0)).numpy()))
    across = len(tiles) // asked.get("rows", 2)
    return tuple(
        tuple(tiles[k : k + across]) for k in range(0, across * asked.get("rows", 2), across)
    )
