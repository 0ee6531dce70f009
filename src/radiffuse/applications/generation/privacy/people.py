"""Images with the people they are of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....metrics.diversity import nearest
from ...evaluation.judge import read_images

__all__ = ["SAME", "People", "joined", "read_people", "without_repeats"]

SAME = 1e-3
"""Root mean square difference below which two images are one."""


@dataclass(frozen=True)
class People:
    """Real images.

    Attributes:
        images: `(n, C, *S)` in [-1, 1].
        labels: `(n,)`, or None.
        ids: names of the cases that are safe to show.
        patients: of each.
        numbers: of each `(n,)`, by name: covariates.
    """

    images: Tensor
    labels: Tensor | None
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    numbers: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: list[int]) -> "People":
        """Some of them."""
        return People(
            self.images[rows],
            None if self.labels is None else self.labels[rows],
            tuple(self.ids[row] for row in rows),
            tuple(self.patients[row] for row in rows),
            {name: values[rows] for name, values in self.numbers.items()},
        )


def read_people(cases: Cases) -> People:
    """All images of the cases.

    Raises:
        UserError: they hold no image, or differ in size.
    """
    images, labels = read_images(cases)
    numbers = {
        key: column.stack(cases.rows).float()
        for key, column in cases.columns.items()
        if column.kind == "scalar"
    }
    return People(images, labels, tuple(cases.ids), tuple(cases.patients), numbers)


def joined(some: People, others: People) -> People:
    """Both, one after the other; labels and numbers where both have them."""
    labels = None
    if some.labels is not None and others.labels is not None:
        labels = torch.cat([some.labels, others.labels])
    return People(
        torch.cat([some.images, others.images]),
        labels,
        (*some.ids, *others.ids),
        (*some.patients, *others.patients),
        {
            name: torch.cat([values, others.numbers[name]])
            for name, values in some.numbers.items()
            if name in others.numbers
        },
    )


def without_repeats(held_out: People, train: People) -> tuple[People, int]:
    """Held-out images that are no training image and of no training person, and how many were left out.

    What stands in both is no new image, and would make every copy look usual.
    """
    known = set(train.patients)
    found = nearest(held_out.images, train.images).distance
    kept = [
        row
        for row, name in enumerate(held_out.patients)
        if name not in known and float(found[row]) > SAME
    ]
    return held_out.take(kept), len(held_out) - len(kept)


def chosen(people: People, count: int, seed: int) -> People:
    """At most `count` of them, drawn by chance."""
    generator = torch.Generator().manual_seed(seed)
    return people.take(sorted(torch.randperm(len(people), generator=generator)[:count].tolist()))
