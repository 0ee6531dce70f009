"""A generative recipe whose network was taught to need few calls."""

import dataclasses
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, cast

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.flow_map import FlowMap, TwoTimes, nested
from ...diffusion.guidance import Clipped
from ...diffusion.noise import Noise
from ...diffusion.sample import Consistent, FewCalls, Jumps, Learned, Sampler, WithSolver
from ...diffusion.schedule import Schedule
from ...errors import UserError
from ...nn.embed import Conditioning
from ...training.distilling import Distilling, Teacher, Way
from ...training.objective import Batch, Denoising
from ...training.solving import Solving
from ..ranges import Rule, at_least, require
from .base import Generative

__all__ = ["FINEST", "distilled", "refuse_teacher", "student_of", "teacher_of"]

FINEST = 32
"""Steps of the finest grid, those of the teacher."""
FINEST_OF_CHAINS = 16
"""The same where whole chains are walked for every step of the training."""
SOLVERS = ("solver", "chain")
"""Ways that learn a solver (see `training.solving`)."""


@dataclass(frozen=True)
class _Distilled(Generative):
    """What a distilled recipe has in place of its teacher's sampler and times; beside it stand the teacher's fields."""

    IS_PRIOR: ClassVar[bool] = False
    HAS_DENSITY: ClassVar[bool] = False
    AFTER_TRAINING: ClassVar[tuple[str, ...]] = ("steps",)
    RULES: ClassVar[dict[str, Rule]] = {"calls": at_least(1), "finest": at_least(2)}

    way: Way = "flow-map"
    """How it was distilled (see `training.distilling`)."""
    calls: int = 4
    """The fewest calls that it learned to need: of a solver any number from 2 on, else a power of two."""
    finest: int = FINEST
    """Steps of the finest grid that it was taught on."""
    steps: int = 4
    """Calls of the network for an image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = {2**k for k in range(self.finest.bit_length()) if 2**k < self.finest}
        learned = {"consistency": whole} | {way: {self.calls} for way in (*SOLVERS, "progressive")}
        ways = sorted(learned.get(self.way, {n for n in whole if n >= self.calls}))
        said = f"{self.steps}: {self.way} distilled to {self.calls} learned {_listed(ways)}"
        require(self.steps in ways, "steps", said)

    def grid_of_training(self) -> Tensor:
        """The finest grid that the network was taught on."""
        steps = 2 * self.calls if self.way == "progressive" else self.finest
        return nested(self.schedule(), steps, self.start)

    def objective(self, teacher: Teacher | None = None) -> Distilling | Solving:
        """The objective of the map or solver; of a run that is opened without a teacher."""
        denoising = self.denoising(self.network())
        if self.way in SOLVERS:
            return self._solving(denoising, teacher)
        if self.way == "flow-map":
            for part in denoising.network.backbone.modules():
                if isinstance(part, Conditioning):
                    part.told_until()
        return Distilling(denoising, self.way, self.grid_of_training(), self.calls, teacher)

    def _solving(self, denoising: Denoising, teacher: Teacher | None) -> Solving:
        schedule = self.schedule()
        few = FewCalls(schedule, nested(schedule, self.calls, self.start))
        made = Solving(denoising, few, self.grid_of_training(), self.way == "chain", teacher)
        made.student = lambda condition: self.denoiser(made, condition.get("label"))
        return made

    def denoiser(self, objective: Any, label: Tensor | None = None) -> Denoiser:
        """The flow map, with the label bound where there is one and the guidance that it was distilled with; or the
        teacher's denoiser, with the solver."""
        if self.way in SOLVERS:
            return WithSolver(_clipped(self, super().denoiser(objective, label)), objective.few)
        told = {"label": label} if label is not None and self.conditional else {}
        return cast(TwoTimes, objective.student(**told))

    def make_sampler(self, denoiser: Denoiser, noise: Noise) -> Sampler:
        """Jumps along the flow, or to its end and back; or the solver's steps."""
        if self.way in SOLVERS:
            return Learned(cast(WithSolver, denoiser), noise)
        kind = Consistent if self.way == "consistency" else Jumps
        return kind(cast(FlowMap, denoiser), noise)

    def make_grid(self, schedule: Schedule) -> Tensor:
        """The grid of `steps` calls."""
        return nested(schedule, self.steps, self.start)


def _listed(numbers: list[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} or {last} calls" if others else f"{last} calls only"


def distilled(kind: type[Any]) -> type[Any]:
    """The recipe class of a distilled run of a method, always the same one."""
    return _made(cast(Hashable, kind))


@cache
def _made(kind: Any) -> type[Any]:
    made = type(f"Distilled{kind.__name__}", (_Distilled, kind), {"__doc__": kind.__doc__})
    return dataclass(frozen=True)(made)


def refuse_teacher(recipe: Any, objective: Any, name: str) -> None:
    """Refuse what cannot be distilled.

    Raises:
        UserError: says why.
    """
    why = ""
    if hasattr(recipe, "way"):
        why = "is distilled already; distill its teacher"
    elif recipe.task.name != "generation" or not isinstance(recipe, Generative):
        why = "is not generative: it draws no images of noise alone; distill a run of ddpm, sde or ncsn"
    elif hasattr(recipe, "first_objective"):
        why = "draws codes of an auto-encoder, and only networks of images are distilled"
    elif recipe.classifier:
        why = "is guided by a classifier beside the network, which no few calls replace; train with --conditional"
    elif not isinstance(objective, Denoising):
        why = "learns more than to denoise, and only denoisers are distilled"
    if why:
        raise UserError(f"{name}: {why}")


def student_of(recipe: Any, way: Way, calls: int) -> Any:
    """The recipe of a student of a fitted teacher's."""
    finest = FINEST_OF_CHAINS if way in SOLVERS else FINEST
    names = (field.name for field in dataclasses.fields(recipe))
    values = {name: getattr(recipe, name) for name in names}
    more = {"way": way, "calls": calls, "finest": finest, "steps": calls}
    return distilled(type(recipe))(**{**values, **more})


def teacher_of(recipe: Any, objective: Any) -> Teacher:
    """What a student learns from: the denoiser of a run with its guidance and clipping, without gradients."""

    def teacher(condition: Batch) -> Denoiser:
        return _clipped(recipe, recipe.denoiser(objective, condition.get("label")))

    return teacher


def _clipped(recipe: Any, denoiser: Denoiser) -> Denoiser:
    """The denoiser within the range of images, where the recipe's is."""
    return Clipped(denoiser) if getattr(recipe, "clipped", False) else denoiser


def as_teacher(recipe: Any, objective: Any) -> Teacher:
    """The student of an earlier stage as the teacher of the next."""
    return lambda condition: objective.student(**condition)
