"""Evaluation of a segmenter of made pairs, on real held-out cases; and of what it was made to learn from."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....diffusion.noise import derive
from ....errors import UserError
from ....report.pictures import write_grid
from ....training import processes
from ....training.objective import device_of
from ...evaluation.asked import Asked, spread
from ...evaluation.drawing import in_batches
from ...evaluation.spacing import spacings_of
from ...supervised import trained_beside
from ..baselines import answer_of
from ..evaluate import check_masks
from ..overlaps import measure
from .baselines import rivals_of
from .looked import COUNT, disentangled, obeyed
from .painting import STYLE
from .pairs import Pairs, kept, made
from .stages import SEGMENTER, Stages

__all__ = ["evaluate_synthetic"]

_ROWS, _STYLES = 6, 4


def evaluate_synthetic(
    recipe: Any, objective: Stages, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Overlap, border distances and calibration by patient, and whether made maps and images do as they are told.

    "baselines" are the same network trained as long on real pairs (`real_only`, which is "baseline"), on both, and on
    made images with each other's labels, in RUN/baseline-NAME. "made" is what `looked` finds.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "image" and "mask".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no mask to compare with, or one of another size or with a label the model does not know.
    """
    if "mask" not in held_out.keys:
        raise UserError(f"{held_out.source}: no mask to compare with; --map mask=COLUMN")
    held_out = asked.chosen(held_out)
    parts = held_out.batch(range(len(held_out)))
    check_masks(held_out, parts, recipe.labels)
    pairs = _pairs(recipe, objective, asked)
    segmenters: dict[str, Any] = {"method": objective.segmenter}
    if asked.cache:
        segmenters |= trained_beside(rivals_of(recipe, train, pairs, asked), asked.run)
    if not processes.is_main():
        return {}
    images = {key: parts[key] for key in recipe.given}
    spacings, unit = spacings_of(held_out)
    answers = {
        name: answer_of(in_batches(each.predict, images, asked.batch, device_of(each)))
        for name, each in segmenters.items()
    }
    found = {
        name: measure(each, parts["mask"], held_out.patients, recipe.labels, spacings)
        for name, each in answers.items()
    }
    if asked.folder_for_pictures is not None:
        masks = [parts["mask"], *(each.mask for each in answers.values())]
        _panels(asked.folder_for_pictures / "segmenters.png", images, masks, recipe.labels)
        _pairs_drawn(asked.folder_for_pictures / "pairs.png", recipe, objective, asked.seed)
        _styles_drawn(asked.folder_for_pictures / "styles.png", recipe, objective, held_out)
    method = found.pop("method")
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "seed": asked.seed,
            "steps": recipe.steps,
            "labels": recipe.labels,
            "unit": unit,
            "surface_tolerance": "one voxel, along its longest side",
            "pairs": len(pairs),
            "looked_at": COUNT,
            "baseline": "real_only" if "real_only" in found else "",
        },
        method=method,
        baseline=found.get("real_only", {}),
        baselines=found,
        made={
            **obeyed(recipe, objective, train, asked.seed, asked.batch),
            **disentangled(recipe, objective.painting, held_out, asked.batch),
        },
    )


def _pairs(recipe: Any, objective: Stages, asked: Asked) -> Pairs:
    """Those that the segmenter learned from; drawn anew where there is no run."""

    def drawn() -> Pairs:
        return made(partial(recipe.drawn, objective), recipe.pairs, asked.seed, recipe.discard)

    if not asked.cache:
        return drawn()
    return kept(asked.run / SEGMENTER / "pairs.safetensors", drawn)


def _grey(mask: Tensor, most: int) -> Tensor:
    return mask.float() * 2 / max(most, 1) - 1


def _panels(path: Path, images: dict[str, Tensor], masks: list[Tensor], labels: int) -> None:
    """Rows of the images | true mask | the method's | each baseline's."""
    rows = _telling(masks[0])
    columns = [*(image[:, :1] for image in images.values()), *(_grey(m, labels) for m in masks)]
    write_grid(path, [column[row].numpy() for row in rows for column in columns], len(columns))


def _telling(mask: Tensor) -> list[int]:
    """Cases with labels, evenly spaced, or any where there are none."""
    there = (mask > 0).flatten(1).any(1).nonzero()[:, 0].tolist() or list(range(len(mask)))
    return [there[k] for k in spread(len(there), _ROWS)]


def _pairs_drawn(path: Path, recipe: Any, objective: Stages, seed: int) -> None:
    """Rows of one seed: with flags off, map and images, and the same with flags on."""
    seeds = torch.tensor([derive(seed, "picture", k) for k in range(_ROWS)])
    columns: list[Tensor] = []
    for flag in (0.0, 1.0):
        values = recipe.values(seeds)
        values[:, : recipe.labels] = flag
        asked = {"seed": seeds, "covariates": values}
        what = recipe.maps.hard(recipe.drawn_maps(objective, asked)).argmax(1, keepdim=True)
        drawn = recipe.drawn(objective, asked)
        columns += [_grey(what.cpu(), recipe.maps.channels - 1)]
        columns += [drawn[key][:, :1].cpu() for key in recipe.given]
    write_grid(path, [column[k].numpy() for k in range(_ROWS) for column in columns], len(columns))


@torch.no_grad()
def _styles_drawn(path: Path, recipe: Any, objective: Stages, held_out: Cases) -> None:
    """For each modality: above, images that give styles; below, two maps painted in each of them."""
    cases = held_out.batch(spread(len(held_out), _STYLES + 2))
    maps, painting = recipe.maps.of(cases)[-2:], objective.painting
    device = device_of(painting)
    tiles: list[Tensor] = []
    for key in recipe.given:
        shown = cases[key][:-2]
        what = _grey(recipe.maps.hard(maps).argmax(1, keepdim=True), recipe.maps.channels - 1)
        tiles += [torch.full_like(shown[0, :1], -1.0), *shown[:, :1]]
        style = painting.players[STYLE](shown.to(device))[0]
        for one, grey in zip(maps, what, strict=True):
            told = one[None].expand(len(style), *one.shape).to(device)
            tiles += [grey, *painting.painted(told, style)[:, :1].cpu()]
    write_grid(path, [tile.numpy() for tile in tiles], min(_STYLES, len(cases["mask"]) - 2) + 1)
