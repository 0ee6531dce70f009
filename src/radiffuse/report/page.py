"""The page: sections in the order in which a reader asks."""

from collections.abc import Callable
from html import escape
from pathlib import Path

from .. import papers
from ..data.files import write_text
from ..errors import UserError
from . import private, sections
from .chains import chains
from .document import document
from .figures import images
from .latents import latents
from .predicted import cases, predicted
from .source import Source, read_source
from .trajectory import trajectory
from .volumes import volumes

_RUN: tuple[tuple[str, Callable[[Source], str]], ...] = (
    ("Images", images),
    ("Volumes", volumes),
    ("Denoising", trajectory),
    ("Metrics", sections.metrics),
    ("Copies of training images", sections.copies),
    ("Quality against network evaluations", sections.quality),
    ("Accuracy against cases referred", sections.rejection),
    ("Calibration", sections.calibration),
    ("Codes of the auto-encoder", latents),
    ("Training", sections.training),
    ("Privacy", private.section),
    ("Data", sections.data),
    ("Reproduce", sections.reproduce),
    ("Configuration", sections.configuration),
    ("Environment", sections.environment),
)
_PREDICTIONS: tuple[tuple[str, Callable[[Source], str]], ...] = (
    ("Pictures", predicted),
    ("Volumes", volumes),
    ("Chains", chains),
    ("Cases", cases),
    ("Metrics", sections.metrics_if_any),
    ("Reproduce", sections.reproduce),
    ("Environment", sections.environment),
)


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write one self-contained HTML page about a run folder or a folder of predictions.

    Pictures and style are inside; nothing is loaded from a network, and no script runs but the viewers of
    volumes and of protein backbones, which are inside too. What is missing is said, with the command that makes it.

    Args:
        folder: the folder of `train` (with what `evaluate` adds), `sample` or `predict`.
        out: the page; None: report.html in the folder.

    Returns:
        Where the page is.

    Raises:
        UserError: the folder holds nothing to report on, or a record in it is broken.
    """
    text = report_page(Path(folder))
    out = Path(folder) / "report.html" if out is None else Path(out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder; --out takes the name of an HTML file")
    write_text(out, text)
    return out


def report_page(folder: Path, again: int = 0) -> str:
    """The page itself, as `write_report` writes it; `again`: seconds after which a browser reads it anew.

    Raises:
        UserError: the folder holds nothing to report on, or a record in it is broken.
    """
    source = read_source(folder)
    chosen = _RUN if source.config or not source.predictions else _PREDICTIONS
    return _page(source, [(title, text) for title, make in chosen if (text := make(source))], again)


def _page(source: Source, body: list[tuple[str, str]], again: int) -> str:
    title, heading = _heading(source)
    contents = "".join(
        f'<a href="#s{place}">{escape(name)}</a>' for place, (name, _) in enumerate(body)
    )
    parts = "".join(
        f'<section id="s{place}"><h2>{escape(name)}</h2>{text}</section>'
        for place, (name, text) in enumerate(body)
    )
    whole = f"<header>{heading}</header>\n<nav>{contents}</nav>\n{parts}"
    return document(title, whole, again=again)


def _heading(source: Source) -> tuple[str, str]:
    """The title, and the heading with the paper's citation."""
    method = source.method
    name = source.name or source.folder.resolve().name
    what = "predictions of" if source.predictions and not source.config else "report on"
    lines = [f'<p class="over">Radiffuse · {what}</p><h1>{escape(name)}</h1>']
    if method in papers.ids():
        paper = papers.by_id(method)
        known = (paper.application, paper.modality, paper.organ, paper.formulation, paper.url)
        facts = " · ".join(fact for fact in known if fact and fact != "any")
        lines.append(f'<p class="cite">{escape(paper.citation)}</p>')
        lines.append(f'<p class="facts">{escape(facts)}</p>')
    lines.append(sections.summary(source))
    return f"{name} · Radiffuse report", "".join(lines)
