r"""Teaching a network to do in few calls what its teacher does in many.

Three ways learn F of `diffusion.flow_map`, the mean of E[x_0 | x_t] on the way from t to s, on a grid of times
of which every second is the grid of half as many steps (`nested`), and start from the teacher's weights.

- `flow-map`: the network is told t and s. The shortest steps are the teacher's, of second order, longer ones the
  network's own two halves (Frans et al. 2024, shortcut models, with a teacher in place of images).
- `consistency`: s = 0. The target is the network's own answer one step nearer along the teacher's flow (Song et al.
  2023, consistency distillation), without an average of weights (Song & Dhariwal 2024; Geng et al. 2024).
- `progressive`: s is the next time of its grid, the target two DDIM steps of the teacher (Salimans & Ho 2022).

Two walk whole chains (see `solving`): `solver` learns their times and weights, `chain` the network too.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from ..diffusion.denoiser import Denoiser
from ..diffusion.flow_map import FlowMap, TwoTimes, joined_mean
from ..diffusion.kernels import diffuse, reverse
from ..diffusion.network import Network
from ..diffusion.schedule import Schedule, expand
from .objective import Batch, Denoising

__all__ = ["Distilling", "Teacher", "Way", "halves", "second_order", "two_steps"]

Way = Literal["solver", "chain", "flow-map", "consistency", "progressive"]

Teacher = Callable[[Batch], Denoiser]
"""(condition of the network) -> E[x_0 given x_t and the condition]."""


class Distilling:
    """The objective of a student that starts as its teacher.

    Args:
        denoising: what the student is made of: its network, the player "network", and the weight of its errors.
        way: see the table above.
        times: the finest grid, (2^k + 1,) from the start of the chain to 0.
        coarsest: steps of the longest that are learned, a power of two; `progressive`: of its one grid, the half of
            `times`.
        teacher: None where nothing is trained (a run that is opened).
    """

    def __init__(
        self,
        denoising: Denoising,
        way: Way,
        times: Tensor,
        coarsest: int,
        teacher: Teacher | None = None,
    ) -> None:
        self.players: dict[str, nn.Module] = denoising.players
        self.denoising, self.way, self.times, self.coarsest = denoising, way, times, coarsest
        self.teacher = teacher

    @property
    def network(self) -> Network:
        """As of every objective of one network."""
        return self.denoising.network

    def student(self, **condition: Tensor) -> TwoTimes:
        """The map, with the conditions of its network bound."""
        playing = self.denoising._playing()
        return TwoTimes(playing, self.way == "flow-map", self.way != "progressive", **condition)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield "network", self.matching(batch["image"], self.denoising.condition(batch))

    def matching(self, x_0: Tensor, condition: Batch) -> Tensor:
        """The loss of x_0 (B, C, *S) at random steps of the grid, under random noise."""
        t, r, s, finest = self.drawn(len(x_0))
        x_t = diffuse(self.network.schedule, x_0, t, self.denoising.noise_for(x_0, condition))
        with torch.no_grad():
            target = self.target(x_t, t, r, s, finest, condition)
        return self.loss(self.student(**condition).mean(x_t, t, s), target, t)

    def loss(self, mean: Tensor, target: Tensor, t: Tensor) -> Tensor:
        """The squared error of F (B, *), weighted as the student's teacher weighted that of its clean image."""
        network = self.network
        alpha, sigma = network.schedule.alpha(t), network.schedule.sigma(t)
        c_x, c_z = network.predicts.coefficients(alpha, sigma)
        weight = self.denoising.weight(network.schedule, t, network.predicts)
        weight = weight * ((c_x * sigma - c_z * alpha) / sigma).square()
        return (expand(weight.to(mean), mean) * (mean.float() - target).square()).mean()

    # --- which steps ---------------------------------------------------------------------------

    def drawn(self, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """t, the time r half way in the grid, s (count,) float64 each, and where a step is of the finest."""
        finest = len(self.times) - 1
        if self.way == "consistency":
            place = torch.randint(finest, (count,))
            t, r = self.times[place], self.times[place + 1]
            return t, r, torch.zeros_like(t), place == finest - 1
        # the longer a step, the more there is to learn
        length = torch.multinomial(torch.arange(1.0, self.levels() + 1), count, replacement=True)
        stride = 2 ** (1 + length)
        place = (torch.rand(count) * (finest // stride)).long() * stride
        t, r, s = (self.times[place + move] for move in (0 * stride, stride // 2, stride))
        return t, r, s, stride == 2

    def levels(self) -> int:
        """How many lengths of steps are learned."""
        return ((len(self.times) - 1) // self.coarsest).bit_length() - 1

    # --- what they should give -----------------------------------------------------------------

    def target(
        self, x_t: Tensor, t: Tensor, r: Tensor, s: Tensor, finest: Tensor, condition: Batch
    ) -> Tensor:
        """What F(x_t, t, s) should be; all as `drawn`, without gradients."""
        if self.teacher is None:
            raise ValueError("an objective without a teacher trains nothing")
        if self.way == "consistency":
            return self._nearer(x_t, t, r, s, finest, condition)
        target = torch.empty_like(x_t)
        for rows, taught in ((finest, True), (~finest, False)):
            if not bool(rows.any()):
                continue
            at = rows.to(x_t.device)
            own = {key: value[at] for key, value in condition.items()}
            part = (x_t[at], t[rows], r[rows], s[rows])
            if taught:
                step = two_steps if self.way == "progressive" else second_order
                target[at] = step(self.teacher(own), *part).to(target)
            else:
                target[at] = halves(self.student(**own), *part).to(target)
        return target

    def _nearer(
        self, x_t: Tensor, t: Tensor, r: Tensor, s: Tensor, last: Tensor, condition: Batch
    ) -> Tensor:
        """The student's answer at x_r, where the teacher's step from t leads; the teacher's where that is the end."""
        assert self.teacher is not None
        x_0 = self.teacher(condition)(x_t, t)
        x_r = reverse(self.network.schedule, x_t, x_0, t, r)
        safe = torch.where(last, t, r)  # nothing is asked without noise
        answer = self.student(**condition).mean(x_r, safe, s)
        return torch.where(expand(last.to(x_t.device), x_t), x_0, answer)


def halves(flow_map: FlowMap, x_t: Tensor, t: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """F(x_t, t, s) of the map's own two steps by r."""
    first = flow_map.mean(x_t, t, r)
    x_r = reverse(flow_map.schedule, x_t, first, t, r)
    return joined_mean(flow_map.schedule, first, flow_map.mean(x_r, r, s), t, r, s)


def two_steps(teacher: Denoiser, x_t: Tensor, t: Tensor, r: Tensor, s: Tensor) -> Tensor:
    """F(x_t, t, s) of two DDIM steps of a denoiser by r (Salimans & Ho 2022, algorithm 2); of a map, its own two."""
    if isinstance(teacher, FlowMap):
        return halves(teacher, x_t, t, r, s)
    schedule: Schedule = teacher.schedule
    first = teacher(x_t, t)
    x_r = reverse(schedule, x_t, first, t, r)
    return joined_mean(schedule, first, teacher(x_r, r), t, r, s)


def second_order(teacher: Denoiser, x_t: Tensor, t: Tensor, r: Tensor, s: Tensor) -> Tensor:
    r"""F(x_t, t, s) of a denoiser that is linear in $\lambda = \log(\alpha/\sigma)$ through its values at t and at r.

    The mean of $\lambda - \lambda_t$ by $d(1/u) = e^\lambda d\lambda$ is $h/(1 - e^{-h}) - 1$ with
    $h = \lambda_s - \lambda_t$ (as DPM-Solver-2, Lu et al. 2022); to the end, where h is infinite, the value at r.
    """
    schedule: Schedule = teacher.schedule
    first = teacher(x_t, t)
    second = teacher(reverse(schedule, x_t, first, t, r), r)
    ways = [schedule.log_ratio(each) for each in (t, r, s)]
    h = ways[2] - ways[0]
    slope = (h / -torch.expm1(-h) - 1) / (ways[1] - ways[0])
    slope = torch.where(h.isinf() | ways[0].isinf(), torch.ones_like(h), slope)
    return torch.lerp(first, second, expand(slope.to(first.device, first.dtype), first))
