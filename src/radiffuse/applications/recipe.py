"""What a recipe is: a frozen dataclass whose fields are the configuration and whose defaults are the paper.

The fields are plain values that a TOML file can hold; names in them are looked up once, in `parts`.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from torch import Tensor

from ..papers import Paper
from ..training.objective import Objective
from .task import Task

if TYPE_CHECKING:
    from ..data.dataset import Facts

__all__ = ["Batch", "Recipe"]

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
