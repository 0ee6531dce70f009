"""Samplers of distilled networks: along the flow in few jumps, or to its end and back into noise."""

from torch import Tensor

from ..flow_map import FlowMap
from ..kernels import diffuse
from ..noise import Noise, gaussian
from .base import Sampler, State

__all__ = ["Jumps", "Renoised"]


class Jumps(Sampler):
    """A flow map from each time of the grid to the next: one call each, exact for an exact map."""

    denoiser: FlowMap

    def __init__(self, denoiser: FlowMap, noise: Noise = gaussian) -> None:
        super().__init__(denoiser, noise)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        return self.denoiser.jump(x_t, t, s), state


class Renoised(Jumps):
    """Multistep consistency sampling (Song et al. 2023, algorithm 1): to the end, back to s by new noise."""

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0 = self.denoiser.mean(x_t, t, s.new_zeros(()))
        if bool(self.schedule.sigma(s) == 0):
            return self.schedule(s, x_t)[0] * x_0, state
        return diffuse(self.schedule, x_0, s, self.noise(x_t)), state
