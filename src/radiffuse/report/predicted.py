"""What was predicted, case by case."""

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .scales import legend
from .sections import figure, plain, said
from .source import Source, picture_uri, size_of
from .strip import GAP
from .wording import breakable

__all__ = ["MOST_BYTES", "cases", "predicted", "strips"]

_PICTURES, _CASES = 24, 50
MOST_BYTES = 21 << 20
"""Of the strips of a page."""
_TILE, _WIDEST = 208, 344
"""Pixels of the screen that a column is high, and at most wide."""


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
    """The pictures of each case side by side (`strip`), each under its heading: its name and HTML."""
    for entry in source.entries:
        shown = entry.get("shown") or {}
        path = source.folder / str(shown.get("file", ""))
        if shown.get("heads") and source.shows(path):
            case = str(entry["case"])
            yield (
                case,
                f"<figure><figcaption><b>{breakable(case)}</b></figcaption>"
                f"{_strip(path, shown)}</figure>",
            )


def _strip(path: Path, shown: Mapping[str, Any]) -> str:
    """The columns of a strip, cut out of its picture, with what their colours mean."""
    wide, high = size_of(path)
    heads, names = shown["heads"], shown.get("names") or {}
    columns = shown.get("columns") or [{}] * len(heads)
    widths = [column.get("width") or (wide + GAP) / len(heads) - GAP for column in columns]
    tiles, left = "", 0.0
    for head, column, width in zip(heads, columns, widths, strict=False):
        place = 100 * left / (wide - width) if wide > width else 0.0
        tiles += (
            f'<div><span>{escape(str(head))}</span><span class="tile" role="img" '
            f'aria-label="{escape(str(head), quote=True)}" style="aspect-ratio: {width:g} / {high}; '
            f'background-size: {100 * wide / width:.4f}% 100%; background-position-x: {place:.4f}%"></span>'
            f"{legend(column, names)}</div>"
        )
        left += width + GAP
    across = min(_WIDEST, max(_TILE, _TILE * max(widths) / high))
    sheet_of = f"--sheet: url({picture_uri(path)}); --column: {across:.0f}px"
    return f'<div class="strip" style="{sheet_of}">{tiles}</div>'


def _strips(source: Source) -> str:
    """All of them, large, their pixels smoothed or not as the reader likes; "" without any."""
    found: list[str] = []
    for _, made in strips(source):
        if sum(map(len, found)) + len(made) > MOST_BYTES:
            break
        found.append(made)
    if not found:
        return ""
    count = len({str(entry.get("case")) for entry in source.entries})
    note = "" if count == len(found) else f" The first {len(found)} of {count} cases."
    return (
        '<input type="checkbox" id="sharp"> <label for="sharp">pixels as they are</label>'
        f'<div class="strips">{"".join(found)}</div><p class="note">None picked.{note} Grey values over the range '
        "of the training; colours up to what 99.5 % of the pixels reach. Maps without a unit show the numbers of their "
        "files, mostly on the scale of the network, where grey values go from -1 to 1.</p>"
    )


def cases(source: Source) -> str:
    """The first cases and their files."""
    entries = source.entries
    rows = "".join(
        f"<tr><td>{breakable(str(entry.get('case', '')))}</td><td>{_files(entry)}</td><td>{_rest(entry)}</td></tr>"
        for entry in entries[:_CASES]
    )
    named = len({str(entry.get("case")) for entry in entries})
    more = f'<p class="note">{named} cases in all, {len(entries)} entries in predictions.json.</p>'
    head = "<tr><th>case</th><th>files</th><th>further</th></tr>"
    return (
        f'<div class="wide"><table class="cases">{head}{rows}</table></div>{more}' if rows else ""
    )


def _files(entry: Mapping[str, Any]) -> str:
    files = dict(entry.get("files") or {})
    return ", ".join(
        f"{breakable(str(key))}: {breakable(str(file))}" for key, file in files.items()
    )


TOLD = ("case", "files", "shown", "written", "seeds")


def _rest(entry: Mapping[str, Any]) -> str:
    """What else is known, numbers to four digits, each fact on one line where it fits."""
    known = {key: value for key, value in entry.items() if key not in TOLD}
    known |= known.pop("values", None) or {}
    parts = [
        f"<span>{escape(key)} {escape(f'{v:.4g}' if isinstance(v, float) else plain(v))}</span>"
        for key, v in known.items()
        if v not in (None, "", {}, [])
    ]
    return ", ".join(parts)
