r"""Projections onto what was measured, between the steps of any sampler.

`Constrained(sampler, project)` applies `project(x, alpha, sigma, noise)` after every step, at the
level moved to, and once more to the finished result with alpha = 1 and sigma = 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.noise import Noise
from ..diffusion.sample.base import Sampler, State
from .measurement import Measurement

__all__ = ["Constrained", "Project", "data_consistency", "kept", "low_pass"]

Project = Callable[[Tensor, Tensor, Tensor, Noise], Tensor]
"""(x (B, *), alpha (), sigma (), noise source) -> x (B, *)."""


class Constrained(Sampler):
    """A sampler whose every step is followed by a projection.

    Args:
        sampler: walks from t to s; its denoiser, noise source and order are taken over.
        project: e.g. `data_consistency(measurement)`, applied at the level of s and at the end.
    """

    def __init__(self, sampler: Sampler, project: Project) -> None:
        super().__init__(sampler.denoiser, sampler.noise)
        self.sampler, self.project, self.order = sampler, project, sampler.order

    def init(self, x: Tensor, t: Tensor) -> State:
        return self.sampler.init(x, t)

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_s, state = self.sampler.step(x_t, t, s, state)
        alpha, sigma = self.schedule(s, x_s)
        return self.project(x_s, alpha, sigma, self.noise), state

    def finish(self, x: Tensor, t: Tensor, state: State) -> Tensor:
        x = self.sampler.finish(x, t, state)
        alpha = torch.ones((), dtype=x.real.dtype, device=x.device)
        return self.project(x, alpha, torch.zeros_like(alpha), self.noise)


def data_consistency(
    measurement: Measurement,
    noised: bool = False,
    strength: float = 1.0,
    inverse: Callable[[Tensor], Tensor] | None = None,
) -> Project:
    r"""$x + \lambda A^+(y_s - A x)$: at $\lambda = 1$ hard data consistency.

    Args:
        noised: compare with $y_s = \alpha y + \sigma A z$, z noise in image space (Song et al. 2022);
            otherwise with its mean $\alpha y$ (POCS, Chung & Ye 2022, where alpha = 1).
        strength: lambda in [0, 1]; the result minimises
            $(1-\lambda)\|u-x\|^2 + \lambda \min_{Av=y_s}\|u-v\|^2$ over u (Song et al. 2022, eq. 8).
        inverse: what stands for A^+, e.g. `A.adjoint` or filtered back-projection; if None it is
            solved by conjugate gradients.
    """

    def project(x: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        gap = alpha * measurement.y - measurement.seen(x)
        if noised and bool(sigma > 0):
            gap = gap + measurement.A(sigma * noise(x))
        if inverse is None:
            back = measurement.pseudo_inverse(gap, x)
        else:
            back = inverse(gap)
            back = back if x.is_complex() or not back.is_complex() else back.real
        return x + strength * back

    return project


def kept(known: Tensor, free: Tensor) -> Project:
    r"""Inpainting by replacement: $\alpha x + \sigma z$ of the known x wherever it is not free, at every level.

    At the end what is not free is the known value itself.

    Args:
        known: x, (B, *).
        free: bool, broadcastable over x: what the chain may make.
    """

    def project(x: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        noisy = alpha * known + sigma * noise(known) if bool(sigma > 0) else alpha * known
        return torch.where(free, x, noisy)

    return project


def low_pass(reference: Tensor, keep: Callable[[Tensor], Tensor]) -> Project:
    r"""ILVR (Choi et al. 2021, eq. 8): $x + \varphi(\alpha r + \sigma z) - \varphi(x)$.

    Args:
        reference: r, whose low frequencies are kept, (B, *).
        keep: the linear low-pass filter phi, e.g. `Blur(...)` or down- and up-sampling.
    """

    def project(x: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
        noisy = alpha * reference
        if bool(sigma > 0):
            noisy = noisy + sigma * noise(x)
        return x + keep(noisy - x)

    return project
