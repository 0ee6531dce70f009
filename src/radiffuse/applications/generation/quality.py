"""Quality against the number of network evaluations."""

import time
from collections.abc import Sequence
from typing import Any

from ...data.dataset import Cases
from ...metrics.distribution import frechet_metrics
from ...metrics.features import extract
from ...training import processes
from ..evaluation.asked import Asked
from ..evaluation.judge import Judge
from .sampling import drawn_labels, generate


def quality_against_steps(
    settings: Sequence[tuple[str, Any, Any]],
    real: Judge,
    train: Cases,
    *,
    count: int,
    seed: int = 0,
    batch: int = 16,
) -> list[dict[str, Any]]:
    """FID of several samplers and step counts, for the curve in the report and in benchmarks.

    Written as `quality.json` beside metrics.json, the report draws it.

    Args:
        settings: (name, recipe, objective); points of one name make one curve, and a recipe holds
            its `steps` already (`dataclasses.replace(recipe, steps=10)`).
        real: from `judge`.
        train: training cases (for the labels of a conditional method).
        count, seed, batch: as in `evaluate_generation`.

    Returns:
        One {"name", "steps", "evaluations", "seconds_per_image", "fid", "fid_corrected"} a
        setting; "evaluations" are the counted calls of the network for one image.
    """
    points = []
    for name, recipe, objective in settings:
        counter = _Counter()
        hook = objective.players["network"].register_forward_hook(counter)
        labels = drawn_labels(recipe, train, count, seed)
        began = time.perf_counter()
        try:
            images = generate(recipe, objective, count, labels, Asked(seed=seed, batch=batch))
        finally:
            hook.remove()
        seconds = time.perf_counter() - began
        share = len(processes.share(count, processes.rank(), processes.world()))
        points.append(
            {
                "name": name,
                "steps": int(recipe.steps),
                "evaluations": round(counter.images / max(1, share)),
                "seconds_per_image": seconds / count,
                **frechet_metrics(
                    real.held_out_features, extract(real.network, images), people=(real.people, ())
                ),
            }
        )
    return points


class _Counter:
    """A forward hook that counts the images a network has seen."""

    def __init__(self) -> None:
        self.images = 0

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:
        self.images += len(output if not isinstance(output, tuple) else output[0])
