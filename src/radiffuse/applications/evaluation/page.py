"""A recorded evaluation as a section of docs/measured.md: the method beside its baselines."""

from collections.abc import Sequence
from typing import Any

from ...report.markdown import short, table

__all__ = ["Record", "columns", "comparison"]

Record = dict[str, Any]


def columns(record: Record, shown: Sequence[str]) -> list[str]:
    """Those of the metrics `shown` that the method or a baseline has, in order."""
    tables = [record["method"], *record["baselines"].values()]
    return [key for key in shown if any(key in table for table in tables)]


def comparison(record: Record, name: str, shown: Sequence[str]) -> list[str]:
    """One table: the method, what stands beside it, and the truth itself where that says something.

    Args:
        record: of `radiffuse evaluate`, with "trained" (minutes and images of each network),
            "trained_by" (the command), "name" (METHOD, or METHOD (PRESET)) and perhaps "note".
        name: heading.
        shown: metrics of the task that are shown.
    """
    minutes = "; ".join(
        f"{who.removeprefix('baseline-')} {its['minutes']:.0f} min, {its['images']} images"
        for who, its in record["trained"].items()
    )
    held_out, settings = record["data"]["held_out"], record["settings"]
    note = f" {record['note']}" if record.get("note") else ""
    about = (
        f"`{record['trained_by']}`. Held out: {settings.get('count') or held_out['n']} cases "
        f"of {held_out['patients']} patients ({', '.join(held_out['split'])}). "
        f"`{record['command']}`. Trained: {minutes}.{note}"
    )
    tables = {record["name"]: record["method"], **record["baselines"]}
    tables |= {"truth": record["reference"]} if record.get("reference") else {}
    metrics = columns(record, shown)
    rows = [[who, *(short(its.get(key)) for key in metrics)] for who, its in tables.items()]
    return [f"### {name}", "", about, "", *table(["", *metrics], rows)]
