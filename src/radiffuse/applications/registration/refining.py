"""A field made better for the pair at hand: some steps down the training loss of this pair alone."""

import torch
from torch import Tensor

from ...nn.blocks import resized
from ...nn.warp import exponential
from .losses import misfit

__all__ = ["refined"]

CELL = 4
"""Voxels between the points of the grid on which a field is changed."""
RATE = 0.2
"""Step of Adam, in voxels."""
FLAT = 1e-4
"""Gradients well below this move nothing: of air they are rounding, which Adam would make whole steps of."""


def refined(
    moving: Tensor,
    fixed: Tensor,
    start: Tensor,
    steps: int,
    smooth: float,
    padding: str,
    diffeomorphic: bool,
) -> Tensor:
    r"""What to add to a field (or to its velocity) for this pair, (B, n, *S) in voxels.

    Adam on $\delta$ of the misfit of $\varphi = v + \delta$ ($\exp(v + \delta)$ where `diffeomorphic`), from
    $\delta = 0$: the pair-specific optimization of VoxelMorph (Balakrishnan et al. 2019, sec. III-D). $\delta$ lies
    on a grid of every fourth voxel, so that it follows shapes and not noise. A pair does not know the others
    of its batch.

    Args:
        moving, fixed: (B, 1, *S) in [-1, 1].
        start: v, (B, n, *S) in voxels.
        steps: of Adam; 0 gives zeros.
        smooth, padding, diffeomorphic: as in training.
    """
    size = list(start.shape[2:])
    coarse = [max(2, round(side / CELL)) for side in size]
    start = start.detach()
    with torch.enable_grad():
        change = torch.zeros(*start.shape[:2], *coarse, device=start.device, requires_grad=True)
        optimiser = torch.optim.Adam([change], lr=RATE, eps=FLAT)
        for _ in range(steps):
            field = start + resized(change, size)
            field = exponential(field) if diffeomorphic else field
            loss = misfit(moving, fixed, field, smooth, padding=padding).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return resized(change.detach(), size)
