"""Evaluation of shapes from pictures: per patient, beside the mean shape, columns and a regression U-Net."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....data.dataset import Cases
from ....errors import UserError
from ....report.pictures import write_grid
from ....training import processes
from ....training.objective import device_of
from ...evaluation.asked import Asked, spread
from ...evaluation.drawing import in_batches, predictions
from ...evaluation.spacing import spacings_of
from ...supervised import trained_beside
from .balancing import balanced
from .baselines import Columns, MeanShape, rivals_of
from .measures import measure
from .pictures import depth_first, thickness

_ROWS = 6


def evaluate_shapes(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Overlap, morphology, silhouette, and whether draws spread as far as they are wrong.

    "method" is `recipe.samples` shapes a case, each measured alone (see `measures.measure`). "baselines" are
    `mean_of_draws`, what most of them hold; `mean_shape`; `columns`, where pictures are made of volumes; and `unet`,
    trained as long as the run, in RUN/baseline-unet, which is "baseline". Where the data have labels, `macro_f1` of a
    classifier of shapes is given with drawn ones of its smallest class ("method"), without (`real_alone`), and
    with its real ones repeated (`real_repeated`).

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "mask".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: a true shape is empty, or a prediction is not finite.
    """
    held_out = asked.chosen(held_out)
    truth = _truth(held_out)
    trained = {}
    if asked.cache:
        trained = trained_beside(rivals_of(recipe, train, asked.budget("batch")), asked.run)
    if not processes.is_main():
        return {}
    told = _told(recipe, held_out)
    draws = _draws(recipe, objective, held_out, asked, told)
    parts = {
        key: value for key, value in held_out.batch(range(len(held_out))).items() if key in told
    }
    answers = {"method": draws, "mean_of_draws": (draws.float().mean(0) >= 0.5)[None]}
    made: dict[str, Callable[[Any], Tensor]] = {"mean_shape": MeanShape(recipe, train)}
    if recipe.told == "thickness" and "mask" in told:
        made["columns"] = Columns(recipe, train)
    for name, make in (made | trained).items():
        device = device_of(trained[name]) if name in trained else torch.device("cpu")
        answers[name] = in_batches(make, parts, asked.batch, device)[None]
    spacings, unit = spacings_of(held_out)
    found = {
        name: measure(each, truth, held_out.patients, spacings, recipe.axis)
        for name, each in answers.items()
    }
    of_classes = balanced(recipe, objective, train, held_out, asked, told)
    if of_classes is not None:
        found["method"] |= of_classes.drawn
        found |= {"real_alone": of_classes.alone, "real_repeated": of_classes.repeated}
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "shapes.png", truth, answers, recipe.axis)
    method = found.pop("method")
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "samples": len(draws),
            "seed": asked.seed,
            "steps": recipe.steps,
            "unit": unit,
            "baseline": "unet" if trained else "mean_shape",
            "balanced": None if of_classes is None else of_classes.said,
        },
        method=method,
        baseline=found["unet" if trained else "mean_shape"],
        baselines=found,
    )


def _truth(cases: Cases) -> Tensor:
    """The true shapes, bool (n, 1, *S).

    Raises:
        UserError: one is empty.
    """
    truth = cases.batch(range(len(cases)))["mask"] > 0
    for row, inside in enumerate(truth.flatten(1).any(1).tolist()):
        if not inside:
            raise UserError(
                f"{cases.source}: the mask of case {cases.ids[row]} is empty: there is no shape to measure; "
                "leave the case out"
            )
    return truth


def _told(recipe: Any, cases: Cases) -> tuple[str, ...]:
    """Keys that the recipe is told."""
    if recipe.told == "thickness":
        return ("mask",)
    return tuple(key for key in recipe.task.pictures if key in cases.keys)


def _draws(
    recipe: Any, objective: Any, cases: Cases, asked: Asked, told: tuple[str, ...]
) -> Tensor:
    """Bool (K, n, 1, *S)."""
    samples = max(1, int(recipe.samples))
    parts = [
        torch.stack([made["mask"] > 0 for made in several])
        for _, several in predictions(recipe, objective, cases, asked, told, "drawing", samples)
    ]
    return torch.cat(parts, 1)


def write_panels(path: Path, truth: Tensor, answers: dict[str, Tensor], axis: int) -> None:
    """Rows of the thickness that is seen, then three planes through its middle of the truth, two draws and others."""
    columns = [truth, *answers["method"][:2], *(answers[k][0] for k in answers if k != "method")]
    tiles = []
    for row in spread(len(truth), _ROWS):
        shape = truth[row, 0]
        middle = shape.nonzero().double().mean(0).round().long().tolist()
        seen = thickness(depth_first(truth[row : row + 1], axis))[0]
        tiles.append(_square(seen / seen.max(), max(shape.shape)))
        for column in columns:
            for plane, place in enumerate(middle):
                cut = column[row].select(1 + plane, place).float()
                tiles.append(_square(cut, max(shape.shape)))
    write_grid(
        path, [(2 * tile - 1).numpy() for tile in tiles], 1 + len(columns) * truth[0, 0].ndim
    )


def _square(picture: Tensor, side: int) -> Tensor:
    """A picture (1, H, W) in the corner of a square one."""
    return F.pad(picture, (0, side - picture.shape[2], 0, side - picture.shape[1]))
