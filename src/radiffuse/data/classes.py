"""Classes and labels of data as a model numbers them: by their names, whatever numbers the data give them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from ..errors import UserError
from .cases import Cases
from .columns import ArrayColumn

__all__ = ["named_alike", "with_classes"]

Like = Callable[[Sequence[str], Sequence[str]], Mapping[str, int]]
"""Labels of classes that a model does not know by name, of its own; given both."""


def with_classes(
    cases: Cases, names: Sequence[str], *, needed: bool = True, like: Like | None = None
) -> Cases:
    """The cases with the labels that a model gives their classes; as they are where either names none.

    Classes of a folder or of a column of text are numbered by their names in order, so that data in which one is
    missing, or another is there, number the rest otherwise. Names that differ in capitals alone are one, as a notice
    says.

    Args:
        cases: with a column "label", or without.
        names: of the model's classes 0, 1, 2 ...
        needed: whether the labels are measured against; if not, those of classes that the model does not know are left
            out with a notice.
        like: of a model to which classes of other names are like its own.

    Raises:
        UserError: a class that the model does not know.
    """
    column = cases.columns.get("label")
    if column is None or not cases.class_names or not (names or like):
        return cases
    if cases.class_names == tuple(names):
        return cases
    labels = [int(label) for label in column.stack(range(len(cases.all_ids)))]
    called = [cases.class_names[label] for label in labels]
    here = sorted({called[row] for row in cases.rows})
    plain = {_plain(name): number for number, name in enumerate(names)}
    number = {name: plain[_plain(name)] for name in here if _plain(name) in plain}
    if strange := [name for name in here if name not in number]:
        number |= like(strange, names) if like else {}
    if unknown := [name for name in here if name not in number]:
        case = next(cases.all_ids[row] for row in cases.rows if called[row] == unknown[0])
        whose = f"none of the model's ({', '.join(names)})" if names else "not called healthy or so"
        told = f"{cases.source}: class {unknown[0]!r} of case {case} is {whose}"
        if needed:
            raise UserError(f"{told}; leave such cases out, or call the class as the model does")
        cases.lines.append(f"{told}; the labels of these data are left out")
        columns = {key: held for key, held in cases.columns.items() if key != "label"}
        return replace(cases, columns=columns, class_names=())
    known = tuple(names) or _named(number)
    for name in here:
        if known[number[name]] != name:
            cases.lines.append(f"{cases.source}: class {name} is the model's {known[number[name]]}")
    mine = torch.tensor([number.get(name, 0) for name in called])
    own = ArrayColumn(mine, "label", f"{cases.source}: label")
    return replace(cases, columns={**cases.columns, "label": own}, class_names=known, known=None)


def _named(number: Mapping[str, int]) -> tuple[str, ...]:
    """Names of labels, of which several classes may be one."""
    return tuple(
        " or ".join(name for name, label in number.items() if label == k) or str(k)
        for k in range(max(number.values()) + 1)
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
        pairs = zip(cases.mask_names.get(key, ()), theirs, strict=False)
        for label, (here, there) in enumerate(pairs):
            if here and there and _plain(here) != _plain(there):
                raise UserError(
                    f"{cases.source}: label {label} of {key} is called {here!r}, and {there!r} where the model was "
                    "trained; number the labels alike"
                )


def _plain(name: str) -> str:
    return name.strip().casefold()
