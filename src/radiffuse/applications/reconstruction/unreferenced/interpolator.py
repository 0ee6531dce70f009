r"""What was not sampled from what was, by a network whose weights are a law (Cui et al. 2022, section 3).

An unrolled iteration of image and k-space networks and projections, as POCS-SPIRiT is, whose weights are
mean-field Gaussian. It learns from pairs (y, y') of a scan and a part of it,

$$ \min_q E_{\theta\sim q} \|f_\theta(y') - \hat y\|^2 / 2\gamma_2^2 + KL(q \| N(0, I)), $$

and draws of it, f_theta(y), are the images that the score network learns.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ....acquisition.splitting import resampled
from ....diffusion.losses import Times, Weight
from ....diffusion.network import Network
from ....errors import UserError
from ....nn.bayes import MeanField, drawn, kl_to_prior
from ....nn.blocks import conv, zeroed
from ....operators import Coils, Fourier
from ....training.batches import Readable
from ....training.objective import Denoising
from ...recipe import Batch
from .undersampled import Undersampled

__all__ = ["Compared", "Interpolation", "Interpolator", "SelfScored"]

Compared = Literal["zero-filled", "left-out"]


def _parts(x: Tensor) -> Tensor:
    """Complex (B, K, *S) as (B, 2 K, *S)."""
    return torch.cat([x.real, x.imag], 1)


def _complex(x: Tensor) -> Tensor:
    return torch.complex(*x.float().chunk(2, 1))


def _branch(axes: int, channels: int, width: int, layers: int) -> nn.Sequential:
    """Convolutions of mean-field weights; at the beginning they answer nothing on average."""
    sides = [channels, *[width] * (layers - 1), channels]
    made: list[nn.Module] = []
    for number, (into, out) in enumerate(pairwise(sides), start=1):
        layer = conv(axes, into, out)
        made.append(MeanField(zeroed(layer) if number == layers else layer))
        made.append(nn.ReLU() if number < layers else nn.Identity())
    return nn.Sequential(*made)


class Interpolator(nn.Module):
    r"""f_theta: k-space (B, K, *S) of all coils from a part of it.

    `unrolls` times, $x \leftarrow x + C_i(x)$ in the image that the coil maps combine, $k \leftarrow k + D_i(k)$ in
    k-space of all coils, and the projection $k \leftarrow (I - P')k + y'$: the last thing done, so that every
    sample given is in the answer.

    Args:
        axes, coils: of the scans.
        width, layers: of the networks C and D.
        unrolls: pairs of them.
    """

    def __init__(self, axes: int, coils: int, width: int, layers: int, unrolls: int) -> None:
        super().__init__()
        turns = range(unrolls)
        self.of_image = nn.ModuleList([_branch(axes, 2, width, layers) for _ in turns])
        self.of_kspace = nn.ModuleList([_branch(axes, 2 * coils, width, layers) for _ in turns])

    def forward(self, y: Tensor, mask: Tensor, maps: Tensor) -> Tensor:
        """y is 0 where `mask` is; maps (B, K, *S)."""
        fourier, coils = Fourier(y.dim() - 2), Coils(maps)
        k = y
        for image, kspace in zip(self.of_image, self.of_kspace, strict=True):
            x = coils.adjoint(fourier.adjoint(k))
            k = fourier(coils(x + _complex(image(_parts(x)))))
            k = k + _complex(kspace(_parts(k)))
            k = torch.where(mask, y, k)
        return k


@dataclass(frozen=True)
class Interpolation:
    """How f_theta learns.

    Attributes:
        kept: share of the samples outside of the calibration region that y' has of y.
        std: gamma_2, deviation of what it may miss, of each part.
        compared: "zero-filled": image f(y') with the zero-filled image of y, the paper's; "left-out": its k-space
            with y where y' has nothing.
        most: cases of a batch that teach it, the first; 0 = all.
    """

    kept: float
    std: float
    compared: Compared
    most: int = 0

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """The evidence bound's negative, over the numbers compared."""
        batch = {key: value[: self.most or None] for key, value in batch.items()}
        y, mask, maps = batch["kspace"], batch["mask"], batch["maps"]
        fewer = resampled(mask, batch["centre"], self.kept)
        x = combined_image(network(y * fewer, fewer, maps), maps)
        if self.compared == "zero-filled":
            gap = x - combined_image(y, maps)
            numbers = 2.0 * gap[0].numel()
        else:
            new = mask & ~fewer
            gap = new * (Fourier(y.dim() - 2)(Coils(maps)(x)) - y)
            numbers = 2 * y.shape[1] * int(new.sum()) / len(y)
        errors = gap.abs().square().sum() / (numbers * len(y))
        kl = kl_to_prior(network) * batch["share"].mean() / numbers
        return errors / (2 * self.std**2) + kl


def combined_image(kspace: Tensor, maps: Tensor) -> Tensor:
    """S^H F^-1 k, complex (B, 1, *S)."""
    return Coils(maps).adjoint(Fourier(kspace.dim() - 2).adjoint(kspace))


class SelfScored(Denoising):
    """A law of interpolators, and the score of what they draw from undersampled scans.

    Each step takes a step of the first, then one of the score network on one draw of the weights at hand.

    Args:
        network, times, weight: of the score, as in `Denoising`.
        interpolator: f_theta.
        interpolation: how it learns.
        scans: training cases -> their measurements.
    """

    def __init__(
        self,
        network: Network,
        times: Times,
        weight: Weight,
        interpolator: Interpolator,
        interpolation: Interpolation,
        scans: Callable[[Readable], Undersampled],
    ) -> None:
        super().__init__(network, times, weight)
        self.players = {"interpolator": interpolator, **network.players}
        self.interpolation, self.scans = interpolation, scans

    def learns_from(self, cases: Readable) -> Undersampled:
        """What the training loop is given in place of the cases."""
        return self.scans(cases)

    def losses(self, batch: Batch) -> Iterator[tuple[str, Tensor]]:
        if "image" in batch:
            raise UserError(
                "a fully sampled image was given to a training without references; give it the scans that "
                "`learns_from` makes of the cases"
            )
        yield "interpolator", self.interpolation.loss(self.players["interpolator"], batch)
        yield "network", self.matching(self.target(batch), {})

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """f_theta(y) of weights drawn from q, (B, 2, *S)."""
        interpolator = self.players["interpolator"]
        with drawn(interpolator):
            k = interpolator(batch["kspace"], batch["mask"], batch["maps"])
        return _parts(combined_image(k, batch["maps"]))
