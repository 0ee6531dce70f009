"""Evaluation of reconstructions: accuracy, consistency and calibration, beside classical methods."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...errors import UserError
from ...inverse import Measurement
from ...inverse.classical import (
    cg_sense,
    cubic_upsampling,
    filtered_back_projection,
    non_local_means,
)
from ...inverse.compressed import l1_wavelet, total_variation
from ...inverse.consistency import residual_std
from ...metrics.calibration import crps
from ...metrics.estimate import Metric, average_per_patient
from ...metrics.fidelity import nmse, psnr, ssim
from ...operators.tomography import hann
from ...report.pictures import write_grid
from ...training import processes
from ..evaluation.asked import Asked, about, spread
from ..evaluation.progress import progress_bar
from ..tuning import tune
from .spreads import Spreads, magnitude

COUNT, TUNING, SHOWN = 40, 4, 6

Baseline = Callable[[Measurement, Tensor], Tensor]
Weighted = Callable[[Measurement, Tensor, float, int], Tensor]


def _cg_sense(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return cg_sense(measurement, like, weight)


def _l1_wavelet(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return l1_wavelet(measurement, like, weight, iterations=work // 3)


def _total_variation(measurement: Measurement, like: Tensor, weight: float, work: int) -> Tensor:
    return total_variation(measurement, like, weight, iterations=work, tolerance=1e-3)


WEIGHTED: dict[str, dict[str, tuple[Weighted, tuple[float, ...]]]] = {
    "mri": {
        "cg_sense": (_cg_sense, (1e-3, 1e-2, 1e-1)),
        "l1_wavelet": (_l1_wavelet, (4e-3, 1.6e-2)),
        "total_variation": (_total_variation, (4e-3, 1.6e-2)),
    },
    "ct": {"total_variation": (_total_variation, (1.0, 4.0))},
    "super-resolution": {},
    "noise": {"total_variation": (_total_variation, (0.03, 0.1))},
}
"""Baselines with a weight, and the grid from which it is chosen on training cases."""
PLAIN: dict[str, dict[str, Baseline]] = {
    "mri": {},
    "ct": {
        "fbp": filtered_back_projection,
        "fbp_hann": lambda m, x: filtered_back_projection(m, x, hann),
    },
    "super-resolution": {"cubic": cubic_upsampling},
    "noise": {"non_local_means": non_local_means},
}


@dataclass
class Scores:
    """Values of each metric, case by case."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **metrics: Tensor) -> None:
        """Add metrics (B,)."""
        for name, value in metrics.items():
            self.values.setdefault(name, []).extend(value.tolist())

    def metrics(self, patients: Sequence[str]) -> dict[str, Metric]:
        """Mean over patients of each."""
        return {name: average_per_patient(v, patients) for name, v in self.values.items()}


def evaluate_reconstruction(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
    *,
    baselines: Mapping[str, Baseline] | None = None,
) -> dict[str, Any]:
    """Posterior samples of simulated measurements of held-out images, against the images.

    "method": the mean of what the chains of `recipe.samples` draws expect (psnr, ssim, nmse), that of the
    draws (psnr_mean_of_draws), one draw (psnr_sample, ssim_sample),
    the residual over the noise, and calibration (`Spreads`): coverage of 90 % intervals as they are, and
    after the conformal factor of the other half of the patients, of all pixels and of the body's alone;
    "widen" of the settings is the factor of all of them, for `predict`. "baselines": classical methods of the
    same measurement, their weight chosen on training cases; "baseline": the best of them by PSNR.
    Images are in [0, 1], span 1, compared as magnitudes.

    Args:
        recipe, objective: a reconstruction method with its prior.
        train, held_out: images; measurements are simulated from each by its content.
        asked: what `evaluate` was asked for.
        baselines: in place of the classical ones.

    Raises:
        UserError: the data hold no images.
    """
    if not recipe.simulated:
        raise UserError(
            "evaluation compares with the images before a simulated measurement; without "
            "simulated=false"
        )
    rows = spread(len(held_out), asked.count or COUNT)
    draws = recipe.samples
    rivals = dict(classical(recipe, train) if baselines is None else baselines)
    ours, theirs = Scores(), {name: Scores() for name in ("first", *rivals)}
    spreads, panels = Spreads(), list[list[Tensor]]()
    batch = 1 if recipe.ALONE else asked.batch
    seconds, calls, realised = 0.0, _Calls(objective), list[float]()
    with progress_bar("reconstructing", len(rows)) as done, torch.no_grad():
        for part, acquired, truth in _measured(recipe, held_out, rows, batch):
            names = [held_out.ids[row] for row in part]
            began = time.perf_counter()
            every = [
                recipe.drawn(objective, acquired, [derive(asked.seed, n, k) for n in names])
                for k in range(draws)
            ]
            drawn, told = (torch.stack(parts) for parts in zip(*every, strict=True))
            mean = told.mean(0)
            seconds += time.perf_counter() - began
            realised += acquired.acceleration.tolist()
            _score(ours, acquired, drawn, mean, truth)
            spreads.add(drawn, truth)
            shown = _apart(rivals, acquired)
            for name, image in shown.items():
                theirs[name].add(**_fidelity(image, truth))
            panels += _panel(truth, shown, drawn, mean)[: SHOWN - len(panels)]
            done(rows.index(part[-1]) + 1)
    patients = [held_out.patients[row] for row in rows]
    tables = {name: scores.metrics(patients) for name, scores in theirs.items()}
    if not processes.is_main():
        return {}
    method = {**ours.metrics(patients), **spreads.metrics(patients)}
    best = max(tables, key=lambda name: tables[name]["psnr"].get("mean", -1.0))
    if asked.folder_for_pictures is not None:
        tiles = [(2 * tile.clamp(0, 1) - 1).numpy() for row in panels for tile in row]
        write_grid(asked.folder_for_pictures / "reconstructions.png", tiles, len(panels[0]))
    return {
        "method": method,
        "baseline": tables[best],
        "baselines": tables,
        "rank_histogram": spreads.histogram(),
        "task": "reconstruction",
        "data": about(train, held_out),
        "command": asked.command,
        "settings": {
            "count": len(rows),
            "samples": draws,
            "seed": asked.seed,
            "steps": recipe.steps,
            "network_calls_per_draw": calls.images / max(1, draws * len(rows)),
            "backward_passes_per_draw": calls.backward / max(1, draws * len(rows)),
            "seconds_per_draw": seconds / max(1, draws * len(rows)),
            "baseline": best,
            "panels": ["truth", *shown, "mean", "one draw", "4 x deviation", "4 x error"],
            "acceleration": sum(realised) / len(realised),
            "conformal_factors": spreads.factors,
            "widen": spreads.factor(patients),
        },
    }


def compare(
    recipe: Any, held_out: Cases, rivals: Mapping[str, Baseline], asked: Asked
) -> dict[str, dict[str, Metric]]:
    """PSNR, SSIM and NMSE of other methods alone, on the measurements `evaluate_reconstruction` makes."""
    rows = spread(len(held_out), asked.count or COUNT)
    scores = {name: Scores() for name in ("first", *rivals)}
    with progress_bar("comparing", len(rows)) as done:
        for part, acquired, truth in _measured(recipe, held_out, rows, asked.batch):
            for name, image in _apart(rivals, acquired).items():
                scores[name].add(**_fidelity(image, truth))
            done(rows.index(part[-1]) + 1)
    patients = [held_out.patients[row] for row in rows]
    return {name: each.metrics(patients) for name, each in scores.items()}


def _measured(
    recipe: Any, cases: Cases, rows: Sequence[int], batch: int
) -> Iterator[tuple[Sequence[int], Acquired, Tensor]]:
    """Rows of a batch, their simulated measurement, and their images in [0, 1]."""
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        images = _images(cases, part)
        beside = {k: v for k, v in cases.batch(part).items() if k.startswith("image_")}
        yield part, recipe.acquire({"image": images, **beside}), (images + 1) / 2


def _apart(rivals: Mapping[str, Baseline], acquired: Acquired) -> dict[str, Tensor]:
    """The plain reconstruction and those of other methods, magnitudes in [0, 1]."""
    made = {"first": acquired.first}
    made |= {name: rival(acquired.measurement, acquired.first) for name, rival in rivals.items()}
    return {name: image.abs().clamp(0, 1) for name, image in made.items()}


def classical(recipe: Any, train: Cases, work: int = 300) -> dict[str, Baseline]:
    """The classical methods of a measurement, their weights chosen on a few training cases.

    Args:
        recipe: says what is measured.
        train: cases that choose the weights.
        work: iterations of total variation at most; wavelets take a third of them.
    """
    found = {name: _unbiased(method) for name, method in PLAIN[recipe.measurement].items()}
    weighted = WEIGHTED[recipe.measurement]
    if not weighted:
        return found
    images = _images(train, spread(len(train), TUNING))
    acquired = recipe.acquire({"image": images})
    truth = ((images + 1) / 2).to(acquired.first.dtype)
    with progress_bar("tuning baselines", len(weighted)) as done:
        for number, (name, (method, grid)) in enumerate(weighted.items(), start=1):
            tried = _with_work(method, work)
            weight = tune(tried, [(acquired.measurement, truth)], grid).weight
            found[name] = _with_weight(tried, weight)
            done(number)
    return found


def _with_work(method: Weighted, work: int) -> Callable[[Measurement, Tensor, float], Tensor]:
    return _unbiased(lambda m, like, weight: method(m, like, weight, work))


def _unbiased(method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A method whose image is brought back from the mean of the measurement to the signal."""
    return lambda m, *rest: m.unbiased(method(m, *rest))


def _with_weight(method: Callable[[Measurement, Tensor, float], Tensor], weight: float) -> Baseline:
    return lambda measurement, like: method(measurement, like, weight)


def _images(cases: Cases, rows: Sequence[int]) -> Tensor:
    batch = cases.batch(rows)
    if "image" not in batch:
        raise UserError(
            f"{cases.source}: evaluation needs images; name them with --map image=COLUMN"
        )
    return batch["image"]


def _fidelity(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    return {
        "psnr": psnr(image, truth, 1.0),
        "ssim": ssim(image, truth, 1.0),
        "nmse": nmse(image, truth),
    }


def _score(scores: Scores, acquired: Acquired, drawn: Tensor, mean: Tensor, truth: Tensor) -> None:
    """Metrics of K draws (K, B, 1, *S) of one batch, and of what their chains expect, (B, 1, *S)."""
    one = _fidelity(magnitude(drawn[0]), truth)
    m = acquired.measurement
    scores.add(
        **_fidelity(magnitude(mean), truth),
        psnr_mean_of_draws=psnr(magnitude(drawn.mean(0)), truth, 1.0),
        psnr_sample=one["psnr"],
        ssim_sample=one["ssim"],
        residual=residual_std(m.A, drawn[0], m.y) / m.deviations.clamp_min(1e-12),
    )
    if len(drawn) > 1:
        scores.add(crps=crps(magnitude(drawn), truth))


def _panel(
    truth: Tensor, others: Mapping[str, Tensor], drawn: Tensor, mean: Tensor
) -> list[list[Tensor]]:
    """Per case: truth, baselines, mean, one draw, deviation, error; in [0, 1]."""
    x, mean = magnitude(drawn), magnitude(mean)
    spread = x.std(0) if len(x) > 1 else torch.zeros_like(mean)
    columns = [truth, *others.values(), mean, x[0], 4 * spread, 4 * (mean - truth).abs()]
    return [[column[row].cpu() for column in columns] for row in range(len(truth))]


class _Calls:
    """Counts the images an objective's network has seen, and those gradients went back to."""

    def __init__(self, objective: Any) -> None:
        self.images = self.backward = 0
        network = objective.players["network"]
        network.register_forward_hook(self._count)
        network.register_full_backward_hook(self._count_backward)

    def _count(self, module: Any, inputs: Any, output: Any) -> None:
        self.images += len(inputs[0])

    def _count_backward(self, module: Any, to_inputs: Any, from_outputs: Any) -> None:
        self.backward += len(from_outputs[0])
