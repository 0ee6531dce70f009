"""The sections of a report: each a function of what was read, to HTML; "" leaves a section out."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .chart import Point, chart
from .source import Source, number
from .table import metrics_table

_PAGE, _TIMES = 1072, 4
"""Pixels of the screen that a page is wide; how often a pixel is shown at most."""
_EVALUATE = "run <code>radiffuse evaluate {folder} --data PATH</code>"


def summary(source: Source) -> str:
    """The few facts a reader wants first, in one line."""
    last = source.log[-1] if source.log else {}
    settings = {**source.predictions.get("settings", {}), **source.metrics.get("settings", {})}
    facts = {
        "training steps": last.get("step"),
        "images seen": last.get("images"),
        "training time": _duration(last.get("seconds")),
        "sampling steps": settings.get("steps"),
        "generated": settings.get("count"),
        "version": source.manifest.get("version") or source.predictions.get("version"),
    }
    cells = [
        f"<div><dt>{escape(name)}</dt><dd>{escape(plain(value))}</dd></div>"
        for name, value in facts.items()
        if value not in (None, "")
    ]
    return f'<dl class="summary">{"".join(cells)}</dl>' if cells else ""


def metrics(source: Source) -> str:
    """Method, baseline and reference."""
    if not source.metrics:
        return missing("no metrics.json", source)
    return metrics_table(source.metrics)


def metrics_if_any(source: Source) -> str:
    """As `metrics`; nothing where there is none."""
    return metrics_table(source.metrics) if source.metrics else ""


def copies(source: Source) -> str:
    """Pairs of generated and nearest training image."""
    threshold = number(source.metrics.get("settings", {}).get("copy_threshold"))
    if not source.picture("copies.png"):
        return ""
    caption = "generated (left) and its nearest training image (right), nearest pairs first"
    below = (
        ""
        if threshold is None
        else (
            f" Flagged below {threshold:.3f}, the 1st percentile of the distances of held-out real "
            "images: chance alone flags 1 in 100."
        )
    )
    note = f"Under each pair the root mean square difference (images span 2).{below}"
    shown = figure(source, "copies.png", "Nearest pairs", caption)
    return f'{shown}<p class="note">{escape(note)}</p>'


def quality(source: Source) -> str:
    """FID against network evaluations."""
    series: dict[str, list[Point]] = {}
    for point in source.quality:
        fid = point.get("fid", {})
        x, y = number(point.get("evaluations")), number(fid.get("mean"))
        if x is not None and y is not None:
            low, high = fid.get("ci95") or (None, None)
            series.setdefault(str(point.get("name", "")), []).append(Point(x, y, low, high))
    return chart(series, "network evaluations for one image", "FID", log_x=True, log_y=True,
                 markers=True)  # fmt: skip


def rejection(source: Source) -> str:
    """Accuracy against the share of cases referred to a reader."""
    series: dict[str, list[Point]] = {}
    for name, found in source.metrics.get("rejection", {}).items():
        label = f"{name.replace('_', ' ')}: {found.get('by', '')}"
        for point in found.get("curve", []):
            x, y = number(point.get("referred")), number(point.get("mean"))
            if x is not None and y is not None:
                low, high = point.get("ci95") or (None, None)
                series.setdefault(label, []).append(Point(x, y, low, high))
    return chart(series, "share of cases referred, most doubtful first", "accuracy of the rest",
                 markers=True)  # fmt: skip


def calibration(source: Source) -> str:
    """The rank histogram of posterior samples."""
    shares = source.metrics.get("rank_histogram", {}).get("shares", [])
    if not shares:
        return ""
    last = len(shares) - 1
    ranks = {
        "found": [Point(rank, share) for rank, share in enumerate(shares)],
        "calibrated": [Point(rank, 1 / len(shares)) for rank in (0, last)],
    }
    drawn = chart(ranks, f"rank of the truth among {last} draws", "share of pixels", markers=True)
    note = (
        "Higher at both ends: the draws vary too little; in the middle: too much. "
        "Pixels of the body: air is left out."
    )
    return f'{drawn}<p class="note">{note}</p>'


def training(source: Source) -> str:
    """The loss of every player."""
    series: dict[str, list[Point]] = {}
    for line in source.log:
        losses = line.get("loss")
        losses = losses if isinstance(losses, Mapping) else {"loss": losses}
        for player, value in losses.items():
            x, y = number(line.get("step")), number(value)
            if x is not None and y is not None:
                series.setdefault(str(player), []).append(Point(x, y))
    drawn = chart(series, "step", "loss", log_y=True)
    if source.log and source.manifest.get("private"):
        return said("the loss of a private training is a number of the data, and is not kept")
    return drawn or said("no log.jsonl: nothing was trained here")


def data(source: Source) -> str:
    """What the numbers are of."""
    measured = source.metrics.get("data", {})
    trained = source.manifest.get("data", {})
    rows: dict[str, Any] = {
        "data": trained.get("path") or measured.get("source"),
        "cases": trained.get("cases"),
        "fingerprint": trained.get("fingerprint"),
    }
    for name in ("train", "held_out"):
        part = measured.get(name, {})
        if part:
            split = ", ".join(part.get("split", ())) or "train"
            label = name.replace("_", "-")
            rows[f"{label} split"] = f"{split}: {part.get('n')} images" + (
                f" of {part['patients']} patients" if "patients" in part else ""
            )
            rows[f"{label} fingerprint"] = part.get("fingerprint")
    return table_of(rows) or said("no manifest.json: the data are not recorded")


def reproduce(source: Source) -> str:
    """The commands."""
    commands = [
        (record or {}).get("command")
        for record in (source.manifest, source.predictions, source.metrics)
    ]
    known = [str(command) for command in commands if command]
    if not known:
        return said("no command is recorded")
    return f"<pre>{escape(chr(10).join(known))}</pre>"


def configuration(source: Source) -> str:
    """The text of config.toml."""
    if not source.config:
        return said("no config.toml in this folder")
    return f"<pre>{escape(source.config)}</pre>"


def environment(source: Source) -> str:
    """Versions and machine."""
    records = [r for r in (source.manifest, source.predictions, source.metrics) if r]
    record = next((r for r in records if r.get("environment")), {})
    rows = {key: record.get(key) for key in ("version", "commit", "seed")}
    rows.update(record.get("environment") or {})
    return table_of(rows) or said("no manifest.json: the environment is not recorded")


def figure(source: Source, name: str, title: str, caption: str, heads: Sequence[str] = ()) -> str:
    """A picture with a title, what it shows, and a heading over each of its columns; "" where there is none."""
    uri = source.picture(name)
    if not uri:
        return ""
    spans = "".join(f"<span>{escape(head.replace('_', ' '))}</span>" for head in heads)
    above = (
        f'<div class="heads" style="grid-template-columns: repeat({len(heads)}, 1fr)">{spans}</div>'
    )
    return (
        f'<figure><div class="panel" style="width: {_large(source.width(name))}px">{above if heads else ""}'
        f'<img src="{uri}" alt="{escape(title)}: {escape(caption)}"></div>'
        f"<figcaption><b>{escape(title)}</b> {escape(caption)}</figcaption></figure>"
    )


def _large(width: int) -> int:
    """How wide a picture is shown: each pixel as many times as it has room, so that pixels stay square and sharp."""
    return width * max(1, min(_TIMES, _PAGE // max(width, 1)))


def missing(what: str, source: Source) -> str:
    """What is not there, with the command that makes it."""
    return f'<p class="missing">{escape(what)}: ' + (
        _EVALUATE.format(folder=escape(str(source.folder))) + "</p>"
    )


def said(text: str) -> str:
    """A line that stands where something is missing."""
    return f'<p class="missing">{escape(text)}</p>'


def table_of(rows: Mapping[str, Any]) -> str:
    """Names and values; those without a value are left out."""
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(plain(value))}</td></tr>"
        for name, value in rows.items()
        if value not in (None, "", {}, [])
    )
    return f'<table class="facts">{cells}</table>' if cells else ""


def plain(value: Any) -> str:
    """A value of a record as people read it."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(each)}" for key, each in value.items())
    return value if isinstance(value, str) else json.dumps(value)


def _duration(seconds: Any) -> str | None:
    value = number(seconds)
    if value is None:
        return None
    hours, rest = divmod(round(value), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
