"""Classes and labels of data as a model numbers them: by their names, whatever numbers the data give them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from ..errors import UserError
from .cases import Cases
from .columns import ArrayColumn

__all__ = ["named_alike", "with_classes"]


def with_classes(cases: Cases, names: Sequence[str], *, needed: bool = True) -> Cases:
    """The cases with the labels that a model gives their classes; as they are where either names none.

    Classes of a folder or of a column of text are numbered by their names in order, so that data in which one is
    missing, or another is there, number the rest otherwise. Names that differ in capitals alone are one, as a notice
    says.

    Args:
        cases: with a column "label", or without.
        names: of the model's classes 0, 1, 2 ...
        needed: whether the labels are measured against; if not, those of classes that the model does not know are left
            out with a notice.

    Raises:
        UserError: a class that the model does not know.
    """
    column = cases.columns.get("label")
    if column is None or not names or not cases.class_names or cases.class_names == tuple(names):
        return cases
    plain = {_plain(name): number for number, name in enumerate(names)}
    labels = [int(label) for label in column.stack(range(len(cases.all_ids)))]
    unknown = [k for k, label in enumerate(labels) if _plain(cases.class_names[label]) not in plain]
    if unknown:
        others = sorted({cases.class_names[labels[k]] for k in unknown})
        told = (
            f"{cases.source}: class {others[0]!r} of case {cases.all_ids[unknown[0]]} is none of the model's "
            f"({', '.join(names)})"
        )
        if needed:
            raise UserError(f"{told}; leave such cases out, or call the class as the model does")
        cases.lines.append(f"{told}; the labels of these data are left out")
        columns = {key: held for key, held in cases.columns.items() if key != "label"}
        return replace(cases, columns=columns, class_names=())
    here = {cases.class_names[label] for label in labels}
    for name in sorted(here - set(names)):
        cases.lines.append(
            f"{cases.source}: class {name} is the model's {names[plain[_plain(name)]]}"
        )
    mine = torch.tensor([plain[_plain(cases.class_names[label])] for label in labels])
    own = ArrayColumn(mine, "label", f"{cases.source}: label")
    return replace(
        cases, columns={**cases.columns, "label": own}, class_names=tuple(names), known=None
    )


def named_alike(cases: Cases, names: Mapping[str, Sequence[str]]) -> None:
    """Refuse masks whose labels are called otherwise than in training: labels of voxels are compared by number.

    Args:
        cases: with masks, or without.
        names: a name for each label, "" where it has none, by mask key, of the training data.

    Raises:
        UserError: names both.
    """
    for key, theirs in names.items():
        for label, (here, there) in enumerate(
            zip(cases.mask_names.get(key, ()), theirs, strict=False)
        ):
            if here and there and _plain(here) != _plain(there):
                raise UserError(
                    f"{cases.source}: label {label} of {key} is called {here!r}, and {there!r} where the model was "
                    "trained; number the labels alike"
                )


def _plain(name: str) -> str:
    return name.strip().casefold()
