"""Evaluation of reconstructions: accuracy, consistency and calibration, beside classical methods."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...acquisition import Acquired
from ...data.dataset import Cases
from ...diffusion.noise import derive
from ...errors import UserError
from ...metrics.calibration import crps
from ...metrics.estimate import Metric
from ...metrics.fidelity import nmse, psnr, ssim
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.progress import progress_bar
from ..evaluation.scores import Scores
from .baselines import Baseline, _images, classical, tuning_of
from .maps import LEAST
from .measuring import reference
from .scans import checked, undersampled
from .spreads import Spreads, magnitude

COUNT, SHOWN = 40, 6


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

    Held-out k-space is used as it was measured: undersampled by the mask that the recipe names, against
    the full scan (`undersampled`), whose largest value becomes 1.

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
        UserError: the data hold no images, or scans that are undersampled themselves.
    """
    scans = "kspace" in held_out.keys
    if not recipe.simulated and not scans:
        raise UserError(
            "evaluation compares with the images before a simulated measurement; without "
            "simulated=false"
        )
    rows = spread(len(held_out), asked.count or COUNT)
    if scans and rows:  # before the weights of baselines are chosen, which takes a while
        checked(recipe, held_out.batch(rows[:1])["kspace"], held_out.ids[rows[0]])
    rivals = dict(classical(recipe, train) if baselines is None else baselines)
    found = _reconstructed(recipe, objective, held_out, rows, rivals, asked)
    if not processes.is_main():
        return {}
    patients = [held_out.patients[row] for row in rows]
    tables = {name: scores.metrics() for name, scores in found.theirs.items()}
    best = max(tables, key=lambda name: tables[name]["psnr"].get("mean", -1.0))
    if asked.folder_for_pictures is not None:
        found.draw(asked.folder_for_pictures / "reconstructions.png")
    method = {**found.ours.metrics(), **found.spreads.metrics(patients)}
    settings = {
        "count": len(rows),
        "reference": "fully sampled k-space" if scans else "images before a simulated measurement",
        "samples": recipe.samples,
        "seed": asked.seed,
        "steps": recipe.steps,
        "baseline": best,
        "tuning": tuning_of(rivals),
        "panels": ["truth", "first", *rivals, "mean", "one draw", "4 x deviation", "4 x error"],
        "conformal_factors": found.spreads.factors,
        "widen": found.spreads.factor(patients),
        **found.effort(recipe.samples * len(rows)),
    }
    return asked.record(
        recipe,
        train,
        held_out,
        settings,
        method=method,
        baseline=tables[best],
        baselines=tables,
        rank_histogram=found.spreads.histogram(),
    )


@dataclass
class Found:
    """What the reconstruction of the held-out cases gave.

    Attributes:
        ours, theirs: scores of the method, and of the plain reconstruction and the rivals.
        spreads: of the draws about the truth.
        panels: rows of pictures in [0, 1], of the first cases.
        calls: of the network.
        seconds: of all draws.
        accelerations: realised, of each case.
    """

    ours: Scores
    theirs: dict[str, Scores]
    calls: "_Calls"
    spreads: Spreads = field(default_factory=Spreads)
    panels: list[list[Tensor]] = field(default_factory=list)
    seconds: float = 0.0
    accelerations: list[float] = field(default_factory=list)

    def effort(self, draws: int) -> dict[str, float]:
        """What one draw cost, and how much was measured."""
        return {
            "network_calls_per_draw": self.calls.images / max(1, draws),
            "backward_passes_per_draw": self.calls.backward / max(1, draws),
            "seconds_per_draw": self.seconds / max(1, draws),
            "acceleration": sum(self.accelerations) / len(self.accelerations),
        }

    def draw(self, path: Path) -> None:
        """The panels, a row a case."""
        tiles = [(2 * tile.clamp(0, 1) - 1).numpy() for row in self.panels for tile in row]
        write_grid(path, tiles, len(self.panels[0]))


def _reconstructed(
    recipe: Any,
    objective: Any,
    held_out: Cases,
    rows: Sequence[int],
    rivals: Mapping[str, Baseline],
    asked: Asked,
) -> Found:
    """Measure the cases by simulation, draw from each posterior, and score draws and rivals."""
    theirs = {name: Scores() for name in ("first", *rivals)}
    found = Found(Scores(), theirs, _Calls(objective))
    batch = 1 if recipe.ALONE or "kspace" in held_out.keys else asked.batch
    with progress_bar("reconstructing", len(rows)) as done, torch.no_grad():
        device = device_of(objective)
        for part, acquired, truth, unit in _measured(recipe, held_out, rows, batch, device):
            names, whose = (
                [column[row] for row in part] for column in (held_out.ids, held_out.patients)
            )
            began = time.perf_counter()
            drawn, told = _draws(recipe, objective, acquired, names, asked.seed)
            mean = told.mean(0)
            found.seconds += time.perf_counter() - began
            found.accelerations += acquired.acceleration.tolist()
            said = recipe.said(objective, acquired)
            found.ours.add(whose, residual=acquired.misses(drawn[0], LEAST), **said)
            drawn, mean = drawn.cpu() / unit, mean.cpu() / unit
            _score(found.ours, whose, drawn, mean, truth)
            found.spreads.add(drawn, truth)
            shown = _apart(rivals, acquired, unit)
            for name, image in shown.items():
                theirs[name].add(whose, **_fidelity(image, truth))
            found.panels += _panel(truth, shown, drawn, mean)[: SHOWN - len(found.panels)]
            done(rows.index(part[-1]) + 1)
    return found


def _draws(
    recipe: Any, objective: Any, acquired: Acquired, names: Sequence[str], seed: int
) -> tuple[Tensor, Tensor]:
    """K draws of some cases, and what the chain of each says of the posterior's mean, (K, B, 1, *S)."""
    every = [
        recipe.drawn(objective, acquired, [derive(seed, name, k) for name in names])
        for k in range(recipe.samples)
    ]
    drawn, told = (torch.stack(parts) for parts in zip(*every, strict=True))
    return drawn, told


def compare(
    recipe: Any, held_out: Cases, rivals: Mapping[str, Baseline], asked: Asked
) -> dict[str, dict[str, Metric]]:
    """PSNR, SSIM and NMSE of other methods alone, on the measurements `evaluate_reconstruction` makes."""
    rows = spread(len(held_out), asked.count or COUNT)
    scores = {name: Scores() for name in ("first", *rivals)}
    with progress_bar("comparing", len(rows)) as done:
        for part, acquired, truth, unit in _measured(recipe, held_out, rows, asked.batch):
            whose = [held_out.patients[row] for row in part]
            for name, image in _apart(rivals, acquired, unit).items():
                scores[name].add(whose, **_fidelity(image, truth))
            done(rows.index(part[-1]) + 1)
    return {name: each.metrics() for name, each in scores.items()}


def _measured(
    recipe: Any,
    cases: Cases,
    rows: Sequence[int],
    batch: int,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[Sequence[int], Acquired, Tensor, float]]:
    """Rows of a batch, their measurement on `device`, the truth in [0, 1], and what is 1 there in the measurement."""
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        if "kspace" in cases.keys:
            kspace = cases.batch(part)["kspace"].to(device)
            acquired, truth = undersampled(recipe, kspace, cases.ids[part[0]])
            unit = float(truth.max())
            yield part, acquired, truth.cpu() / unit, unit
            continue
        images = _images(cases, part)
        beside = {k: v for k, v in cases.batch(part).items() if k.startswith("image_")}
        told = {k: v.to(device) for k, v in {"image": images, **beside}.items()}
        yield part, recipe.acquire(told), reference(recipe, images), 1.0


def _apart(rivals: Mapping[str, Baseline], acquired: Acquired, unit: float) -> dict[str, Tensor]:
    """The plain reconstruction and those of other methods, magnitudes in [0, 1]."""
    made = {"first": acquired.first}
    made |= {name: rival(acquired.measurement, acquired.first) for name, rival in rivals.items()}
    return {name: (image.abs() / unit).clamp(0, 1).cpu() for name, image in made.items()}


def _fidelity(image: Tensor, truth: Tensor) -> dict[str, Tensor]:
    return {
        "psnr": psnr(image, truth, 1.0),
        "ssim": ssim(image, truth, 1.0),
        "nmse": nmse(image, truth),
    }


def _score(
    scores: Scores, whose: Sequence[str], drawn: Tensor, mean: Tensor, truth: Tensor
) -> None:
    """Metrics of K draws (K, B, 1, *S) of one batch, and of what their chains expect, (B, 1, *S)."""
    one = _fidelity(magnitude(drawn[0]), truth)
    scores.add(
        whose,
        **_fidelity(magnitude(mean), truth),
        psnr_mean_of_draws=psnr(magnitude(drawn.mean(0)), truth, 1.0),
        psnr_sample=one["psnr"],
        ssim_sample=one["ssim"],
    )
    if len(drawn) > 1:
        scores.add(whose, crps=crps(magnitude(drawn), truth))


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

    def _count(self, module: Any, inputs: Any, output: Any) -> None:
        self.images += len(inputs[0])
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(self._count_backward)

    def _count_backward(self, gradient: Tensor) -> None:
        self.backward += len(gradient)
