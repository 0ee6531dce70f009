"""Evaluation of registration: structures that overlap, likeness, folding and time per pair."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.dataset import Cases
from ...metrics.deformation import end_point_error
from ...metrics.estimate import Metric, average, average_per_patient, proportion, refused
from ...metrics.fidelity import nmse, psnr
from ...metrics.overlap import dice_of_patients, labels_in
from ...nn.warp import folded, warp
from ...report.pictures import write_grid
from ...training import processes
from ...training.objective import device_of
from ..evaluation.asked import Asked, spread
from ..evaluation.drawing import in_batches
from ..evaluation.progress import progress_bar
from ..supervised import Rival, trained_beside
from .baselines import CLASSICAL, Classical, attempt
from .voxelmorph import VoxelMorph, voxelmorph_of

SHOWN = 6
TIMED = 10
GRID = 8


def evaluate_registration(
    recipe: Any,
    objective: Any,
    train: Cases,
    held_out: Cases,
    asked: Asked,
) -> dict[str, Any]:
    """Held-out pairs registered by the method, by VoxelMorph, by SimpleITK, and not at all.

    "voxelmorph" is the method's deformation network told both images, without a diffusion, trained as long
    as the run in RUN/baseline-voxelmorph. Where the method refines its field for each pair, "steps_alone" are the
    same steps from no displacement.

    Dice (with `moving_mask` and `fixed_mask`) counts all slices of a patient together, for each label
    and averaged over the labels there are; every other metric is averaged over a patient's pairs. Where
    the data hold `frames`, the ones between the ends are compared with the path of the method, and with
    the field of the others scaled by t; where they hold the true `field`, fields are compared with it.
    "baseline" is that of the highest Dice (without masks: of the highest correlation); "unregistered" among
    "baselines" is what there was before.

    A pair that a classical method cannot register is in none of its metrics; "failures" names these pairs
    and why, "failed" is their share.

    Args:
        recipe, objective: a trained method.
        train, held_out: its data.
        asked: what `evaluate` was asked for.
    """
    pairs = asked.chosen(held_out)
    voxelmorph = _voxelmorph(recipe, train, asked) if asked.cache else None
    if not processes.is_main():
        return {}
    data = pairs.batch(range(len(pairs)))
    moving, fixed, patients = data["moving"], data["fixed"], pairs.patients
    device = device_of(objective)

    def network(m: Tensor, f: Tensor) -> Tensor:
        return recipe.register(objective, m.to(device), f.to(device)).cpu()

    fields, seconds = _by_network(network, moving, fixed, asked.batch)
    score = Score(recipe, data, patients)
    frames = _path(recipe, objective, data, device, asked.batch) if "frames" in data else None
    method = score(fields, seconds, frames)
    baselines = {"unregistered": score(torch.zeros_like(fields), None)}
    failures = {}
    for name, register in CLASSICAL.items():
        theirs, its, failures[name] = _one_by_one(name, register, pairs, moving, fixed)
        baselines[name] = _without(score, theirs, its, [*failures[name]], pairs)
    if voxelmorph is not None:
        on = device_of(voxelmorph)

        def plain(m: Tensor, f: Tensor) -> Tensor:
            return voxelmorph.displacement(m.to(on), f.to(on)).cpu()

        baselines["voxelmorph"] = score(*_by_network(plain, moving, fixed, asked.batch))
    if recipe.refine:

        def steps_alone(m: Tensor, f: Tensor) -> Tensor:
            return recipe.steps_alone(objective, m.to(device), f.to(device)).cpu()

        baselines["steps_alone"] = score(*_by_network(steps_alone, moving, fixed, asked.batch))
    registering = {name: each for name, each in baselines.items() if name != "unregistered"}
    best = max(registering, key=lambda name: _rank(registering[name]))
    if asked.folder_for_pictures is not None:
        _draw(asked.folder_for_pictures, recipe, objective, data, fields, device)
    return asked.record(
        recipe,
        train,
        pairs,
        {
            "count": len(pairs),
            "baseline": best,
            "labels": score.labels,
            "spacing_mm": pairs.image(0, "fixed").spacing_mm,
        },
        method=method,
        baseline=baselines[best],
        baselines=baselines,
        failures=failures,
    )


def _voxelmorph(recipe: Any, train: Cases, asked: Asked) -> VoxelMorph:
    options = asked.budget("batch", "learning_rate", "warmup", "cooldown", "clip", "betas")
    rival = Rival(lambda: voxelmorph_of(recipe), train, options)
    return trained_beside({"voxelmorph": rival}, asked.run)["voxelmorph"]


def _without(
    score: "Score", fields: Tensor, seconds: list[float], failed: Sequence[str], pairs: Cases
) -> dict[str, Metric]:
    """Metrics of the pairs that were registered, and the share of those that were not."""
    lost = torch.tensor([name in set(failed) for name in pairs.ids])
    if bool(lost.all()):
        metrics = {"correlation": refused("no pair was registered", 0)}
    else:
        metrics = score.only(~lost)(fields[~lost], seconds)
    return {**metrics, "failed": proportion(lost)}


class Score:
    """Metrics of displacement fields on some pairs."""

    def __init__(self, recipe: Any, data: dict[str, Tensor], patients: tuple[str, ...]) -> None:
        self.recipe, self.data, self.patients = recipe, data, patients
        masks = [data[key] for key in ("moving_mask", "fixed_mask") if key in data]
        self.labels = labels_in(*masks) if len(masks) == 2 else []

    def only(self, kept: Tensor) -> "Score":
        """Of some of the pairs, `(n,)` bool; the labels stay."""
        names = [name for name, good in zip(self.patients, kept.tolist(), strict=True) if good]
        some = Score(self.recipe, {k: value[kept] for k, value in self.data.items()}, tuple(names))
        some.labels = self.labels
        return some

    def __call__(
        self, fields: Tensor, seconds: list[float] | None, frames: Tensor | None = None
    ) -> dict[str, Metric]:
        """Every metric of `fields` (n, axes, *S); seconds of some pairs, one by one."""
        warped, fixed = self.recipe.warped(self.data["moving"], fields), self.data["fixed"]
        metrics = self._dice(fields)
        for name, values in (
            ("correlation", _correlation(warped, fixed)),
            ("mse", (warped - fixed).square().flatten(1).mean(1)),
            ("folded", folded(fields)),
        ):
            metrics[name] = average_per_patient(values.tolist(), self.patients)
        if "frames" in self.data:
            metrics |= self._between(fields, frames)
        if "field" in self.data:
            metrics["end_point_error"] = self._error(fields)
        if seconds is not None:
            metrics["seconds_per_pair"] = average(torch.tensor(seconds))
        return metrics

    def _dice(self, fields: Tensor) -> dict[str, Metric]:
        if not self.labels:
            return {}
        warped = warp(self.data["moving_mask"], fields, nearest=True)
        found = dice_of_patients(warped, self.data["fixed_mask"], self.labels, self.patients)
        columns = {f"dice_{label}": place for place, label in enumerate(self.labels)}
        by_name = {
            "dice": {patient: float(value.nanmean()) for patient, value in found.items()},
            **{
                name: {patient: float(value[place]) for patient, value in found.items()}
                for name, place in columns.items()
            },
        }
        return {name: _of_patients(values) for name, values in by_name.items()}

    def _error(self, fields: Tensor) -> Metric:
        """Mean distance from the true field in voxels, in the tissue where that is known."""
        truth = self.data["field"]
        if truth.shape != fields.shape:
            return refused(f"the true field has shape {tuple(truth.shape[1:])}", 0)
        tissue = self.data["fixed_mask"] > 0 if "fixed_mask" in self.data else None
        values = end_point_error(fields, truth, tissue)
        return average_per_patient(values.tolist(), self.patients)

    def _between(self, fields: Tensor, frames: Tensor | None) -> dict[str, Metric]:
        """PSNR and NMSE (in [0, 1]) of the frames between the ends."""
        truth = self.data["frames"]
        if frames is None:
            times = torch.linspace(0, 1, truth.shape[1]).tolist()
            moving = self.data["moving"]
            frames = torch.cat([self.recipe.warped(moving, t * fields) for t in times], dim=1)
        ours, theirs = frames[:, 1:-1], truth[:, 1:-1]
        values = {
            "frames_psnr": psnr(ours, theirs, 2.0),
            "frames_nmse": nmse((ours + 1) / 2, (theirs + 1) / 2),
        }
        return {k: average_per_patient(v.tolist(), self.patients) for k, v in values.items()}


def _of_patients(values: dict[str, float]) -> Metric:
    """Mean over the patients who have the structure."""
    there = {patient: value for patient, value in values.items() if value == value}
    if not there:
        return refused("no patient has this label", 0)
    return average_per_patient(list(there.values()), list(there))


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each pair of images, (B,); 0 where one is constant."""
    a, b = (x.double().flatten(1) for x in (a, b))
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)


def _rank(metrics: dict[str, Metric]) -> float:
    return float(metrics.get("dice", metrics["correlation"]).get("mean", -1.0))


def _by_network(
    register: Callable[[Tensor, Tensor], Tensor], moving: Tensor, fixed: Tensor, batch: int
) -> tuple[Tensor, list[float]]:
    """Fields of all pairs, and the seconds of a few pairs one by one."""
    pairs = {"moving": moving, "fixed": fixed}
    with progress_bar("registering", len(moving)) as done:
        registered = 0

        def make(part: dict[str, Tensor]) -> Tensor:
            nonlocal registered
            found = register(part["moving"], part["fixed"])
            done(registered := registered + len(found))
            return found

        fields = in_batches(make, pairs, batch, torch.device("cpu"))
    seconds: list[float] = []
    # the first pair by itself also prepares the kernels of its shape
    register(moving[:1], fixed[:1])
    for row in range(min(TIMED, len(moving))):
        began = time.perf_counter()
        register(moving[row : row + 1], fixed[row : row + 1])
        seconds.append(time.perf_counter() - began)
    return fields, seconds


def _one_by_one(
    name: str, register: Classical, pairs: Cases, moving: Tensor, fixed: Tensor
) -> tuple[Tensor, list[float], dict[str, str]]:
    """Fields of all pairs, NaN where there is none; the seconds of those that have one; why others have none."""
    fields, seconds, failures = [], [], {}
    with progress_bar(name.replace("_", " "), len(moving)) as done:
        for row in range(len(moving)):
            spacing = pairs.image(row, "fixed").spacing_mm or (1.0,) * (moving.ndim - 2)
            began = time.perf_counter()
            found = attempt(register, moving[row, 0], fixed[row, 0], spacing)
            if isinstance(found, str):
                failures[pairs.ids[row]] = found
                found = torch.full((moving.ndim - 2, *moving.shape[2:]), torch.nan)
            else:
                seconds.append(time.perf_counter() - began)
            fields.append(found)
            done(row + 1)
    return torch.stack(fields), seconds, failures


def _path(
    recipe: Any, objective: Any, data: dict[str, Tensor], device: torch.device, batch: int
) -> Tensor:
    """The method's frames (n, F, *S), as many as the data have."""
    pairs = {key: data[key] for key in ("moving", "fixed", "frames")}

    def path(part: dict[str, Tensor]) -> Tensor:
        return recipe.predict(objective, {**part, "seed": torch.arange(len(part["moving"]))})[
            "path"
        ]

    return in_batches(path, pairs, batch, device)


def _draw(
    folder: Path,
    recipe: Any,
    objective: Any,
    data: dict[str, Tensor],
    fields: Tensor,
    device: torch.device,
) -> None:
    """registration.png: moving, fixed, warped, differences before and after, deformed grid; path.png."""
    rows = spread(len(fields), SHOWN)
    moving, fixed, fields = data["moving"][rows], data["fixed"][rows], fields[rows]
    warped = recipe.warped(moving, fields)
    lines = torch.zeros_like(moving)
    for axis in range(2, moving.ndim):
        places = torch.arange(0, moving.shape[axis], GRID)
        lines.index_fill_(axis, places, 1.0)
    grid = 2 * warp(lines, fields) - 1
    columns = (moving, fixed, warped, (moving - fixed) / 2, (warped - fixed) / 2, grid)
    shown = [column[row].numpy() for row in range(len(rows)) for column in columns]
    write_grid(folder / "registration.png", shown, len(columns))
    part = {"moving": moving.to(device), "fixed": fixed.to(device), "seed": torch.tensor(rows)}
    path = recipe.predict(objective, part)["path"].cpu()
    frames = [frame[None].numpy() for series in path for frame in series]
    write_grid(folder / "path.png", frames, path.shape[1])
