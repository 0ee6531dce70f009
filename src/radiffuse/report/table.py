"""The tables of metrics: method, baselines and the best that can be reached."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .source import number
from .wording import breakable, wording

_COLUMNS = {
    "method": "method",
    "baseline": "baseline",
    "reference": "reference (real)",
    "made": "made maps and images",
}


_MAIN = 5
"""Metrics side by side."""


def apart(metrics: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the main baseline among all, "" where it has none, and the others by name.

    One whose numbers equal the main one's is another baseline all the same.
    """
    main, others = metrics.get("baseline"), metrics.get("baselines")
    others = dict(others) if isinstance(others, dict) else {}
    name = next((name for name, column in others.items() if column and column == main), "")
    others.pop(name, None)
    return name, others


def metrics_table(metrics: Mapping[str, Any]) -> str:
    """A row for the method and each baseline, a column a metric: the main ones, and the others folded."""
    rows = _rows(metrics)
    every = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    first = [name for name in metrics.get("shown", ()) if name in every] or every
    main = first[:_MAIN]
    rest = [name for name in every if name not in main]
    parts = [rest[k : k + _MAIN] for k in range(0, len(rest), _MAIN)]
    folded = "".join(_table(rows, part) for part in parts)
    others = f"<details><summary>{len(rest)} further numbers</summary>{folded}</details>"
    features = metrics.get("features", {})
    networks = [features, *([features["slices"]] if "slices" in features else [])]
    named = ", of slices ".join(f"{each.get('name')} {each.get('hash')}" for each in networks)
    feature_note = (
        f" Features: {escape(named)}; numbers compare only under the same features and the same n."
        if features
        else ""
    )
    return (
        f"{_table(rows, main)}{others if rest else ''}"
        '<p class="note">Mean, its 95 % confidence interval below and drawn, n where it differs within a row. '
        f"Reference: real training images in place of generated ones.{feature_note}</p>"
    )


def _table(rows: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    """Some of the metrics, the same scale for all intervals of one."""
    shown = {who: row for who, row in rows.items() if any(name in row for name in names)}
    head = "".join(f"<th>{_head(name)}</th>" for name in names)
    scales = {name: _scale([row.get(name) for row in shown.values()]) for name in names}
    body = ""
    for who, row in shown.items():
        counts = [str(row[name]["n"]) for name in names if _counted(row.get(name))]
        common = max(counts, key=counts.count, default="")
        cells = "".join(f"<td>{_cell(row.get(n), scales[n], common)}</td>" for n in names)
        said = f"<small>n = {escape(common)}</small>" if common else ""
        body += f"<tr><th>{breakable(who)}{said}</th>{cells}</tr>"
    return (
        '<div class="wide"><table class="metrics"><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _head(name: str) -> str:
    """A metric's name, which way is better, and what it is."""
    words = wording(name)
    better = f" ({escape(words.better)})" if words.better else ""
    return f"{escape(words.label)}{better}<small>{escape(words.meaning)}</small>"


def _counted(value: Any) -> bool:
    return isinstance(value, dict) and value.get("n") is not None


def _rows(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is compared, by its title: the method, its main baseline by name, the other baselines."""
    found = {name: metrics[name] for name in _COLUMNS if isinstance(metrics.get(name), dict)}
    main, others = apart(metrics)
    columns = {}
    for name, column in found.items():
        if column:
            title = str(metrics.get("name", "method")) if name == "method" else _COLUMNS[name]
            if name == "baseline" and main:
                title = f"{title}: {main.replace('_', ' ')}"
            columns[title] = column
        if name == "baseline":
            columns |= {k.replace("_", " "): v for k, v in others.items() if v}
    return columns


def _cell(value: Any, scale: tuple[float, float] | None, count: str) -> str:
    if not isinstance(value, dict):
        return '<span class="refused">–</span>'
    if "refused" in value:
        return f'<span class="refused">not given: {escape(str(value["refused"]))}</span>'
    mean = number(value.get("mean"))
    if mean is None:
        return '<span class="refused">–</span>'
    low, high = (number(end) for end in value.get("ci95") or (None, None))
    said = [f"{_digits(low)} to {_digits(high)}"] if low is not None and high is not None else []
    said += [f"n = {value['n']}"] if _counted(value) and str(value["n"]) != count else []
    drawn = "" if low is None or high is None else _drawn(mean, low, high, scale)
    return f"<b>{_digits(mean)}</b>{drawn}<small>{escape(', '.join(said))}</small>"


def _scale(values: Sequence[Any]) -> tuple[float, float] | None:
    """The least and largest end of the intervals of a metric."""
    ends = [
        end
        for value in values
        if isinstance(value, dict)
        for each in (value.get("ci95") or (), (value.get("mean"),))
        for end in map(number, each)
        if end is not None
    ]
    return (min(ends), max(ends)) if ends and min(ends) < max(ends) else None


def _drawn(mean: float, low: float, high: float, scale: tuple[float, float] | None) -> str:
    """An interval as a line, its mean as a point."""
    if scale is None:
        return ""
    least, most = scale
    x, left, right = (4 + 92 * (value - least) / (most - least) for value in (mean, low, high))
    return (
        '<svg class="interval" viewBox="0 0 100 8" aria-hidden="true">'
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="4" y2="4"/><circle cx="{x:.1f}" cy="4" r="3"/></svg>'
    )


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
