"""The table of metrics: method, baseline and the best that can be reached."""

from collections.abc import Mapping
from html import escape
from typing import Any

from .source import number
from .wording import wording

_COLUMNS = {
    "method": "method",
    "baseline": "baseline",
    "reference": "reference (real)",
    "made": "made maps and images",
}


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
    """A row a metric: name and meaning, which way is better, then mean, 95 % interval and n."""
    columns = _columns(metrics)
    names = list(dict.fromkeys(metric for column in columns.values() for metric in column))
    head = "".join(f"<th>{escape(title)}</th>" for title in columns)
    rows = "".join(_row(name, [column.get(name) for column in columns.values()]) for name in names)
    features = metrics.get("features", {})
    networks = [features, *([features["slices"]] if "slices" in features else [])]
    named = ", of slices ".join(f"{each.get('name')} {each.get('hash')}" for each in networks)
    feature_note = (
        f" Features: {escape(named)}; numbers compare only under the same features and the same n."
        if features
        else ""
    )
    return (
        '<div class="wide"><table class="metrics"><thead><tr><th>metric</th><th>better</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="note">Mean, with its 95 % confidence interval and n below. Reference: real '
        f"training images in place of generated ones.{feature_note}</p>"
    )


def _columns(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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


def _row(name: str, values: list[Any]) -> str:
    words = wording(name)
    cells = "".join(f"<td>{_cell(value)}</td>" for value in values)
    return (
        f"<tr><th>{escape(words.label)}<small>{escape(words.meaning)}</small></th>"
        f'<td class="better">{escape(words.better)}</td>{cells}</tr>'
    )


def _cell(value: Any) -> str:
    if not isinstance(value, dict):
        return '<span class="refused">–</span>'
    if "refused" in value:
        return f'<span class="refused">not given: {escape(str(value["refused"]))}</span>'
    mean = number(value.get("mean"))
    if mean is None:
        return '<span class="refused">–</span>'
    low, high = (number(end) for end in value.get("ci95") or (None, None))
    spread = "" if low is None or high is None else f"{_digits(low)} to {_digits(high)} · "
    return f"<b>{_digits(mean)}</b><small>{spread}n = {escape(str(value.get('n', '?')))}</small>"


def _digits(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
