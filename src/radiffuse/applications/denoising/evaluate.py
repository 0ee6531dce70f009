"""Evaluation of denoised images: per patient and noise level, beside classical denoisers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.checks import check_one_range
from ...data.dataset import Cases
from ...diffusion.noise import Seeded, derive
from ...errors import UserError
from ...metrics.estimate import Metric, average_per_patient
from ...metrics.fidelity import nmse, psnr, ssim_per_patient
from ...metrics.regions import Regions, activity_bias, cnr, enl, homogeneous_regions
from ...metrics.translation import correlation
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import Drawn, drawn, predictions
from ..supervised import Rival, direct_unet, trained_beside
from ..tuning import Tuned, search
from .baselines import STRENGTHS, BlindSpot, means, tuned_means

SPAN, BLACK = 2.0, -1.0
"""Width of the grey range and its lowest value: images span [-1, 1]."""
FACTORS = (0.5, 1.0, 1.5)
"""Levels of measured noise: clean + factor (noisy - clean)."""
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
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """One trained model at several noise levels, per patient, beside baselines without clean images.

    PSNR and SSIM, CNR and ENL (`metrics.regions`: blocks of the reference), `activity_bias`
    of the homogeneous blocks; for methods of several draws, of their mean, and
    `deviation_correlation` with the error. The noise is the data's own, times `FACTORS`, where there
    are noisy images; else the recipe simulates its levels. "method", "baseline" (non-local means,
    strength tuned on training pairs) and "baselines" (with a blind-spot network, trained as long as the
    run, and the noisy image itself) are at the main level, "levels" holds them all. "tuned" is the
    method with its `strength` chosen on the same training pairs as that of non-local means, by as many
    trials ("tuning_trials").

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
    denoisers, settings = _tuned_on(recipe, objective, train, network, parts, asked.seed)
    regions = [homogeneous_regions(x, 9 if x.ndim < 4 else 5) for x in parts["clean"]]
    main = _main_level(recipe, parts)
    levels: dict[str, Any] = {}
    for level in _levels(recipe, parts, held_out, asked.seed):
        made = denoisers({**parts, "noisy": level.noisy}, held_out, asked)
        levels[level.name] = {
            name: measure(several, parts["clean"], regions, held_out)
            for name, several in made.items()
        }
        if level.name == main and asked.folder_for_pictures is not None:
            path = asked.folder_for_pictures / "denoised.png"
            write_panels(path, level.noisy, made, parts["clean"])
    baselines = dict(levels[main])
    return asked.record(
        recipe,
        train,
        held_out,
        {"level": main, "samples": _samples(recipe), "seed": asked.seed, **settings},
        method=baselines.pop("method"),
        baseline=baselines["non-local means"],
        baselines=baselines,
        reference=_reference(parts["clean"], regions, held_out),
        levels=levels,
    )


def _tuned_on(
    recipe: Any,
    objective: Any,
    train: Cases,
    network: BlindSpot | None,
    parts: Mapping[str, Tensor],
    seed: int,
) -> tuple["Denoisers", dict[str, Any]]:
    """All that is compared, strengths chosen on the same training pairs, and what was chosen."""
    pairs = _tuning_pairs(recipe, train, seed)
    examples = [(y, part["clean"]) for y, part in pairs]
    filtered = tuned_means(examples, recipe.slices_of(parts["clean"]))
    found = _tuned(recipe, objective, pairs, seed)
    matters = len(set(found.errors.values())) > 1
    tuned = replace(recipe, strength=found.weight) if matters else recipe
    settings = {
        "steps": getattr(recipe, "steps", None),
        "strength": recipe.strength,
        "tuned_strength": tuned.strength,
        "strengths_on_training_pairs": {f"{k:g}": error for k, error in found.errors.items()},
        "non_local_means_weight": filtered.weight,
        "tuning_trials": {"tuned": found.trials, "non-local means": filtered.trials},
        "range": [-1.0, 1.0],
    }
    return Denoisers(recipe, tuned, objective, filtered.weight, network), settings


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
        given = (self.objective, parts, cases, asked)
        made = {"method": draw(self.recipe, *given)}
        if self.tuned.strength != self.recipe.strength:
            made["tuned"] = draw(self.tuned, *given)
        y = parts["noisy"]
        made["non-local means"] = Drawn.of_one(means(y, self.weight, self.recipe.slices_of(y)))
        if self.network is not None:
            made["blind-spot network"] = Drawn.of_one(self.network.predict(y))
        made["noisy"] = Drawn.of_one(y)
        return made


def _samples(recipe: Any) -> int:
    return max(1, int(getattr(recipe, "samples", 1)))


def draw(
    recipe: Any, objective: Any, parts: Mapping[str, Tensor], cases: Cases, asked: Asked
) -> Drawn:
    """Draws of every case, told all but the clean image."""
    told = {key: value for key, value in parts.items() if key != "clean"}
    samples, title = _samples(recipe), "denoising"
    made = predictions(recipe, objective, cases, asked, told, title, samples)
    found = drawn(made, "denoised")
    return replace(found, mean=found.mean.float())


def measure(ours: Drawn, clean: Tensor, regions: list[Regions], cases: Cases) -> dict[str, Metric]:
    """Every metric of a set of denoised images."""
    x = ours.mean
    values = {
        "psnr": psnr(x, clean, SPAN),
        "cnr": cnr(x, regions),
        "enl": enl(x, regions),
        "activity_bias": activity_bias(x, clean, regions),
    }
    if bool(ours.std.any()):
        values["deviation_correlation"] = correlation(ours.std, (x - clean).abs())
    found = {
        name: average_per_patient(each.tolist(), cases.patients) for name, each in values.items()
    }
    return {**found, "ssim": ssim_per_patient(x, clean, SPAN, BLACK, cases.patients)}


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
) -> Tuned:
    """The strength of least error on training pairs."""
    device = device_of(objective)

    def error(strength: float) -> float:
        one, total = replace(recipe, strength=strength), 0.0
        for y, part in pairs:
            told = {key: x.to(device) for key, x in {**part, "noisy": y}.items() if key != "clean"}
            made = one.predict(objective, {**told, "seed": torch.tensor([seed])})["denoised"]
            total += float(nmse(made.cpu(), part["clean"]))
        return total / len(pairs)

    return search(error, STRENGTHS)


# --- baselines and pictures ----------------------------------------------------------------------


def _blind_spot(recipe: Any, train: Cases, asked: Asked) -> BlindSpot:
    """The blind-spot network of this run's windows, trained as long as the run."""
    seen = [side for side in recipe.size if side > 1]
    channels = recipe.channels

    def make() -> BlindSpot:
        network = direct_unet(len(seen), channels, channels, seen, squash=False)
        noisy = partial(recipe.noisy_of, noise=None)
        return BlindSpot(network, noisy, recipe.size, recipe.crops)

    rival = Rival(make, train, asked.budget("batch"))
    return trained_beside({"blind_spot": rival}, asked.run)["blind_spot"]


def write_panels(path: Path, noisy: Tensor, made: Mapping[str, Drawn], clean: Tensor) -> None:
    """Rows of noisy, the method, tuned where it differs, baselines, clean; the middle of each."""
    columns = [noisy, *(each.mean for name, each in made.items() if name != "noisy"), clean]
    cut = [_middle(column).clamp(-1, 1) for column in columns]
    rows = spread(len(cut[0]), _SHOWN)
    write_grid(path, [column[row].numpy() for row in rows for column in cut], len(cut))
