"""RED-diff (Mardani et al. 2024): the posterior's mode-seeking Gaussian, found by optimisation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.kernels import diffuse
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from .measurement import Measurement

__all__ = ["REDDiff"]


@dataclass
class _Fit:
    mean: Tensor
    optimiser: torch.optim.Optimizer


class REDDiff(Sampler):
    r"""RED-diff (Mardani et al. 2024, algorithm 1): $\mu$ minimises, level after level,

    $$ \tfrac12\|y - A\mu\|^2 + \lambda\,\tfrac{\sigma_t}{\alpha_t}\,
       \mathrm{sg}[\hat z(x_t) - z]^T \mu, \qquad x_t = \alpha_t\mu + \sigma_t z, $$

    by one step of Adam at each time of the grid. It gives one estimate, not a sample of the posterior:
    the chain's start is not used, mu begins at the pseudo-inverse $A^+ y$.

    Args:
        weight: lambda (the paper's 0.25).
        rate: Adam's step (the paper's 0.1).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        weight: float = 0.25,
        rate: float = 0.1,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.weight, self.rate = measurement, weight, rate

    def init(self, x: Tensor, t: Tensor) -> State:
        y = self.measurement.y.expand_as(self.measurement.seen(x))
        mean = self.measurement.pseudo_inverse(y, x).clone()
        return _Fit(mean, torch.optim.Adam([mean], self.rate, betas=(0.9, 0.99)))

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        mean = state.mean
        alpha, sigma = self.schedule(t, mean)
        z = self.noise(mean)
        noisy = diffuse(self.schedule, mean, t, z)
        predicted = (noisy - alpha * self.denoiser(noisy, t)) / sigma
        pull = self.measurement.adjoint(self.measurement.residual(mean), mean)
        mean.grad = self.weight * sigma / alpha * (predicted - z) - pull
        state.optimiser.step()
        return mean.clone(), state

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return state.mean.clone()
