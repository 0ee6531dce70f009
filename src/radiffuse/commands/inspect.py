"""`radiffuse inspect PATH`: what a data set holds, and what of it would be refused."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..data.apart import check_apart
from ..data.files import check_folder
from ..data.image import Image, upright
from ..data.inspected import Look, inspected
from ..data.shown import Pixels
from ..data.table import Table
from ..data.transforms import resize
from ..errors import UserError, printable
from ..report.inspected import SIDE, Sheet, heading, sheets, write_contact_sheet, write_inspected
from ..report.strip import grey, labelled
from .chosen import Chosen
from .lock import writing
from .nodes import NodeFlags, at_hand
from .parsing import parse, positive

SHOWN = 12
"""Cases that the terminal shows."""
PICTURES = 36
WIDEST = 100
SHORT = ("series", "no.", "modality", "cases", "mm", "plane", "split", "kind")
"""Columns of which no cell is broken."""


@dataclass(frozen=True)
class Flags(NodeFlags):
    """What to look at.

    Attributes:
        path: file or folder of the data, the name of an embedded set, or the address of a study or series.
        chosen: which series of DICOM data are looked at, and what is shown of their names. --series without a word
            prints their table alone.
        json: print an object instead of tables.
        out: folder to write a page and a contact sheet into.
        seed: of the splits, where they are drawn.
        most: cases that are read; of more a spread over all.
    """

    path: Annotated[str, tyro.conf.Positional]
    chosen: Annotated[Chosen, tyro.conf.OmitArgPrefixes] = field(default_factory=Chosen)
    json: bool = False
    out: Path | None = None
    seed: int = 0
    most: int = 256


def run(arguments: Sequence[str]) -> None:
    """Print what is there; what would be refused is told.

    Raises:
        UserError: nothing is there to be told of.
    """
    flags = parse(Flags, arguments, "radiffuse inspect")
    positive({"--most": flags.most})
    if flags.out is not None:
        check_folder(flags.out)
        check_apart(flags.out, str(flags.path))
    path = at_hand(flags.path, flags.node) or ""
    look, table = inspected(path, flags.chosen.choice, flags.seed, max(2, flags.most))
    told = dataclasses.asdict(look)
    if table is None and look.series is None and not flags.json:
        raise UserError(look.refused[0])
    if flags.json:
        print(json.dumps(told, indent=2, ensure_ascii=False))
    elif "--series" in arguments and not flags.chosen.series:
        if look.series is None:
            raise UserError(
                f"{look.source}: its cases are no DICOM series by themselves (a table, or another format, says what "
                "they are); name a folder of DICOM files, or leave out --series"
            )
        _print([sheet for sheet in sheets(told) if sheet.title.startswith("series")])
        for row in look.series.series:
            if row.refused:
                print(printable(f"refused: {row.series}: {row.refused}"))
    else:
        print(printable(f"{look.source}: {heading(told)}"))
        _print(sheets(told, SHOWN))
        for name, lines in (("note", look.notices), ("refused", look.refused)):
            for line in lines:
                print(printable(f"{name}: {line}"))
    if flags.out is not None:
        _write(flags.out, told, [] if table is None else list(_tiles(look, table)))
        if not flags.json:
            print(f"page: {flags.out / 'index.html'}")


def _print(tables: Sequence[Sheet]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    console = Console(width=width, highlight=False)
    for sheet in tables:
        drawn = Drawn(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left")
        drawn.title = sheet.title
        for head in sheet.heads:
            drawn.add_column(head, overflow="fold", no_wrap=head in SHORT)
        for row in sheet.rows:
            drawn.add_row(*(Text(printable(cell)) for cell in row))
        console.print(drawn)


def _tiles(look: Look, table: Table) -> Iterator[tuple[str, Pixels]]:
    """Name and picture of the images of the first cases, each between the ends of its own values."""
    for case in look.rows[:PICTURES]:
        for key, one in case.images.items():
            column = table.columns[key]
            image = upright(column.image(case.row))
            name = case.case if len(case.images) == 1 else f"{case.case}, {key}"
            mask = column.kind == "mask"
            data = resize(image.data[None].float(), as_it_lies(image), nearest=mask)[0]
            span = max(one.high - one.low, 1e-12)
            unit = (2 * (data - one.low) / span - 1).clamp(-1, 1)
            yield name, labelled(data.numpy()) if mask else grey(unit.numpy())


def as_it_lies(image: Image) -> tuple[int, ...]:
    """Sides of a picture of an image whose voxels are as long as wide."""
    spacing = image.spacing_mm or (1.0,) * len(image.size)
    extent = [side * mm for side, mm in zip(image.size, spacing, strict=True)]
    return tuple(max(1, round(SIDE * each / max(extent))) for each in extent)


def _write(out: Path, told: dict[str, Any], tiles: Sequence[tuple[str, Pixels]]) -> None:
    with writing(out, "radiffuse inspect"):
        os.makedirs(out, exist_ok=True)
        if tiles:
            write_contact_sheet(out / "sheet.png", tiles)
        write_inspected(out / "index.html", told, tiles)
