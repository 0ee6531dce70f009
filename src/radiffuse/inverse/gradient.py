"""Gradients of the residual through the network: DPS, and the part of it that MCG is made of."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.kernels import ancestral
from ..diffusion.noise import Noise, gaussian
from ..diffusion.sample.base import Sampler, State
from .measurement import Measurement

__all__ = ["DPS", "residual_gradient"]


def residual_gradient(
    denoiser: Denoiser,
    measurement: Measurement,
    x_t: Tensor,
    t: Tensor,
    metric: Callable[[Tensor], Tensor] | None = None,
    squared: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The gradient of $\|W(y - A\hat x_0(x_t))\|$ with respect to x_t, through the network.

    The direction of DPS (Chung et al. 2023) and of the manifold constraint (MCG, Chung et al. 2022).

    Args:
        x_t: (B, *), detached inside.
        metric: W, applied to the residual, differentiable; the identity if None (MCG in CT: the
            filtered back-projection).
        squared: the gradient of the squared norm instead, $2\|\cdot\|$ times as long.

    Returns:
        x_0 (B, *), the norm of each case (B,), and the gradient (B, *).
    """
    with torch.enable_grad():
        leaf = x_t.detach().requires_grad_()
        x_0 = denoiser(leaf, t)
        residual = measurement.residual(x_0)
        if metric is not None:
            residual = metric(residual)
        size = residual.flatten(1).norm(dim=1)
        (gradient,) = torch.autograd.grad((size**2 if squared else size).sum(), leaf)
    return x_0.detach(), size.detach(), gradient


class DPS(Sampler):
    r"""Diffusion posterior sampling (Chung et al. 2023, algorithm 1).

    An ancestral step, then $x_s \leftarrow x_s - \zeta\,\nabla_{x_t}\|y - A\hat x_0(x_t)\|$ (the paper's
    step $\zeta/\|y-A\hat x_0\|$ on the squared norm is twice this).

    Args:
        scale: zeta.
        w: the variance of the ancestral step, as in `DDPM`.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        noise: Noise = gaussian,
        scale: float = 1.0,
        w: float = 0.0,
    ) -> None:
        super().__init__(denoiser, noise)
        self.measurement, self.scale, self.w = measurement, scale, w

    def step(self, x_t: Tensor, t: Tensor, s: Tensor, state: State) -> tuple[Tensor, State]:
        x_0, _, gradient = residual_gradient(self.denoiser, self.measurement, x_t, t)
        mean, variance = ancestral(self.schedule, x_t, x_0, t, s, self.w)
        x_s = mean + torch.sqrt(variance) * self.noise(x_t)
        return x_s - self.scale * gradient, state
