r"""Langevin dynamics at fixed noise levels: NCSN's annealed sampler and the SDE's corrector.

$x \leftarrow x + \varepsilon \nabla\log p_t(x) + \sqrt{2\varepsilon}\, z$, `count` times a level.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..denoiser import Denoiser, score_of
from ..noise import Noise, gaussian
from ..schedule import Schedule, expand
from .base import Sampler, State

__all__ = ["Langevin", "StepSize", "annealed", "signal_to_noise"]

StepSize = Callable[[Schedule, Tensor, Tensor, Tensor], Tensor]
"""(schedule, t, score (B, *), z (B, *)) -> step size, broadcastable over x."""


def annealed(step: float) -> StepSize:
    r"""$\varepsilon_i = \varepsilon\,(\sigma_i/\sigma_L)^2$ (Song & Ermon 2019, algorithm 1; the code's convention)."""

    def size(schedule: Schedule, t: Tensor, score: Tensor, z: Tensor) -> Tensor:
        last = schedule.sigma(torch.zeros(()).double())
        if float(last) == 0:
            raise ValueError("annealed Langevin needs a ladder whose last sigma is above 0")
        return (step * (schedule.sigma(t) / last) ** 2).to(score.device, score.real.dtype)

    return size


def signal_to_noise(ratio: float = 0.16) -> StepSize:
    r"""$\varepsilon = 2\alpha_t^2(r\,\|z\|/\|s\|)^2$, norms of each case (Song et al. 2021, algorithm 4-5).

    The paper averages the norms over the batch, so a sample depends on its company; here each case
    has its own. $\alpha_t^2$ is the paper's $\alpha_t = 1-\beta_t$ generalised to "1 for VE".
    """

    def size(schedule: Schedule, t: Tensor, score: Tensor, z: Tensor) -> Tensor:
        quotient = z.flatten(1).norm(dim=1) / score.flatten(1).norm(dim=1).clamp(min=1e-12)
        return expand(2 * (ratio * quotient) ** 2, score)

    return size


class Langevin(Sampler):
    """`count` Langevin steps at the time moved to; between levels x is only rescaled by alpha.

    Alone on `grids.ladder` it is NCSN's annealed sampler (v2 with `denoise=True`, v1 without);
    behind a predictor, as `Then(predictor, Langevin(...))`, the corrector of the score SDE. The state that a
    step returns is the variance that its noise added, broadcastable over x.

    Args:
        size: the step-size rule, `annealed(step)` or `signal_to_noise(ratio)`.
        count: steps a level.
        denoise: finish with one Tweedie step.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        noise: Noise = gaussian,
        size: StepSize | None = None,
        count: int = 1,
        denoise: bool = True,
    ) -> None:
        super().__init__(denoiser, noise)
        self.size = signal_to_noise() if size is None else size
        self.count = count
        self.denoise = denoise

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        alpha_t, _ = self.schedule(t, x_t)
        alpha_s, _ = self.schedule(s, x_t)
        x = x_t * (alpha_s / alpha_t)
        added = torch.zeros_like(alpha_s)
        for _ in range(self.count):
            score, z = score_of(self.denoiser, x, s), self.noise(x)
            step = self.size(self.schedule, s, score, z)
            x = x + step * score + torch.sqrt(2 * step) * z
            added = added + 2 * step
        return x, added

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        return super().finish(x, t, state) if self.denoise else x
