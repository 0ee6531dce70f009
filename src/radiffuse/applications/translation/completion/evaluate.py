"""Evaluation of completed contrasts: every configuration by the same weights, beside baselines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....data.dataset import Cases
from ....errors import UserError
from ....metrics.calibration import coverage, crps
from ....metrics.estimate import Metric
from ....metrics.fidelity import WINDOW, psnr, ssim
from ....report.pictures import write_grid
from ....training import processes
from ...evaluation.asked import Asked, spread
from ...evaluation.drawing import predictions
from ...evaluation.scores import Scores
from ...sizes import check_mask
from .baselines import Renamed, trained_baselines
from .codes import configurations, named, whole

__all__ = ["evaluate_completion"]

SPAN, BLACK, AIR = 2.0, -1.0, -0.95
_ROWS = 12

Predictor = tuple[Any, Any, int]
"""What predicts as a recipe does, its objective, and draws of a case."""


def evaluate_completion(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
    *,
    beside: Mapping[str, tuple[Any, Any, str, str]] = {},
) -> dict[str, Any]:
    """Every contrast made from every subset of the others, against the truth, per patient, beside baselines.

    Metrics of contrast B made from A stand under "METRIC_B_from_A", and their mean over all of these under
    "METRIC": psnr and ssim of the mean of `recipe.samples` draws, psnr_single of one, crps (the mean absolute error
    of what has one answer) in units of [-1, 1], coverage_90 of the body by 90 % intervals, lesion_psnr inside "mask".
    "baseline" is one regression network of all configurations; see `trained_baselines` for the others.

    Args:
        recipe, objective: a trained method of the task.
        train, held_out: its data, with every contrast.
        asked: what `evaluate` was asked for.
        beside: by name, recipes of one source and one target with their objectives and the two contrasts.

    Raises:
        UserError: a contrast is not there to compare with, or a prediction is not finite.
    """
    for key in recipe.contrasts:
        if key not in held_out.keys:
            raise UserError(f"{held_out.source}: no {key} to compare with; --map {key}=COLUMN")
    check_mask(held_out, recipe.contrasts[0])
    held_out = asked.chosen(held_out)
    rivals = trained_baselines(recipe, train, asked) if asked.cache else {}
    if not processes.is_main():
        return {}
    draws = max(1, recipe.samples)
    who: dict[str, Predictor] = {"method": (recipe, objective, draws), **rivals}
    found = _Comparison(held_out, asked, recipe.contrasts, tuple(who))
    configured = []
    for code in configurations(len(recipe.contrasts)):
        given, lacking = named(code, recipe.contrasts)
        configured += [{"made": k, "given": given, "end": _end(k, given)} for k in lacking]
        for name, predictor in who.items():
            found.measure(name, predictor, given, lacking)
        for name, (other, its, source, target) in beside.items():
            if given == [source]:
                predictor = Renamed(other, source, target), its, draws
                found.measure(name, predictor, given, [target])
    tables = found.tables()
    method = tables.pop("method")
    if asked.folder_for_pictures is not None:
        _write(asked.folder_for_pictures / "completion.png", found.panels)
    settings = {
        "samples": draws,
        "seed": asked.seed,
        "steps": recipe.steps,
        "count": len(held_out),
        "range": [-1.0, 1.0],
        "panels": [*recipe.contrasts, "truth", "mean", "draw", "deviation", "error"],
    }
    return asked.record(
        recipe,
        train,
        held_out,
        settings,
        method=method,
        baseline=tables.get("regression", {}),
        baselines=tables,
        configurations=configured,
    )


def _end(made: str, given: Sequence[str]) -> str:
    return f"_{made}_from_{'_'.join(given)}"


@dataclass
class _Comparison:
    """What was measured so far.

    Attributes:
        cases: held-out cases with every contrast.
        asked: what `evaluate` was asked for.
        contrasts: their keys.
        overall: names of those that are measured in every configuration.
        apart: metrics of single contrasts and configurations, by name.
        all: values over all configurations, by name.
        panels: rows of the picture of the method.
    """

    cases: Cases
    asked: Asked
    contrasts: tuple[str, ...]
    overall: tuple[str, ...]
    apart: dict[str, dict[str, Metric]] = field(default_factory=dict)
    all: dict[str, Scores] = field(default_factory=dict)
    panels: list[list[Tensor]] = field(default_factory=list)

    def measure(
        self, name: str, predictor: Predictor, given: Sequence[str], keys: Sequence[str]
    ) -> None:
        """Score what is made of `keys` from the contrasts `given`; of the method one case of each is shown."""
        recipe, objective, draws = predictor
        cases, title = self.cases, f"{name}: {' '.join(keys)} from {' '.join(given)}"
        scores = {key: Scores() for key in keys}
        for rows, several in predictions(recipe, objective, cases, self.asked, given, title, draws):
            made = list(several)
            batch = cases.batch(rows)
            patients = cases.patients[rows.start : rows.stop]
            body = (whole(batch, self.contrasts) > AIR).any(1, keepdim=True)
            for key in keys:
                drawn = torch.stack([each[key] for each in made]).float()
                metrics = _scored(drawn, batch[key], body, batch.get("mask"))
                for kept in (scores[key], self.all.setdefault(name, Scores())):
                    kept.add(patients, **metrics)
                if name == "method" and rows.start == 0:
                    self.panels.append(_panel(batch, self.contrasts, given, key, drawn))
        for key, its in scores.items():
            self.apart.setdefault(name, {}).update(its.metrics(_end(key, given)))

    def tables(self) -> dict[str, dict[str, Metric]]:
        """Every metric of each, by name; the mean over configurations where all were measured."""
        return {
            name: {**(self.all[name].metrics() if name in self.overall else {}), **its}
            for name, its in self.apart.items()
        }


def _scored(drawn: Tensor, truth: Tensor, body: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Metrics (B,) of draws (K, B, 1, *S)."""
    mean = drawn.mean(0)
    found = {"psnr": psnr(mean, truth, SPAN)}
    if min(truth.shape[2:]) >= WINDOW:
        found["ssim"] = ssim(mean, truth, SPAN, BLACK)
    if len(drawn) > 1:
        found["psnr_single"] = psnr(drawn[0], truth, SPAN)
        found["crps"] = crps(drawn, truth)
        found["coverage_90"] = coverage(drawn, truth, where=body)
    else:
        found["crps"] = (mean - truth).abs().flatten(1).mean(1)
    if mask is not None:
        where = (mask > 0).double()
        error = ((mean - truth).double().square() * where).flatten(1).sum(1)
        found["lesion_psnr"] = 10 * torch.log10(SPAN**2 * where.flatten(1).sum(1) / error)
    return found


def _panel(
    batch: Mapping[str, Tensor],
    contrasts: Sequence[str],
    given: Sequence[str],
    key: str,
    drawn: Tensor,
) -> list[Tensor]:
    """Of the first case: the contrasts it has (grey where it has none), truth, mean, draw, deviation, error."""
    truth, mean = batch[key][0], drawn[:, 0].mean(0)
    std = drawn[:, 0].std(0) if len(drawn) > 1 else torch.zeros_like(mean)
    told = [batch[name][0] if name in given else torch.zeros_like(truth) for name in contrasts]
    return [*told, truth, mean, drawn[0, 0], 4 * std - 1, 4 * (mean - truth).abs() - 1]


def _write(path: Path, panels: Sequence[Sequence[Tensor]]) -> None:
    """A row a missing contrast; deviation and error from 0 (black) to 0.5 (white)."""
    rows = [panels[row] for row in spread(len(panels), _ROWS)]
    images = [image.float().clamp(-1, 1).numpy() for row in rows for image in row]
    if images:
        write_grid(path, images, len(rows[0]))
