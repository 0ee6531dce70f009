"""Evaluation of what was trained without references: beside wavelets, a network trained likewise, and priors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....acquisition import Acquired
from ....data.dataset import Cases
from ....diffusion.noise import derive
from ....errors import UserError
from ....inverse import Measurement
from ...evaluation.asked import Asked
from ...supervised import Rival, trained_beside
from ..baselines import Baseline, classical
from ..complex_prior import ComplexPrior
from ..evaluate import evaluate_reconstruction
from .splitting import Splitting

__all__ = ["Supervised", "evaluate_without_references"]


def evaluate_without_references(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
    *,
    beside: Mapping[str, tuple[Any, Any]] | None = None,
) -> dict[str, Any]:
    """`evaluate_reconstruction`, with two kinds of baselines more.

    "self_supervised": an unrolled network that was trained on the same scans, as long as the method, without
    references (`Splitting`). The runs of `beside`, by name: priors that were trained on full images, the mean of as
    many draws, of the same measurement: what having no references costs. (The classical methods' weights are chosen
    on full training images, which the method never saw: that much they have before it.)

    Args:
        recipe, objective, train, held_out, asked: as of `evaluate_reconstruction`.
        beside: recipe and objective of other runs.

    Raises:
        UserError: a run beside does not take complex images of this measurement.
    """
    supervised = {
        name: Supervised(name, other, its, recipe, asked.seed)
        for name, (other, its) in (beside or {}).items()
    }
    rivals: dict[str, Baseline] = {}
    if "image" in train.keys:
        rivals |= classical(recipe, train)
    if asked.cache is not None:
        rivals |= trained_beside({"self_supervised": rival(recipe, train, asked)}, asked.run)
    rivals |= supervised
    return evaluate_reconstruction(recipe, objective, train, held_out, asked, baselines=rivals)


def rival(recipe: Any, train: Cases, asked: Asked) -> Rival:
    """The self-supervised unrolled network, on the scans that the method was trained on."""
    scans = recipe.measured(train)
    return Rival(lambda: Splitting.of(recipe.size), scans, replace(asked.budget(), batch=4))


class Supervised:
    """Another run's mean of draws as a baseline.

    Args:
        name: for messages.
        other, objective: the run.
        recipe: the method that it stands beside, which says the measurement and the number of draws.
        seed: of the draws.

    Raises:
        UserError: it is no prior of complex images.
    """

    def __init__(self, name: str, other: Any, objective: Any, recipe: Any, seed: int) -> None:
        if getattr(other, "values", "") != recipe.values or not isinstance(other, ComplexPrior):
            raise UserError(
                f"--beside: {name} is no prior of complex images (bayes-mri is one), which {recipe.paper.id} is "
                "measured beside"
            )
        self.other, self.objective = other, objective
        self.draws, self.seed = recipe.samples, seed

    def __call__(self, measurement: Measurement, like: Tensor) -> Tensor:
        ones = torch.ones(len(like))
        acquired = Acquired(measurement, like, ones, ones, measurement.A.adjoint)
        rows = range(len(like))
        told = []
        for k in range(self.draws):
            seeds = [derive(self.seed, "beside", k, row) for row in rows]
            told.append(self.other.drawn(self.objective, acquired, seeds)[1])
        return torch.stack(told).mean(0)
