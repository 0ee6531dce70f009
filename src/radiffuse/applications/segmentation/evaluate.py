"""Evaluation of segmentation ensembles: per patient, beside a U-Net and other uses of the draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...diffusion.label_maps import likeliest
from ...diffusion.noise import derive
from ...errors import UserError
from ...metrics.segmentation import BINS, doubt_of
from ...report.pictures import write_grid
from ...training import processes
from ..evaluation.asked import Asked, about, spread
from ..evaluation.progress import progress_bar
from ..supervised import InWindows, direct_unet, trained
from .baselines import Segmenter
from .fusion import frequencies, staple, vote
from .overlaps import Answer, measure

_ROWS = 6


@dataclass(frozen=True)
class Drawn:
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
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
) -> dict[str, Any]:
    """Overlap, border distances, calibration and the worth of the uncertainty map, by patient.

    "method" is what the chains of `recipe.samples` draws expect on average, and the likeliest label of
    it. "baseline" is a U-Net trained as long as the run by Dice and cross-entropy, in
    RUN/baseline-unet. "baselines" holds it and four other uses of the same draws: `mean_of_draws`,
    `vote`, `staple` and `single_draw`, the first alone.

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
    unet = _unet(recipe, train, asked) if asked.cache else None
    if not processes.is_main():
        return {}
    samples = max(1, int(recipe.samples))
    drawn = draw(recipe, objective, held_out, samples, asked.seed, asked.batch)
    answers = answers_of(drawn, recipe.channels)
    if unet is not None:
        answers["unet"] = _answer_of(unet, parts, recipe.given, asked.batch)
    spacings, unit = spacings_of(held_out)
    found = {
        name: measure(each, parts["mask"], held_out.patients, recipe.channels, spacings)
        for name, each in answers.items()
    }
    method = found.pop("method")
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "segmentation.png", parts, drawn, recipe.channels)
    return {
        "method": method,
        "baseline": found.get("unet", {}),
        "baselines": found,
        "task": "segmentation",
        "data": about(train, held_out),
        "command": asked.command,
        "settings": {
            "samples": samples,
            "seed": asked.seed,
            "steps": recipe.steps,
            "labels": recipe.channels,
            "unit": unit,
            "surface_tolerance": "one voxel, along its longest side",
            "bins": BINS,
        },
    }


def check_masks(cases: Cases, parts: dict[str, Tensor], most: int) -> None:
    """Refuse masks that cannot be compared with what the model makes.

    Raises:
        UserError: names the first such case.
    """
    mask, image = parts["mask"], parts["image"]
    if mask.shape[2:] != image.shape[2:]:
        one, other = (" x ".join(map(str, x.shape[2:])) for x in (image, mask))
        raise UserError(f"{cases.source}: image is {one} and mask is {other}; --size resizes both")
    for row, label in enumerate(mask.flatten(1).amax(1).tolist()):
        if label > most:
            raise UserError(
                f"{cases.source}: the mask of case {cases.ids[row]} holds label {label}, and the "
                f"model knows 0 (background) to {most}"
            )


def draw(recipe: Any, objective: Any, cases: Cases, samples: int, seed: int, batch: int) -> Drawn:
    """Draws of every case from its images alone."""
    device = next(objective.players["network"].parameters()).device
    parts = []
    with progress_bar("segmenting", len(cases) * samples) as done:
        for first in range(0, len(cases), batch):
            rows = range(first, min(first + batch, len(cases)))
            every = cases.batch(rows)
            told = {key: every[key].to(device) for key in recipe.given}
            maps, soft, expected = [], [], []
            for k in range(samples):
                seeds = torch.tensor([derive(seed, cases.ids[row], k) for row in rows])
                with torch.no_grad():
                    made = recipe.predict(objective, {**told, "seed": seeds})
                if not bool(torch.isfinite(made["probability"]).all()):
                    raise UserError(f"the prediction of {cases.ids[first]} is not finite")
                maps.append(made["mask"].to("cpu", torch.uint8))
                soft.append(made["probability"].float().cpu())
                expected.append(made["expected"].float().cpu())
                done(first * samples + (k + 1) * len(rows))
            several, mean = torch.stack(soft), torch.stack(expected).mean(0)
            variance = several.var(0, correction=0).sum(1, keepdim=True)
            parts.append((torch.stack(maps), mean, several.mean(0), variance, several[0]))
    every_map, *rest = zip(*parts, strict=True)
    return Drawn(torch.cat(every_map, 1), *(torch.cat(each) for each in rest))


def answers_of(drawn: Drawn, labels: int) -> dict[str, Answer]:
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


def spacings_of(cases: Cases) -> tuple[list[tuple[float, ...]], str]:
    """Distance between voxels of each case, and its unit: mm where all know theirs, else voxels."""
    images = [cases.image(row, "mask") for row in range(len(cases))]
    known = [image.spacing_mm for image in images]
    found = [spacing for spacing in known if spacing is not None]
    if len(found) == len(images):
        return found, "mm"
    return [(1.0,) * len(image.size) for image in images], "voxels"


def _unet(recipe: Any, train: Cases, asked: Asked) -> Segmenter | InWindows:
    options = asked.budget()
    torch.manual_seed(derive(options.seed, "baseline"))
    size, labels = recipe.size, recipe.channels
    network = direct_unet(len(size), recipe.condition_channels, labels + 1, size, squash=False)
    unet: Any = Segmenter(network, recipe.given, labels)
    if recipe.windows is not None:
        unet = InWindows(unet, recipe.windows, "mask")
    trained(unet, train, options, asked.run / "baseline-unet")
    return unet


def _answer_of(
    unet: Segmenter | InWindows, parts: dict[str, Tensor], given: Sequence[str], batch: int
) -> Answer:
    device = next(unet.players["network"].parameters()).device
    made = [
        unet.predict({key: parts[key][rows].to(device) for key in given}).cpu()
        for rows in torch.arange(len(parts["mask"])).split(batch)
    ]
    foreground = torch.cat(made)
    mask = likeliest(foreground)
    return Answer(mask, foreground, doubt_of(foreground), mask[None])


def write_panels(path: Path, parts: dict[str, Tensor], drawn: Drawn, labels: int) -> None:
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
