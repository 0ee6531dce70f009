"""Evaluation of translated images: per patient, beside direct regression and a pix2pix-like GAN."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...data.unpaired import with_all
from ...errors import UserError
from ...metrics.diversity import ms_ssim_per_patient
from ...metrics.estimate import Metric, average_per_patient
from ...metrics.fidelity import psnr, ssim_per_patient
from ...metrics.translation import correlation, detail, lesion_contrast, shift
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import Drawn, in_batches
from ..sizes import check_mask
from .apart import evaluate_apart, unlearned
from .baselines import trained_baselines
from .shared import BLACK, ROWS, SPAN, Eyes, distances, draw, reference

KEYS = ("source", "target")
MOST_SHIFT = 0.5
"""Median shift in voxels above which the output does not lie where its input lies."""
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

    Where training cases have no pairs, baselines are the source unchanged and with its histogram matched; where
    held-out cases have none either, see `evaluate_apart`.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with "source" and "target".
        asked: what `evaluate` was asked for.

    Raises:
        UserError: there is no target to compare with, or a prediction is not finite.
    """
    for key in KEYS:
        if key not in held_out.keys:
            raise UserError(f"{held_out.source}: no {key} to compare with; --map {key}=COLUMN")
    pairs = with_all(held_out, KEYS)
    if not len(pairs):
        whole = (recipe, objective, train, held_out, asked)
        return evaluate_apart(*whole) if processes.is_main() else {}
    check_mask(pairs, "target")
    held_out, told = asked.chosen(pairs), with_all(train, KEYS)
    windows = getattr(recipe, "windows", None)
    simple = trained_baselines(told, windows, asked) if asked.cache and len(told) else {}
    if not processes.is_main():
        return {}
    samples = max(1, int(getattr(recipe, "samples", 1)))
    eyes = Eyes.of(with_all(train, ("target",)), held_out, asked)
    parts = held_out.batch(range(len(held_out)))
    ours = draw(recipe, objective, held_out, asked, samples, parts["target"])
    source, device = {"source": parts["source"]}, device_of(objective)
    outputs = {
        name: Drawn.of_one(in_batches(baseline.predict, source, asked.batch, device))
        for name, baseline in simple.items()
    }
    outputs |= {} if len(told) else unlearned(with_all(train, ("target",)), parts["source"])
    baselines = {name: measure(each, parts, held_out, eyes) for name, each in outputs.items()}
    found: dict[str, Any] = {
        "method": measure(ours, parts, held_out, eyes),
        "baseline": baselines.get("regression") or baselines.get("histogram", {}),
        "baselines": baselines,
        "reference": _reference(parts, held_out, eyes),
        "alignment": _alignment(ours.mean, parts["target"]),
    }
    if hasattr(recipe, "variants"):
        found["samplers"] = _samplers(recipe, objective, held_out, asked)
    if eyes.judge:
        found["features"] = eyes.judge.named
    if asked.folder_for_pictures is not None:
        write_panels(asked.folder_for_pictures / "translation.png", parts, ours)
    settings = {
        "samples": samples,
        "seed": asked.seed,
        "steps": getattr(recipe, "steps", getattr(recipe, "timesteps", None)),
        "range": [-1.0, 1.0],
    }
    return asked.record(recipe, train, held_out, settings, **found)


def measure(ours: Drawn, parts: dict[str, Tensor], cases: Cases, eyes: Eyes) -> dict[str, Metric]:
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
    metrics |= distances(eyes, ours.first, patients)
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


def _reference(parts: dict[str, Tensor], cases: Cases, eyes: Eyes) -> dict[str, Metric]:
    """The true target (lesions), and real training targets in place of translated ones (FID)."""
    lesions = _lesions(parts["target"], parts, cases)
    found = reference(eyes, len(cases))
    return {**found, **{k: v for k, v in lesions.items() if k == "lesion_contrast"}}


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


def write_panels(path: Path, parts: dict[str, Tensor], ours: Drawn) -> None:
    """Rows of source | target | mean | deviation | error; the last two from 0 (black) to 0.5."""
    rows = spread(len(ours.mean), ROWS)
    error = (ours.mean - parts["target"]).abs()
    columns: Iterable[Tensor] = (
        parts["source"], parts["target"], ours.mean, 4 * ours.std - 1, 4 * error - 1
    )  # fmt: skip
    columns = [column.float().clamp(-1, 1) for column in columns]
    write_grid(path, [column[row].numpy() for row in rows for column in columns], 5)
