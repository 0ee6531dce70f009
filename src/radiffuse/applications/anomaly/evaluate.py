"""Evaluation of anomaly detection: whole images, voxels, and what is left alone, beside baselines."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases, check_labels
from ...diffusion.noise import derive
from ...errors import UserError
from ...metrics.detection import fitted_threshold, levels, otsu, p_values, ranking
from ...metrics.estimate import Metric, average_per_patient, proportion, refused
from ...metrics.overlap import dice
from ...report.pictures import write_grid
from ...training import processes
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import predicted
from ..evaluation.progress import progress_bar
from ..supervised import trained_beside
from .baselines import Found, answers_of, fitted_baselines
from .rivals import Sound, plain_ddpm, rivals_of, sound_cases
from .task import contradicted, is_healthy

MOST_VALUES = 1_000_000
"""Of maps, whose brightest are shown white; torch sorts no more than 16 million."""

IMAGE_RATE, VOXEL_RATE = 0.05, 0.005
"""False-positive rates at which thresholds are fitted to healthy held-out cases."""
SHOWN = 8
REFERENCE = 512
"""Healthy images at most whose mean is where integrated gradients begin."""


@dataclass(frozen=True)
class Truth:
    """What is known of the held-out cases.

    Attributes:
        images: `(n, C, *S)`.
        healthy: `(n,)` bool.
        masks: `(n, 1, *S)` bool, or None.
        patients: of each case.
        fitting: `(n,)` bool: healthy cases that fit thresholds; their patients are in no metric.
        contradicted: `(n,)` bool, see `task.contradicted`.
    """

    images: Tensor
    healthy: Tensor
    masks: Tensor | None
    patients: tuple[str, ...]
    fitting: Tensor
    contradicted: Tensor

    @property
    def measured(self) -> Tensor:
        """Numbers of the cases in the metrics: those of patients that fit nothing."""
        fitted = {self.patients[row] for row in self.fitting.nonzero()[:, 0].tolist()}
        rows = [row for row, patient in enumerate(self.patients) if patient not in fitted]
        return torch.tensor(rows, dtype=torch.long)

    def of(self, rows: Tensor) -> list[str]:
        """Patients of some cases."""
        return [self.patients[row] for row in rows.tolist()]


def evaluate_anomaly(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
) -> dict[str, Any]:
    """Counterparts, maps and scores of the held-out cases, beside baselines.

    Fitted ones (`fitted_baselines`), and others trained as long as the run, in RUN/baseline-NAME (`rivals_of`):
    all of health alone but for one that is told what leads the method.

    Half of the held-out patients with healthy cases fit thresholds and p-values by these ("calibration");
    none of their cases is in a metric. "left_out" names those that are not healthy ("beside_fitting"), and
    images of one value throughout ("blank"); "truth" says by what a case is healthy, and which labels
    disagree. "baseline" is the strongest of "baselines" in these very data, by voxel-wise average precision
    where there are masks and by AUROC of images where there are not.

    Args:
        recipe, objective: a trained method.
        train, held_out: its data.
        asked: what `evaluate` was asked for.

    Raises:
        UserError: a label the model never saw, masks of another size, no healthy training case, or
            nothing but blank images.
    """
    if getattr(recipe, "classes", 0):
        check_labels(held_out, recipe.classes)
    cases, blank = _without_blank(asked.chosen(held_out))
    truth = _truth(cases, recipe.healthy, asked.seed)
    sound = sound_cases(train, recipe.healthy)
    trained: dict[str, Any] = {}
    if asked.cache:
        trained = trained_beside(rivals_of(recipe, train, sound, asked), asked.run)
    if not processes.is_main():
        return {}
    found = predictions_of(recipe, objective, cases, asked, "detecting")
    own = Found(found["score"], found["anomaly"])
    if getattr(recipe, "threshold", "") == "healthy" and bool(truth.fitting.any()):
        maps = found["anomaly"]
        level = fitted_threshold(maps[truth.fitting], recipe.rate)
        found["mask"] = (maps > level).long()
    simple = _fitted(sound, truth, asked)
    simple |= _trained(recipe, trained, sound, cases, truth, asked)
    baselines = {name: _measure(each, truth, None) for name, each in simple.items()}
    best = strongest(baselines)
    scales: dict[str, float] = {}
    if asked.folder_for_pictures is not None:
        scales = _draw(asked.folder_for_pictures / "anomalies.png", truth, found)
    return asked.record(
        recipe,
        train,
        cases,
        {
            "count": len(cases),
            "seed": asked.seed,
            "deciding": deciding(recipe),
            "baseline": best,
            "healthy": recipe.healthy,
            "fitting": int(truth.fitting.sum()),
            "panels": panels(found, truth),
            "scales": scales,
        },
        method={**_measure(own, truth, found["mask"]), **_kept(found["healthy"], truth)},
        baseline=baselines[best],
        baselines=baselines,
        calibration=calibration(own, truth),
        left_out={"blank": blank, "beside_fitting": _beside_fitting(cases, truth)},
        truth=_said(cases, recipe.healthy, truth),
        cases=_cases(cases, own, truth),
    )


def strongest(baselines: dict[str, dict[str, Metric]]) -> str:
    """The baseline of the highest voxel-wise average precision, or AUROC where no voxel counts."""
    for metric in ("pixel_average_precision", "auroc"):
        means = {name: each.get(metric, {}).get("mean") for name, each in baselines.items()}
        known = {name: mean for name, mean in means.items() if mean is not None}
        if known:
            return max(known, key=known.__getitem__)
    return next(iter(baselines))


def calibration(found: Found, truth: Truth) -> dict[str, Any]:
    """Thresholds at the stated false-positive rates, and the healthy scores p-values refer to."""
    if not bool(truth.fitting.any()):
        return {"refused": "no healthy held-out case to fit to"}
    scores = found.scores[truth.fitting]
    record: dict[str, Any] = {
        "false_positive_rate": IMAGE_RATE,
        "score": fitted_threshold(scores, IMAGE_RATE),
        "healthy_scores": sorted(scores.tolist()),
    }
    if found.maps is not None:
        record["voxel_false_positive_rate"] = VOXEL_RATE
        record["anomaly"] = fitted_threshold(found.maps[truth.fitting], VOXEL_RATE)
        record["voxels"] = levels(found.maps[truth.fitting])
    return record


def deciding(recipe: Any) -> dict[str, Any]:
    """The settings of prediction that maps and scores depend on."""
    names = set(getattr(recipe, "AFTER_TRAINING", ())) - {"threshold", "level", "rate"}
    return {name: getattr(recipe, name) for name in sorted(names)}


def _without_blank(cases: Cases) -> tuple[Cases, list[str]]:
    """The cases whose image varies, and the names of the others."""
    cases.check_shapes()
    kept = cases.kept(lambda batch: _varies(batch["image"].flatten(1)))
    if not len(kept):
        raise UserError(f"{cases.source}: every image has one value throughout; look at --range")
    return kept, sorted(set(cases.ids) - set(kept.ids))


def _varies(values: Tensor) -> Tensor:
    """`(B, n)` -> `(B,)`, whether they differ."""
    return values.amax(1) > values.amin(1)


def _truth(cases: Cases, healthy: int, seed: int) -> Truth:
    """Read images and masks; choose the patients whose healthy cases fit thresholds."""
    everything = cases.batch(range(len(cases)))
    images, masks = everything["image"], everything.get("mask")
    if masks is not None and masks.shape[2:] != images.shape[2:]:
        here, there = (" x ".join(map(str, x.shape[2:])) for x in (masks, images))
        raise UserError(f"{cases.source}: masks are {here} and images {there}; use --size {there}")
    sound = is_healthy(everything, healthy)
    chosen = _fitting(cases.patients, sound.tolist(), seed)
    fitting = torch.tensor([patient in chosen for patient in cases.patients])
    lesions = None if masks is None else masks > 0
    odd = contradicted(everything, healthy)
    return Truth(images, sound, lesions, cases.patients, fitting & sound, odd)


def _fitting(patients: Sequence[str], sound: Sequence[bool], seed: int) -> set[str]:
    """Half of the patients with healthy cases; of those that have others too, half at most."""
    whose = {
        kind: {p for p, good in zip(patients, sound, strict=True) if good == kind}
        for kind in (True, False)
    }
    every = sorted(whose[True], key=lambda name: derive(seed, "fitting", name))
    both = [name for name in every if name in whose[False]]
    alone = [name for name in every if name not in whose[False]]
    from_both = len(both) // 2
    return {*both[:from_both], *alone[: len(every) // 2 - from_both]}


def _beside_fitting(cases: Cases, truth: Truth) -> list[str]:
    """Cases that are no fit and no metric: not healthy, of patients whose healthy ones are fitted to."""
    rows = {*truth.measured.tolist(), *truth.fitting.nonzero()[:, 0].tolist()}
    return [name for row, name in enumerate(cases.ids) if row not in rows]


def _said(cases: Cases, healthy: int, truth: Truth) -> dict[str, Any]:
    """By what cases are healthy, and which have a label that says otherwise."""
    rule = f"label {healthy}" if "label" in cases.keys else "every case"
    rows = truth.contradicted.nonzero()[:, 0].tolist()
    return {
        "healthy": "an empty mask" if truth.masks is not None else rule,
        "label_disagrees": [cases.ids[row] for row in rows],
    }


def predictions_of(
    recipe: Any, objective: Any, cases: Cases, asked: Asked, title: str
) -> dict[str, Tensor]:
    """Counterparts, maps, masks and scores of all cases, from their images alone."""
    return predicted(recipe, objective, cases, asked, ("image",), title)


def _fitted(sound: Sound, truth: Truth, asked: Asked) -> dict[str, Found]:
    """What there is without training, fitted to healthy cases, or to what lies outside lesions."""
    everything = sound.cases.batch(range(len(sound.cases)))
    images = everything["image"]
    with progress_bar("baselines", 1) as done:
        return fitted_baselines(
            images,
            truth.images,
            fingerprint=hashlib.sha256(images.numpy().tobytes()).hexdigest(),
            seed=asked.seed,
            cache=None if asked.cache is None else asked.cache / "healthy",
            progress=done,
            lesions=everything["mask"] > 0 if sound.outside else None,
        )


def _trained(
    recipe: Any, trained: dict[str, Any], sound: Sound, cases: Cases, truth: Truth, asked: Asked
) -> dict[str, Found]:
    """What the trained baselines say of the cases."""
    if not trained:
        return {}
    few = spread(len(sound.cases), REFERENCE)
    reference = sound.cases.batch(few)["image"].mean(0, keepdim=True)
    others = {name: each for name, each in trained.items() if name != "plain_ddpm"}
    found = answers_of(others, truth.images, reference, asked.batch)
    if "plain_ddpm" in trained:
        objective = trained["plain_ddpm"]
        theirs = predictions_of(plain_ddpm(recipe), objective, cases, asked, "plain DDPM")
        found["plain_ddpm"] = Found(theirs["score"], theirs["anomaly"])
    return found


def _measure(found: Found, truth: Truth, masks: Tensor | None) -> dict[str, Metric]:
    """Metrics of images and, where both maps and true masks are there, of voxels."""
    rows = truth.measured
    sick = ~truth.healthy[rows]
    metrics = ranking(found.scores[rows], sick, truth.of(rows))
    if bool(truth.fitting.any()):
        flagged = found.scores[rows] > fitted_threshold(found.scores[truth.fitting], IMAGE_RATE)
        metrics["sensitivity"] = proportion(flagged[sick], truth.of(rows[sick]))
        metrics["false_positive_rate"] = proportion(flagged[~sick], truth.of(rows[~sick]))
    if truth.masks is None or found.maps is None:
        return metrics
    return {**metrics, **_voxels(found.maps, truth, masks)}


def _voxels(maps: Tensor, truth: Truth, masks: Tensor | None) -> dict[str, Metric]:
    """Ranking of all measured voxels; Dice of the patients with lesions.

    "dice": of the method's own mask (of Otsu's, for a baseline); "dice_fitted": at the threshold
    fitted to healthy cases; "dice_best": at the one threshold that is best in these data, a bound.
    """
    assert truth.masks is not None
    rows = truth.measured
    metrics = ranking(maps[rows], truth.masks[rows], truth.of(rows), "pixel_")
    lesions = rows[truth.masks[rows].flatten(1).any(1)]
    if not len(lesions):
        return {**metrics, "dice": refused("no measured case has a lesion", 0)}
    patients, target, values = truth.of(lesions), truth.masks[lesions], maps[lesions]
    own = values > otsu(values) if masks is None else masks[lesions] > 0

    def of(found: Tensor) -> Metric:
        return average_per_patient(_dice(found, target).tolist(), patients)

    metrics["dice"] = of(own)
    if bool(truth.fitting.any()):
        metrics["dice_fitted"] = of(values > fitted_threshold(maps[truth.fitting], VOXEL_RATE))
    ordered = values.flatten().sort().values
    places = (1 - torch.logspace(-3.5, -0.3, 60)) * (len(ordered) - 1)
    evenly = torch.linspace(float(ordered[0]), float(ordered[-1]), 60)
    levels = torch.cat([ordered[places.round().long()], evenly])
    best = max(levels, key=lambda level: float(_dice(values > level, target).mean()))
    metrics["dice_best"] = of(values > best)
    return metrics


def _dice(found: Tensor, truth: Tensor) -> Tensor:
    """Of bool masks, `(B,)`; 1 where both are empty."""
    return dice(found, truth, (1,), absent=1.0)[:, 0]


def _kept(healthy: Tensor, truth: Truth) -> dict[str, Metric]:
    """PSNR (dB, span 2) between image and counterpart where nothing should change."""
    error = (healthy - truth.images).double().square().mean(1, keepdim=True)
    rows = truth.measured
    sound = rows[truth.healthy[rows]]
    metrics = {}
    if len(sound):
        whole = -10 * torch.log10(error[sound].flatten(1).mean(1).clamp_min(1e-12) / 4)
        metrics["psnr_healthy"] = average_per_patient(whole.tolist(), truth.of(sound))
    if truth.masks is None:
        return metrics
    sick = rows[~truth.healthy[rows]]
    outside = (~truth.masks[sick]).double().flatten(1)
    mean = (error[sick].flatten(1) * outside).sum(1) / outside.sum(1).clamp_min(1)
    if len(sick):
        values = (-10 * torch.log10(mean.clamp_min(1e-12) / 4)).tolist()
        metrics["psnr_outside"] = average_per_patient(values, truth.of(sick))
    return metrics


def _cases(cases: Cases, found: Found, truth: Truth) -> dict[str, Any]:
    """Score of each measured case, and its p-value against the healthy cases of the fitting half."""
    rows = truth.measured.tolist()
    record = {
        cases.ids[row]: {"score": float(found.scores[row]), "healthy": bool(truth.healthy[row])}
        for row in rows
    }
    if bool(truth.fitting.any()):
        values = p_values(found.scores[rows], found.scores[truth.fitting]).tolist()
        for row, value in zip(rows, values, strict=True):
            record[cases.ids[row]]["p_value"] = value
    return record


MAP, DIVERGENCE = "anomaly map", "divergence of the denoising steps"


def panels(found: dict[str, Tensor], truth: Truth) -> list[str]:
    """What a row of the picture shows, from left to right."""
    middle = [DIVERGENCE] if "divergence" in found else []
    end = [] if truth.masks is None else ["true mask"]
    return ["image", "healthy counterpart", *middle, MAP, "mask", *end]


def _draw(path: Path, truth: Truth, found: dict[str, Tensor]) -> dict[str, float]:
    """A row a case, see `panels`; each kind of map in one window, whose upper end is returned by its head."""
    rows = truth.measured
    sick, sound = rows[~truth.healthy[rows]], rows[truth.healthy[rows]]
    chosen = torch.cat([sick[: SHOWN - min(2, len(sound))], sound[:2]]).tolist()
    heads = {"divergence": DIVERGENCE, "anomaly": MAP}
    tops = {key: _top(found[key], chosen) for key in heads if key in found}
    maps = [found[key] / top * 2 - 1 for key, top in tops.items()]
    images = []
    for row in chosen:
        like = truth.images[row][:1]
        shown = [*(each[row] for each in maps), found["mask"][row] * 2.0 - 1]
        if truth.masks is not None:
            shown.append(truth.masks[row] * 2.0 - 1)
        images += [
            truth.images[row],
            found["healthy"][row],
            *(x.expand_as(like) for x in shown),
        ]
    if images:
        write_grid(path, [image.float().numpy() for image in images], len(images) // len(chosen))
    return {heads[key]: top for key, top in tops.items()}


def _top(maps: Tensor, chosen: list[int]) -> float:
    """What 99.9 % of the values of the chosen ones lie below; of many, of every n-th."""
    if not chosen:
        return 1.0
    values = maps[chosen].flatten()
    return max(1e-6, float(values[:: len(values) // MOST_VALUES + 1].quantile(0.999)))
