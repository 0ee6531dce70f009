"""How noisy an image is, judged from the image alone."""

import math

import torch
from torch import Tensor

from ..errors import UserError

__all__ = ["estimate_noise"]


def estimate_noise(image: Tensor, patch: int = 8) -> Tensor:
    r"""Standard deviation of white noise in images (B, C, *S), (B,) float64 (Chen et al. 2015).

    Eigenvalues of the covariance of overlapping patches: those of the noise are all equal, those of
    the signal larger. They are dropped from the largest on until mean and median of the rest agree.

    Raises:
        UserError: the image is smaller than two patches.
    """
    axes = image.dim() - 2
    side = patch if axes < 3 else max(2, patch // 2)
    if min(image.shape[2:]) < 2 * side:
        # fewer patches than pixels in one: their covariance has eigenvalues 0
        size = " x ".join(str(n) for n in image.shape[2:])
        raise UserError(
            f"an image of {size} is too small to estimate its noise: {2 * side} are needed"
        )
    patches = image.double()
    for axis in range(axes):
        patches = patches.unfold(2 + axis, side, 1)
    stds = []
    for case in patches:
        rows = case.reshape(-1, side**axes)
        values = torch.linalg.eigvalsh(torch.cov(rows.mT)).flip(0).clamp(min=0)
        tails = (values[k:] for k in range(len(values)))
        tail = next((v for v in tails if float(v.mean()) <= float(v.median())), values[-1:])
        stds.append(math.sqrt(max(float(tail.mean()), 1e-12)))
    return torch.tensor(stds, dtype=torch.float64)
