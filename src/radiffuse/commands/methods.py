"""`radiffuse methods`: the survey's taxonomy, live. Neither torch nor a recipe is imported."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from .. import papers
from ..papers import Paper
from .columns import aligned
from .parsing import parse

FIELDS = (
    *("id", "number", "title", "citation", "application", "modality", "organ", "formulation"),
    "beyond",
)


@dataclass(frozen=True)
class Flags:
    """Which methods to list.

    Attributes:
        task: an application: translation, reconstruction, registration, ...
        modality: an imaging modality: MR, CT, PET, X-ray, ...
        organ: an organ: brain, knee, heart, ...
        formulation: DDPM, NCSN or SDE.
        json: print a list of objects instead of a table.
    """

    task: str = ""
    modality: str = ""
    organ: str = ""
    formulation: str = ""
    json: bool = False


def run(arguments: Sequence[str]) -> None:
    """Print the methods that match every filter."""
    flags = parse(Flags, arguments, "radiffuse methods")
    found = papers.select(
        task=flags.task,
        modality=flags.modality,
        organ=flags.organ,
        formulation=flags.formulation,
    )
    if flags.json:
        print(json.dumps([_entry(paper) for paper in found], indent=2, ensure_ascii=False))
    else:
        print(_table(found))


def _entry(paper: Paper) -> dict[str, object]:
    entry: dict[str, object] = {name: getattr(paper, name) for name in FIELDS}
    return {**entry, "implemented": bool(paper.recipe)}


def _table(found: Sequence[Paper]) -> str:
    survey = [paper for paper in found if not paper.beyond]
    beyond = [paper for paper in found if paper.beyond]
    ready = sum(bool(paper.recipe) for paper in survey)
    lines = []
    if survey or not beyond:
        lines += [*_rows(survey), "", f"{len(survey)} methods, {ready} ready to train"]
    if beyond:
        lines += [*([""] if survey else []), "Beyond the survey:", "", *_beyond(beyond)]
    return "\n".join(lines)


def _beyond(found: Sequence[Paper]) -> list[str]:
    head = ("id", "ready", "what", "formulation", "paper")
    cells = [
        (paper.id, "yes" if paper.recipe else "-", paper.beyond, paper.formulation, paper.title)
        for paper in found
    ]
    return aligned([head, *cells])


def _rows(found: Sequence[Paper]) -> list[str]:
    head = ("#", "id", "ready", "application", "modality", "organ", "formulation")
    rows = [head] + [
        (
            str(paper.number or "-"),
            paper.id,
            "yes" if bool(paper.recipe) else "-",
            paper.application,
            paper.modality,
            paper.organ,
            paper.formulation,
        )
        for paper in found
    ]
    return aligned(rows)
