"""Images with the people they are of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....metrics.diversity import nearest
from ...evaluation.judge import read_images

__all__ = ["SAME", "People", "read_people", "without_repeats"]

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
    """

    images: Tensor
    labels: Tensor | None
    ids: tuple[str, ...]
    patients: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: list[int]) -> "People":
        """Some of them."""
        return People(
            self.images[rows],
            None if self.labels is None else self.labels[rows],
            tuple(self.ids[row] for row in rows),
            tuple(self.patients[row] for row in rows),
        )


def read_people(cases: Cases) -> People:
    """All images of the cases.

    Raises:
        UserError: they hold no image, or differ in size.
    """
    images, labels = read_images(cases)
    return People(images, labels, tuple(cases.ids), tuple(cases.patients))


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
