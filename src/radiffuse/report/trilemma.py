"""The page of a comparison of families: the triangle of quality, coverage and speed, tables, samples.

Made from compare.json and sheet.png alone; imports no torch.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from .document import document

__all__ = ["AXES", "axes_of", "page", "table", "triangle"]

AXES = ("quality", "coverage", "speed")
HOW = (
    "Quality: log(FID of the Gaussian baseline / FID) over log(FID of the Gaussian baseline / FID of real training "
    "images); 0 is no better than one Gaussian, 1 as near the held-out images as real ones.",
    "Coverage: the coverage metric (share of held-out images with a drawn one in their neighbourhood) over that of "
    "real training images, 1 at most.",
    "Speed: seconds an image in batches of 64 on this machine, on a logarithmic scale from 10 s (0) to 1 ms (1).",
)
SHOWN = {
    "fid": "FID, lower",
    "kid": "KID, lower",
    "precision": "precision",
    "density": "density",
    "recall": "recall",
    "coverage": "coverage",
    "classes_found": "classes found",
    "rare_classes_found": "rare classes found",
    "ms_ssim": "MS-SSIM of pairs, as the real ones",
    "bits_per_dimension": "bits per dimension, lower",
    "copies_features": "memorised share (features)",
    "copies_pixels": "memorised share (pixels)",
    "seconds_batch_1": "seconds an image, batch 1",
    "seconds_batch_64": "seconds an image, batch 64",
}
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
_SLOW, _FAST = 10.0, 1e-3


def axes_of(
    method: Mapping[str, Any], baseline: Mapping[str, Any], reference: Mapping[str, Any]
) -> dict[str, float | None]:
    """Quality, coverage and speed from 0 to 1 (see `HOW`); None where a number they need is missing."""
    fid, simple, real = (each.get("fid", {}).get("mean") for each in (method, baseline, reference))
    ours, theirs = (each.get("coverage", {}).get("mean") for each in (method, reference))
    seconds = method.get("seconds_batch_64", {}).get("mean")
    quality = coverage = speed = None
    if None not in (fid, simple, real) and min(fid, simple, real) > 0 and simple > real:
        quality = _share(math.log(simple / fid) / math.log(simple / real))
    if None not in (ours, theirs) and theirs > 0:
        coverage = _share(ours / theirs)
    if seconds:
        speed = _share(math.log(_SLOW / seconds) / math.log(_SLOW / _FAST))
    return dict(zip(AXES, (quality, coverage, speed), strict=True))


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))


def triangle(axes: Mapping[str, Mapping[str, float | None]]) -> str:
    """An SVG: three axes from the middle to the corners, and for each family the triangle of its three numbers.

    A family that lacks one of them is named below the drawing, and not drawn.
    """
    middle_x, middle_y, long = 300.0, 262.0, 200.0
    turns = [-90.0, 30.0, 150.0]

    def at(axis: int, share: float) -> tuple[float, float]:
        angle = math.radians(turns[axis])
        across, down = long * share * math.cos(angle), long * share * math.sin(angle)
        return round(middle_x + across, 1), round(middle_y + down, 1)

    def points(shares: Sequence[float]) -> str:
        return " ".join("{},{}".format(*at(k, share)) for k, share in enumerate(shares))

    parts = [
        f'<polygon points="{points([s, s, s])}" fill="none" stroke="#999" stroke-opacity="0.5"/>'
        for s in (0.25, 0.5, 0.75, 1.0)
    ]
    for axis, name in enumerate(AXES):
        x, y = at(axis, 1.0)
        parts.append(
            f'<line x1="{middle_x}" y1="{middle_y}" x2="{x}" y2="{y}" stroke="#999" stroke-opacity="0.5"/>'
        )
        down = y - 12 if axis == 0 else y + 22
        parts.append(
            f'<text x="{x}" y="{down}" text-anchor="middle" font-weight="bold">{name}</text>'
        )
    for number, (name, found) in enumerate(axes.items()):
        shares = [found[axis] for axis in AXES]
        colour = _COLOURS[number % len(_COLOURS)]
        y = 30 + 20 * number
        said = escape(name)
        if None in shares:
            said += " (not drawn: a number is missing)"
        else:
            whole = [share or 0.0 for share in shares]
            parts.append(
                f'<polygon points="{points(whole)}" fill="{colour}" fill-opacity="0.07" stroke="{colour}" '
                'stroke-width="2"/>'
            )
            for axis, share in enumerate(whole):
                across, down = at(axis, share)
                parts.append(f'<circle cx="{across}" cy="{down}" r="3.5" fill="{colour}"/>')
        parts.append(
            f'<rect x="520" y="{y - 10}" width="12" height="12" fill="{colour}"/>'
            f'<text x="538" y="{y}">{said}</text>'
        )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 420" role="img" font-family="sans-serif" '
        'font-size="13" fill="#777" aria-label="quality, coverage and speed of each family">'
        f"{''.join(parts)}</svg>"
    )


def table(record: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows: a column a family, the Gaussian baseline and real images beside them."""
    families = record["families"]
    columns = {name: each["method"] for name, each in families.items()}
    columns |= {"Gaussian": record["baseline"], "real images": record["reference"]}
    rows = [
        [label, *(_cell(column.get(key)) for column in columns.values())]
        for key, label in SHOWN.items()
    ]
    facts = {
        "network calls an image": "calls",
        "parameters": "parameters",
        "training steps": "steps",
    }
    for label, key in facts.items():
        rows.append([label, *(_said(each.get(key)) for each in families.values()), "", ""])
    for axis in AXES:
        cells = [
            "" if each["axes"][axis] is None else f"{each['axes'][axis]:.2f}"
            for each in families.values()
        ]
        rows.append([f"{axis}, 0 to 1", *cells, "", ""])
    return ["", *columns], [row for row in rows if any(row[1:])]


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return " + ".join(f"{count / 1e6:.1f} M" for count in value.values())
    return "" if value is None else f"{value:,}"


def _cell(metric: Any) -> str:
    if not metric or "mean" not in metric:
        return ""
    low, high = metric.get("ci95") or (None, None)
    interval = "" if low is None else f" ({low:.3g} to {high:.3g})"
    return f"{metric['mean']:.3g}{interval}"


def page(record: Mapping[str, Any], folder: Path) -> str:
    """The self-contained page of `compare.json`; sheet.png is read from `folder`."""
    head, rows = table(record)
    cells = "".join(
        f"<tr><th>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    sheet = base64.b64encode((folder / "sheet.png").read_bytes()).decode()
    about = (
        f"{record['minutes']:g} minutes of training each; {record['count']} drawn images against "
        f"{record['held_out']} held-out ones of {escape(str(record['data']))} ({record['train']} training images); "
        "95 % intervals in brackets."
    )
    missing = "".join(
        f"<p>{escape(name)}: no {escape(key)}, {escape(metric['refused'])}.</p>"
        for name, each in record["families"].items()
        for key, metric in each["method"].items()
        if key in SHOWN and "refused" in metric
    )
    names = ", ".join(["real", *record["families"]])
    body = (
        "<h1>Families compared</h1>"
        f"<p>{about}</p>"
        f"<figure>{triangle({name: each['axes'] for name, each in record['families'].items()})}</figure>"
        f"{''.join(f'<p>{escape(line)}</p>' for line in HOW)}"
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{cells}</tbody></table></div>'
        f"{missing}"
        "<h2>Samples</h2>"
        f"<p>A row each: {escape(names)}. Held-out images at random; the first seeds of each family, none picked.</p>"
        f'<figure><img alt="samples of each family" src="data:image/png;base64,{sheet}"></figure>'
    )
    return document("Families compared", body)
