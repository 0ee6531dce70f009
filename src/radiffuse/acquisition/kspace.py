"""K-space as it comes from a scanner: is it sound, where was it sampled, how noisy is it."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..errors import UserError
from ..operators import Fourier

Widths = tuple[int, ...]
_FEW_COILS, _AIR = 4, 1 / 16
"""Coils that are enough without air, and the share of an axis that is taken for air."""
_BLANKED, _LEAKED, _PLATEAU = 1e-10, 1e-6, 1.2
"""Power of air over that of the brightest position, at least, by whole lines and by windowed ones, which leak 1e-8 of
it; and of the positions next to the darkest over theirs, at most."""
_FLAT, _STEEP = 1.12, 0.5
"""Power of noise alone, over that farther out, at most; the like for signal, less 1, at least."""
_KERNELS = 20_000
"""Kernels of points that a covariance is measured of, at most."""


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
    """Standard deviation of real and imaginary parts of the noise, root mean square over coils.

    Coils see one image, so some combinations of them, and of neighbouring points, hold no signal: the
    null space of the calibration matrix. In outer k-space they are those whose power does not fall with
    distance from the centre, and the noise is theirs. The darkest positions along an axis (air) count too, by lines
    that were sampled throughout or about their middle (an elliptic shutter, a partial echo), and with one to three
    coils the outermost tenth of the points; the least of all is taken, since signal makes each of them too large.

    Right to 10 % with four coils or more, or where there is air, not blanked, along an axis of such lines. Elsewhere
    hard edges in the image make it too large, of one coil several times. Where coils differ in their noise or share
    it (they were not whitened), combinations without signal miss part of it: up to 15 %.

    Args:
        kspace: (B, K, *S), zero where not sampled; of several cases, their median.
        mask: where it was sampled, (B, 1, *S) or (1, 1, *S).
    """
    masks = mask.cpu().bool().expand(len(kspace), 1, *mask.shape[2:])[:, 0]
    cases = zip(kspace.detach().cpu(), masks, strict=True)
    return torch.tensor([_noise_of(y, sampled) for y, sampled in cases]).median()


def _noise_of(kspace: Tensor, sampled: Tensor) -> float:
    """The noise of one case (K, *S), sampled (*S)."""
    kspace = kspace[kspace.flatten(1).abs().amax(1) > 0]  # without coils that are switched off
    if not len(kspace):
        return 0.0
    lines = [bool((sampled.all(a) == sampled.any(a)).all()) for a in range(sampled.dim())]
    found = []
    if len(kspace) > 1:
        wide = [3 if whole and n > 8 else 1 for whole, n in zip(lines, sampled.shape, strict=True)]
        kernels = [1] * len(lines), wide
        found += [_signal_free(kspace, sampled, tuple(kernel)) for kernel in kernels]
    found += [_air(kspace, sampled, axis) for axis in range(sampled.dim())]
    if len(kspace) < _FEW_COILS:
        found.append(_outermost(kspace, sampled))
    known = [std for std in found if math.isfinite(std)]
    return min(known or [_outermost(kspace, sampled)])


def _distance(size: Sequence[int]) -> Tensor:
    """Squared distance from the centre of k-space, 1 at the end of an axis, (*size)."""
    axes = [(torch.arange(n) - n // 2) / (n / 2) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0)


def _windows(sampled: Tensor) -> Tensor:
    """A window for each line (*, n) that leaves the power of noise as it is: 1 where the line was sampled throughout,
    that of Hann over its middle, 0 where that is less than half of it."""
    n = sampled.shape[-1]
    away = (torch.arange(n) - n // 2).abs().double()
    reach = torch.where(sampled, math.inf, away).amin(-1, keepdim=True)
    hann = torch.where(away < reach, torch.cos(math.pi / 2 * away / reach) ** 2, 0.0)
    hann = hann / hann.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-9)
    window = torch.where(reach >= n / 4, hann, 0.0)
    return torch.where(sampled.all(-1, keepdim=True), 1.0, window)


def _quantile(values: Tensor, share: float) -> Tensor:
    """A quantile, of a million of the values at most."""
    return values[:: len(values) // 1_000_000 + 1].quantile(share)


def _outermost(kspace: Tensor, sampled: Tensor) -> float:
    """The median deviation of the outermost tenth."""
    distance = _distance(sampled.shape)
    edge = _quantile(distance[sampled], 0.9)
    outer = kspace[:, sampled & (distance >= edge)]
    return float(torch.view_as_real(outer).abs().median() / 0.6745)


def _signal_free(kspace: Tensor, sampled: Tensor, kernel: tuple[int, ...]) -> float:
    """Of combinations of coils, and of points in a kernel, whose power does not fall outwards.

    Infinite where too few kernels were sampled.
    """
    distance, patches, whole = _distance(sampled.shape), kspace, sampled
    for axis, k in enumerate(kernel):
        distance = distance.narrow(axis, k // 2, distance.shape[axis] - 2 * (k // 2))
        whole, patches = whole.unfold(axis, k, 1), patches.unfold(axis + 1, k, 1)
    whole = whole.flatten(len(kernel)).all(-1)
    patches, far = patches.movedim(0, len(kernel)), distance[whole]
    if not len(far):
        return math.inf
    middle, edge = _quantile(far, 0.5), _quantile(far, 0.75)
    rings = (far >= middle) & (far < edge), far >= edge
    if min(int(ring.sum()) for ring in rings) < 4 * len(kspace) * math.prod(kernel):
        return math.inf

    def covariance(ring: Tensor) -> Tensor:
        places = whole.nonzero()[ring]
        places = places[:: len(places) // _KERNELS + 1]
        rows = patches[places.unbind(1)].flatten(1).to(torch.complex128)
        return rows.mH @ rows / len(rows)

    near, there = (covariance(ring) for ring in rings)
    ridge = 1e-9 * there.diagonal().real.mean() * torch.eye(len(there), dtype=there.dtype)
    white = torch.linalg.inv(torch.linalg.cholesky(there + ridge))
    ratios, vectors = torch.linalg.eigh(white @ near @ white.mH)
    flat = ratios <= max(_FLAT, float(ratios[0]))
    basis = torch.linalg.qr(white.mH @ vectors[:, flat])[0]
    found, closer = (
        (basis.conj() * (x @ basis)).sum().real / basis.shape[1] for x in (there, near)
    )
    # what of it falls like the signal, in the combination that falls most, is signal
    most = 1 / (white.mH @ vectors[:, -1]).norm() ** 2
    fall = ((ratios[-1] - 1) * most / (most - found).clamp_min(1e-9 * most)).clamp_min(_STEEP)
    signal = ((closer - found) / fall).clamp(min=0.0).minimum(found / 4)
    return math.sqrt(max(0.0, float(found - signal)) / 2)


def _air(kspace: Tensor, sampled: Tensor, axis: int) -> float:
    """Of the darkest positions along an axis, by lines that were sampled throughout, or about their middle: these under
    a Hann window, which keeps what is bright from leaking into air.

    They are chosen by one half of the lines and measured by the other, in turn. Infinite where air was blanked, so
    that rounding is left there; and with many coils, which need none, where power rises at once, so that it is no air
    or was blanked in part.
    """
    window = _windows(sampled.movedim(axis, -1))
    lines = window.any(-1)
    if not bool(lines.any()):
        return math.inf
    seen = kspace.movedim(axis + 1, -1) * window.to(kspace.real)
    power = Fourier(1).adjoint(seen).abs().square().mean(0).double()
    power, far = power[lines], _distance(lines.shape)[lines]
    power = power[far >= _quantile(far, 0.25)]
    if len(power) < 4:
        return math.inf
    whole = power.mean(0)
    least = _BLANKED if bool(sampled.movedim(axis, -1)[lines].all()) else _LEAKED
    if float(whole.min()) < least * float(whole.max()):
        return math.inf
    halves = power[::2].mean(0), power[1::2].mean(0)
    count = max(2, round(_AIR * power.shape[1]))
    pairs = (halves, halves[::-1])
    ranked = [other[one.argsort()] for one, other in pairs]
    darkest = sum(float(part[:count].mean()) for part in ranked)
    beside = sum(float(part[count : 2 * count].mean()) for part in ranked)
    if len(kspace) >= _FEW_COILS and beside > _PLATEAU * darkest:
        return math.inf
    return math.sqrt(darkest / 4)
