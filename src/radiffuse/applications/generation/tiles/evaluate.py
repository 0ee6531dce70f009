"""Evaluation of tiles drawn by their class: as of other images, beside a GAN, and by what they teach a classifier."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from ....data.dataset import Cases
from ....diffusion.noise import derive
from ....metrics.diversity import copy_metrics
from ....metrics.estimate import Metric
from ....metrics.turned import turned_copies
from ....training import processes
from ...evaluation.asked import Asked
from ...evaluation.judge import read_images
from ...supervised import Rival, trained_beside
from ..evaluate import COUNT, evaluate_generation
from ..sampling import drawn_labels, generate, kept_in
from .baselines import gan_of
from .taught import Labelled, taught

__all__ = ["evaluate_tiles"]


def evaluate_tiles(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """What `evaluate_generation` measures, also by class, beside a GAN told the class.

    The GAN has trained as long as the run, in RUN/baseline-gan, and draws the same classes. `taught_*` is what a
    classifier that learned from these tiles alone says of held-out real ones; under "reference" it has learned from
    the real training tiles. `copies_turned` looks for copies that were turned, mirrored or zoomed (`turned_copies`).
    All tiles are in the stain of the recipe.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "label".
        asked: what `evaluate` was asked for; without a cache nothing is trained beside the method.

    Raises:
        UserError: as `evaluate_generation`.
    """
    count = asked.count or min(COUNT, len(train))
    labels = drawn_labels(recipe, train, count, asked.seed)
    assert labels is not None
    samples = generate(recipe, objective, count, labels, asked, kept_in(asked, recipe, train))
    beside, learned = {}, {}
    if asked.cache:
        rival = {"gan": Rival(lambda: gan_of(recipe), train, asked.budget("batch"))}
        gan = trained_beside(rival, asked.run)["gan"]
        seeds = [derive(asked.seed, "gan", k) for k in range(count)]
        beside["gan"] = gan.drawn(seeds, labels, asked.batch)
        sets = {"method": Labelled(samples, labels), "gan": Labelled(beside["gan"], labels)}
        learned = taught({**sets, "reference": train}, held_out, recipe.classes, asked)
    record = evaluate_generation(
        recipe, objective, train, held_out, asked, samples=samples, beside=beside
    )
    if not processes.is_main():
        return {}
    for more in (learned, _turned({"method": samples, **beside}, train, held_out)):
        for name, metrics in more.items():
            (record["baselines"] if name in beside else record)[name] |= metrics
    return record


def _turned(
    sets: Mapping[str, Tensor], train: Cases, held_out: Cases
) -> dict[str, dict[str, Metric]]:
    """`nearest_turned` and `copies_turned` of drawn tiles and, as "reference", of held-out ones."""
    (known, _), (unseen, _) = read_images(train), read_images(held_out)
    found = turned_copies(sets, unseen, known)
    control = next(iter(found.values()))
    of_real = replace(
        control, found=control.control, flagged=control.control.distance < control.threshold
    )
    made = {
        name: copy_metrics(its, tuple(f"sample-{k:05d}" for k in range(len(its.flagged))), "turned")
        for name, its in found.items()
    }
    return {**made, "reference": copy_metrics(of_real, held_out.ids, "turned", held_out.patients)}
