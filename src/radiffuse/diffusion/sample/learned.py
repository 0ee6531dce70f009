r"""A solver of the flow for N calls whose times and weights were learned, the network as it is.

With $u = \sigma/\alpha$ and the answers $D_0 ... D_i$ so far, the step from $t_i$ to $t_{i+1}$ is DDIM's with

$$ F_i = D_i + \sum_{j<i} w_{ij} (D_i - D_j), \qquad t_N = 0 $$

in place of $D_i$: exact for answers that do not change, whatever w. DPM-Solver++(2M) is
$w_{i,i-1} = h_i / (2 h_{i-1})$, $h_i = \lambda_{t_{i+1}} - \lambda_{t_i}$, $\lambda = -\log u$, and no other weights.
Learned are w, the times, and of each call but the first by how much the level that the network is told differs
from the one it is at (Shaul et al. 2024, Bespoke non-stationary solvers; Tong et al. 2025, LD3; Frankel et al. 2025,
S4S): some ten numbers, which bring the end of the chain to that of one of many calls.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..kernels import reverse
from ..noise import Noise, gaussian
from ..schedule import Schedule
from .base import Sampler, State

__all__ = ["FewCalls", "Learned", "WithSolver"]


class FewCalls(nn.Module):
    """The numbers of a solver of N calls; it begins as DPM-Solver++(2M) on the grid it is given.

    Args:
        schedule: of the times.
        times: (N + 1,) float64, falling to 0; the first stays as it is. N at least 2.
    """

    def __init__(self, schedule: Schedule, times: Tensor) -> None:
        super().__init__()
        calls = len(times) - 1
        levels = schedule.log_ratio(times[:-1])
        rises = levels.diff()
        self.start = float(times[0])
        self.place = nn.Parameter(levels[1].float())
        """lambda of the second call."""
        self.rises = nn.Parameter(rises[1:].log().float())
        """Logarithms of the rises of lambda from each later call to the next."""
        self.told = nn.Parameter(torch.zeros(calls - 1))
        """By how much less lambda is told to the network, of each call but the first."""
        weights = torch.zeros(calls, calls)
        for i in range(1, calls - 1):  # the last step has no end, and so order 1
            weights[i, i - 1] = rises[i] / (2 * rises[i - 1])
        self.weights = nn.Parameter(weights[_earlier(calls)])
        """w_ij, j < i, row by row."""

    @property
    def calls(self) -> int:
        """N."""
        return len(self.told) + 1

    def levels(self) -> Tensor:
        """lambda (N - 1,) float64 of each call but the first."""
        rises = self.rises.double().exp().cumsum(0)
        return torch.cat([self.place.double()[None], self.place.double() + rises])

    def times(self, schedule: Schedule) -> Tensor:
        """(N + 1,) float64."""
        inner = _time(schedule, self.levels())
        ends = inner.new_tensor([self.start, 0.0])
        return torch.cat([ends[:1], inner, ends[1:]])

    def asked(self, schedule: Schedule, call: int) -> Tensor:
        """The time () float64 that the network is told in a call but the first."""
        return _time(schedule, self.levels()[call - 1] - self.told[call - 1].double())

    def weight(self, call: int) -> Tensor:
        """w_ij (i,) of call i."""
        first = call * (call - 1) // 2
        return self.weights[first : first + call]


class WithSolver(Denoiser):
    """A denoiser beside the solver that was learned for it."""

    def __init__(self, denoiser: Denoiser, few: FewCalls) -> None:
        super().__init__()
        self.denoiser, self.few, self.schedule = denoiser, few, denoiser.schedule

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser(x_t, t)


class Learned(Sampler):
    """N calls by the numbers of `FewCalls`; of a grid it takes nothing but the first time.

    Args:
        denoiser: with its solver.
        noise: not drawn.
    """

    order = 0

    def __init__(self, denoiser: WithSolver, noise: Noise = gaussian) -> None:
        super().__init__(denoiser, noise)
        self.few = denoiser.few

    def init(self, x: Tensor, t: Tensor) -> State:
        return ()

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        answer = self._answer(x_t, t, len(state))
        weights = self.few.weight(len(state))
        changes = (w * (answer - past) for w, past in zip(weights, state, strict=True))
        mean = sum(changes, start=answer)
        ends = len(state) == self.few.calls - 1  # without noise, also where the schedule keeps some
        x_s = mean if ends else reverse(self.schedule, x_t, mean, t, s)
        return x_s, (*state, answer)

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return x

    def trajectory(self, x: Tensor, times: Tensor) -> Iterator[Tensor]:
        with torch.no_grad():
            learned = self.few.times(self.schedule)
        return super().trajectory(x, learned)

    def _answer(self, x_t: Tensor, t: Tensor, call: int) -> Tensor:
        """D of the image as it is, at the level that the network is told."""
        if call == 0:
            return self.denoiser(x_t, t)
        told = self.few.asked(self.schedule, call)
        scale = self.schedule.alpha(told) / self.schedule.alpha(t)
        return self.denoiser(x_t * scale.to(x_t), told)

    def end(self, x: Tensor) -> Tensor:
        """The image of the noise x (B, *), with gradients in what is learned."""
        state = self.init(x, torch.tensor(self.few.start))
        for t, s in pairwise(self.few.times(self.schedule)):
            x, state = self.step(x, t, s, state)
        return x


def _earlier(calls: int) -> tuple[Tensor, Tensor]:
    """Places of w in a square, row by row."""
    rows, columns = torch.tril_indices(calls, calls, -1)
    return rows, columns


def _time(schedule: Schedule, levels: Tensor) -> Tensor:
    """`Schedule.time` of lambda (n,) or (), with its derivative."""
    t = schedule.time(levels.detach())
    if not (torch.is_grad_enabled() and levels.requires_grad):
        return t
    at = t.clone().requires_grad_()
    (slope,) = torch.autograd.grad(schedule.log_ratio(at).sum(), at)
    return t + (levels - levels.detach()) / slope
