"""Attribute leakage: whether what the model knows of a label is better known of the people it was trained on."""

from typing import Any

import torch
from torch import Tensor

from ....metrics.diversity import nearest
from ....metrics.estimate import (
    REPLICAS,
    Metric,
    measured,
    quantiles,
    refused,
    resamples,
    rows_of_patients,
)
from .attacks import loss_scores
from .people import People

__all__ = ["attributes"]

FEWEST = 10


def attributes(
    recipe: Any,
    objective: Any,
    members: People,
    others: People,
    samples: Tensor,
    told: Tensor | None,
    seed: int = 0,
) -> dict[str, Any]:
    """Accuracy of two guesses of a label, of members and of others, and the difference: what training gave away.

    "loss": the label under which the denoising error is least; "neighbours": that of the nearest sample, whose label
    the attacker chose. Both need a model that is told the class.

    Args:
        told: labels of the samples.
    """
    classes = int(getattr(recipe, "classes", 0))
    if not classes:
        return {"refused": "the model is told no label, so an attacker has none to compare"}
    if members.labels is None or others.labels is None:
        return {"refused": "the data at hand have no labels"}
    found = {"loss": [_by_loss(recipe, objective, who, classes, seed) for who in (members, others)]}
    if told is not None:
        found["neighbours"] = [
            told[nearest(who.images, samples).index] for who in (members, others)
        ]
    return {name: _compared(guesses, members, others, seed) for name, guesses in found.items()}


def _by_loss(recipe: Any, objective: Any, who: People, classes: int, seed: int) -> Tensor:
    scores = [
        loss_scores(recipe, objective, who.images, torch.full((len(who),), label), seed).mean(1)
        for label in range(classes)
    ]
    return torch.stack(scores).argmax(0)


def _compared(
    guesses: list[Tensor], members: People, others: People, seed: int
) -> dict[str, Metric]:
    right = []
    for guess, who in zip(guesses, (members, others), strict=True):
        assert who.labels is not None
        hits = (guess == who.labels).double()
        right.append(
            torch.stack([hits[rows].mean() for rows in rows_of_patients(who.patients).values()])
        )
    n = min(map(len, right))
    if n < FEWEST:
        reason = f"needs {FEWEST} persons of each kind, there are {n}"
        return {name: refused(reason, n) for name in ("members", "others", "advantage")}
    drawn = [each[resamples(len(each), REPLICAS, seed + k)].mean(1) for k, each in enumerate(right)]
    means = [float(each.mean()) for each in right]
    return {
        "members": measured(means[0], *quantiles(drawn[0]), len(right[0])),
        "others": measured(means[1], *quantiles(drawn[1]), len(right[1])),
        "advantage": measured(means[0] - means[1], *quantiles(drawn[0] - drawn[1]), n),
    }
