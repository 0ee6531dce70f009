"""Images told their class, against held-out images of that class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...metrics.distribution import frechet_metrics, kernel_metric, neighbourhood_metrics
from ...metrics.estimate import Metric

__all__ = ["by_class"]


def by_class(
    real: Tensor,
    truth: Tensor,
    made: Tensor,
    told: Tensor,
    names: Sequence[str],
    people: Sequence[str] = (),
    made_people: Sequence[str] = (),
) -> dict[str, Metric]:
    """`fid_of_NAME`, `kid_of_NAME` and `coverage_of_NAME` of each class that held-out images show.

    Args:
        real: features of held-out images (n, d).
        truth: their classes (n,).
        made: features of other images (m, d).
        told: the classes of these (m,).
        names: of the classes; () calls them by their number.
        people: whose each held-out image is; () where each is of another person.
        made_people: the same of the other images.
    """
    found: dict[str, Metric] = {}
    for label in truth.unique().tolist():
        ours, theirs = made[told == label], real[truth == label]
        name = names[label] if names else str(label)
        of = _whose(people, truth == label), _whose(made_people, told == label)
        found[f"fid_of_{name}"] = frechet_metrics(theirs, ours, people=of)["fid"]
        found[f"kid_of_{name}"] = kernel_metric(theirs, ours, people=of)
        shares = neighbourhood_metrics(theirs, ours, people=of)
        found[f"coverage_of_{name}"] = shares["coverage"]
    return found


def _whose(people: Sequence[str], there: Tensor) -> list[str]:
    return [people[row] for row in torch.nonzero(there)[:, 0].tolist()] if people else []
