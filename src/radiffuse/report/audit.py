"""The page of an audit: the verdict in words, the numbers behind it, the nearest pairs."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..data.files import write_text
from .document import document
from .sections import table_of

__all__ = ["write_audit"]

EYES = {
    "pixels": "grey values, place by place",
    "features": "the features of evaluations, trained on these images",
    "detector": "a copy detector: also flipped, cropped, turned or brighter",
}
ATTACKS = {
    "loss": "denoising error at five noise levels",
    "online": "likelihood ratio, shadow models with and without each person",
    "offline": "likelihood ratio, shadow models without each person",
}


def write_audit(path: Path, record: Mapping[str, Any], picture: Path) -> None:
    """Write the page, its picture inside.

    Args:
        path: of the page.
        record: `audit.json`.
        picture: the sheet of pairs; left out where it is not there.
    """
    title = f"Privacy of {record['name']}"
    head = f'<header><h1>{escape(title)}</h1><p class="cite">{escape(_of(record))}</p></header>'
    parts = [
        _section("Verdict", "".join(f"<p>{escape(line)}</p>" for line in record["verdict"])),
        _section("Copies", _memorisation(record["memorisation"]) + _picture(picture)),
        _section("Membership", _membership(record["membership"])),
        _section("Extraction", _plain(record["extraction"])),
        _section("Attributes", _attributes(record["attributes"])),
        _section("How to get this", f"<pre>{escape(record['command'])}</pre>" + _notices(record)),
    ]
    write_text(path, document(title, head + "".join(parts)))


def _of(record: Mapping[str, Any]) -> str:
    train, held_out = record["train"], record["held_out"]
    return (
        f"{record['samples']} samples; trained on {train['images']} images of {train['people']} people; "
        f"compared with {held_out['images']} images of {held_out['people']} others"
    )


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _refused(found: Mapping[str, Any]) -> str:
    return f'<p class="missing">not measured: {escape(str(found["refused"]))}</p>'


def _memorisation(found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return _refused(found)
    rows = [
        (
            f"{name}: {EYES[name]}",
            metric(eye["share"]),
            metric(eye.get("beyond_chance"), 100, " %"),
            "" if "p" not in eye else f"{eye['p']:.2g}",
            f"{metric(eye['nearest'])} / {metric(eye['nearest_held_out'])}",
            f"{metric(eye['relative'])} / {metric(eye['relative_held_out'])}",
        )
        for name, eye in found["eyes"].items()
    ]
    heads = (
        *("compared by", "share of copies", "beyond chance", "p by chance"),
        *("nearest distance: samples / held out", "the same over the usual"),
    )
    people = [(each["patient"], str(each["samples"])) for each in found["people"]]
    images = [(each["case"], str(each["samples"])) for each in found["cases"]]
    note = (
        '<p class="note">A sample counts as a copy where its distance to the nearest training image, over the mean '
        "distance to those of the next people, is less than that of 99 % of held-out images. Chance does so too, in "
        "1 of 100. p: probability of as many copies by chance.</p>"
    )
    more = table(("person", "samples nearest"), people)
    if images != people:
        more += table(("case", "samples nearest"), images)
    return table(heads, rows) + note + (more if people else "")


def _membership(found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return _refused(found)
    rows = [
        (f"{name}: {words}", metric(found[name]["auc"]), metric(found[name]["found"], 100, " %"))
        for name, words in ATTACKS.items()
        if name in found
    ]
    rows += [
        (
            f"error at {100 * each['signal']:.0f} % signal alone",
            metric(each["auc"]),
            metric(each["found"], 100, " %"),
        )
        for each in found["levels"]
    ]
    note = '<p class="note">0.5 is guessing. Intervals of 95 % draw people.</p>'
    return table(("attack", "area under the curve", "members found at 1 % false"), rows) + note


def _attributes(found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return _refused(found)
    rows = [
        (name, *(metric(each[key], 100, " %") for key in ("members", "others", "advantage")))
        for name, each in found.items()
    ]
    return table(("guess by", "right of members", "right of others", "difference"), rows)


def _plain(found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return _refused(found)
    words = {
        "threshold": "near-identical below (root mean square; images span 2)",
        "groups": "images drawn three times or more",
        "largest": "times the one drawn most",
        "extracted": "of them training images",
    }
    return table_of({text: _short(found[key]) for key, text in words.items() if key in found})


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _notices(record: Mapping[str, Any]) -> str:
    return "".join(f'<p class="note">{escape(line)}</p>' for line in record["notices"])


def metric(value: Mapping[str, Any] | None, times: float = 1, unit: str = "") -> str:
    """A number with its interval, or why there is none."""
    if value is None:
        return ""
    if "mean" not in value:
        return f"not given: {value['refused']}"
    low, high = value["ci95"]
    return f"{times * value['mean']:.3g}{unit} [{times * low:.3g}, {times * high:.3g}]"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _picture(path: Path) -> str:
    if not path.is_file():
        return ""
    coded = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        '<figure class="panel"><img alt="nearest pairs" style="background: none" '
        f'src="data:image/png;base64,{coded}"><figcaption>Sample (left) and its nearest training image (right), the '
        "nearest pairs of each way of comparing; the number is the distance over the usual.</figcaption></figure>"
    )
