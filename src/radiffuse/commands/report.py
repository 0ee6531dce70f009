"""`radiffuse report DIR`: one self-contained HTML page. No torch is imported."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ..errors import UserError
from ..report import write_report
from ..runs.named import found_run, home_of
from .lock import writing
from .parsing import parse


@dataclass(frozen=True)
class Flags:
    """What to report on.

    Attributes:
        folder: run folder, packed model, or a folder of predictions.
        out: HTML file to write; DIR/report.html where left out, of a packed model NAME-report/report.html here.
    """

    folder: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None


def run(arguments: Sequence[str]) -> None:
    """Write the page."""
    flags = parse(Flags, arguments, "radiffuse report")
    flags = replace(flags, folder=found_run(flags.folder))
    if not flags.folder.is_dir():
        raise UserError(f"{flags.folder}: there is no such folder")
    page = flags.out or home_of(flags.folder, "report") / "report.html"
    inside = page.parent.resolve() == flags.folder.resolve()
    with writing(page.parent, "radiffuse report") if inside else nullcontext():
        write_report(flags.folder, page)
    print(f"report: {page}")
