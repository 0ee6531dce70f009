"""Whether generated images follow the numbers that they were told."""

from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...metrics.estimate import Metric, correlation, refused
from ...metrics.readout import Readout
from ..evaluation.judge import Judge

__all__ = ["follows"]

FEWEST = 40
"""Training images from which numbers can be read off others."""


def follows(
    recipe: Any, real: Judge, train: Cases, held_out: Cases, samples: Tensor, seed: int
) -> tuple[dict[str, Metric], dict[str, Metric]]:
    """Correlation of each covariate told with the same read off the image, and of the true ones of held-out images.

    Both "told_NAME". The second is the sharpness of the reading, and the most that the first can reach. Nothing for a
    recipe that is told nothing.

    Args:
        recipe: has `names` and `values(seeds)` where it takes covariates.
        real: training and held-out images, in the order of the cases.
        train, held_out: their cases.
        samples: (n, C, *S), sample k of seed derive(seed, k).
        seed: of the evaluation.
    """
    names = tuple(getattr(recipe, "names", ()))
    if not names or len(train) < FEWEST:
        return {}, {}
    asked = recipe.values(torch.tensor([derive(seed, k) for k in range(len(samples))]))
    truth, unseen = (cases.batch(range(len(cases))) for cases in (train, held_out))
    made, true = {}, {}
    for place, name in enumerate(names):
        read = Readout(real.train, truth[name])
        made[f"told_{name}"] = correlation(asked[:, place], read(samples))
        known = name in unseen
        lacking = refused(f"the held-out data have no {name}", 0)
        true[f"told_{name}"] = correlation(unseen[name], read(real.held_out)) if known else lacking
    return made, true
