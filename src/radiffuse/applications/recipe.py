"""What a recipe is: a frozen dataclass whose fields are the configuration and whose defaults are the paper.

The fields are plain values that a TOML file can hold; names in them are looked up once, in `parts`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from torch import Tensor

from ..errors import UserError
from ..papers import Paper
from ..training.objective import Objective
from .task import Task

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["Batch", "Recipe", "check_fitted", "image_key"]

Batch = dict[str, Tensor]


class Recipe(Protocol):
    """A method of the survey: what to optimise, and what to predict."""

    paper: ClassVar[Paper]
    task: ClassVar[Task]

    def fitted(self, facts: "Facts") -> Self: ...
    def objective(self) -> Objective: ...
    def predict(self, objective: Any, batch: Batch) -> Batch: ...
    @classmethod
    def small(cls) -> Self: ...
    @classmethod
    def tiny(cls) -> Self: ...


def check_fitted(recipe: Any, *names: str) -> None:
    """Refuse to build networks before the data have said how large they are.

    Raises:
        UserError: one of the fields `names` is 0 or empty.
    """
    for name in names:
        if not getattr(recipe, name):
            raise UserError(f"{name} is not set; fit the recipe to data first")


def image_key(facts: "Facts", *keys: str) -> str:
    """The first of `keys` that the data hold as an image; of any name where none is given.

    Raises:
        UserError: there is no such image.
    """
    for key in keys or ("image", *facts.channels):
        if key in facts.channels:
            return key
    raise UserError("the data hold no image; name the column with --map image=COLUMN")
