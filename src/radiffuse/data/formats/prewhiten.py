"""Noise scans: coils mixed so that their noise is white, of one strength and shared by no two."""

import torch
from torch import Tensor

__all__ = ["FEWEST", "whitened", "whitening"]

FEWEST = 20
"""Samples of noise a coil: their covariance is then known to about 1 / sqrt(FEWEST), coils together."""


def whitening(noise: Tensor) -> Tensor | None:
    r"""The mixture of coils W (coils, coils) complex128 that whitens noise samples (coils, n) complex.

    .. math:: W = L^{-1}, \quad L L^H = \Psi = \tfrac{1}{n} \sum_i \eta_i \eta_i^H

    so that :math:`W \Psi W^H = I` (Pruessmann et al. 2001, "Advances in sensitivity encoding with arbitrary
    k-space trajectories", section on noise correlation). Noise of another bandwidth than the image's differs by
    one factor, which does not change W beyond it.

    None where there are too few samples, or a coil measured nothing.
    """
    coils, count = noise.shape
    if count < FEWEST * coils:
        return None
    samples = noise.to(torch.complex128)
    covariance = samples @ samples.mH / count
    level = covariance.diagonal().real.mean()
    root, failed = torch.linalg.cholesky_ex(covariance)
    if failed or not level > 0 or root.diagonal().real.min() < 1e-6 * level.sqrt():
        return None
    identity = torch.eye(coils, dtype=torch.complex128)
    return torch.linalg.solve_triangular(root, identity, upper=False)


def whitened(kspace: Tensor, mixture: Tensor) -> Tensor:
    """K-space (N, coils, *S) mixed by W, times one factor that keeps the strength of the signal.

    It is that of the strongest hundredth of the samples, where there is hardly noise: a coil that is all noise
    shall not make images bright. Between places the brightness may still change a little, as coils there are
    trusted more or less.
    """
    mixed = torch.einsum("ij,bj...->bi...", mixture.to(kspace.dtype), kspace)
    before, after = (part.abs().square().sum(1).flatten() for part in (kspace, mixed))
    strongest = before.topk(max(1, len(before) // 100)).indices
    return mixed * (before[strongest].sum() / after[strongest].sum()).sqrt()
