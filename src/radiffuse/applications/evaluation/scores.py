"""Metrics collected case by case, for their means over patients."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...metrics.estimate import Metric, average_per_patient, refused

__all__ = ["Scores"]


@dataclass
class Scores:
    """Values of each metric, case by case, and whose they are."""

    values: dict[str, list[float]] = field(default_factory=dict)
    patients: dict[str, list[str]] = field(default_factory=dict)

    def add(self, patients: Sequence[str], **metrics: Tensor) -> None:
        """Add metrics (B,) of cases of these patients; NaN says that a case has none."""
        for name, value in metrics.items():
            rows = (~value.isnan()).nonzero()[:, 0].tolist()
            self.values.setdefault(name, []).extend(value[rows].tolist())
            self.patients.setdefault(name, []).extend(patients[row] for row in rows)

    def metrics(self, end: str = "") -> dict[str, Metric]:
        """Mean over patients of each, under its name and `end`."""
        return {
            name + end: average_per_patient(v, self.patients[name])
            if v
            else refused(f"{name}: no case has one", 0)
            for name, v in self.values.items()
        }
