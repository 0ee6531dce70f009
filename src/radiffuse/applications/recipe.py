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

__all__ = ["Batch", "Recipe", "check_fitted", "classes_of", "image_key"]

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


def classes_of(facts: "Facts", asked: int, what: str) -> int:
    """The number of classes: `asked`, or where that is 0 as many as the data have.

    Raises:
        UserError: `what` needs two or more, and there are fewer.
    """
    classes = asked or facts.classes
    if classes < 2:
        found = "one class only" if classes else "no labels"
        raise UserError(
            f"{what} two classes or more, and the data have {found}; "
            "--map label=COLUMN names the column of labels"
        )
    return classes
