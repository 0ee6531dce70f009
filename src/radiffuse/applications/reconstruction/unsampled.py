r"""Diffusion of the k-space entries that a scan did not sample, told those that it did.

With a mask M, its complement $\bar M = 1 - M$ and the measured $y_M$, the state is
$y_t = \bar M(\alpha_t F x + \sigma_t z)$ and the network

$$ \hat\epsilon = \bar M\,F\,U\big(F^{-1}(y_t + y_M),\ F^{-1} y_M,\ t\big) $$

(Xie & Li 2022, section 3): k-space in and out around a network of images. No entry of M is ever noised,
learned or changed. k-space and images are (B, 2, *S), real parts first.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...acquisition import MASKS, MRI, MaskName
from ...diffusion.losses import Times, Weight
from ...diffusion.network import Network
from ...diffusion.noise import Noise, gaussian
from ...operators import Fourier
from ...training.objective import Denoising
from ..recipe import Batch

__all__ = ["Unsampled", "UnsampledDenoising", "as_parts", "drawn_masks", "from_parts", "noise_of"]


def as_parts(x: Tensor) -> Tensor:
    """Complex (B, 1, *S) as (B, 2, *S)."""
    return torch.cat([x.real, x.imag], 1)


def from_parts(x: Tensor) -> Tensor:
    """(B, 2, *S) as complex (B, 1, *S)."""
    return torch.complex(*x.float().contiguous().chunk(2, 1))


def _pictured(kspace: Tensor) -> Tensor:
    return as_parts(Fourier(kspace.dim() - 2).adjoint(from_parts(kspace)))


def drawn_masks(
    name: MaskName, kinds: Sequence[tuple[float, int]], size: tuple[int, ...], count: int
) -> Tensor:
    """Masks, each of its own draw and of one of the kinds, (count, 1, *size) boolean.

    Drawn from the global generator.

    Args:
        name: as of `MRI`.
        kinds: accelerations and their calibration, as of `MRI`.

    Raises:
        UserError: masks that cannot be.
    """
    scanners = [MRI(name, acceleration, calibration) for acceleration, calibration in kinds]
    masks = []
    for k in torch.randint(len(kinds), (count,)).tolist():
        seed = [int(torch.randint(2**62, ()))]
        masks.append(MASKS[name](size, scanners[k].acceleration, scanners[k].centre, seed).mask)
    return torch.cat(masks)


def noise_of(noise: Noise, free: Tensor) -> Noise:
    """The noise of what was not sampled alone."""
    return lambda like: free * noise(like)


class Unsampled(Network):
    """A network of images as one of the k-space entries that were not sampled."""

    def raw(self, x_t: Tensor, t: Tensor, **condition: Tensor) -> Tensor:
        """The network's output in k-space, 0 where it was sampled.

        Args:
            x_t: (B, 2, *S); what it says where k-space was sampled plays no part.
            t: () or (B,).
            condition: "measured" (B, 2, *S), 0 where nothing was; "free" (B, 1, *S), 1 where nothing was, else 0.
        """
        measured, free = condition["measured"], condition["free"]
        seen = _pictured(free * x_t + measured)
        image = super().raw(seen, t, image=_pictured(measured))
        return free * as_parts(Fourier(x_t.dim() - 2)(from_parts(image)))


class UnsampledDenoising(Denoising):
    """Denoising score matching of k-space, its noise and its errors those of the entries that were not sampled.

    Args:
        network, times, weight: as in `Denoising`.
        prepare: batch -> F x where not sampled, (B, 2, *S), and the conditions of `Unsampled`.
    """

    def __init__(
        self,
        network: Network,
        times: Times,
        weight: Weight,
        prepare: Callable[[Batch], tuple[Tensor, Batch]],
    ) -> None:
        super().__init__(network, times, weight)
        self.prepare = prepare

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        yield "network", self.matching(*self.prepare(batch))

    def noise_for(self, x_0: Tensor, condition: Batch) -> Tensor:
        return noise_of(gaussian, condition["free"])(x_0)
