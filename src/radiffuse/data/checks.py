"""What training and evaluation ask of their cases, each refused in one line."""

from collections.abc import Sequence

import torch

from ..errors import UserError
from .cases import Cases
from .table import SPLITS

__all__ = [
    "check_classes",
    "check_labels",
    "check_one_range",
    "check_pairs",
    "check_trainable",
    "none_held_out",
]


def check_trainable(cases: Cases) -> None:
    """Refuse a data set that cannot be trained on.

    Raises:
        UserError: fewer than two training cases, or images of different size.
    """
    cases.check_shapes()
    training = cases.split_of.count("train")
    if training == 0:
        here = ", ".join(split for split in SPLITS if split in cases.split_of)
        raise UserError(
            f"{cases.source}: has no training cases, only {here}; these are not trained on"
        )
    if training < 2:
        keys = cases.image_keys
        volume = keys and len(cases.image(cases.split_of.index("train"), keys[0]).size) == 3
        cut = "; --slices axial, coronal or sagittal takes the slices of a volume" if volume else ""
        raise UserError(f"{cases.source}: has one training case; training needs two or more{cut}")


def none_held_out(cases: Cases) -> tuple[str, ...]:
    """A notice where all cases are of one patient, so that a split of patients leaves none to measure on."""
    if not cases.split_here or len(set(cases.patients)) > 1:
        return ()
    return (f"{cases.source}: all cases are of one patient, so that none is held out",)


def check_labels(cases: Cases, classes: int) -> None:
    """Refuse labels that a model of `classes` classes does not know.

    Raises:
        UserError: names the first such case.
    """
    if "label" not in cases.columns:
        return
    labels = cases.columns["label"].stack(cases.rows)
    bad = (labels >= classes).nonzero()
    if len(bad):
        index = int(bad[0])
        raise UserError(
            f"{cases.source}: case {cases.ids[index]} has label {int(labels[index])}, but the "
            f"model knows the {classes} classes 0 to {classes - 1}"
        )


def check_classes(cases: Cases, classes: int) -> None:
    """Refuse training cases among which a class of the data does not occur.

    Raises:
        UserError: names the class, and where it occurs.
    """
    labels = cases.columns["label"].stack(cases.rows)
    counts = torch.bincount(labels.flatten(), minlength=classes)
    for label in (counts == 0).nonzero()[:, 0].tolist():
        name = f" ({cases.class_names[label]})" if label < len(cases.class_names) else ""
        raise UserError(
            f"{cases.source}: class {label}{name} of 0 to {classes - 1} has no training case; "
            "give it some, leave its cases out, or number the classes without gaps"
        )


def check_pairs(cases: Cases, keys: Sequence[str], method: str) -> None:
    """Refuse data that say of themselves that `keys` are of different people.

    Text columns KEY_patient say whose image KEY is, for data that are not paired.

    Raises:
        UserError: names the first such case.
    """
    texts = [cases.texts.get(f"{key}_patient") for key in keys]
    for index, people in enumerate(zip(*(text for text in texts if text), strict=False)):
        if len(set(people)) > 1:
            raise UserError(
                f"{cases.source}: case {cases.ids[index]} pairs {' and '.join(people)}: "
                f"{method} needs {' and '.join(keys)} of the same person; syndiff does not"
            )


def check_one_range(cases: Cases, keys: Sequence[str]) -> None:
    """Refuse images of one scene that were scaled to [-1, 1] differently.

    Raises:
        UserError: says the ranges, and how to give one.
    """
    here = {key: cases.ranges[key] for key in keys if key in cases.ranges}
    if len(set(here.values())) > 1:
        told = ", ".join(f"{key} {low:g} to {high:g}" for key, (low, high) in here.items())
        raise UserError(
            f"{cases.source}: {' and '.join(here)} must be on one grey scale, and their values "
            f"are read as {told}; give one with --range LOW HIGH"
        )
