"""Images with the people they are of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....data.splits import together
from ....metrics.diversity import nearest
from ...evaluation.judge import read_images

__all__ = ["SAME", "People", "as_one", "joined", "read_people", "without_repeats"]

SAME = 1e-3
"""Root mean square difference below which two images are one."""
AXES = 16
"""Directions along which images are compared first."""


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

    What stands in both is no new image, and would make every copy look usual. Whoever has one such image is a training
    person by another name, unless it shows nothing.
    """
    again = (nearest(held_out.images, train.images).distance <= SAME).tolist()
    shown = _shows(held_out.images).tolist()
    known = set(train.patients)
    known |= {name for row, name in enumerate(held_out.patients) if again[row] and shown[row]}
    kept = [
        row for row, name in enumerate(held_out.patients) if name not in known and not again[row]
    ]
    return held_out.take(kept), len(held_out) - len(kept)


def as_one(people: People) -> tuple[People, int]:
    """The same images, with people who have an image in common under the first of their names.

    An image that stands there under thirty names is one person's: its copies would otherwise be as near to thirty
    people as to one, and look usual. Images of one grey alone are nobody's.

    Returns:
        And how many people have another's name now.
    """
    rows = _shows(people.images).nonzero()[:, 0].tolist()
    shared: list[set[str]] = [set() for _ in people.ids]
    for one, other in zip(*_alike(people.images[rows]), strict=True):
        for row in (rows[one], rows[other]):
            shared[row].add(f"{one} {other}")
    patients = tuple(together(people.patients, [frozenset(each) for each in shared]))
    return replace(people, patients=patients), len({*people.patients}) - len({*patients})


def _alike(images: Tensor) -> tuple[list[int], list[int]]:
    """Pairs of images that are one: equal, or by at most `SAME` apart.

    Those that lie near each other along a few directions, by chance, are looked at in whole.
    """
    from scipy.spatial import cKDTree

    x = images.flatten(1).float()
    first: dict[bytes, int] = {}
    hashes = [sha256(row.numpy().tobytes()).digest() for row in x]
    owners = [first.setdefault(digest, place) for place, digest in enumerate(hashes)]
    again = [place for place, owner in enumerate(owners) if owner != place]
    alone = torch.tensor(sorted(first.values()), dtype=torch.int64)
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(x.shape[1], min(AXES, x.shape[1]), generator=generator)
    axes = torch.linalg.qr(some)[0]
    seen = (x[alone] @ axes).double()
    # a fixed difference is as long there as its share of directions says: twice that leaves out none
    reach = 2 * SAME * axes.shape[1] ** 0.5
    pairs = torch.from_numpy(cKDTree(seen.numpy()).query_pairs(reach, output_type="ndarray"))
    one, other = (alone[side] for side in pairs.long().unbind(1))
    near = (x[one] - x[other]).square().mean(dim=1).sqrt() <= SAME
    return [*again, *one[near].tolist()], [*(owners[row] for row in again), *other[near].tolist()]


def _shows(images: Tensor) -> Tensor:
    """Whether an image is of more than one grey, `(n,)` bool."""
    return images.flatten(1).float().std(dim=1) > SAME


def chosen(people: People, count: int, seed: int) -> People:
    """At most `count` of them, drawn by chance."""
    generator = torch.Generator().manual_seed(seed)
    return people.take(sorted(torch.randperm(len(people), generator=generator)[:count].tolist()))
