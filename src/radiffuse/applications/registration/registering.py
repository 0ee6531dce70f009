"""The objective of registration by a diffusion's latent: noise loss and registration loss as one."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ...diffusion.kernels import diffuse
from ...diffusion.losses import Times, discrete_times
from ...diffusion.network import Network, elapsed
from ...diffusion.noise import gaussian
from ...diffusion.parametrization import NOISE
from ...diffusion.schedule import Discrete, expand
from ...nn.augment import UNVARIED, Varied
from ...nn.warp import exponential
from ..recipe import Batch
from .losses import misfit
from .refining import refined

__all__ = ["Registering"]


class Registering:
    r"""Noise loss and registration loss of two networks, trained as one.

    $L = \mathrm{mean}(\varepsilon - s)^2 + \lambda\,(\text{misfit of } \varphi)$ with the latent
    $s = G(m, f, x_t, t)$, $x_t$ a noisy fixed image, and the field $\varphi = M(m, s)$. The gradient of the
    misfit goes through s into G. Where `clean` is above zero, that share of the cases is shown what
    prediction will show, x_t = f at the first step, and has no noise to estimate.

    Args:
        score: G, the player "score".
        field: M, the player "field".
        schedule: of the noise.
        similarity: lambda.
        smooth: weight of the smoothness in the misfit.
        padding: of the warp, "border" or "zeros".
        diffeomorphic: M gives a velocity, the field is its exponential.
        varied: how training pairs vary.
        clean: share of cases trained at the place of prediction.
        anchored: the field is M(m, s) - M(m, 0), so that a latent of 0 moves nothing.
    """

    def __init__(
        self,
        score: nn.Module,
        field: nn.Module,
        schedule: Discrete,
        *,
        similarity: float,
        smooth: float = 1.0,
        padding: str = "border",
        diffeomorphic: bool = False,
        varied: Varied = UNVARIED,
        clean: float = 0.0,
        anchored: bool = False,
    ) -> None:
        self.players: dict[str, nn.Module] = {"score": score, "field": field}
        self.rates: dict[str, float] = {}
        self.schedule, self.similarity, self.smooth = schedule, similarity, smooth
        self.padding, self.diffeomorphic, self.varied = padding, diffeomorphic, varied
        self.clean, self.anchored = clean, anchored
        self.times: Times = discrete_times(schedule)

    def losses(self, batch: Batch) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        moving, fixed = self.varied(batch["moving"], batch["fixed"])
        t, z = self.times(len(fixed)), gaussian(fixed)
        noisy = torch.rand(len(fixed)) >= self.clean
        t = torch.where(noisy, t, torch.full_like(t, 1 / self.schedule.steps))
        shown = expand(noisy.to(fixed.device), fixed)
        x_t = torch.where(shown, diffuse(self.schedule, fixed, t, z), fixed)
        s = self.latent(moving, fixed, x_t, t)
        error = torch.where(shown, s - z, torch.zeros_like(z)).square().mean()
        against = misfit(moving, fixed, self.field(moving, s), self.smooth, padding=self.padding)
        yield ("score", "field"), error + self.similarity * against.mean()

    def network(self) -> Network:
        """G as a denoiser of the fixed image; its condition is the pair."""
        return Network(self.players["score"], self.schedule, NOISE, clock=elapsed)

    def latent(self, moving: Tensor, fixed: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """s, the estimate of the noise in x_t, (B, C, *S); t () or (B,)."""
        return self.network().raw(x_t, t, image=torch.cat([moving, fixed], dim=1)).float()

    def field(self, moving: Tensor, latent: Tensor) -> Tensor:
        """The displacement (B, n, *S) in voxels that a latent stands for."""
        return self.displacement(self.raw(moving, latent))

    def displacement(self, raw: Tensor) -> Tensor:
        """The displacement of what M gives: itself, or the exponential of a velocity."""
        return exponential(raw) if self.diffeomorphic else raw

    def raw(self, moving: Tensor, latent: Tensor) -> Tensor:
        """What M gives for a latent, (B, n, *S) in voxels."""
        told = torch.cat([moving, latent], dim=1)
        if self.anchored:
            none = torch.cat([moving, torch.zeros_like(latent)], dim=1)
            out, at_rest = self.players["field"](torch.cat([told, none])).float().chunk(2)
            return out - at_rest
        return self.players["field"](told).float()

    def path(
        self, moving: Tensor, fixed: Tensor, scales: Tensor, refine: int = 0
    ) -> Iterator[Tensor]:
        """The field at each scale of the latent: s from the clean fixed image at the first step.

        With `refine` steps the last field is made better for the pair, and the others by as much as their scale.
        """
        s = self.latent(moving, fixed, fixed, torch.tensor(1 / self.schedule.steps))
        change: Tensor | float = 0.0
        if refine:
            change = self.change(moving, fixed, self.raw(moving, s), refine)
        for scale in scales.tolist():
            yield self.displacement(self.raw(moving, scale * s) + scale * change)

    def change(self, moving: Tensor, fixed: Tensor, raw: Tensor, steps: int) -> Tensor:
        """What `steps` down the loss of each pair add to what M gave, (B, n, *S)."""
        return refined(moving, fixed, raw, steps, self.smooth, self.padding, self.diffeomorphic)
