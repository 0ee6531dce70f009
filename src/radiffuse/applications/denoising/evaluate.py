"""Evaluation of denoised images: per patient and noise level, beside classical denoisers."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.cases import check_one_range
from ...data.dataset import Cases
from ...diffusion.noise import Seeded, derive
from ...errors import UserError
from ...metrics.estimate import Metric, Sums, average_per_patient
from ...metrics.fidelity import nmse, psnr, ssim
from ...metrics.regions import Regions, activity_bias, cnr, enl, homogeneous_regions
from ...metrics.translation import correlation
from ...report.pictures import write_grid
from ...training import processes
from ..evaluation.asked import Asked, about, spread
from ..evaluation.progress import progress_bar
from ..supervised import direct_unet, trained
from .baselines import BlindSpot, means, tuned_means

SPAN = 2.0
"""Grey range of PSNR and SSIM: images span [-1, 1]."""
FACTORS = (0.5, 1.0, 1.5)
"""Levels of measured noise: clean + factor (noisy - clean)."""
STRENGTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
"""Factors on the estimated noise that are tried on training cases."""
_TUNING = 3
_SHOWN = 4
_SIDE = 192


@dataclass(frozen=True)
class Level:
    """One noise level of the held-out cases.

    Attributes:
        name: "measured x 1", "simulated 20".
        noisy: `(n, C, *S)`.
    """

    name: str
    noisy: Tensor


def evaluate_denoising(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
) -> dict[str, Any]:
    """One trained model at several noise levels, per patient, beside baselines without clean images.

    PSNR and SSIM (range 2), CNR and ENL (`metrics.regions`: blocks of the reference), `activity_bias`
    of the homogeneous blocks; for methods of several draws, of their mean, and
    `deviation_correlation` with the error. The noise is the data's own, times `FACTORS`, where there
    are noisy images; else the recipe simulates its levels. "method", "baseline" (non-local means,
    strength tuned on training pairs) and "baselines" (with a blind-spot network, trained as long as the
    run, and the noisy image itself) are at the main level, "levels" holds them all. "tuned" is the
    method with its `strength` chosen on the same training pairs as that of non-local means.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "clean" and perhaps "noisy".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no clean image to compare with, noisy and clean differ in their range, or
            a prediction is not finite.
    """
    if "clean" not in held_out.keys:
        raise UserError(f"{held_out.source}: no clean image to compare with; --map clean=COLUMN")
    check_one_range(held_out, ("noisy", "clean"))
    held_out = asked.chosen(held_out)
    network = _blind_spot(recipe, train, asked) if asked.cache else None
    if not processes.is_main():
        return {}
    parts = held_out.batch(range(len(held_out)))
    pairs = _tuning_pairs(recipe, train, asked.seed)
    weight = tuned_means(
        [(y, part["clean"]) for y, part in pairs], recipe.slices_of(parts["clean"])
    )
    tuned, strengths = _tuned(recipe, objective, pairs, asked.seed)
    regions = [homogeneous_regions(x, 9 if x.ndim < 4 else 5) for x in parts["clean"]]
    denoisers = Denoisers(recipe, tuned, objective, weight, network)
    levels: dict[str, Any] = {}
    shown: list[Tensor] = []
    main = _main_level(recipe, parts)
    for level in _levels(recipe, parts, held_out, asked.seed):
        made = denoisers({**parts, "noisy": level.noisy}, held_out, asked)
        levels[level.name] = {
            name: measure(several, parts["clean"], regions, held_out)
            for name, several in made.items()
        }
        if level.name == main:
            images = [several.mean for name, several in made.items() if name != "noisy"]
            shown = [level.noisy, *images, parts["clean"]]
    at = dict(levels[main])
    record: dict[str, Any] = {
        "method": at.pop("method"),
        "baseline": at["non-local means"],
        "baselines": at,
        "reference": _reference(parts["clean"], regions, held_out),
        "levels": levels,
    }
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "denoised.png", shown)
    return {
        **record,
        "task": "denoising",
        "data": about(train, held_out),
        "command": asked.command,
        "settings": {
            "level": main,
            "samples": _samples(recipe),
            "seed": asked.seed,
            "steps": getattr(recipe, "steps", None),
            "strength": recipe.strength,
            "tuned_strength": tuned.strength,
            "strengths_on_training_pairs": strengths,
            "non_local_means_weight": weight,
            "range": [-1.0, 1.0],
        },
    }


@dataclass(frozen=True)
class Drawn:
    """The mean of several draws of every case `(n, C, *S)`, and their deviation."""

    mean: Tensor
    std: Tensor


def _alone(x: Tensor) -> Drawn:
    return Drawn(x.clamp(-1, 1), torch.zeros_like(x))


@dataclass(frozen=True)
class Denoisers:
    """All that is compared: a method, the same with its strength tuned, and what has no clean images."""

    recipe: Any
    tuned: Any
    objective: Any
    weight: float
    network: BlindSpot | None

    def __call__(self, parts: Mapping[str, Tensor], cases: Cases, asked: Asked) -> dict[str, Drawn]:
        """What each makes of `parts["noisy"]`, and the noisy images themselves."""
        given = (self.objective, parts, cases, asked.seed, asked.batch)
        made = {"method": draw(self.recipe, *given)}
        if self.tuned.strength != self.recipe.strength:
            made["tuned"] = draw(self.tuned, *given)
        y = parts["noisy"]
        made["non-local means"] = _alone(means(y, self.weight, self.recipe.slices_of(y)))
        if self.network is not None:
            made["blind-spot network"] = _alone(self.network.predict(y))
        made["noisy"] = _alone(y)
        return made


def _samples(recipe: Any) -> int:
    return max(1, int(getattr(recipe, "samples", 1)))


def draw(
    recipe: Any, objective: Any, parts: Mapping[str, Tensor], cases: Cases, seed: int, batch: int
) -> Drawn:
    """Draws of every case; sums only are kept."""
    device = next(objective.players["network"].parameters()).device
    samples, found = _samples(recipe), []
    with progress_bar("denoising", len(cases) * samples) as done:
        for first in range(0, len(cases), batch):
            rows = slice(first, first + batch)
            told = {key: value[rows].to(device) for key, value in parts.items() if key != "clean"}
            sums = Sums()
            for k in range(samples):
                seeds = torch.tensor([derive(seed, case, k) for case in cases.ids[rows]])
                made = recipe.predict(objective, {**told, "seed": seeds})["denoised"]
                if not bool(torch.isfinite(made).all()):
                    raise UserError(f"the prediction of {cases.ids[first]} is not finite")
                sums.add(made.float().cpu())
                done(first * samples + (k + 1) * len(seeds))
            found.append((sums.mean.float(), sums.std()))
    return Drawn(*(torch.cat(each) for each in zip(*found, strict=True)))


def measure(drawn: Drawn, clean: Tensor, regions: list[Regions], cases: Cases) -> dict[str, Metric]:
    """Every metric of a set of denoised images."""
    x = drawn.mean
    values = {
        "psnr": psnr(x, clean, SPAN),
        "ssim": ssim(x, clean, SPAN),
        "cnr": cnr(x, regions),
        "enl": enl(x, regions),
        "activity_bias": activity_bias(x, clean, regions),
    }
    if bool(drawn.std.any()):
        values["deviation_correlation"] = correlation(drawn.std, (x - clean).abs())
    return {
        name: average_per_patient(each.tolist(), cases.patients) for name, each in values.items()
    }


def _reference(clean: Tensor, regions: list[Regions], cases: Cases) -> dict[str, Metric]:
    """CNR and ENL of the reference itself."""
    values: dict[str, Callable[[Tensor, list[Regions]], Tensor]] = {"cnr": cnr, "enl": enl}
    return {
        name: average_per_patient(of(clean, regions).tolist(), cases.patients)
        for name, of in values.items()
    }


# --- levels and tuning ---------------------------------------------------------------------------


def _main_level(recipe: Any, parts: Mapping[str, Tensor]) -> str:
    if "noisy" in parts:
        return "measured x 1"
    return f"simulated {recipe.simulated_level:g}"


def _levels(recipe: Any, parts: Mapping[str, Tensor], cases: Cases, seed: int) -> list[Level]:
    """The data's own noise at several strengths, or what the recipe simulates."""
    clean = parts["clean"]
    if "noisy" in parts:
        gap = parts["noisy"] - clean
        return [Level(f"measured x {factor:g}", clean + factor * gap) for factor in FACTORS]
    values = sorted({*recipe.simulated, recipe.simulated_level})
    found = []
    for value in values:
        noise = Seeded(derive(seed, "noise", case) for case in cases.ids)
        found.append(Level(f"simulated {value:g}", recipe.corrupted(clean, value, noise)))
    return found


def _tuning_pairs(recipe: Any, train: Cases, seed: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Noisy images, and the batch they belong to: the middle windows of a few training cases."""
    few = train.take(spread(len(train), _TUNING))
    pairs = []
    for row, case in enumerate(few.ids):
        part = {key: _middle(x) for key, x in few.batch([row]).items() if x.ndim > 2}
        noise = Seeded([derive(seed, "noise", case)])
        pairs.append((recipe.noisy_of(part, noise), part))
    return pairs


def _middle(x: Tensor) -> Tensor:
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        length = min(side, _SIDE if x.ndim < 5 else _SIDE // 3)
        x = x.narrow(axis, (side - length) // 2, length)
    return x


def _tuned(
    recipe: Any, objective: Any, pairs: list[tuple[Tensor, dict[str, Tensor]]], seed: int
) -> tuple[Any, dict[str, float]]:
    """The recipe with the strength of least error on training pairs, and the error of each."""
    device = next(objective.players["network"].parameters()).device
    errors = {}
    for strength in STRENGTHS:
        one = dataclasses.replace(recipe, strength=strength)
        total = 0.0
        for y, part in pairs:
            told = {key: x.to(device) for key, x in {**part, "noisy": y}.items() if key != "clean"}
            made = one.predict(objective, {**told, "seed": torch.tensor([seed])})["denoised"]
            total += float(nmse(made.cpu(), part["clean"]))
        errors[f"{strength:g}"] = total / len(pairs)
    if len(set(errors.values())) == 1:
        return recipe, errors
    best = min(errors, key=lambda name: errors[name])
    return dataclasses.replace(recipe, strength=float(best)), errors


# --- baselines and pictures ----------------------------------------------------------------------


def _blind_spot(recipe: Any, train: Cases, asked: Asked) -> BlindSpot:
    """The blind-spot network of this run's windows, trained as long as the run in `folder`."""
    options = asked.budget()
    seen = [side for side in recipe.size if side > 1]
    channels = recipe.channels
    torch.manual_seed(derive(options.seed, "baseline"))
    network = direct_unet(len(seen), channels, channels, seen, squash=False)
    spot = BlindSpot(network, lambda batch: recipe.noisy_of(batch, None), recipe.size, recipe.crops)
    return trained(spot, train, options, asked.run / "baseline-blind-spot")


def write_panels(path: Path, columns: list[Tensor]) -> None:
    """Rows of noisy, the method, tuned where it differs, baselines, clean; the middle of each."""
    cut = [_middle(column).clamp(-1, 1) for column in columns]
    rows = spread(len(cut[0]), _SHOWN)
    write_grid(path, [column[row].numpy() for row in rows for column in cut], len(cut))
