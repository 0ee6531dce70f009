"""What a data set holds, as tables, a contact sheet and one self-contained page. Imports no torch."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ..data.files import replacing, write_text
from ..data.shown import Pixels
from .document import document

__all__ = ["Sheet", "heading", "sheets", "write_contact_sheet", "write_inspected"]

SIDE, ACROSS, GAP, BELOW = 168, 6, 8, 18
"""Of the contact sheet, in pixels: a tile's longest side, tiles in a row, between tiles, for a name."""


@dataclass(frozen=True)
class Sheet:
    """A table of words: its title, heads of its columns, and its rows."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def heading(look: Mapping[str, Any]) -> str:
    """How many cases, patients and splits, in one line."""
    if not look["cases"]:
        return "no case can be read"
    patients, cases = look["patients"], _many(look["cases"], "case", "cases")
    who = "patients unknown" if patients is None else _many(patients, "patient", "patients")
    splits = ", ".join(
        f"{look['splits'][s]} {s}" for s in ("train", "val", "test") if s in look["splits"]
    )
    how = " (drawn here, by patient)" if look["drawn"] and splits else ""
    read = "" if look["read"] == look["cases"] else f"; {look['read']} of them were read"
    return f"{cases}, {who}{f'; {splits}{how}' if splits else ''}{read}"


def sheets(look: Mapping[str, Any], most: int | None = None) -> list[Sheet]:
    """The tables: columns, cases (the first `most`), series.

    Args:
        look: `data.inspected.Look` as a dict.
        most: rows of cases; None: all.
    """
    found = []
    if look["columns"]:
        found.append(
            Sheet("columns", *_filled(_COLUMNS, [_column(one) for one in look["columns"]]))
        )
    cases = [_case(one) for one in look["rows"][:most] if one["images"] or one["refused"]]
    if cases:
        rest = len(look["rows"]) - len(look["rows"][:most])
        title = "cases" if not rest else f"cases (the first {most}; --json has all {look['read']})"
        found.append(Sheet(title, *_filled(_CASES, cases)))
    if look["series"]:
        found.append(_series(look["series"]))
    return found


_COLUMNS = ("column", "kind", "cases", "size", "mm", "orientation", "stored", "values")
_CASES = ("case", "patient", "split", "size", "mm", "orientation", "values")
_SERIES = (
    *("series", "patient", "no.", "modality", "what", "cases", "size", "mm", "plane"),
    "description",
)


def _filled(
    heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Heads and rows without columns in which nothing stands."""
    kept = [k for k in range(len(heads)) if any(row[k] for row in rows)]
    return tuple(heads[k] for k in kept), tuple(tuple(row[k] for k in kept) for row in rows)


def _column(one: Mapping[str, Any]) -> tuple[str, ...]:
    kinds = [*one["stored"], *one["modalities"]]
    return (
        one["name"],
        one["kind"],
        str(one["read"]),
        _several(one["sizes"]),
        _several(one["spacings"]),
        _several(one["orientations"]),
        " ".join(kinds),
        _range(one["low"], one["high"]),
    )


def _case(one: Mapping[str, Any]) -> tuple[str, ...]:
    """A row of the first image of a case."""
    first = next(iter(one["images"].values()), None)
    who = (one["case"], one["patient"], one["split"])
    if one["refused"]:
        return (*who, "refused", "", "", "")
    assert first is not None
    size = " x ".join(map(str, first["size"]))
    mm = " x ".join(f"{side:.3g}" for side in first["spacing"])
    return (*who, size, mm, first["orientation"], _range(first["low"], first["high"]))


def _series(listing: Mapping[str, Any]) -> Sheet:
    rows = [
        (
            *(one["series"], one["patient"], one["number"], one["modality"], one["what"]),
            str(one["cases"]),
            f"{one['size']} x {one['slices']}" if one["slices"] else "",
            " x ".join(f"{mm:.3g}" for mm in one["spacing"]),
            *(one["plane"], one["description"]),
        )
        for one in listing["series"]
    ]
    beside = [
        _many(listing[name], one, several)
        for name, one, several in (
            ("hidden", "hidden file", "hidden files"),
            ("others", "file that is no DICOM", "files that are no DICOM"),
        )
        if listing[name]
    ]
    title = f"series (and {', '.join(beside)})" if beside else "series"
    return Sheet(title, *_filled(_SERIES, rows))


def _several(counts: Mapping[str, int]) -> str:
    """The words that occur, the three most frequent of them."""
    words = [word if len(counts) == 1 else f"{word} ({n})" for word, n in counts.items()]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return ", ".join(words[:3]) + more


def _range(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"{low:.4g} to {high:.4g}" if low != high else f"{low:.4g}"


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


# --------------------------------------------------------------------------------------- pictures
def write_contact_sheet(path: Path, tiles: Sequence[tuple[str, Pixels]]) -> None:
    """Write tiles in rows, each with its name below, as a PNG file."""
    with replacing(path) as temporary:
        _contact_sheet(tiles).save(temporary, format="PNG", optimize=True)


def _contact_sheet(tiles: Sequence[tuple[str, Pixels]]) -> Picture.Image:
    shown = [(name, _fitted(tile)) for name, tile in tiles]
    rows = [shown[first : first + ACROSS] for first in range(0, len(shown), ACROSS)]
    heights = [max(tile.height for _, tile in row) + BELOW + GAP for row in rows]
    width = max(sum(tile.width + GAP for _, tile in row) for row in rows) + GAP
    sheet = Picture.new("RGB", (width, sum(heights) + GAP), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(size=11), GAP
    for row, height in zip(rows, heights, strict=True):
        left = GAP
        for name, tile in row:
            sheet.paste(tile, (left, top))
            draw.text((left, top + tile.height + 2), _cut(name, tile.width, font), "black", font)
            left += tile.width + GAP
        top += height
    return sheet


def _fitted(tile: Pixels) -> Picture.Image:
    """A tile whose longest side is `SIDE`; of volumes, three planes side by side, thrice that."""
    picture = Picture.fromarray(tile)
    longest = SIDE * (2 if picture.width > 2 * picture.height else 1)
    scale = longest / max(picture.size)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize((size[0], size[1]), Picture.Resampling.LANCZOS)


def _cut(name: str, width: int, font: Any) -> str:
    """The name, shortened in its middle until it is no wider than its tile."""
    shown = name
    while len(shown) > 5 and font.getlength(shown) > width:
        half = (len(shown) - 2) // 2
        shown = f"{name[:half]}…{name[-half:]}"
    return shown


# ------------------------------------------------------------------------------------------- page
def write_inspected(
    path: Path, look: Mapping[str, Any], tiles: Sequence[tuple[str, Pixels]]
) -> None:
    """Write the page, its picture inside."""
    title = Path(look["source"]).name or look["source"]
    body = f'<header><h1>{escape(title)}</h1><p class="cite">{escape(heading(look))}</p></header>'
    if look["refused"]:
        body += f'<section><h2>Refused</h2><div class="missing">{_lines(look["refused"])}</div></section>'
    if tiles:
        held = io.BytesIO()
        _contact_sheet(tiles).save(held, format="PNG", optimize=True)
        coded = base64.b64encode(held.getvalue()).decode("ascii")
        body += (
            '<section><h2>Pictures</h2><figure class="panel"><img style="background: none" alt="one picture a case" '
            f'src="data:image/png;base64,{coded}"></figure></section>'
        )
    for sheet in sheets(look):
        body += f'<section><h2>{escape(sheet.title.capitalize())}</h2><div class="wide">{_table(sheet)}</div></section>'
    if look["notices"]:
        body += (
            f'<section><h2>Notices</h2><div class="note">{_lines(look["notices"])}</div></section>'
        )
    write_text(path, document(title, body))


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in sheet.heads)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in sheet.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
