"""The data a command works on: named by flags, or those the run was trained on."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..applications.sizes import sides
from ..data.classes import named_alike, with_classes
from ..data.columns import names_image
from ..data.dataset import Cases, open_cases
from ..data.formats.scans import holds_kspace
from ..data.neighbours import with_neighbours
from ..data.planes import Cut
from ..data.stained import with_stain
from ..data.unpaired import lent
from ..errors import UsageError, UserError, printable
from ..runs.config import Config, DataSource, is_embedded, located
from ..runs.run import Run
from ..training import processes
from .nodes import at_hand
from .parsing import pairs


def open_source(source: DataSource, recipe: Any = None, **lacking: Any) -> Cases:
    """Open the cases that a configuration names, with the neighbouring slices and in the stain a recipe asks for.

    Args:
        source: path, columns and the like.
        recipe: that reads them.
        lacking: what the data may lack, as `open_cases` takes it.
    """
    if recipe is not None:
        task = recipe.task
        lacking.setdefault("gaps", task.unpaired)
        lacking.setdefault("roles", (*task.reads, *task.given, *task.optional))
    cases = open_cases(
        source.path,
        mapping=source.map,
        range=_range(source),
        size=source.size or None,
        seed=source.seed,
        on_leak=source.leak,
        orientation=source.orientation,
        codes=source.codes,
        slices=source.slices,
        names=source.names,
        series=source.series,
        **lacking,
    )
    return prepared(cases, recipe)


def prepared(cases: Cases, recipe: Any) -> Cases:
    """The cases with the neighbouring slices, in the stain and with the unpaired images that a recipe asks for."""
    if recipe is not None:
        cases = lent(cases, recipe.task.unpaired)
    cases = with_neighbours(cases, getattr(recipe, "NEIGHBOURS", ()))
    stained = getattr(recipe, "stain", "none") != "none"
    return with_stain(cases, recipe.stain_reference) if stained else cases


def data_of(
    flags: Any,
    opened: Run,
    given: Cases | None,
    read: Callable[[DataSource, Any], Cases] = open_source,
    labels_needed: bool = True,
) -> tuple[DataSource, Cases]:
    """What the flags of a command name, opened by `read`; or the cases in memory that are given in their place.

    Their classes are numbered as the model's (`as_trained`).
    """
    if given is not None:
        _check_given_as_it_is(flags)
        cases = prepared(given, opened.recipe)
        return DataSource(given.source), as_trained(cases, opened, labels_needed)
    named = (at_hand(flags.data, flags.node), flags.map, flags.size, flags.range, flags.slices)
    source = source_of(opened.config, *named)
    source = replace(source, names=flags.chosen.names, series=_series(flags, opened))
    return source, as_trained(read(source, opened.recipe), opened, labels_needed)


def _check_given_as_it_is(flags: Any) -> None:
    """Refuse to read data in memory otherwise than they are.

    Raises:
        UserError: names the flags that would.
    """
    asked = [
        name for name in ("map", "size", "range", "slices", "grid") if getattr(flags, name, None)
    ]
    if "grid" in asked and flags.grid == "model":
        asked.remove("grid")
    if asked:
        raise UserError(
            f"{', '.join(asked)}: cases in memory are taken as they are; say it where they are opened "
            "(radiffuse.open, from_iterable), or name a path"
        )


def as_trained(cases: Cases, opened: Run, labels_needed: bool = True) -> Cases:
    """The cases with their classes numbered as the model's are.

    Raises:
        UserError: a class that the model does not know, where labels are needed; labels of voxels that are called
            otherwise than in training.
    """
    facts = opened.manifest.get("data", {}).get("facts", {})
    named_alike(cases, facts.get("mask_names") or {})
    like = getattr(opened.recipe, "labels_like", None)
    needed = labels_needed and not (
        like and "mask" in cases.mask_keys
    )  # an empty mask says who is healthy
    return with_classes(cases, facts.get("class_names") or (), needed=needed, like=like)


def _series(flags: Any, opened: Run) -> tuple[str, ...]:
    """The series asked for, else those of the training where the data are its own."""
    own: tuple[str, ...] = opened.config.data.series if flags.data is None else ()
    return tuple(flags.chosen.series) or own


def source_of(
    made_with: Config,
    data: str | None,
    words: Sequence[str],
    size: tuple[int, ...] = (),
    limits: tuple[float, ...] = (),
    slices: Cut | None = None,
) -> DataSource:
    """The training's data, with what the flags say instead; without `limits` the range is the training's.

    Raises:
        UserError: the training's data are not where they were and no others are named.
        UsageError: `limits` are not two numbers.
    """
    source = replace(
        made_with.data, size=size or made_with.data.size, slices=slices or made_with.data.slices
    )
    if limits:
        if len(limits) != 2:
            raise UsageError("--range takes two numbers, LOW HIGH")
        source = replace(source, range={"": (limits[0], limits[1])})
    if words:
        source = replace(source, map=pairs(words))
    if data is not None and holds_kspace(Path(data), [*made_with.data.map.values()]):
        # k-space names its keys itself
        return DataSource(path=located(data), map=pairs(words), slices=slices or "none")
    if data is not None:
        return replace(source, path=located(data))
    if not source.path:
        raise UserError("the run was trained on cases in memory; name data with --data PATH")
    if not is_embedded(source.path) and not Path(source.path).exists():
        raise UserError(f"{source.path}: the training data are gone; name data with --data PATH")
    return source


def asked_cases(every: Cases, split: str | None, source: DataSource, opened: Run) -> Cases:
    """The cases to predict or measure: of one split, or the held-out ones.

    All, where they are of other data than the training's that name no splits, or series of the training's that were
    chosen now. What had to be decided of
    other data is said on stderr. The training's data at another place are the training's.
    """
    new = source.path != opened.config.data.path and not _moved(every, opened)
    if new and processes.is_main():
        for line in every.notices:
            print(f"note: {printable(line)}", file=sys.stderr)
    if split is not None:
        asked = every.split(split)
        if split == "train" and not new and processes.is_main():
            print("note: these are the patients that the run was trained on", file=sys.stderr)
        return asked
    if not new and source.series != opened.config.data.series:
        if processes.is_main():
            told = "--series chooses of the training's own data; patients that the run was trained on may be among them"
            print(f"note: {told}", file=sys.stderr)
        return every
    return every if new and every.split_here else every.held_out()


def own_cases(every: Cases, source: DataSource, opened: Run) -> Cases:
    """The data a run was made with, all splits, which its baselines are given too.

    Where they are gone, the data at hand.
    """
    trained = replace(opened.config.data, names=source.names)
    if source == trained or _moved(every, opened):
        return every
    try:
        return open_source(trained, opened.recipe)
    except UserError:
        return every


def validation_cases(own: Cases) -> Cases | None:
    """The split val of data whose split test is what is measured."""
    return own.split("val") if {"val", "test"} <= set(own.split_of) else None


def _moved(every: Cases, opened: Run) -> bool:
    """Whether these are the run's training data, wherever they lie."""
    return every.fingerprint == opened.manifest.get("data", {}).get("fingerprint")


def check_axes(opened: Run, cases: Cases, source: DataSource) -> None:
    """Refuse volumes for a model of pictures, pictures for one of volumes, and other channels than those of training.

    Raises:
        UserError: says which the model was trained on, and how to cut volumes.
    """
    facts = opened.manifest.get("data", {}).get("facts", {})
    sizes = facts.get("size") or {"": getattr(opened.recipe, "size", ())}
    trained = {len(size) for size in sizes.values()}
    for key in (key for key in cases.image_keys if key not in opened.recipe.task.pictures):
        size = cases.columns[key].image(cases.rows[0]).size
        if trained <= {0} or len(size) in trained:
            continue
        if len(size) < min(trained):
            known = sides(next(iter(sizes.values())))
            if pictures := opened.recipe.task.pictures:
                raise UserError(
                    f"{source.path}: holds pictures ({sides(size)}) called {key}; name the picture with --map "
                    f"{pictures[0]}={key}"
                )
            what = "is cut into slices" if cases.volumes else f"holds pictures ({sides(size)})"
            raise UserError(
                f"{source.path}: {what}, and {opened.path} was trained on volumes ({known}); give it "
                f"volumes{', without --slices' if cases.volumes else ''}"
            )
        if not getattr(opened.recipe, "OF_VOLUMES", False):
            raise UserError(
                f"{source.path}: holds volumes ({sides(size)}), and {opened.path} was trained on pictures; "
                "--slices axial, coronal or sagittal (or the number of an axis) goes slice by slice"
            )
    if not hasattr(opened.recipe, "values"):  # complex images have a channel more, or less
        _check_channels(opened, cases, source, facts.get("channels") or {})


def _check_channels(
    opened: Run, cases: Cases, source: DataSource, channels: Mapping[str, int]
) -> None:
    """Refuse images of other channels than those of training; what is alike has those of what it is like.

    Raises:
        UserError: names a case, its channels and those of the training.
    """
    alike = opened.recipe.task.alike
    for key in cases.image_keys:
        beside = [channels[other] for other in alike if other in channels] if key in alike else []
        known = channels.get(key) or next(iter(beside), None)
        if known is None:
            continue
        shapes = cases.shapes.get(key)
        for place, row in enumerate(cases.rows if shapes else cases.rows[:1]):
            shape = shapes[row] if shapes else cases.columns[key].image(row).data.shape
            if shape[0] != known:
                hint = "; convert it to grey" if (shape[0], known) == (3, 1) else ""
                raise UserError(
                    f"{source.path}: {key} of case {cases.ids[place]} has {_counted(shape[0])}, and {opened.path} was "
                    f"trained on {_counted(known)}{hint}"
                )


def _counted(channels: int) -> str:
    return "1 channel" if channels == 1 else f"{channels} channels"


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
            f"{', '.join(keys) or 'none'}; name one with --map {next(filter(names_image, given))}=COLUMN"
        )


def _range(source: DataSource) -> Any:
    """One range for every key (written under the empty key by a flag), or one by key."""
    return source.range.get("", source.range or None)
