"""The survey's taxonomy as data: one row a paper, 31 of the survey and three generic formulations.

The survey is A. Kazerouni et al., "Diffusion models in medical imaging: A comprehensive survey",
Medical Image Analysis 88 (2023) 102846. What goes beyond it (`BEYOND`) stands apart. This room imports no torch,
so that `radiffuse methods` answers at once. A recipe names its row: `paper = papers.by_id("ddpm")`, and the row
names the recipe.
"""

import re
from collections.abc import Iterable

from ..errors import UsageError, did_you_mean
from .beyond import BEYOND
from .row import Paper
from .survey import PAPERS

__all__ = [
    *("BEYOND", "PAPERS", "Paper"),
    *("by_id", "ids", "implemented", "matches", "named", "rows", "select"),
]

_ALIASES = {"mri": "mr", "xray": "x-ray", "histology": "histopathology", "mr imaging": "mr"}


def rows() -> tuple[Paper, ...]:
    """Every row: the survey's, the generic formulations, and what goes beyond them."""
    return PAPERS + BEYOND


def ids() -> tuple[str, ...]:
    """All methods."""
    return tuple(paper.id for paper in rows())


def implemented() -> tuple[str, ...]:
    """The methods that have a recipe."""
    return tuple(paper.id for paper in rows() if paper.recipe)


def named(method: str, preset: str) -> str:
    """The name of results: METHOD, or METHOD (PRESET) where that is not the paper's."""
    return method if preset in ("", "paper") else f"{method} ({preset})"


def by_id(id: str) -> Paper:
    """The row of a method.

    Raises:
        UsageError: there is no such method; names the nearest ids.
    """
    for paper in rows():
        if paper.id == id:
            return paper
    hint = did_you_mean(id, ids(), "`radiffuse methods` lists them")
    raise UsageError(f"no method is called '{id}'; {hint}")


def matches(text: str, wanted: str) -> bool:
    """Whether a field says `wanted`: case-insensitive, from a word's start ("CT" is not "OCT")."""
    wanted = _ALIASES.get(wanted.strip().lower(), wanted.strip().lower())
    return re.search(rf"(?<!\w){re.escape(wanted)}", text.lower()) is not None


def select(
    *, task: str = "", modality: str = "", organ: str = "", formulation: str = ""
) -> tuple[Paper, ...]:
    """The papers that match every filter given (see `matches`); empty filters match all.

    Raises:
        UsageError: a filter that no paper matches; names the values there are.
    """
    found = rows()
    filters = {
        "task": ("application", task),
        "modality": ("modality", modality),
        "organ": ("organ", organ),
        "formulation": ("formulation", formulation),
    }
    for flag, (field, wanted) in filters.items():
        if not wanted:
            continue
        texts = [getattr(paper, field) for paper in rows()]
        if not any(matches(text, wanted) for text in texts):
            there = ", ".join(_values(texts))
            raise UsageError(f"--{flag} {wanted}: no paper has it; there are {there}")
        found = tuple(paper for paper in found if matches(getattr(paper, field), wanted))
    return found


def _values(texts: Iterable[str]) -> list[str]:
    """The single values of comma-separated texts, without what stands in brackets."""
    parts = (re.sub(r"\s*\(.*?\)", "", part).strip() for text in texts for part in text.split(","))
    return sorted({part for part in parts if part != "any"}, key=str.lower)
