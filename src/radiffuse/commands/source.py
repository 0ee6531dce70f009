"""The data a command works on: named by flags, or those the run was trained on."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..data.dataset import Cases, open_cases
from ..data.neighbours import with_neighbours
from ..errors import UsageError, UserError, printable
from ..runs.config import Config, DataSource
from ..runs.run import Run
from ..training import processes
from .parsing import pairs


def open_source(source: DataSource, recipe: Any = None) -> Cases:
    """Open the cases that a configuration names, with the neighbouring slices a recipe asks for."""
    cases = open_cases(
        source.path,
        mapping=source.map,
        range=_range(source),
        size=source.size or None,
        seed=source.seed,
        on_leak=source.leak,
        orientation=source.orientation,
        codes=source.codes,
    )
    return with_neighbours(cases, getattr(recipe, "NEIGHBOURS", ()))


def source_of(
    made_with: Config,
    data: str | None,
    words: Sequence[str],
    size: tuple[int, ...] = (),
    limits: tuple[float, ...] = (),
) -> DataSource:
    """The training's data, with what the flags say instead; without `limits` the range is the training's.

    Raises:
        UserError: the training's data are not where they were and no others are named.
        UsageError: `limits` are not two numbers.
    """
    source = replace(made_with.data, size=size or made_with.data.size)
    if limits:
        if len(limits) != 2:
            raise UsageError("--range takes two numbers, LOW HIGH")
        source = replace(source, range={"": (limits[0], limits[1])})
    if words:
        source = replace(source, map=pairs(words))
    if data is not None and Path(data).suffix in (".h5", ".hdf5"):
        # k-space files name their keys themselves
        return DataSource(path=data, map=pairs(words))
    if data is not None:
        return replace(source, path=data)
    embedded = source.path.partition(":")[0] in ("brains", "brains3d")
    named = "/" in source.path or "." in source.path
    if named and not embedded and not Path(source.path).exists():
        raise UserError(f"{source.path}: the training data are gone; name data with --data PATH")
    return source


def asked_cases(every: Cases, split: str | None, source: DataSource, opened: Run) -> Cases:
    """The cases to predict or measure: of one split, or the held-out ones.

    All, where they are of other data than the training's that name no splits. What had to be decided of
    other data is said on stderr. The training's data at another place are the training's.
    """
    new = source.path != opened.config.data.path and not _moved(every, opened)
    if new and processes.is_main():
        for line in every.notices:
            print(f"note: {printable(line)}", file=sys.stderr)
    if split is not None:
        return every.split(split)
    return every if new and every.split_here else every.held_out()


def training_cases(every: Cases, source: DataSource, opened: Run) -> Cases:
    """The cases a run was trained on, which baselines are given as well.

    Where the run's own data are gone, the training cases of the data at hand.
    """
    if source == opened.config.data or _moved(every, opened):
        return every.split("train")
    try:
        return open_source(opened.config.data, opened.recipe).split("train")
    except UserError:
        return every.split("train")


def _moved(every: Cases, opened: Run) -> bool:
    """Whether these are the run's training data, wherever they lie."""
    return every.fingerprint == opened.manifest.get("data", {}).get("fingerprint")


def check_keys(method: str, recipe: Any, keys: Sequence[str], source: DataSource) -> None:
    """Refuse data that lack a key which the recipe's task reads.

    Raises:
        UserError: names the key, the keys there are, and how to map one.
    """
    for key in recipe.task.reads:
        if key not in keys:
            raise UserError(
                f"{source.path}: {method} reads the key '{key}', which the data do not have "
                f"(they have: {', '.join(keys) or 'none'}); name one with --map {key}=COLUMN"
            )


def check_given(method: str, recipe: Any, keys: Sequence[str], source: DataSource) -> None:
    """Refuse data that a trained method cannot predict from.

    Raises:
        UserError: names the keys it could use.
    """
    given = recipe.task.given
    if not given:
        check_keys(method, recipe, keys, source)
    elif not set(given) & set(keys):
        raise UserError(
            f"{source.path}: {method} predicts from {' or '.join(given)}, and the data have "
            f"{', '.join(keys) or 'none'}; name one with --map {given[0]}=COLUMN"
        )


def _range(source: DataSource) -> Any:
    """One range for every key (written under the empty key by a flag), or one by key."""
    return source.range.get("", source.range or None)
