"""Evaluation of translated images: per patient, beside direct regression and a pix2pix-like GAN."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...errors import UserError
from ...metrics.distribution import distances_between_sets
from ...metrics.diversity import ms_ssim_per_patient
from ...metrics.estimate import Metric, average_per_patient, refused
from ...metrics.features import extract
from ...metrics.fidelity import psnr, ssim_per_patient
from ...metrics.translation import correlation, detail, lesion_contrast, shift
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import Drawn, drawn, in_batches, predictions
from ..evaluation.judge import Judge, judge
from .baselines import trained_baselines

SPAN, BLACK = 2.0, -1.0
"""Width of the grey range and its lowest value: images span [-1, 1]."""
MOST_SHIFT = 0.5
"""Median shift in voxels above which the output does not lie where its input lies."""
_ROWS = 6
_FEW = 4
_BACKGROUND = -0.95


def evaluate_translation(
    recipe: Any, objective: Any, train: Cases, held_out: Cases, asked: Asked
) -> dict[str, Any]:
    """Mean and single draws against the true target, per patient, beside trained baselines.

    "method": PSNR, SSIM and MS-SSIM of the mean of `recipe.samples` draws and of one draw alone, CRPS of the
    draws (of a single answer its mean absolute error, to which the score reduces; Gneiting and Raftery 2007, eq. 21),
    FID, KID and `detail` of single draws, `shift` in voxels, `deviation_correlation` of the deviation map
    with the absolute error, and with masks the lesion contrast. "baseline" is direct regression,
    "baselines" holds the GAN too; each is trained as long as the run, in RUN/baseline-NAME.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "source" and "target".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no target to compare with, or a prediction is not finite.
    """
    for key in ("source", "target"):
        if key not in held_out.keys:
            raise UserError(f"{held_out.source}: no {key} to compare with; --map {key}=COLUMN")
    held_out = asked.chosen(held_out)
    windows = getattr(recipe, "windows", None)
    simple = trained_baselines(train, windows, asked) if asked.cache else {}
    if not processes.is_main():
        return {}
    samples = max(1, int(getattr(recipe, "samples", 1)))
    eyes = _eyes(_only_target(train), _only_target(held_out), asked)
    parts = held_out.batch(range(len(held_out)))
    ours = draw(recipe, objective, held_out, asked, samples, parts["target"])
    source, device = {"source": parts["source"]}, device_of(objective)
    outputs = {
        name: Drawn.of_one(in_batches(baseline.predict, source, asked.batch, device))
        for name, baseline in simple.items()
    }
    baselines = {name: measure(each, parts, held_out, eyes) for name, each in outputs.items()}
    found: dict[str, Any] = {
        "method": measure(ours, parts, held_out, eyes),
        "baseline": baselines.get("regression", {}),
        "baselines": baselines,
        "reference": _reference(parts, held_out, eyes),
        "alignment": _alignment(ours.mean, parts["target"]),
    }
    if hasattr(recipe, "variants"):
        found["samplers"] = _samplers(recipe, objective, held_out, asked)
    if eyes:
        found["features"] = eyes.named
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "translation.png", parts, ours)
    settings = {
        "samples": samples,
        "seed": asked.seed,
        "steps": getattr(recipe, "steps", getattr(recipe, "timesteps", None)),
        "range": [-1.0, 1.0],
    }
    return asked.record(recipe, train, held_out, settings, **found)


def draw(
    recipe: Any,
    objective: Any,
    cases: Cases,
    asked: Asked,
    samples: int,
    truth: Tensor | None = None,
) -> Drawn:
    """Draws of every case from its source alone; the truth is for their score."""
    told, title = ("source",), "translating"
    made = predictions(recipe, objective, cases, asked, told, title, samples)
    return drawn(made, "target", truth)


def _eyes(train: Cases, held_out: Cases, asked: Asked) -> Judge | None:
    """Whoever compares sets of images; None where held-out ones are of another size than training's."""
    sizes = {cases.batch([0])["target"].shape[1:] for cases in (train, held_out)}
    if len(sizes) > 1:
        return None
    return judge(train, held_out, cache=asked.cache, weights=asked.weights)


def _distances(
    eyes: Judge | None,
    images: Callable[[Judge], Tensor],
    whose: Callable[[Judge], Sequence[str]],
    n: int,
) -> dict[str, Metric]:
    """FID and KID of the features of images, and whose they are, to those of held-out targets."""
    if eyes is None:
        reason = "training and held-out images differ in size"
        return {name: refused(f"{name}: {reason}", n) for name in ("fid", "kid")}
    found = distances_between_sets(
        eyes.held_out_features, images(eyes), people=(eyes.people, whose(eyes))
    )
    return {name: found[name] for name in ("fid", "kid") if name in found}


def measure(
    ours: Drawn, parts: dict[str, Tensor], cases: Cases, eyes: Judge | None
) -> dict[str, Metric]:
    """Every metric of a set of translated images."""
    target, patients = parts["target"], cases.patients
    mean, several = ours.mean.float(), bool(ours.std.any())

    def per_patient(values: Tensor) -> Metric:
        return average_per_patient(values.tolist(), patients)

    score = (mean - target).abs().flatten(1).mean(1) if ours.crps is None else ours.crps
    metrics = {
        "psnr": per_patient(psnr(mean, target, SPAN)),
        "crps": per_patient(score),
        "ssim": ssim_per_patient(mean, target, SPAN, BLACK, patients),
        "ms_ssim_to_target": ms_ssim_per_patient(mean, target, patients),
        "shift": per_patient(shift(mean, target)),
        "detail": per_patient(detail(ours.first, target)),
    }
    if several:
        error = (mean - target).abs()
        metrics |= {
            "psnr_single": per_patient(psnr(ours.first, target, SPAN)),
            "ssim_single": ssim_per_patient(ours.first, target, SPAN, BLACK, patients),
            "deviation_correlation": per_patient(correlation(ours.std, error)),
            "error_beyond_two_deviations": per_patient(
                (error > 2 * ours.std + 0.02).double().flatten(1).mean(dim=1)
            ),
        }
    metrics |= _distances(
        eyes, lambda eyes: extract(eyes.network, ours.first), lambda _: patients, len(cases)
    )
    return {**metrics, **_lesions(mean, parts, cases)}


def _lesions(images: Tensor, parts: dict[str, Tensor], cases: Cases) -> dict[str, Metric]:
    """Contrast of the lesion in `images`, and how far it is from that in the target."""
    if "mask" not in parts:
        return {}
    body = (parts["target"] > _BACKGROUND).any(dim=1, keepdim=True)
    ours, theirs = (lesion_contrast(x, parts["mask"], body) for x in (images, parts["target"]))
    rows = torch.isfinite(ours + theirs).nonzero()[:, 0].tolist()
    patients = [cases.patients[row] for row in rows]
    gap = (ours - theirs).abs()
    return {
        "lesion_contrast": average_per_patient(ours[rows].tolist(), patients),
        "lesion_contrast_error": average_per_patient(gap[rows].tolist(), patients),
    }


def _reference(parts: dict[str, Tensor], cases: Cases, eyes: Judge | None) -> dict[str, Metric]:
    """The true target (lesions), and real training targets in place of translated ones (FID)."""

    def features(eyes: Judge) -> Tensor:
        return eyes.train_features[_some(eyes, len(cases))]

    def whose(eyes: Judge) -> Sequence[str]:
        return [eyes.train_people[row] for row in _some(eyes, len(cases)).tolist()]

    found = _distances(eyes, features, whose, len(cases))
    lesions = _lesions(parts["target"], parts, cases)
    return {**found, **{k: v for k, v in lesions.items() if k == "lesion_contrast"}}


def _some(eyes: Judge, n: int) -> Tensor:
    """Rows of n training images."""
    return torch.randperm(len(eyes.train), generator=torch.Generator().manual_seed(0))[:n]


def _alignment(images: Tensor, target: Tensor) -> dict[str, Any]:
    """Median shift of the output, and whether it lies where the target lies."""
    median = float(shift(images, target).median())
    record: dict[str, Any] = {"median_shift_voxels": median, "aligned": median <= MOST_SHIFT}
    if median > MOST_SHIFT:
        record["warning"] = (
            f"the output lies {median:.1f} voxels from the target (median): PSNR and SSIM compare "
            "different places, and the pairs of training may be misaligned"
        )
    return record


def _samplers(recipe: Any, objective: Any, cases: Cases, asked: Asked) -> dict[str, Any]:
    """PSNR of one draw of a few cases under each sampler of the same network."""
    few = cases.take(spread(len(cases), _FEW))
    target = few.batch(range(len(few)))["target"]
    at_once = dataclasses.replace(asked, batch=len(few))
    found = {}
    for name, variant in recipe.variants():
        one = draw(variant, objective, few, at_once, 1).first
        found[name] = {
            "psnr_single": average_per_patient(psnr(one, target, SPAN).tolist(), few.patients)
        }
    return found


def _only_target(cases: Cases) -> Cases:
    return dataclasses.replace(cases, columns={"target": cases.columns["target"]})


def write_panels(path: Path, parts: dict[str, Tensor], ours: Drawn) -> None:
    """Rows of source | target | mean | deviation | error; the last two from 0 (black) to 0.5."""
    rows = spread(len(ours.mean), _ROWS)
    error = (ours.mean - parts["target"]).abs()
    columns: Iterable[Tensor] = (
        parts["source"], parts["target"], ours.mean, 4 * ours.std - 1, 4 * error - 1
    )  # fmt: skip
    columns = [column.float().clamp(-1, 1) for column in columns]
    write_grid(path, [column[row].numpy() for row in rows for column in columns], 5)
