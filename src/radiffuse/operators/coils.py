r"""Coil sensitivities: estimated from the calibration region (ESPIRiT), simulated, and combined."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import UserError

__all__ = ["birdcage", "espirit", "root_sum_of_squares"]


def root_sum_of_squares(coils: Tensor) -> Tensor:
    r"""$\sqrt{\sum_k |y_k|^2}$ of coil images (B, K, *S), real, (B, 1, *S)."""
    return coils.abs().square().sum(1, keepdim=True).sqrt()


def birdcage(
    size: tuple[int, ...],
    coils: int,
    seeds: Iterable[int],
    radius: float = 1.8,
    jitter: float = 0.1,
) -> Tensor:
    r"""Simulated maps of coils on a ring around the image, (B, K, *S), complex64.

    The field of a long wire at $z_k$ in the plane, $c_k(z) \propto (\bar z - \bar z_k) /
    (|z - z_k|^2 + (w - w_k)^2)$, z = x + iy over the last two axes, w over the third last, if there is
    one (coils alternate between two rings); then divided by the root of the sum of squares.

    Args:
        size: S, two or three axes.
        coils: K.
        seeds: one a case: rotates the ring and moves coils by `jitter`, and draws a phase a coil.
        radius: of the ring in units of half the image.
        jitter: standard deviation of positions, in the same units.

    Raises:
        UserError: another number of axes, or no coil.
    """
    if len(size) not in (2, 3) or coils < 1:
        raise UserError(f"coil maps of {coils} coils over {size}: give 2 or 3 axes, 1 coil or more")
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) / (n / 2) for n in size]
    *deep, y, x = torch.meshgrid(*axes, indexing="ij")
    cases = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        turn, *_ = torch.rand(1, generator=generator, dtype=torch.float64)
        moved = jitter * torch.randn(coils, generator=generator, dtype=torch.float64)
        phase = 2 * math.pi * torch.rand(coils, generator=generator, dtype=torch.float64)
        angle = 2 * math.pi * (torch.arange(coils) / coils + turn) + moved
        shape = (-1, *[1] * len(size))
        place = torch.polar(torch.full_like(angle, radius), angle).reshape(shape)
        gap = torch.complex(x, y) - place
        squared = gap.abs() ** 2
        if deep:
            ring = (0.5 * (-1.0) ** torch.arange(coils)).reshape(shape)
            squared = squared + (deep[0] - ring) ** 2
        maps = gap.conj() / squared * torch.polar(torch.ones_like(phase), phase).reshape(shape)
        cases.append(maps / maps.abs().square().sum(0).sqrt())
    return torch.stack(cases).to(torch.complex64)


def _centre(kspace: Tensor, widths: tuple[int, ...]) -> Tensor:
    """The calibration region (K, *widths) of one case (K, *S)."""
    for axis, width in enumerate(widths, start=1):
        n = kspace.shape[axis]
        kspace = kspace.narrow(axis, n // 2 - min(width, n) // 2, min(width, n))
    return kspace


def _projector(region: Tensor, kernel: tuple[int, ...], threshold: float) -> Tensor:
    """Projector on the row space of the calibration matrix, (K, D, K, D), D points a kernel."""
    patches = region
    for axis, k in enumerate(kernel, start=1):
        patches = patches.unfold(axis, k, 1)
    axes = len(kernel)
    patches = patches.movedim(0, axes)  # (*positions, K, *kernel)
    rows = patches.reshape(-1, region.shape[0] * math.prod(kernel))
    values, vectors = torch.linalg.eigh(rows.mH @ rows)  # columns: v with |A v|^2 = value
    kept = vectors[:, values > (threshold**2) * values[-1]]
    projector = kept.conj() @ kept.mT
    return projector.reshape(region.shape[0], math.prod(kernel), region.shape[0], -1)


def _differences(projector: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Sums of the projector over equal differences d' - d: (K, K, *(2 kernel - 1))."""
    grid = torch.cartesian_prod(*[torch.arange(k) for k in kernel]).reshape(-1, len(kernel))
    gap = grid[None] - grid[:, None] + torch.tensor(kernel) - 1
    wide = [2 * k - 1 for k in kernel]
    flat = torch.zeros(gap.shape[:2], dtype=torch.long)
    for axis, n in enumerate(wide):
        flat = flat * n + gap[..., axis]
    coils = projector.shape[0]
    pairs = projector.permute(0, 2, 1, 3).reshape(coils, coils, -1)
    sums = pairs.new_zeros(coils, coils, math.prod(wide))
    sums.index_add_(2, flat.flatten().to(pairs.device), pairs)
    return sums.reshape(coils, coils, *wide)


def _maps(
    kspace: Tensor, calibration: tuple[int, ...], kernel: int, threshold: float, crop: float
) -> Tensor:
    """ESPIRiT of one case (K, *S)."""
    size = kspace.shape[1:]
    region = _centre(kspace, calibration)
    if not bool(torch.isfinite(region.abs()).all()):
        raise UserError(
            "the calibration region holds NaN or infinite values: check the k-space file"
        )
    sampled = region.abs().sum(0) > 0
    if not bool(sampled.all()):
        raise UserError(
            f"the calibration region of {calibration} has {int((~sampled).sum())} points that were "
            "not sampled: give a smaller one, or check that k-space is centred"
        )
    widths = tuple(min(kernel, n) for n in region.shape[1:])
    operator = _differences(_projector(region, widths, threshold), widths)
    for axis, (n, k) in enumerate(zip(size, widths, strict=True), start=2):
        x = torch.arange(n, dtype=torch.float64) - n // 2
        d = torch.arange(1 - k, k, dtype=torch.float64)
        wave = torch.polar(
            torch.ones(n, len(d), dtype=torch.float64), -2 * math.pi / n * x[:, None] * d
        )
        wave = wave.to(operator)
        operator = (operator.movedim(axis, -1) @ wave.mT).movedim(-1, axis)
    pixels = operator.movedim((0, 1), (-2, -1)) / math.prod(widths)
    values, vectors = torch.linalg.eigh(pixels)
    maps, value = vectors[..., -1], values[..., -1]
    # one smooth phase: that of the strongest combination of coils
    flat = region.flatten(1)
    strongest = torch.linalg.eigh(flat @ flat.mH)[1][:, -1]
    strongest = strongest / torch.sgn(strongest[strongest.abs().argmax()])
    maps = maps / torch.sgn((maps @ strongest.conj())[..., None] + 1e-30)
    return (maps * (value > crop)[..., None]).movedim(-1, 0)


def espirit(
    kspace: Tensor,
    calibration: int | tuple[int, ...],
    kernel: int = 6,
    threshold: float = 0.02,
    crop: float = 0.9,
) -> Tensor:
    r"""Coil maps from the fully sampled centre of k-space (Uecker et al. 2014, the first map).

    Patches of k-space lie in the row space of the calibration matrix. Taken to the image, the
    projector on it is a K x K matrix at each pixel, whose eigenvector of eigenvalue 1 holds the
    sensitivities (eq. 8-11); elsewhere no signal was seen.

    Args:
        kspace: (B, K, *S), centred, complex.
        calibration: width of the sampled centre, one number for every axis or one each (an axis that
            is shorter: all of it). More points give better maps.
        kernel: width of the patches.
        threshold: singular values below this part of the largest are noise.
        crop: maps are zero where the eigenvalue is below.

    Returns:
        maps (B, K, *S), sum of squares 1 or (cropped) 0; up to a smooth phase of all coils together.

    Raises:
        UserError: k-space is real, or its calibration region is too small or was not sampled.
    """
    if not kspace.is_complex() or kspace.ndim < 3:
        raise UserError(
            f"coil maps need complex k-space (batch, coils, *space), not {kspace.dtype} of shape "
            f"{tuple(kspace.shape)}"
        )
    axes = kspace.ndim - 2
    widths = (calibration,) * axes if isinstance(calibration, int) else calibration
    if len(widths) != axes or not kernel <= min(widths) <= max(kspace.shape[2:]):
        raise UserError(
            f"a calibration region of {calibration} does not fit a kernel of {kernel} and k-space of "
            f"{tuple(kspace.shape[2:])}: give a width between them"
        )
    return torch.stack([_maps(case, widths, kernel, threshold, crop) for case in kspace])
