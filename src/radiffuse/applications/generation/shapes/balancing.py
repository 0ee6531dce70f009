"""A classifier told the morphology of shapes, with and without drawn ones of its smallest class."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....data.dataset import Cases
from ....metrics.classification import bootstrap, macro_f1
from ....metrics.estimate import Metric
from ....metrics.morphology import features
from ...evaluation.asked import Asked, spread
from ...evaluation.drawing import predictions

__all__ = ["Balanced", "balanced"]

MOST = 800
"""Training shapes at most that the classifier learns from."""
MOST_DRAWN = 160
"""Shapes at most that are drawn for its smallest class."""
SEEDS, TREES = 5, 200


@dataclass(frozen=True)
class Balanced:
    """Macro F1 by what the classifier learned from: `drawn`, `alone`, `repeated`; `said`, for the record."""

    drawn: dict[str, Metric]
    alone: dict[str, Metric]
    repeated: dict[str, Metric]
    said: dict[str, Any]


def balanced(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked, told: Sequence[str]
) -> Balanced | None:
    """Macro F1 on held-out shapes of random forests (Breiman 2001) told `morphology.features`.

    Learned from real training shapes alone; from these with those of the smallest class repeated until it is as
    large as the largest; and from real ones with drawn ones of that class, from pictures of its training cases,
    until it is. Probabilities are means over five forests.

    Returns:
        None where the data have no two classes to tell apart, or as many of each.
    """
    if not {"label"} <= {*train.keys} & {*held_out.keys}:
        return None
    train = train.take(spread(len(train), MOST))
    label, truth = (_labels(cases) for cases in (train, held_out))
    counts = torch.bincount(label)
    if len(counts) < 2 or int(counts.min()) < 2 or len(truth.unique()) < 2:
        return None
    small = int(counts.argmin())
    own, real = (label == small).nonzero()[:, 0].tolist(), _features_of(train)
    lack = int(counts.max() - counts[small])
    if not lack:
        return None
    times = -(-lack // len(own))
    repeated = (own * times)[:lack]
    source = own if times > 1 else own[:lack]
    several = min(times, max(1, MOST_DRAWN // len(source)))
    made = _drawn(recipe, objective, train.take(source), asked, told, several)[:lack]
    unseen = _features_of(held_out)

    def found(more: Tensor) -> Tensor:
        labels = torch.cat([label, torch.full((len(more),), small)])
        return _forests(torch.cat([real, more]), labels, unseen).argmax(1)

    alone, again, drawn = found(real[:0]), found(real[repeated]), found(made)
    score = {
        name: partial(
            macro_f1, found=each, label=truth, classes=max(len(counts), int(truth.max()) + 1)
        )
        for name, each in (("alone", alone), ("repeated", again), ("drawn", drawn))
    }
    f1 = bootstrap(score, held_out.patients)
    gain = {"macro_f1_gain": lambda w: score["drawn"](w) - score["alone"](w)}
    return Balanced(
        {"macro_f1": f1["drawn"], **bootstrap(gain, held_out.patients)},
        {"macro_f1": f1["alone"]},
        {"macro_f1": f1["repeated"]},
        {
            "class": train.class_names[small] if train.class_names else small,
            "real": counts.tolist(),
            "drawn": len(made),
            "forests": SEEDS,
        },
    )


def _labels(cases: Cases) -> Tensor:
    return cases.columns["label"].stack(cases.rows)


def _features_of(cases: Cases) -> Tensor:
    rows = range(len(cases))
    return torch.stack([_of(cases, row, cases.image(row, "mask").data[0] > 0) for row in rows])


def _of(cases: Cases, row: int, shape: Tensor) -> Tensor:
    return features(shape, cases.image(row, "mask").spacing_mm or (1.0,) * shape.ndim)


def _drawn(
    recipe: Any, objective: Any, cases: Cases, asked: Asked, told: Sequence[str], several: int
) -> Tensor:
    """Features of drawn shapes, the first draws of all cases before the second ones."""
    # other draws than those that are measured
    asked = replace(asked, seed=asked.seed + 1)
    found: list[list[Tensor]] = [[] for _ in range(several)]
    title = "drawing shapes of the small class"
    for rows, draws in predictions(recipe, objective, cases, asked, told, title, several):
        for k, made in enumerate(draws):
            masks = made["mask"][:, 0] > 0
            found[k] += [_of(cases, row, mask) for row, mask in zip(rows, masks, strict=True)]
    return torch.stack([each for draw in found for each in draw])


def _forests(known: Tensor, label: Tensor, unseen: Tensor) -> Tensor:
    """Probabilities (n, C), the mean over forests of several seeds."""
    from sklearn.ensemble import RandomForestClassifier

    total = np.zeros(())
    for seed in range(SEEDS):
        forest = RandomForestClassifier(TREES, random_state=seed, n_jobs=1)
        forest.fit(known.numpy(), label.numpy())
        total = total + forest.predict_proba(unseen.numpy())
    return torch.from_numpy(total / SEEDS)
