r"""A volume by a prior of its slices (DiffusionMBIR, Chung et al. 2023; DDS, Chung et al. 2024).

`Slicewise` runs a 2-D denoiser over the slices of a volume, a chunk at a time; `ThroughPlane`
solves what ties them together: the measurement of the whole volume, and total variation along z.
"""

import torch
from torch import Tensor

from ..diffusion.denoiser import Denoiser
from ..diffusion.schedule import expand
from ..errors import UserError
from ..operators.base import conjugate_gradient
from .measurement import Measurement, white_spread

__all__ = ["Slicewise", "ThroughPlane"]


class Slicewise(Denoiser):
    """A denoiser of volumes (B, C, D, *S) that asks one of slices (n, C, *S), at most `chunk` at once.

    The prior must see no condition that differs from case to case.

    Args:
        chunk: slices in memory at a time.
        axis: of the volume, 0 the first: the one that numbers the slices.
    """

    def __init__(self, denoiser: Denoiser, chunk: int = 8, axis: int = 0) -> None:
        super().__init__()
        self.denoiser, self.schedule, self.chunk = denoiser, denoiser.schedule, chunk
        self.axis = axis

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        slices = x_t.movedim(2 + self.axis, 1)
        flat = slices.flatten(0, 1)
        times = torch.as_tensor(t)
        if times.ndim == 0:
            done = [self.denoiser(part, times) for part in flat.split(self.chunk)]
        else:
            each = times.repeat_interleave(slices.shape[1])
            pairs = zip(flat.split(self.chunk), each.split(self.chunk), strict=True)
            done = [self.denoiser(part, at) for part, at in pairs]
        return torch.cat(done).unflatten(0, slices.shape[:2]).movedim(1, 2 + self.axis)


class ThroughPlane(Denoiser):
    r"""The volume that explains y, stays near the prior's slices, and varies little along z:

    $$ \min_x \tfrac{1}{2s^2}\|y-Ax\|^2 + \tfrac{1}{2r^2}\|x-\hat x_0\|^2 + \lambda\|D_z x\|_1, $$

    by the alternating direction method of multipliers with penalty $1/r^2$ (Boyd et al. 2011,
    section 6.4.1). lambda = 0 is `Proximal`. No gradient through the network is taken.

    Args:
        denoiser: of volumes, e.g. `Slicewise(prior)`.
        measurement: of the volume (B, C, D, *S).
        weight: lambda, the price of a jump of one grey value between neighbouring slices.
        data_std: d in r^2.
        rounds: of the multiplier method, one solve of at most `iterations` conjugate gradients each.
        axis: of the volume, 0 the first: z.

    Raises:
        UserError: the measurement has no noise (s = 0).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        measurement: Measurement,
        weight: float = 1.0,
        data_std: float = 0.5,
        rounds: int = 10,
        iterations: int = 10,
        axis: int = 0,
    ) -> None:
        super().__init__()
        if bool((measurement.deviations <= 0).any()):
            raise UserError(
                "through-plane consistency weighs the measurement by its noise: give a standard "
                "deviation above 0, e.g. a hundredth of the values' range"
            )
        self.denoiser, self.measurement, self.weight = denoiser, measurement, weight
        self.schedule, self.data_std = denoiser.schedule, data_std
        self.rounds, self.iterations, self.axis = rounds, iterations, axis

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        x_0 = self.denoiser(x_t, t)
        r2 = white_spread(self.schedule, t, x_t, self.data_std)
        if self.weight == 0:
            return self.measurement.nearest(x_0, r2, self.iterations)
        return self._solved(x_0, r2)

    def _solved(self, x_0: Tensor, r2: Tensor) -> Tensor:
        m, z = self.measurement, 2 + self.axis
        share = r2 / expand(m.deviations.to(x_0.device, x_0.real.dtype), x_0) ** 2

        def normal(x: Tensor) -> Tensor:
            return share * m.gram(x) + x + _jumps_adjoint(x.diff(dim=z), z)

        fixed = share * m.adjoint(m.y, x_0) + x_0
        x, jumps = x_0, x_0.diff(dim=z)
        dual = torch.zeros_like(jumps)
        for _ in range(self.rounds):
            right = fixed + _jumps_adjoint(jumps - dual, z)
            x = conjugate_gradient(normal, right, x, self.iterations)
            found = x.diff(dim=z) + dual
            jumps = _shrunk(found, self.weight * r2)
            dual = found - jumps
        return x


def _jumps_adjoint(d: Tensor, z: int) -> Tensor:
    """The adjoint of D_z, the difference of neighbouring slices along axis z of a tensor."""
    edge = torch.zeros_like(d.narrow(z, 0, 1))
    return torch.cat([edge, d], z) - torch.cat([d, edge], z)


def _shrunk(v: Tensor, by: Tensor) -> Tensor:
    """Soft thresholding of the magnitude, which keeps the sign or phase."""
    size = v.abs()
    return v * ((size - by).clamp(min=0) / size.clamp(min=torch.finfo(size.dtype).tiny))
