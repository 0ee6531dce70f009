"""The card of a packed model: what it does, what it learned from, how good it is, what it is not for.

`card.json` is for programs, README.md for people and for the Hub (its head is YAML).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import papers
from ..data.records import FORMAT
from .private import lines as said_of_privacy
from .source import number, read_source
from .table import apart
from .wording import wording

__all__ = ["NOT_FOR", "About", "card", "compared", "readme", "said_numbers", "trained"]

_VARIANTS = ("mean_of_draws", "vote", "staple", "single_draw", "tuned")
"""Rows beside a method that read or set the same model in another way: no baselines."""
GAUSSIAN = "Gaussian"
"""The baseline that has no name: of generated images."""
NOT_FOR = "the care of patients: it is no medical device, and nobody has validated it on any"
_LENGTHS = {"spacing_mm": "spacing, mm", "extent_mm": "field of view, mm"}
_GREYS = {"dark": "1st percentile of stored values", "bright": "99th percentile"}


@dataclass(frozen=True)
class About:
    """What a card says that no file of the run tells.

    Attributes:
        name: of the model.
        title: what it does, in a sentence.
        data: what it was trained on, in a sentence.
        licence: of the weights, as SPDX writes it.
        not_for: what it must not be used for, beside `NOT_FOR`.
        main: metric that is told first; the first of its application where "".
        demo: how `radiffuse demo` shows it (`commands.panels`); {}: not at all.
    """

    name: str
    title: str = ""
    data: str = ""
    licence: str = ""
    not_for: tuple[str, ...] = ()
    main: str = ""
    demo: Mapping[str, Any] = field(default_factory=dict)


def card(folder: Path, about: About, training: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the packed model in `folder`, as plain values.

    Args:
        folder: of `runs.packed.pack`.
        about: beside that.
        training: command, and steps, images and seconds (`trained`).
    """
    source = read_source(folder)
    paper, data = papers.by_id(source.method), source.manifest.get("data", {})
    return {
        "format": FORMAT,
        "name": about.name,
        "title": about.title,
        "method": source.name,
        "id": source.method,
        "application": paper.application,
        "paper": {"citation": paper.citation, "url": paper.url},
        "licence": about.licence,
        "data": {
            "about": about.data,
            "name": data.get("path", ""),
            "cases": data.get("cases"),
            "map": data.get("map", {}),
        },
        "training": dict(training),
        **({"private": dict(budget)} if (budget := source.manifest.get("private")) else {}),
        "numbers": sorted(
            compared(source.metrics, source.metrics.get("shown", ())),
            key=lambda each: each["metric"] != about.main,
        ),
        "measured": {
            "on": source.metrics.get("data", {}).get("held_out", {}),
            "command": source.metrics.get("command", ""),
        },
        "seen": data.get("seen", {}),
        "not_for": [*about.not_for, NOT_FOR],
        **({"demo": dict(about.demo)} if about.demo else {}),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*.safetensors")),
    }


def trained(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How long a training was, of the lines of its log."""
    last = log[-1] if log else {}
    names = {"step": "steps", "images": "images", "seconds": "seconds"}
    return {ours: last[theirs] for theirs, ours in names.items() if theirs in last}


def compared(metrics: Mapping[str, Any], keys: Sequence[str]) -> list[dict[str, Any]]:
    """Of these metrics the method's number, and that of the baseline which is best at it; others are left out."""
    found = []
    main, others = apart(metrics)
    if baseline := metrics.get("baseline"):
        others[main or GAUSSIAN] = baseline
    others = {who: column for who, column in others.items() if who not in _VARIANTS}
    for key in keys:
        ours = metrics.get("method", {}).get(key) or {}
        theirs = {
            who: column[key]
            for who, column in others.items()
            if number((column.get(key) or {}).get("mean")) is not None
        }
        better = wording(key).better
        if number(ours.get("mean")) is None or not theirs or better not in ("higher", "lower"):
            continue
        sign = 1 if better == "higher" else -1
        best = max(theirs, key=lambda who: sign * theirs[who]["mean"])
        found.append(
            {
                "metric": key,
                "better": better,
                "method": _short(ours),
                "baseline": {"name": best.replace("_", " "), **_short(theirs[best])},
            }
        )
    return found


def _short(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value[name] for name in ("mean", "ci95", "n") if name in value}


def said_numbers(made: Mapping[str, Any], most: int = 2) -> str:
    """The first numbers of a card beside their baselines, in a line."""
    return "; ".join(
        f"{wording(each['metric']).label} {each['method']['mean']:.3g} "
        f"({each['baseline']['name']} {each['baseline']['mean']:.3g})"
        for each in made["numbers"][:most]
    )


def readme(made: Mapping[str, Any]) -> str:
    """README.md of a card."""
    data, training, measured = made["data"], made["training"], made["measured"]
    licence = made["licence"]
    head = ["---", *([f"license: {licence.lower()}"] if licence else []), "library_name: radiffuse"]
    head += [
        "tags:",
        "- medical-imaging",
        "- diffusion",
        f"- {made['application'].replace(' ', '-')}",
    ]
    lines = [*head, "---", "", f"# {made['name']}", ""]
    lines += [made["title"], ""] if made["title"] else []
    lines += [
        f"Method: {made['method']} of [Radiffuse]. {made['paper']['citation']} {made['paper']['url']}",
        "",
        "## Data and licence",
        "",
        f"{data['about'] or 'Trained on data called'} `{data['name']}`{_many(data['cases'])}.",
        f"Licence of the weights: {licence or 'not said'}.",
        "",
        "## Training",
        "",
        *_training(training),
        "",
        *_privacy(made.get("private", {})),
        "## Numbers",
        "",
        *_table(made["numbers"], measured),
        "",
        "## What it has seen",
        "",
        *_seen(made["seen"]),
        "",
        "## What it is not for",
        "",
        *(f"- {line}" for line in made["not_for"]),
        "",
    ]
    return "\n".join(lines)


def _many(cases: int | None) -> str:
    """How many cases, where that may be said (of a private training it may not)."""
    return "" if cases is None else f", {cases} cases"


def _training(training: Mapping[str, Any]) -> list[str]:
    long = ""
    if "steps" in training:
        long = f"{training['steps']} steps, {training['images']} images, {training['seconds'] / 60:.0f} minutes: "
    return [f"{long}`{training['command']}`"]


def _privacy(budget: Mapping[str, Any]) -> list[str]:
    return ["## Privacy", "", *said_of_privacy(budget), ""] if budget else []


def _table(numbers: Sequence[Mapping[str, Any]], measured: Mapping[str, Any]) -> list[str]:
    if not numbers:
        return ["Nothing was measured."]
    on = measured["on"]
    rows = [
        f"| {wording(each['metric']).label}, {each['better']} is better | {_cell(each['method'])} | "
        f"{_cell(each['baseline'])} ({each['baseline']['name']}) |"
        for each in numbers
    ]
    return [
        "|  | this model | best baseline |",
        "|---|---|---|",
        *rows,
        "",
        f"Means, 95 % intervals and their n, on held-out cases ({on.get('patients', '?')} people in all): "
        f"`{measured['command']}`.",
    ]


def _cell(value: Mapping[str, Any]) -> str:
    ends = value.get("ci95") or (None, None)
    spread = "" if None in ends else f" [{ends[0]:.3g}, {ends[1]:.3g}]"
    counted = f", n = {value['n']}" if "n" in value else ""
    return f"{value['mean']:.3g}{spread}{counted}"


def _seen(seen: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    """Ranges of the training images; `predict` says what lies outside of them."""
    if not seen:
        return ["Not recorded."]
    lines = []
    for key, ranges in seen.items():
        words = [
            f"{label} {ranges[name][0]:.4g} to {ranges[name][1]:.4g}"
            for name, label in {**_LENGTHS, **_GREYS}.items()
            if name in ranges
        ]
        lines.append(f"- {key}: {'; '.join(words)}")
    return [*lines, "", "`radiffuse predict` says which images lie outside of these."]
