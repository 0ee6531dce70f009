"""Evaluation of vessels found without labels, beside filters and a U-Net that has labels."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....errors import UserError
from ....metrics.estimate import Metric, average_per_patient, refused
from ....metrics.vessels import centreline_dice, found, ranked
from ....report.pictures import write_grid
from ....training import processes
from ....training.objective import device_of
from ...evaluation.asked import Asked, spread
from ...evaluation.drawing import in_batches, predicted
from ...sizes import check_mask
from ...supervised import trained_beside
from .baselines import FILTERS, rivals_of, scores, threshold_of
from .field import field_of
from .objective import Vessels

__all__ = ["evaluate_vessels"]

_ROWS = 4
_METRICS = ("dice", "auc", "cldice", "sensitivity", "precision")


def evaluate_vessels(
    recipe: Any, objective: Vessels, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Metrics per patient, inside the field of view ("fov_mask", or the bright part of a picture).

    "baselines" are two filters, whose thresholds are set by labels of training cases, which the method has not, and
    `unet`, which learns from all of these ("baseline": the ceiling). Without labels in the training data there is none
    of them.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "image" and "mask".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no mask to compare with, one of another size, or a picture without a field of view.
    """
    if "mask" not in held_out.keys:
        raise UserError(f"{held_out.source}: no mask to compare with; --map mask=COLUMN")
    held_out = asked.chosen(held_out)
    check_mask(held_out)
    parts = held_out.batch(range(len(held_out)))
    inside, labelled = field_of(parts), "mask" in train.keys
    trained: dict[str, Any] = {}
    if asked.cache and labelled:
        trained = trained_beside(rivals_of(recipe, train, asked), asked.run)
    if not processes.is_main():
        return {}
    told = tuple(key for key in ("image", "fov_mask") if key in parts)
    probability = predicted(recipe, objective, held_out, asked, told, "segmenting")["probability"]
    answers = {"method": (probability, 0.5)}
    if labelled:
        for name in FILTERS:
            answers[name] = (scores(name, recipe, parts), threshold_of(name, recipe, train))
    for name, each in trained.items():
        images = {"image": parts["image"]}
        answers[name] = (in_batches(each.predict, images, asked.batch, device_of(each)), 0.5)
    truth = parts["mask"] > 0
    measured = {
        name: _measured(score, level, truth, inside, held_out.patients)
        for name, (score, level) in answers.items()
    }
    if asked.folder_for_pictures is not None:
        _panels(asked.folder_for_pictures / "vessels.png", parts, probability)
        _painted(asked.folder_for_pictures / "painted.png", recipe, objective, train)
    method = measured.pop("method")
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "seed": asked.seed,
            "field_of_view": "fov_mask" if "fov_mask" in parts else "found by brightness",
            "thresholds": {name: level for name, (_, level) in answers.items()},
            "thresholds_of_filters": "highest Dice on labelled training cases",
            "backgrounds": "given" if "background" in train.keys else "made by morphology",
            "baseline": "unet" if "unet" in measured else "",
        },
        method=method,
        baseline=measured.get("unet", {}),
        baselines=measured,
    )


def _measured(
    score: Tensor, level: float, truth: Tensor, inside: Tensor, patients: Sequence[str]
) -> dict[str, Metric]:
    """`_METRICS` of scores that say vessel above `level`."""
    rows: list[dict[str, float]] = []
    for one, wanted, field in zip(score[:, 0], truth[:, 0], inside[:, 0], strict=True):
        mask = one > level
        rows.append(
            {
                **found(mask, wanted, field),
                "auc": ranked(one, wanted, field),
                "cldice": centreline_dice(mask, wanted, field),
            }
        )
    return {name: _mean([row[name] for row in rows], patients) for name in _METRICS}


def _mean(values: Sequence[float], patients: Sequence[str]) -> Metric:
    known = [(v, p) for v, p in zip(values, patients, strict=True) if math.isfinite(v)]
    if not known:
        return refused("no vessel in any picture, or no other voxel", 0)
    return average_per_patient([v for v, _ in known], [p for _, p in known])


def _panels(path: Path, parts: dict[str, Tensor], probability: Tensor) -> None:
    """Rows of picture | probability | answer | truth."""
    image = parts["image"] if parts["image"].shape[1] == 3 else parts["image"][:, :1]
    columns = [
        image,
        *(2 * each.float() - 1 for each in (probability, probability > 0.5, parts["mask"] > 0)),
    ]
    _write(path, [each.expand(-1, image.shape[1], *each.shape[2:]) for each in columns])


@torch.no_grad()
def _painted(path: Path, recipe: Any, objective: Vessels, train: Cases) -> None:
    """Rows of vessels | none | drawn mask | painted | segmented again, of windows of training cases."""
    torch.manual_seed(0)
    batch = train.batch(spread(len(train), _ROWS))
    keys = [key for key in ("image", "background", "fov_mask") if key in batch]
    shown, empty, drawn = recipe.triples()({key: batch[key] for key in keys})
    device, first = device_of(objective), torch.tensor(1 / recipe.timesteps)
    painted, _ = objective.painted(empty.to(device), first, drawn.to(device))
    back = objective.segmented(painted, first)
    _write(path, [shown, empty, 2 * drawn - 1, painted.cpu(), back.cpu()])


def _write(path: Path, columns: list[Tensor]) -> None:
    rows = spread(len(columns[0]), _ROWS)
    write_grid(path, [column[row].numpy() for row in rows for column in columns], len(columns))
