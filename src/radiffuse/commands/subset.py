"""Cases of which each may lack other images, to a method that makes what is missing (`Task.subset`)."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..data.columns import names_image, names_mask
from ..data.dataset import Cases
from ..data.gaps import FLAG
from ..data.image import Image
from ..data.unpaired import given_all
from ..errors import UserError, printable
from ..runs.config import DataSource
from ..runs.run import Run
from ..training import processes
from .source import open_source

__all__ = [
    "asked_for",
    "in_units_of",
    "incomplete",
    "one_way",
    "open_to_predict",
    "subset_of",
    "written_of",
]

Batch = Mapping[str, Tensor]


def subset_of(recipe: Any) -> tuple[str, ...]:
    """Keys of the images of which a case to predict may lack some; () where a method makes what it always makes."""
    field = recipe.task.subset
    return tuple(getattr(recipe, field)) if field else ()


def written_of(recipe: Any) -> tuple[str, ...]:
    """Keys that a prediction may hold."""
    return (*recipe.task.writes, *subset_of(recipe))


def open_to_predict(source: DataSource, opened: Run, words: Sequence[str]) -> Cases:
    """Open cases to predict; those of a method of subsets may lack images, or whole columns of them.

    Columns that `words` name have to be there; of the training's those that are, are read: a mask or target, which
    training and measuring need, is not there yet where it is predicted. Where they lack all of these, the only image is
    what the method predicts from.

    Raises:
        UserError: anything wrong with the data, or images that the method was not trained on.
    """
    keys = subset_of(opened.recipe)
    if not keys:
        task = opened.recipe.task
        images = [*filter(names_image, task.given or task.reads)]
        truth = tuple(filter(names_mask, task.optional))
        one = bool(task.given) or len(images) == 1
        known = () if words or not one else (*task.reads, *task.given, *truth)
        spare = {key: column for key, column in source.map.items() if key in known}
        others = {key: column for key, column in source.map.items() if key not in known}
        suited = () if words or others or task.unpaired or not one else task.given or task.reads
        how: dict[str, Any] = {"where_there": spare, "suited": suited}
        return open_source(replace(source, map=others), opened.recipe, **how)
    if words:
        cases = open_source(source, opened.recipe, gaps=keys)
    else:
        columns = {key: source.map.get(key, key) for key in keys}
        cases = open_source(replace(source, map={}), opened.recipe, gaps=keys, where_there=columns)
    other = [key for key in cases.image_keys if key not in keys]
    if other or not set(keys) & set(cases.image_keys):
        raise UserError(
            f"{source.path}: {opened.config.method} was trained on {', '.join(keys)}, and the data have "
            f"{', '.join(other) or 'none of them'}; name them with --map {keys[0]}=COLUMN"
        )
    return cases


def incomplete(cases: Cases, recipe: Any) -> Cases:
    """The cases that lack something to make; a notice names the others.

    Raises:
        UserError: none of them does.
    """
    keys = subset_of(recipe)
    if not keys or not set(keys) <= set(cases.keys):
        return cases
    flags = [cases.columns[key + FLAG] for key in keys if key + FLAG in cases.keys]
    lacks = [any(float(flag.stack([row])[0]) < 0.5 for flag in flags) for row in cases.rows]
    told = ", ".join(keys)
    if not any(lacks):
        raise UserError(
            f"{cases.source}: none of {told} is missing, so that there is nothing to make; leave a column out "
            f"(--map {keys[0]}={keys[0]}), or cells of a cases.csv empty"
        )
    complete = [case for case, lack in zip(cases.ids, lacks, strict=True) if not lack]
    if complete and processes.is_main():
        some = f"{', '.join(complete[:3])}{' ...' if len(complete) > 3 else ''}"
        line = f"note: {len(complete)} of {len(cases)} cases lack none of {told} and are left out ({some})"
        print(printable(line), file=sys.stderr)
    return cases.take([place for place, lack in enumerate(lacks) if lack])


def one_way(cases: Cases, recipe: Any) -> Cases:
    """The cases to predict by a method of unpaired images: those that have its first kind, or where none has it the
    next kind. A notice names the others."""
    keys = [key for key in recipe.task.unpaired if key in cases.keys]
    if not any(key + FLAG in cases.keys for key in keys):
        return cases
    key, places = next((key, p) for key in keys if (p := given_all(cases, [key])))
    others = [case for place, case in enumerate(cases.ids) if place not in {*places}]
    if others and processes.is_main():
        some = f"{', '.join(others[:3])}{' ...' if len(others) > 3 else ''}"
        line = f"note: {len(others)} of {len(cases)} cases have no {key} and are left out ({some})"
        print(printable(line), file=sys.stderr)
    return cases.take(places).without({*keys, *(each + FLAG for each in keys)} - {key})


def asked_for(recipe: Any, batch: Batch, place: int, key: str) -> bool:
    """Whether an output of the case at `place` of a batch is to be written: what was given is not."""
    if key not in subset_of(recipe) or key not in batch:
        return True
    return key + FLAG in batch and float(batch[key + FLAG][place]) < 0.5


def in_units_of(opened: Run, key: str, like: Image, of: str) -> Image:
    """The image `like`, of the key `of`, as the image that an output of `key` is written like.

    Its stored values are those that the training had for `key` (a CT made of an MR image is in Hounsfield units), or
    those of --range where that was given. Where the type of `like` cannot hold these it becomes float.
    """
    trained, alike = opened.config.data.range, opened.recipe.task.alike
    if key not in trained or like.range is None or {key, of} <= set(alike):
        return like
    asked = tuple(like.range) != tuple(trained.get(of, like.range))
    limits = like.range if asked or key == of else trained[key]
    data = like.data
    if not data.is_floating_point() and not _holds(data, limits):
        data = data.float()
    return replace(like, data=data, range=limits)


def _holds(data: Tensor, limits: tuple[float, float]) -> bool:
    """Whether the integer type of `data` holds the values `limits`, in steps that are small beside them."""
    kind = torch.iinfo(data.dtype)
    low, high = limits
    return kind.min <= low and high <= kind.max and high - low >= 100
