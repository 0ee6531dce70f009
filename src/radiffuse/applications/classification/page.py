"""Recorded classifications as sections of docs/measured.md."""

from collections.abc import Sequence

from ...report.markdown import table
from ..evaluation.page import Record, comparison

__all__ = ["section"]


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """Method and baselines, and the accuracy of what remains when the doubtful share is referred."""
    curves = record["rejection"]
    shares = [point["referred"] for point in next(iter(curves.values()))["curve"]]
    rows = [
        [f"{who} (by {its['by']})", *(_accuracy(point) for point in its["curve"])]
        for who, its in curves.items()
    ]
    said = "Accuracy of the cases that remain when a share is referred, the most doubtful first:"
    head = ["referred", *(f"{share:.0%}" for share in shares)]
    return [*comparison(record, name, shown), said, "", *table(head, rows)]


def _accuracy(point: Record) -> str:
    return f"{point['mean']:.3g}" if "mean" in point else ""
