"""Samplers of distilled networks: along the flow in few jumps, or to its end and back into noise."""

from torch import Tensor

from ..flow_map import FlowMap
from ..kernels import diffuse
from ..noise import Noise, gaussian
from .base import Sampler, State

__all__ = ["Consistent", "Jumps", "Renoised"]


class Jumps(Sampler):
    """A flow map from each time of the grid to the next: one call each, exact for an exact map."""

    denoiser: FlowMap

    def __init__(self, denoiser: FlowMap, noise: Noise = gaussian) -> None:
        super().__init__(denoiser, noise)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        return self.denoiser.jump(x_t, t, s), state


class Renoised(Sampler):
    r"""To an estimate of the end, and back to s by new noise: $x_s = \alpha_s\hat x_0 + \sigma_s z$.

    Of a denoiser no sampler: $\hat x_0$ is a mean, so that $x_s$ spreads less than it should, and the chain ends near
    the mean, in fewer calls than the mean of draws takes. Of a map to the end see `Consistent`.
    """

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.end(x_t, t)
        if bool(self.schedule.sigma(s) == 0):
            return self.schedule(s, x_t)[0] * x_0, state
        return diffuse(self.schedule, x_0, s, self.noise(x_t)), state

    def end(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The estimate of x_0."""
        return self.denoiser(x_t, t)


class Consistent(Renoised):
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): a flow map gives the end itself."""

    denoiser: FlowMap

    def end(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.denoiser.mean(x_t, t, t.new_zeros(()))
