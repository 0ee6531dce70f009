"""What was predicted, case by case."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from .sections import figure, plain, said
from .source import Source, picture_uri

__all__ = ["cases", "predicted", "strips"]

_PICTURES, _CASES = 24, 50


def predicted(source: Source) -> str:
    """Case by case what was given and what came out; the sheet, or the first pictures, where nothing tells that."""
    if strips := _strips(source):
        return strips
    if source.picture("sheet.png"):
        return figure(source, "sheet.png", "Sheet", "the first cases in order, none picked")
    named = source.written((".png", ".jpg", ".jpeg"))
    shown = [p for p in named if source.shows(p)]
    tiles = "".join(
        f'<figure><img src="{picture_uri(p)}" alt="{escape(p.name)}">'
        f"<figcaption>{escape(p.name)}</figcaption></figure>"
        for p in shown[:_PICTURES]
    )
    others = ", ".join(p.name for p in named if p not in shown)
    left = said(f"left out, for they are no pictures in this folder: {others}") if others else ""
    return left + (
        f'<div class="tiles">{tiles}</div>' if tiles else said("no pictures (PNG) in here")
    )


def strips(source: Source) -> Iterator[tuple[str, str]]:
    """The pictures of each case side by side (`strip`), under their headings: its name and HTML."""
    for entry in source.entries:
        shown = entry.get("shown") or {}
        path, heads = source.folder / str(shown.get("file", "")), shown.get("heads", ())
        if heads and source.shows(path):
            spans = "".join(f"<span>{escape(str(head))}</span>" for head in heads)
            case = str(entry["case"])
            yield (
                case,
                f'<figure><figcaption><b>{escape(case)}</b></figcaption><div class="heads" '
                f'style="grid-template-columns: repeat({len(heads)}, 1fr)">{spans}</div>'
                f'<img src="{picture_uri(path)}" alt="{escape(case)}" style="width: {len(heads) * 212}px"></figure>',
            )


def _strips(source: Source) -> str:
    """All of them, large, their pixels smoothed or not as the reader likes; "" without any."""
    found = [figure for _, figure in strips(source)]
    if not found:
        return ""
    count = len({str(entry.get("case")) for entry in source.entries})
    note = "" if count == len(found) else f" The first {len(found)} of {count} cases."
    return (
        '<input type="checkbox" id="sharp"> <label for="sharp">pixels as they are</label>'
        f'<div class="strips">{"".join(found)}</div><p class="note">None picked.{note} Grey values over the range '
        "of the training; colours from black (0) over red and yellow to white.</p>"
    )


def cases(source: Source) -> str:
    """The first cases and their files."""
    entries = source.entries
    rows = "".join(
        f"<tr><td>{escape(str(entry.get('case', '')))}</td><td>"
        + escape(", ".join(f"{k}: {v}" for k, v in dict(entry.get("files") or {}).items()))
        + f"</td><td>{escape(plain(_rest(entry)))}</td></tr>"
        for entry in entries[:_CASES]
    )
    more = f'<p class="note">{len(entries)} cases in all.</p>'
    head = "<tr><th>case</th><th>files</th><th>further</th></tr>"
    return f'<div class="wide"><table>{head}{rows}</table></div>{more}' if rows else ""


def _rest(entry: Mapping[str, Any]) -> dict[str, Any]:
    known = ("case", "files", "shown", "written", "seeds")
    return {key: value for key, value in entry.items() if key not in known}
