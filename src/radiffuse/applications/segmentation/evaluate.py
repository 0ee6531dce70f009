"""Evaluation of segmentation ensembles: per patient, beside U-Nets and other uses of the draws."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...diffusion.label_maps import likeliest
from ...errors import UserError
from ...metrics.classification import BINS
from ...metrics.segmentation import doubt_of
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import in_batches, predictions
from ..evaluation.spacing import spacings_of
from ..sizes import check_mask
from ..supervised import trained_beside
from .baselines import Ensemble, answer_of, rivals_of, set_aside
from .fusion import frequencies, staple, vote
from .overlaps import Answer, measure

_ROWS = 6


@dataclass(frozen=True)
class Draws:
    """Draws of every case.

    Attributes:
        maps: label maps (K, n, 1, *S), uint8.
        expected: foreground probabilities (n, L, *S), the mean of what the draws' chains expect.
        mean: of the draws' own foreground probabilities (n, L, *S).
        variance: over the draws of these, summed over labels, (n, 1, *S); 0 for one draw.
        single: foreground probabilities of the first draw.
    """

    maps: Tensor
    expected: Tensor
    mean: Tensor
    variance: Tensor
    single: Tensor


def evaluate_segmentation(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Overlap, border distances, calibration and the worth of the uncertainty map, by patient.

    "method" is what the chains of `recipe.samples` draws expect on average, and the likeliest label of
    it. "baselines" holds `unet`, trained as long as the run by Dice and cross-entropy, in RUN/baseline-unet;
    `unet_ensemble`, whose members are together trained as long and whose temperature is fitted to cases
    that are not measured ("unet_ensemble" of the settings); and four other uses of the same draws:
    `mean_of_draws`, `vote`, `staple` and `single_draw`, the first alone. "baseline" is that of the two networks
    with the higher Dice.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "image" and "mask".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no mask to compare with, one of another size or with a label the model
            does not know, or a prediction is not finite.
    """
    if "mask" not in held_out.keys:
        raise UserError(f"{held_out.source}: no mask to compare with; --map mask=COLUMN")
    held_out = asked.chosen(held_out)
    parts = held_out.batch(range(len(held_out)))
    check_masks(held_out, parts, recipe.channels)
    aside = set_aside(train, asked.validation, held_out.patients)
    if aside.fitted is not None:
        check_masks(aside.fitted, aside.fitted.batch(range(len(aside.fitted))), recipe.channels)
    trained: dict[str, Any] = {}
    if asked.cache:
        trained = trained_beside(rivals_of(recipe, train, aside, asked), asked.run)
    if not processes.is_main():
        return {}
    samples = max(1, int(recipe.samples))
    drawn = draw(recipe, objective, held_out, asked, samples)
    answers = answers_of(drawn, recipe.channels)
    ensemble = None
    if trained:
        unet = trained.pop("unet")
        images = {key: parts[key] for key in recipe.given}
        answers["unet"] = answer_of(in_batches(unet.predict, images, asked.batch, device_of(unet)))
        ensemble = Ensemble([*trained.values()], recipe.given, asked.batch, aside)
        answers["unet_ensemble"] = ensemble.answer(parts)
    spacings, unit = spacings_of(held_out)
    found = {
        name: measure(each, parts["mask"], held_out.patients, recipe.channels, spacings)
        for name, each in answers.items()
    }
    method = found.pop("method")
    networks = [name for name in ("unet_ensemble", "unet") if name in found]
    best = max(networks, key=lambda name: found[name]["dice"].get("mean", -1.0), default="")
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "segmentation.png", parts, drawn, recipe.channels)
    return asked.record(
        recipe,
        train,
        held_out,
        {
            "samples": samples,
            "seed": asked.seed,
            "steps": recipe.steps,
            "labels": recipe.channels,
            "unit": unit,
            "surface_tolerance": "one voxel, along its longest side",
            "bins": BINS,
            "baseline": best,
            "unet_ensemble": None if ensemble is None else ensemble.said,
        },
        method=method,
        baseline=found.get(best, {}),
        baselines=found,
    )


def check_masks(cases: Cases, parts: dict[str, Tensor], most: int) -> None:
    """Refuse masks that cannot be compared with what the model makes.

    Raises:
        UserError: names the first such case.
    """
    check_mask(cases)
    for row, label in enumerate(parts["mask"].flatten(1).amax(1).tolist()):
        if label > most:
            raise UserError(
                f"{cases.source}: the mask of case {cases.ids[row]} holds label {label}, and the "
                f"model knows 0 (background) to {most}"
            )


def draw(recipe: Any, objective: Any, cases: Cases, asked: Asked, samples: int) -> Draws:
    """Draws of every case from its images alone."""
    told, title = tuple(recipe.given), "segmenting"
    parts = []
    for _, several in predictions(recipe, objective, cases, asked, told, title, samples):
        every = list(several)
        maps = torch.stack([made["mask"].to(torch.uint8) for made in every])
        soft = torch.stack([made["probability"].float() for made in every])
        expected = torch.stack([made["expected"].float() for made in every]).mean(0)
        variance = soft.var(0, correction=0).sum(1, keepdim=True)
        parts.append((maps, expected, soft.mean(0), variance, soft[0]))
    every_map, *rest = zip(*parts, strict=True)
    return Draws(torch.cat(every_map, 1), *(torch.cat(each) for each in rest))


def answers_of(drawn: Draws, labels: int) -> dict[str, Answer]:
    """The uses of the same draws: "method" (what they expect), their mean, vote, STAPLE, one alone."""
    maps = drawn.maps
    first = likeliest(drawn.single)
    fused, voted = staple(maps.long()), frequencies(maps, labels)
    return {
        "method": Answer(likeliest(drawn.expected), drawn.expected, doubt_of(drawn.expected), maps),
        "mean_of_draws": Answer(likeliest(drawn.mean), drawn.mean, drawn.variance, maps),
        "vote": Answer(vote(maps, labels), voted, doubt_of(voted), maps),
        "staple": Answer(fused, None, None, fused[None]),
        "single_draw": Answer(first, drawn.single, doubt_of(drawn.single), maps[:1]),
    }


def write_panels(path: Path, parts: dict[str, Tensor], drawn: Draws, labels: int) -> None:
    """Rows of image | true mask | two draws | mean's mask | deviation, black 0 to white 0.5."""
    rows = spread(len(drawn.mean), _ROWS)
    axes = parts["image"].dim() - 2

    def shown(mask: Tensor) -> Tensor:
        return mask.float() * 2 / labels - 1

    image = parts["image"] if parts["image"].shape[1] == 3 else parts["image"][:, :1]
    columns = [
        image,
        shown(parts["mask"]),
        shown(drawn.maps[0]),
        shown(drawn.maps[-1]),
        shown(likeliest(drawn.expected)),
        (4 * drawn.variance.sqrt() - 1).clamp(-1, 1),
    ]
    columns = [column.expand(-1, image.shape[1], *[-1] * axes) for column in columns]
    write_grid(path, [column[row].numpy() for row in rows for column in columns], len(columns))
