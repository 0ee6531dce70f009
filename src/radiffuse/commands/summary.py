"""What several draws of a case say together: mean, deviation, interval, energy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.image import Image
from ..metrics.calibration import half_widths_per_std
from ..metrics.estimate import Sums
from ..runs.run import Run
from .pictures import write_output

__all__ = ["write_summary"]


def write_summary(
    opened: Run, key: str, sums: Mapping[str, Sums], place: int, like: Image, name: Path
) -> dict[str, Any]:
    """Write mean, deviation, interval and energy of one key of one case (see `Task`)."""
    task, signed = opened.recipe.task, sums.get(f"_{key}")
    low, high = (like.range if key not in task.raw else None) or (-1.0, 1.0)
    std = sums[key].std()[place] * (high - low) / 2
    maps = {"std": std}
    if key in task.intervals:
        maps["interval90"] = opened.recipe.widen * half_widths_per_std(sums[key].count) * std
    if signed is not None:
        maps["energy"] = signed.std()[place] ** 2
    mean = sums[key].mean[place] if signed is None else signed.mean[place].abs()
    files = {"mean": write_output(mean.float(), like, _ending(name, "mean"), key in task.raw)}
    files |= {end: write_output(m, like, _ending(name, end), raw=True) for end, m in maps.items()}
    return {f"{key}-{end}": file for end, file in files.items()}


def _ending(name: Path, end: str) -> Path:
    return name.with_name(f"{name.name}-{end}")
