"""What both evaluations of translation use: draws, and sets of images compared by their features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...metrics.distribution import distances_between_sets
from ...metrics.estimate import Metric, refused
from ...metrics.features import FEWEST, extract
from ..evaluation.asked import Asked
from ..evaluation.drawing import Drawn, drawn, predictions
from ..evaluation.judge import Judge, judge

__all__ = ["BLACK", "ROWS", "SPAN", "Eyes", "distances", "draw", "reference"]

SPAN, BLACK = 2.0, -1.0
"""Width of the grey range and its lowest value: images span [-1, 1]."""
ROWS = 6
"""Cases in the picture of an evaluation."""


def draw(
    recipe: Any,
    objective: Any,
    cases: Cases,
    asked: Asked,
    samples: int,
    truth: Tensor | None = None,
) -> Drawn:
    """Draws of every case from its source alone; the truth is for their score."""
    told, title = ("source",), "translating"
    made = predictions(recipe, objective, cases, asked, told, title, samples)
    return drawn(made, "target", truth)


@dataclass(frozen=True)
class Eyes:
    """Whoever compares sets of images with held-out targets; nobody where these are of another size than training's, or
    too few were trained on to learn features from.

    Attributes:
        judge: features of both sets; None where there is none.
        why: there is none.
    """

    judge: Judge | None
    why: str = ""

    @classmethod
    def of(cls, train: Cases, held_out: Cases, asked: Asked) -> "Eyes":
        """Features of the targets of cases, all of which have one."""
        known, new = _only_target(train), _only_target(held_out)
        sizes = {cases.batch([0])["target"].shape[1:] for cases in (known, new)}
        if len(sizes) > 1:
            return cls(None, "training and held-out images differ in size")
        if len(known) < FEWEST and asked.weights is None:
            return cls(
                None, f"a feature network needs {FEWEST} training images, there are {len(known)}"
            )
        return cls(judge(known, new, cache=asked.cache, weights=asked.weights))


def distances(eyes: Eyes, images: Tensor, people: Sequence[str]) -> dict[str, Metric]:
    """FID and KID of images, and whose they are, to held-out targets."""
    if eyes.judge is None:
        return _refused(eyes.why, len(images))
    return _between(eyes.judge, extract(eyes.judge.network, images), people)


def reference(eyes: Eyes, n: int) -> dict[str, Metric]:
    """The same of n real training targets in place of translated ones."""
    if eyes.judge is None:
        return _refused(eyes.why, n)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(eyes.judge.train), generator=generator)[:n]
    people = [eyes.judge.train_people[row] for row in rows.tolist()]
    return _between(eyes.judge, eyes.judge.train_features[rows], people)


def _between(judged: Judge, features: Tensor, people: Sequence[str]) -> dict[str, Metric]:
    found = distances_between_sets(
        judged.held_out_features, features, people=(judged.people, people)
    )
    return {name: found[name] for name in ("fid", "kid") if name in found}


def _refused(reason: str, n: int) -> dict[str, Metric]:
    return {name: refused(f"{name}: {reason}", n) for name in ("fid", "kid")}


def _only_target(cases: Cases) -> Cases:
    return replace(cases, columns={"target": cases.columns["target"]})
