"""What colours mean: bars of values with their units, and the names of labels."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .source import number
from .strip import colour_of

__all__ = ["bar", "called", "legend", "swatches"]


def bar(kind: str, least: float, most: float, unit: str = "") -> str:
    """The colours of grey values ("grey") or of a map ("heat") between their ends."""
    end = f"{most:.3g} {unit}".strip()
    return (
        f'<span class="bar"><small>{least:.3g}</small><i class="{escape(kind, quote=True)}"></i>'
        f"<small>{escape(end)}</small></span>"
    )


def called(label: int, names: Sequence[str]) -> str:
    """The name of a label, or its number where it has none."""
    return (names[label] if label < len(names) else "") or str(label)


def swatches(labels: Iterable[int], names: Sequence[str]) -> str:
    """The labels that are there, in their colours."""
    shown = "".join(
        f'<span><i style="background: {colour_of(label)}"></i>{escape(called(label, names))}</span>'
        for label in labels
    )
    return f'<span class="swatches">{shown}</span>' if shown else ""


def legend(column: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> str:
    """What is below a column of a strip (`records.Column`)."""
    if column.get("kind") == "labels":
        return swatches(column.get("labels", ()), names.get(str(column.get("key")), ()))
    most = number(column.get("most"))
    if most is None:
        return ""
    return bar(
        str(column["kind"]), number(column.get("least")) or 0.0, most, column.get("unit", "")
    )
