r"""CCDF (Chung et al. 2022, "Come-closer-diffuse-faster"): begin at t0 from a cheap reconstruction.

A sampler's steps contract, so the error of the start shrinks geometrically and a good start needs
only the last steps of the chain. Serves every sampler.
"""

import torch
from torch import Tensor

from ..diffusion.kernels import diffuse
from ..diffusion.noise import Noise, gaussian
from ..diffusion.schedule import Schedule
from ..errors import UserError

__all__ = ["warm_start"]


def warm_start(
    schedule: Schedule, initial: Tensor, times: Tensor, t0: float, noise: Noise = gaussian
) -> tuple[Tensor, Tensor]:
    r"""Where a shortened chain starts, $x_{t_0} = \alpha_{t_0} x + \sigma_{t_0} z$, and its grid.

    Args:
        initial: the cheap reconstruction (zero-filled, filtered back-projection, a network's), (B, *).
        times: (N + 1,), the full grid, decreasing.
        t0: where to begin, in (0, times[0]]; t0 = times[0] keeps the whole grid.

    Returns:
        x_t0 (B, *) and the grid (t0, then the times below it): ceil(N t0) steps of a uniform grid.

    Raises:
        UserError: t0 is not within the grid.
    """
    times = times.double()
    if not float(times[-1]) < t0 <= float(times[0]):
        raise UserError(
            f"a warm start at t0 = {t0} is not within the grid from {float(times[0]):g} to "
            f"{float(times[-1]):g}: give a t0 between them"
        )
    start = torch.tensor([t0], dtype=torch.float64)
    # a time that is t0 but for rounding would make an empty step
    below = times[times < t0 - 1e-9]
    x = diffuse(schedule, initial, start[0], noise(initial))
    return x, torch.cat([start, below])
