"""Tables of metrics in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["number", "row", "short", "table"]

Metric = Mapping[str, Any]


def row(cells: Iterable[object]) -> str:
    """One line of a table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def table(head: Sequence[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """A table, and the empty line behind it."""
    return [row(head), "|---" * len(head) + "|", *(row(cells) for cells in rows), ""]


def number(metric: Metric | None) -> str:
    """A metric with its interval and n, or why it was refused."""
    if metric is None:
        return ""
    if "refused" in metric:
        return f"refused: {metric['refused']}"
    return f"{_mean(metric, 4)}, n = {metric['n']}" if metric.get("mean") is not None else ""


def short(metric: Metric | None) -> str:
    """A metric without its n: 0.742 [0.679, 0.8]."""
    return _mean(metric, 3) if metric and metric.get("mean") is not None else ""


def _mean(metric: Metric, digits: int) -> str:
    mean, interval = metric["mean"], metric.get("ci95")
    if not interval or interval[0] is None:
        return f"{mean:.{digits}g}"
    return f"{mean:.{digits}g} [{interval[0]:.{digits}g}, {interval[1]:.{digits}g}]"
