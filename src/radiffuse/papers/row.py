"""One row of the taxonomy. Needs no torch."""

import pkgutil
from dataclasses import dataclass
from typing import Any

from ..errors import UserError

__all__ = ["Paper", "arxiv", "recipe"]


@dataclass(frozen=True)
class Paper:
    """One row of the taxonomy.

    Attributes:
        id: the method's name on the command line.
        number: 1 to 31 in the survey's order; None for the generic formulations.
        title: title of the paper.
        authors: all authors, family names first.
        venue: where it appeared, with pages or arXiv number.
        year: year of the version the survey cites.
        application: one of the nine applications, with its speciality in brackets.
        modality: modalities of the paper's own experiments, separated by commas.
        organ: organs of the paper's own experiments, separated by commas.
        formulation: DDPM, NCSN or SDE, with what is special about it.
        url: where to read it.
        recipe: "module:Class" of its recipe; "" where there is none yet.
        reported: a number of the paper's own, on its own data; "" where none could be read and verified.
        beyond: "" for the survey's papers and the generic formulations; else what puts it beside them: "family", a
            generative model that is no diffusion, or "few steps".
    """

    id: str
    number: int | None
    title: str
    authors: str
    venue: str
    year: int
    application: str
    modality: str
    organ: str
    formulation: str
    url: str
    recipe: str = ""
    reported: str = ""
    beyond: str = ""

    @property
    def citation(self) -> str:
        """The full citation in one line."""
        return f"{self.authors}. {self.title}. {self.venue}."

    def load(self) -> type[Any]:
        """The recipe class. Imports it, and torch with it.

        Raises:
            UserError: the method has no recipe yet.
        """
        if not self.recipe:
            raise UserError(
                f"{self.id} is not implemented yet; `radiffuse methods` says which methods are ready"
            )
        return pkgutil.resolve_name(self.recipe)


def arxiv(number: str) -> str:
    """Where arXiv has it."""
    return f"https://arxiv.org/abs/{number}"


def recipe(place: str) -> str:
    """A recipe in its application's room, "room.module:Class"."""
    return f"radiffuse.applications.{place}"
