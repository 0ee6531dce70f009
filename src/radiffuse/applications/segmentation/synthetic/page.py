"""A recorded evaluation of a segmenter of made pairs as a section of docs/measured.md."""

from collections.abc import Sequence

from ....report.markdown import number, table
from ...evaluation.page import Record, comparison

__all__ = ["section"]


def section(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """The segmenter beside its baselines, then what was asked of made maps and images."""
    rows = [[key, number(metric)] for key, metric in record["made"].items()]
    return [*comparison(record, name, shown), *table(["made maps and images", ""], rows)]
