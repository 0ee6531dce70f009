"""K-space as it comes from a scanner: is it sound, where was it sampled, how noisy is it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import UserError

Widths = tuple[int, ...]


def smooth_phase(size: tuple[int, ...], std: float, seeds: Iterable[int]) -> Tensor:
    r"""$e^{i\varphi}$ (B, 1, *S): a sum of the lowest cosines of each axis, of `std` radians."""
    axes = [torch.linspace(0, math.pi, n) for n in size]
    fields = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        order = torch.randn([3] * len(size), generator=generator)
        order.flatten()[0] = 0
        field = order
        for axis in axes:
            waves = torch.cos(torch.outer(torch.arange(3.0), axis))
            field = torch.tensordot(field, waves, dims=([0], [0]))
        field = std * field / field.square().mean().sqrt().clamp(min=1e-9)
        fields.append(torch.polar(torch.ones_like(field), field))
    return torch.stack(fields)[:, None]


def rows(value: Tensor, like: Tensor) -> Tensor:
    """A number a case (B,), shaped to multiply data (B, *)."""
    return value.reshape(-1, *[1] * (like.dim() - 1)).to(like.device)


def windowed(kspace: Tensor, widths: Widths) -> Tensor:
    """The centre of k-space under a Hann window, zero elsewhere."""
    for axis, width in enumerate(widths, start=2):
        n = kspace.shape[axis]
        index = (torch.arange(n, device=kspace.device) - n // 2) / (min(width, n) / 2 + 1)
        window = torch.where(index.abs() < 1, torch.cos(math.pi / 2 * index) ** 2, 0.0)
        kspace = kspace * window.reshape([-1 if a == axis else 1 for a in range(kspace.dim())])
    return kspace


def check_kspace(kspace: Tensor) -> Tensor:
    """Where k-space (B, K, *S) was sampled, boolean (B, 1, *S).

    Raises:
        UserError: it is real, empty, not finite, its axes are mixed up, or its energy does not lie in
            the middle.
    """
    shape = tuple(kspace.shape)
    if not kspace.is_complex() or kspace.dim() < 4:
        raise UserError(
            f"k-space of type {kspace.dtype} and shape {shape}: expected complex (coils, *space)"
        )
    if shape[1] >= max(shape[2:]) > 32:
        raise UserError(
            f"k-space has {shape[1]} coils of {' x '.join(map(str, shape[2:]))} points: check the order "
            "of its axes, (slices, coils, rows, columns)"
        )
    if not bool(torch.isfinite(kspace.abs()).all()):
        raise UserError(
            "k-space holds NaN or infinite values; look for the broken line and leave it 0"
        )
    energy = kspace.abs().square().sum(1, keepdim=True)
    mask = energy > 0
    if not bool(mask.flatten(1).any(1).all()):
        raise UserError("k-space is zero everywhere: nothing was measured")
    brightest = energy.flatten(1).argmax(1)
    for axis, n in enumerate(shape[2:]):
        stride = math.prod(shape[3 + axis :])
        place = (brightest // stride) % n
        if bool(((place - n // 2).abs() > max(2, n // 8)).any()):
            raise UserError(
                f"the brightest point of k-space lies at {int(place[0])} of {n} on axis {axis}, not "
                "in the middle: store it centred (fftshift), or check the order of its axes"
            )
    return mask


def calibration_widths(mask: Tensor, coils: bool = True, most: int = 64) -> Widths:
    """Widths of the fully sampled centre of (B, 1, *S) on each axis, the axes grown in turn.

    Args:
        coils: whether coil maps have to be estimated from it.
        most: the largest width that is of use.

    Raises:
        UserError: coil maps are needed, and an axis is narrower than 6.
    """
    sampled = mask.flatten(0, 1).all(0)
    size = sampled.shape
    widths, growing = [0] * sampled.dim(), True

    def full(candidate: list[int]) -> bool:
        region = sampled
        for axis, (n, width) in enumerate(zip(size, candidate, strict=True)):
            region = region.narrow(axis, n // 2 - width // 2, width)
        return bool(region.all())

    widths = [1] * sampled.dim() if full([1] * sampled.dim()) else widths
    while growing and widths[0]:
        growing = False
        for axis, n in enumerate(size):
            wider = [w + (a == axis) for a, w in enumerate(widths)]
            if wider[axis] <= min(most, n) and full(wider):
                widths, growing = wider, True
    if coils and min(widths) < 5:
        raise UserError(
            f"k-space is fully sampled only in its central {' x '.join(map(str, widths))} points; "
            "coil maps need 5 on every axis"
        )
    return tuple(widths)


def noise_level(kspace: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of real and imaginary parts: the median deviation of the outermost tenth.

    The sampled points farthest from the centre hold little but noise; what signal they hold makes
    the estimate too large, never too small.
    """
    distance = torch.zeros(kspace.shape[2:])
    for axis, n in enumerate(kspace.shape[2:]):
        d = (torch.arange(n) - n // 2) / (n / 2)
        distance = (
            distance + d.reshape([-1 if a == axis else 1 for a in range(distance.dim())]) ** 2
        )
    sampled = mask.flatten(0, 1).all(0).cpu()
    edge = torch.quantile(distance[sampled], 0.9) if bool(sampled.any()) else distance.max()
    outer = kspace.cpu()[..., sampled & (distance >= edge)]
    return torch.view_as_real(outer).abs().median() / 0.6745
