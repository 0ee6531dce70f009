r"""What an image would look like if it were different: encode, guide, decode.

Encoding and decoding are DDIM steps on the same times, up and down (Song et al. 2021, eq. 13), so that
without guidance the image comes back. The image itself stands at the first time $t_1 = 1/T$, where a
network may be asked and the noise is all but nothing. Guidance acts on the way down only:
a network that reads noisy images gives $\log p(\text{target} \mid x_t)$, whose gradient moves the
denoiser (`guidance.Steered`); the diffusion itself is not retrained.
"""

from torch import Tensor

from ...diffusion.denoiser import Denoiser
from ...diffusion.sample import DDIM, grids
from ...diffusion.schedule import Discrete

__all__ = ["Normalised", "ladder", "walk"]


def ladder(schedule: Discrete, depth: float, steps: int) -> Tensor:
    """`(L,)` rising times from 1 / T to `depth`, at most `steps` of the schedule's own."""
    highest = max(2, round(depth * schedule.steps))
    return grids.ascending(grids.strided(schedule, min(steps, highest), highest))


def walk(denoiser: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    """x (B, *), which stands at times[0], at times[-1]: up the chain to a latent, or back down."""
    return DDIM(denoiser).encode(x, times)


class Normalised(Denoiser):
    r"""Dynamic normalisation (Saharia et al. 2022; Sanchez et al. 2022): estimates scaled into range.

    For each case and channel $s = \max(1, q)$ with q the quantile of $|\hat x_0|$; the estimate is
    clipped to [-s, s] and divided by s.
    """

    def __init__(self, denoiser: Denoiser, quantile: float = 0.99) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.quantile = denoiser, denoiser.schedule, quantile

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        flat = x_0.flatten(2)
        top = flat.abs().quantile(self.quantile, dim=2, keepdim=True).clamp_min(1)
        return (flat.clamp(-top, top) / top).reshape(x_0.shape)
