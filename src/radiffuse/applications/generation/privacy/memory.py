"""Memorisation: samples that are copies of training images, in three eyes; and what comes again and again."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....metrics.cliques import cliques, medoid
from ....metrics.copy_detector import copy_detector, described
from ....metrics.estimate import average
from ....metrics.features import FEWEST, extract, trained_features
from ....metrics.nearness import (
    CLOSEST,
    Near,
    Share,
    groups_of,
    near,
    share_of_copies,
    too_few,
)
from ...evaluation.progress import progress_bar
from .people import People

__all__ = ["EYES", "Eye", "extraction", "looked_at", "memorisation", "pairs"]

EYES = ("pixels", "features", "detector")
PAIRS = 16


@dataclass(frozen=True)
class Eye:
    """How samples, training and held-out images are compared.

    Attributes:
        samples, train, held_out: images or features of them, `(n, *)`.
        found, control: the nearest training image of each sample and of each held-out image.
        share: of copies; None with too few held-out images.
    """

    samples: Tensor
    train: Tensor
    held_out: Tensor
    found: Near
    control: Near
    share: Share | None


def looked_at(
    samples: Tensor, train: People, held_out: People, fingerprint: str, cache: Path | None
) -> dict[str, Eye]:
    """The three eyes: pixels, the features of evaluations, and the copy detector; two networks are trained."""
    groups = groups_of(train.patients)
    seen: dict[str, tuple[Tensor, ...]] = {"pixels": (samples, train.images, held_out.images)}
    sets = (samples, train.images, held_out.images)
    if len(train) >= FEWEST:
        with progress_bar("training the feature network", 1) as done:
            network = trained_features(
                train.images,
                train.labels,
                fingerprint=fingerprint,
                cache=cache,
                progress=lambda step, steps: done(step / steps),
            )
        seen["features"] = tuple(extract(network, each) for each in sets)
    with progress_bar("training the copy detector", 1) as done:
        detector = copy_detector(
            train.images,
            groups,
            fingerprint=fingerprint,
            cache=cache,
            progress=lambda step, steps: done(step / steps),
        )
    seen["detector"] = tuple(described(detector, each) for each in sets)
    return {name: _eye(ours, real, new, groups) for name, (ours, real, new) in seen.items()}


def _eye(samples: Tensor, train: Tensor, held_out: Tensor, groups: Tensor) -> Eye:
    found, control = near(samples, train, groups), near(held_out, train, groups)
    share = share_of_copies(found.relative, control.relative)
    return Eye(samples, train, held_out, found, control, share)


def memorisation(eyes: dict[str, Eye], train: People) -> dict[str, Any]:
    """The record of each eye, and the people whose images were copied, the most copied first."""
    record: dict[str, Any] = {name: _of_eye(eye) for name, eye in eyes.items()}
    people: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for at in _flagged(eyes).values():
        people[train.patients[at]] += 1
        images[train.ids[at]] += 1
    return {
        "eyes": record,
        "people": [{"patient": name, "samples": n} for name, n in people.most_common(20)],
        "cases": [{"case": name, "samples": n} for name, n in images.most_common(20)],
    }


def _of_eye(eye: Eye) -> dict[str, Any]:
    distances = {
        "nearest": average(eye.found.distance),
        "nearest_held_out": average(eye.control.distance),
        "relative": average(eye.found.relative),
        "relative_held_out": average(eye.control.relative),
    }
    if eye.share is None:
        return {**distances, "share": too_few(len(eye.control.relative))}
    return {
        **distances,
        "share": eye.share.share,
        "beyond_chance": eye.share.beyond_chance,
        "chance": eye.share.chance,
        "threshold": eye.share.threshold,
        "p": eye.share.p,
    }


def _flagged(eyes: dict[str, Eye]) -> dict[int, int]:
    """The training image of each sample that an eye takes for a copy: the first eye that does says which."""
    found: dict[int, int] = {}
    for eye in eyes.values():
        if eye.share is not None:
            for row in eye.share.flagged.nonzero()[:, 0].tolist():
                found.setdefault(row, int(eye.found.index[row]))
    return found


def pairs(eyes: dict[str, Eye]) -> list[tuple[int, int, str, float, bool]]:
    """Samples and training images to show, the nearest of each eye in turn: rows, eye, distance, copy or not."""
    orders = {name: iter(eye.found.relative.argsort().tolist()) for name, eye in eyes.items()}
    shown: dict[int, tuple[int, int, str, float, bool]] = {}
    count = min(PAIRS, *(len(eye.found.relative) for eye in eyes.values()))
    while len(shown) < count:
        for name, order in orders.items():
            row = next((each for each in order if each not in shown), None)
            if row is not None and len(shown) < count:
                eye = eyes[name]
                copy = bool(eye.share is not None and eye.share.flagged[row])
                value = float(eye.found.relative[row])
                shown[row] = (row, int(eye.found.index[row]), name, value, copy)
    return list(shown.values())


def extraction(samples: Tensor, held_out: People | None, eyes: dict[str, Eye]) -> dict[str, Any]:
    """Groups of near-identical samples, the attacker's best guess of a training image, and how many are one.

    Two samples are near-identical where they are nearer than 99 % of held-out images are to another held-out person's
    image. Where training images are at hand, a group whose middle sample an eye takes for a copy is extracted.
    """
    if held_out is None or len(held_out) < 2:
        return {"refused": "how near two new images lie is not known without held-out images"}
    threshold = _usual_gap(held_out)
    groups = cliques(samples, threshold)
    copies = _flagged(eyes)
    middles = [int(rows[medoid(samples[rows])]) for rows in groups]
    record = {
        "threshold": threshold,
        "groups": len(groups),
        "largest": len(groups[0]) if groups else 0,
        "samples": len(samples),
    }
    if not eyes:
        return record
    return {**record, "extracted": sum(row in copies for row in middles)}


def _usual_gap(held_out: People) -> float:
    """The 1st percentile of the distances of held-out images to those of other people."""
    x, groups = held_out.images.flatten(1).float(), groups_of(held_out.patients)
    gaps = torch.cdist(x, x) / x.shape[1] ** 0.5
    gaps = gaps.masked_fill(groups[:, None] == groups, torch.inf)
    least = gaps.amin(dim=1)
    least = least[torch.isfinite(least)]
    return float(torch.quantile(least, CLOSEST)) if len(least) else 0.0
