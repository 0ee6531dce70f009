"""One page of panels: what was given, what came out, what is true, and where it is unsure. Imports no torch."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ..data.files import replacing, write_text
from ..data.shown import Pixels
from .document import document
from .strip import GAP, enlarged, side_by_side

__all__ = ["Panel", "write_gallery", "write_picture"]

_HEAD = 28
"""Height of the headings of a picture."""


@dataclass(frozen=True)
class Panel:
    """What is shown of one thing.

    Attributes:
        title: heading.
        says: one sentence.
        heads: headings of the columns; () where the pictures speak for themselves.
        rows: pictures, uint8 `(rows, columns, 3)`, each row of one height (`strip.grey`, `heat`, `labelled`).
        notes: a line under each row; () for none.
        legend: of colours, or "".
        number: measured beside the baseline, or "".
        command: how to do it with images of one's own.
        link: page to go on to, or "".
    """

    title: str
    says: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Pixels, ...], ...]
    notes: tuple[str, ...] = ()
    legend: str = ""
    number: str = ""
    command: str = ""
    link: str = ""


def write_gallery(path: Path, title: str, says: str, panels: Sequence[Panel]) -> None:
    """Write the page, pictures inside."""
    contents = "".join(f'<a href="#p{k}">{escape(each.title)}</a>' for k, each in enumerate(panels))
    sections = "".join(_section(k, each) for k, each in enumerate(panels))
    heading = f'<header><h1>{escape(title)}</h1><p class="cite">{escape(says)}</p></header>'
    body = f"{heading}\n<nav>{contents}</nav>\n{sections}"
    write_text(path, document(title, body, more=" All images are made."))


def write_picture(path: Path, panel: Panel) -> None:
    """The pictures of a panel and their headings as a PNG file, for pages that hold no HTML."""
    rows = [side_by_side([enlarged(tile) for tile in row]) for row in panel.rows]
    widths = [enlarged(tile).shape[1] for tile in panel.rows[0]]
    above = _HEAD if panel.heads else 0
    height = above + sum(len(row) + GAP for row in rows) - GAP
    sheet = Picture.new("RGB", (rows[0].shape[1], height), "white")
    draw, font, left = ImageDraw.Draw(sheet), ImageFont.load_default(size=15), 0
    for head, width in zip(panel.heads, widths, strict=False):
        draw.text((left + width / 2, above / 2), head, fill="black", font=font, anchor="mm")
        left += width + GAP
    top = above
    for row in rows:
        sheet.paste(Picture.fromarray(row), (0, top))
        top += len(row) + GAP
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _section(number: int, panel: Panel) -> str:
    lines = [f"<p>{escape(panel.says)}</p>", _picture(panel)]
    if panel.legend:
        lines.append(f'<p class="note">{escape(panel.legend)}</p>')
    if panel.number:
        lines.append(f"<p><b>{escape(panel.number)}</b></p>")
    if panel.command:
        lines.append(f"<pre>{escape(panel.command)}</pre>")
    if panel.link:
        lines.append(f'<p><a href="{escape(panel.link, quote=True)}">All of it</a></p>')
    return f'<section id="p{number}"><h2>{escape(panel.title)}</h2>{"".join(lines)}</section>'


def _picture(panel: Panel) -> str:
    """One figure a row of pictures, headings above the first."""
    rows = [[enlarged(tile) for tile in row] for row in panel.rows]
    widths = [tile.shape[1] for tile in rows[0]]
    grid = " ".join(f"{width}fr" for width in widths)
    total = sum(widths) + GAP * (len(widths) - 1)
    heads = "".join(f"<span>{escape(head)}</span>" for head in panel.heads)
    shown = (
        f'<div class="heads" style="grid-template-columns: {grid}">{heads}</div>' if heads else ""
    )
    for place, row in enumerate(rows):
        said = f"{panel.title}: {', '.join(panel.heads) or 'pictures'}"
        shown += f'<img alt="{escape(said, quote=True)}" width="{total}" src="data:image/png;base64,{_png(row)}">'
        note = panel.notes[place] if place < len(panel.notes) else ""
        shown += f"<figcaption>{escape(note)}</figcaption>" if note else ""
    return f'<figure class="panel gallery">{shown}</figure>'


def _png(row: Sequence[Pixels]) -> str:
    held = io.BytesIO()
    Picture.fromarray(side_by_side(row)).save(held, format="PNG", optimize=True)
    return base64.b64encode(held.getvalue()).decode("ascii")
