r"""Compressed sensing: $\min_x \tfrac12\|Ax-y\|^2 + w\,R(x)$ with R total variation or L1 of wavelets.

Any linear operator, two or three axes, real or complex x. Both scale A to norm 1 first, so that
their steps and stopping rules do not depend on its units. Every case has its own steps and stops by
itself, so a case does not depend on its batch.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..operators import LinearOperator, norm
from . import Measurement
from .classical import OfImages

__all__ = ["Gradient", "l1_wavelet", "rof", "shrink", "total_variation", "wavelet_shrink"]

MARGIN = 1.02
"""Over the norm found by power iteration, which comes from below."""


def _rows(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (like.ndim - 1))


def _length(x: Tensor) -> Tensor:
    """||x|| of each case, (B,)."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1)


def _scaled(measurement: Measurement, like: Tensor, weight: float) -> tuple[OfImages, Tensor]:
    """The operator and ||A|| (B,).

    Raises:
        UserError: a weight below 0.
    """
    if not weight >= 0:
        raise UserError(f"the weight of the regularisation is {weight:g}: give 0 or more")
    A = OfImages(measurement, like)
    return A, MARGIN * norm(A, like).clamp(min=1e-12)


# ------------------------------------------------------------------------------ total variation
class Gradient(LinearOperator):
    """Forward differences along the spatial axes, 0 at the end: (B, C, *S) -> (B, axes, C, *S).

    The squared norm is at most 4 times the number of axes.
    """

    def __call__(self, x: Tensor) -> Tensor:
        gaps = [torch.diff(x, dim=axis, append=x.narrow(axis, -1, 1)) for axis in range(2, x.ndim)]
        return torch.stack(gaps, 1)

    def adjoint(self, y: Tensor) -> Tensor:
        out = torch.zeros_like(y[:, 0])
        for axis in range(2, out.ndim):
            gap = y[:, axis - 2]
            inner = gap.narrow(axis, 0, gap.shape[axis] - 1)
            edge = torch.zeros_like(gap.narrow(axis, 0, 1))
            out = out - torch.diff(inner, dim=axis, prepend=edge, append=edge)
        return out


def total_variation(
    measurement: Measurement,
    like: Tensor,
    weight: float,
    lowest: float | None = None,
    iterations: int = 2000,
    tolerance: float = 1e-4,
) -> Tensor:
    r"""$\min_x \tfrac12\|Ax-y\|^2 + w\sum_i |\nabla x|_i$, isotropic (Rudin, Osher & Fatemi 1992).

    Primal-dual hybrid gradients (Chambolle & Pock 2011, algorithm 1) on the dual of both terms, steps
    balanced by the residuals (Goldstein et al. 2015, algorithm 2). A case stops where the primal
    residual is below `tolerance` $\|A^H y\|$ and the dual one below `tolerance` $\|y\|$ (A scaled to norm
    1): there the optimality conditions hold to that accuracy.

    Args:
        measurement: y and A.
        like: gives shape, dtype and device of x.
        weight: w, in units of y squared over units of x.
        lowest: smallest value of a real x; None = no bound.
        iterations: at most that many applications of A and of its adjoint.
        tolerance: of the stopping rule.
    """
    A, size = _scaled(measurement, like, weight)
    D, scale = Gradient(), _rows(size, like)
    # as scaled: A / |A|, y / |A|, w / |A|^2 have the same minimiser
    y = measurement.y / _rows(size, measurement.y)
    limit = weight / scale.unsqueeze(1) ** 2
    enough_x, enough_z = _length(A.adjoint(y) / scale), _length(y)
    active = torch.ones_like(size, dtype=torch.bool)
    bound = 1 / math.sqrt(1 + 4 * (like.ndim - 2))
    balance, change = torch.ones_like(size), torch.full_like(size, 0.5)
    x, u, v = torch.zeros_like(like), torch.zeros_like(y), D(torch.zeros_like(like))
    Ax, Dx, back = torch.zeros_like(y), v, x
    for _ in range(iterations):
        tau, sigma = bound * balance, bound / balance
        x_new = x - _rows(tau, x) * back
        x_new = x_new if lowest is None else x_new.clamp(min=lowest)
        Ax_new, Dx_new = A(x_new) / _rows(size, y), D(x_new)
        u_new = u + _rows(sigma, u) * (2 * Ax_new - Ax - y)
        u_new = u_new / _rows(1 + sigma, u)
        v_new = _project(v + _rows(sigma, v) * (2 * Dx_new - Dx), limit)
        back_new = A.adjoint(u_new) / scale + D.adjoint(v_new)
        primal = _length((x - x_new) / _rows(tau, x) - (back - back_new))
        dual_u = _length((u - u_new) / _rows(sigma, u) - (Ax - Ax_new))
        dual_v = _length((v - v_new) / _rows(sigma, v) - (Dx - Dx_new))
        dual = torch.hypot(dual_u, dual_v)
        old, new = (x, u, v, Ax, Dx, back), (x_new, u_new, v_new, Ax_new, Dx_new, back_new)
        x, u, v, Ax, Dx, back = (
            torch.where(_rows(active, b), b, a) for a, b in zip(old, new, strict=True)
        )
        active = active & ~((primal <= tolerance * enough_x) & (dual <= tolerance * enough_z))
        if not bool(active.any()):
            break
        far_x, far_z = primal / enough_x, dual / enough_z
        turn = torch.where(far_x > 2 * far_z, 1 / (1 - change), 1.0)
        turn = torch.where(far_z > 2 * far_x, 1 - change, turn)
        balance, change = balance * turn, torch.where(turn == 1, change, 0.95 * change)
    return x


def rof(y: Tensor, weight: float, iterations: int = 30) -> Tensor:
    r"""$\arg\min_x \tfrac12\|x-y\|^2 + w\sum_i |\nabla x|_i$, each channel for itself (Rudin, Osher & Fatemi 1992).

    Fast projected gradients on the dual, from y on (Beck & Teboulle 2009, FGP): as `total_variation` of an identity,
    in a fixed number of cheap iterations.

    Args:
        y: images (B, C, *S).
        weight: w >= 0, in units of y.
        iterations: how many.
    """
    # one image at a time stays in a processor's cache: half the time
    parts = y.split(1) if y.device.type == "cpu" else (y,)
    return torch.cat([_rof(part, weight, iterations) for part in parts])


def _rof(y: Tensor, weight: float, iterations: int) -> Tensor:
    D, step = Gradient(), 1 / (4 * (y.ndim - 2))
    v = ahead = torch.zeros_like(D(y))
    momentum = 1.0
    for _ in range(iterations):
        new = _project(ahead + step * D(y - D.adjoint(ahead)), weight)
        later = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / later * (new - v)
        v, momentum = new, later
    return y - D.adjoint(v)


def _project(v: Tensor, limit: Tensor | float) -> Tensor:
    """Vectors v (B, axes, C, *S) shortened to `limit`."""
    # vector_norm along a short axis took twenty times as long on a CPU
    length = v.abs().square().sum(1, keepdim=True).sqrt()
    return v * (limit / length.clamp(min=1e-30)).clamp(max=1)


# ----------------------------------------------------------------------------------- L1-wavelet
def shrink(value: Any, weight: Any) -> Any:
    """Soft thresholding of numpy arrays, real or complex: the length falls by `weight`, to 0 at least."""
    import numpy as np

    length = np.abs(value)
    return value * (np.maximum(length - weight, 0) / np.maximum(length, 1e-30))


def wavelet_shrink(
    x: Tensor, weight: Tensor, wavelet: str = "db2", levels: int = 4, shift: int = 0
) -> Tensor:
    r"""$\arg\min_z \tfrac12\|z-x\|^2 + w\|d(z)\|_1$, d the detail coefficients of an orthonormal transform.

    Args:
        x: (B, C, *S), each spatial axis a multiple of 2^levels.
        weight: w, (B,).
        wavelet: an orthogonal one's name in PyWavelets, periodic at the edges.
        levels: of the decomposition.
        shift: x is shifted cyclically by that many pixels on every axis, and back.
    """
    import numpy as np
    import pywt

    axes = tuple(range(2, x.ndim))
    threshold = _rows(weight, x).cpu().numpy()

    def shrunk(coarse: Any, levels: int) -> Any:
        if levels == 0:
            return coarse
        parts = pywt.dwtn(coarse, wavelet, "periodization", axes)
        next_coarse = "a" * len(axes)
        details = {key: shrink(d, threshold) for key, d in parts.items() if key != next_coarse}
        smooth = shrunk(parts[next_coarse], levels - 1)
        return pywt.idwtn({next_coarse: smooth, **details}, wavelet, "periodization", axes)

    moved = np.roll(x.cpu().numpy(), [shift] * len(axes), axes)
    return torch.from_numpy(np.roll(shrunk(moved, levels), [-shift] * len(axes), axes)).to(x)


class _Crop(LinearOperator):
    """The first pixels of every spatial axis; the adjoint pads with zeros."""

    def __init__(self, size: tuple[int, ...], padded: tuple[int, ...]) -> None:
        self.size, self.padded = size, padded

    def __call__(self, x: Tensor) -> Tensor:
        for axis, n in enumerate(self.size, start=2):
            x = x.narrow(axis, 0, n)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        pads = [
            (0, big - n) for n, big in zip(reversed(self.size), reversed(self.padded), strict=True)
        ]
        return torch.nn.functional.pad(y, [p for pair in pads for p in pair])


def l1_wavelet(
    measurement: Measurement,
    like: Tensor,
    weight: float,
    wavelet: str = "db2",
    levels: int = 4,
    shifts: bool = True,
    iterations: int = 200,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> Tensor:
    r"""$\min_x \tfrac12\|Ax-y\|^2 + w\|d(x)\|_1$ (Lustig et al. 2007), d the details of a wavelet transform.

    FISTA (Beck & Teboulle 2009) that starts its momentum anew where it points uphill (O'Donoghue &
    Candes 2015). A case stops where a step moves x by less than `tolerance` $\|x\|$. With random shifts
    the transform is another one at each step (as in BART), which takes the blocks from the image; then
    the steps do not become small, and `iterations` ends them. Sizes that 2^levels does not divide are
    reconstructed on a larger image whose margin nothing was measured of.

    Args:
        measurement: y and A.
        like: gives shape, dtype and device of x.
        weight: w, in units of y squared over units of x.
        wavelet: name of an orthogonal wavelet in PyWavelets.
        levels: of the decomposition.
        shifts: whether each step shifts the transform by a random number of pixels.
        iterations: at most that many.
        tolerance: of the stopping rule.
        seed: of the shifts, the same for every case.
    """
    step = 2**levels
    size = tuple(like.shape[2:])
    padded = tuple(math.ceil(n / step) * step for n in size)
    crop = _Crop(size, padded)
    plain, length = _scaled(measurement, like, weight)
    A: LinearOperator = plain @ crop
    back, rate = A.adjoint(measurement.y), 1 / length**2
    generator = torch.Generator().manual_seed(seed)
    z = torch.zeros_like(crop.adjoint(like))
    ahead, momentum = z, torch.ones_like(length)
    active = torch.ones_like(length, dtype=torch.bool)
    for _ in range(iterations):
        shift = int(torch.randint(step, (), generator=generator)) if shifts else 0
        slope = A.gram(ahead) - back
        new = wavelet_shrink(ahead - _rows(rate, z) * slope, weight * rate, wavelet, levels, shift)
        move = new - z
        uphill = ((ahead - new).conj() * move).real.flatten(1).sum(1) > 0
        momentum = torch.where(uphill, 1.0, momentum)
        later = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        reach = torch.where(uphill, 0.0, (momentum - 1) / later)
        ahead, momentum = new + _rows(reach, z) * move, later
        z = torch.where(_rows(active, z), new, z)
        active = active & ~(_length(move) <= tolerance * _length(new))
        if not bool(active.any()):
            break
    return crop(z)
