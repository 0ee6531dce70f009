r"""Learning a solver of few calls for a network (see `diffusion.sample.learned`), and the network with it.

The loss is $E\,\lVert y_N(z) - y(z) \rVert^2$ over noise z, where $y_N$ is the end of the chain of N calls and y that
of many: DPM-Solver++(2M) on a fine grid, of the teacher from the same noise. Its gradient goes through all N calls.
Images of the data are not looked at, only their shape, and what the denoiser is told of them.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from ..diffusion.network import Network
from ..diffusion.sample import DPMSolver, FewCalls, Learned, WithSolver, prior
from .distilling import Teacher
from .objective import Batch, Denoising

__all__ = ["Solving"]

RATE = 40.0
"""The solver's learning rate beside the network's: some ten numbers of order 1."""


class Solving:
    """The objective of a solver, the player "solver", alone or with its network.

    Args:
        denoising: what the network was trained by.
        few: the solver.
        times: the fine grid, (n,) from where the chain begins to 0.
        whole: whether the network learns too.
        teacher: None where nothing is trained (a run that is opened).
        student: the same of the network at hand.
    """

    def __init__(
        self,
        denoising: Denoising,
        few: FewCalls,
        times: Tensor,
        whole: bool,
        teacher: Teacher | None = None,
        student: Teacher | None = None,
    ) -> None:
        self.denoising, self.few, self.teacher, self.student = denoising, few, teacher, student
        self.times = times.unique().flip(0)  # below a schedule's least noise many are one
        self.who: str | tuple[str, ...] = ("network", "solver") if whole else "solver"
        self.players: dict[str, nn.Module] = denoising.players
        self.players["solver"] = few
        self.rates = {"solver": RATE}

    @property
    def network(self) -> Network:
        """As of every objective of one network, as the loop has it."""
        return self.denoising._playing()

    def losses(self, batch: Batch) -> Iterator[tuple[str | tuple[str, ...], Tensor]]:
        yield self.who, self.matching(batch["image"], self.denoising.condition(batch))

    def matching(self, like: Tensor, condition: Batch) -> Tensor:
        """The loss from new noise of the shape of `like` (B, C, *S)."""
        if self.teacher is None or self.student is None:
            raise ValueError("an objective without a teacher trains nothing")
        teacher = self.teacher(condition)
        x = prior(teacher.schedule, like, t=float(self.times[0]))
        target = DPMSolver(teacher)(x, self.times)
        few = Learned(WithSolver(self.student(condition), self.few))
        return (few.end(x) - target).square().mean()
