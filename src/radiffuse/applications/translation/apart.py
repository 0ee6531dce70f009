"""Translation measured where sources and targets are of different cases: as sets, and by going there and back."""

from typing import Any

import numpy as np
import torch
from skimage.exposure import match_histograms
from torch import Tensor

from ...data.dataset import Cases
from ...data.unpaired import with_all
from ...errors import UserError
from ...metrics.estimate import Metric, average_per_patient
from ...metrics.fidelity import psnr
from ...report.pictures import write_grid
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import Drawn, predicted
from .shared import ROWS, SPAN, Eyes, distances, draw, reference

__all__ = ["evaluate_apart", "unlearned"]

MOST_TARGETS = 64
"""Training targets whose grey values a histogram is taken of."""


def unlearned(train: Cases, source: Tensor) -> dict[str, Drawn]:
    """Answers that need no training: the source as it is, and with the grey values of the training targets.

    The latter matches the histogram of each source to that of all targets together (Gonzalez and Woods, histogram
    specification). Neither is there where source and target differ in channels.

    Args:
        train: cases that have a target.
        source: (n, C, *S) in [-1, 1].
    """
    targets = train.batch(spread(len(train), MOST_TARGETS))["target"]
    if targets.shape[1] != source.shape[1]:
        return {}
    pool = torch.cat(list(targets), dim=1).numpy()
    matched = [match_histograms(image, pool, channel_axis=0) for image in source.numpy()]
    return {
        "unchanged": Drawn.of_one(source),
        "histogram": Drawn.of_one(torch.from_numpy(np.stack(matched)).float()),
    }


def evaluate_apart(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Held-out sources translated, beside held-out targets of other cases.

    "method": FID and KID of one draw of each source to the targets, and `psnr_cycle` (dB, per patient) of the source
    that is made of it again. "baselines": the source unchanged, and with its histogram matched. How true a single
    answer is to its case nothing here can tell: that needs pairs.

    Raises:
        UserError: no held-out case has a source, or none a target.
    """
    sources, targets = with_all(held_out, ("source",)), with_all(held_out, ("target",))
    for key, cases in (("source", sources), ("target", targets)):
        if not len(cases):
            raise UserError(
                f"{held_out.source}: no held-out case has a {key}; name others with --data"
            )
    sources, known = asked.chosen(sources), with_all(train, ("target",))
    eyes = Eyes.of(known, targets, asked)
    ours = draw(recipe, objective, sources, asked, 1)
    source = sources.batch(range(len(sources)))["source"]
    told = {"target": ours.first}
    back = predicted(recipe, objective, sources, asked, told, "translating back")["source"]
    cycle = average_per_patient(psnr(back.float(), source, SPAN).tolist(), sources.patients)
    simple = unlearned(known, source)
    baselines = {name: _as_sets(each, sources, eyes) for name, each in simple.items()}
    found: dict[str, Any] = {
        "method": {**_as_sets(ours, sources, eyes), "psnr_cycle": cycle},
        "baseline": baselines.get("histogram", {}),
        "baselines": baselines,
        "reference": reference(eyes, len(targets)),
        "unpaired": {"sources": len(sources), "targets": len(targets)},
    }
    if eyes.judge:
        found["features"] = eyes.judge.named
    if asked.folder_for_pictures is not None:
        rows = spread(len(source), ROWS)
        columns = [source, ours.first.float(), back.float().clamp(-1, 1)]
        pictures = [column[row].numpy() for row in rows for column in columns]
        write_grid(asked.folder_for_pictures / "translation.png", pictures, 3)
    settings = {"samples": 1, "seed": asked.seed, "range": [-1.0, 1.0]}
    return asked.record(recipe, train, held_out, settings, **found)


def _as_sets(ours: Drawn, cases: Cases, eyes: Eyes) -> dict[str, Metric]:
    return distances(eyes, ours.first, cases.patients)
