"""What the axes of k-space are, and what a mask beside it keeps."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError

__all__ = [
    "arranged",
    "axes_said",
    "check_coils",
    "check_origin",
    "complex_numbers",
    "named",
    "order_of",
    "sampling_mask",
]

SPACE = ("D", "H", "W")
EDGE = 0.75
"""Of half a turn: by so much samples of k-space turn from one to the next where the image lies across its edge."""


def check_coils(shape: tuple[int, ...], axes: str, path: Path) -> None:
    """Refuse an order that nobody said and that makes more coils than rows or columns.

    Raises:
        UserError: says how to say the order.
    """
    size = dict(zip(axes, shape, strict=True))
    if size.get("C", 1) > min(size["H"], size["W"]):
        raise UserError(
            f"{path}: kspace {shape} would be {named(axes)}, more coils than rows or columns; say its order by a text "
            f"'axes' beside it, a letter for each axis ({'NHWC' if len(shape) == 4 else 'NDHWC'} for instance): N "
            "slices, C coils, D H W space"
        )


def complex_numbers(kspace: np.ndarray, path: Path, notices: list[str]) -> np.ndarray:
    """K-space as complex numbers; a last axis of two real ones is real and imaginary part, with a notice."""
    if kspace.dtype.kind == "c":
        return kspace
    pairs = kspace.dtype.kind == "f" and kspace.ndim > 3 and kspace.shape[-1] == 2
    # a magnitude is never negative
    if pairs and (kspace[..., 0] < 0).any():
        notices.append(
            f"{path}: the last axis of kspace (2 long) is taken as real and imaginary part"
        )
        return kspace[..., 0] + 1j * kspace[..., 1]
    raise UserError(
        f"{path}: kspace is {kspace.dtype} of shape {kspace.shape}; expected complex numbers, "
        "(slices, coils, rows, columns)"
    )


def axes_said(shape: tuple[int, ...], said: np.ndarray | None, matlab: bool, path: Path) -> str:
    """What the axes of k-space are, of the letters N C D H W."""
    if said is not None:
        text = said.item() if said.size == 1 else ""
        axes = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        known = len(set(axes)) == len(axes) and {*"HW"} <= {*axes} <= {*SPACE, "N", "C"}
        if not known or len(axes) != len(shape):
            raise UserError(
                f"{path}: axes is {axes!r}, and kspace has shape {shape}; one letter for each axis is needed: "
                "N slices, C coils, D H W space"
            )
        return axes
    if len(shape) < 3 or len(shape) > 5:
        raise UserError(
            f"{path}: kspace has shape {shape}; expected complex numbers, (slices, coils, rows, columns), "
            "or a text 'axes' beside it with a letter for each axis: N slices, C coils, D H W space"
        )
    if matlab:
        raise UserError(
            f"{path}: kspace {shape} was saved by MATLAB, and its axes may be in any order; say it by a text: "
            f"axes = '{'HWCN' if len(shape) > 3 else 'HWC'}'; save(NAME, 'kspace', 'axes', '-v7.3') (H rows, W "
            "columns, C coils, N slices)"
        )
    return {3: "NHW", 4: "NCHW"}.get(len(shape), "NCDHW")


def order_of(axes: str) -> str:
    return "NCDHW" if "D" in axes else "NCHW"


def named(axes: str) -> str:
    names = {"N": "slices", "C": "coils", "D": "partitions", "H": "rows", "W": "columns"}
    return ", ".join(names[axis] for axis in axes)


def arranged(array: np.ndarray, axes: str, order: str) -> np.ndarray:
    """An array whose axes are `axes` with the axes `order`; those it lacks are 1 long."""
    array = array.transpose([axes.index(axis) for axis in order if axis in axes])
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if axis in axes else 1 for axis in order])


def sampling_mask(mask: np.ndarray, axes: str, shape: tuple[int, ...], path: Path) -> Tensor:
    """Which samples a mask keeps, to multiply k-space by: boolean (N or 1, 1, *S), its axes as long or 1.

    Its axes are columns, or all of space, for all slices or each, in the order of k-space.
    """
    if not np.isin(mask, (0, 1)).all():
        raise UserError(f"{path}: its mask holds other values than 0 and 1")
    size = dict(zip(axes, shape, strict=True))
    space = [axis for axis in axes if axis in SPACE]
    wholes = [{"W"}, {"H", "W"}, {*space}]
    sets = [*wholes, *({"N", *one} for one in wholes if "N" in axes)]
    readings = {}
    for shown in (mask, mask.squeeze()):
        for one in sets:
            letters = "".join(axis for axis in axes if axis in one)
            fits = len(letters) == shown.ndim and all(
                n in (1, size[axis]) for n, axis in zip(shown.shape, letters, strict=True)
            )
            if fits:
                varies = "".join(
                    axis for n, axis in zip(shown.shape, letters, strict=True) if n > 1
                )
                readings[varies] = arranged(shown, letters, order_of(axes))
        if readings:
            break
    if len(readings) == 1:
        return torch.from_numpy(next(iter(readings.values())).astype(bool))
    if readings:
        told = " or of ".join(named(varies) for varies in readings)
        raise UserError(
            f"{path}: its mask {mask.shape} may be of {told}; give it all axes of (slices, rows, columns)"
        )
    if mask.squeeze().ndim < 2:
        raise UserError(
            f"{path}: its mask has {mask.size} columns, its k-space {size['W']}; they must be equal"
        )
    raise UserError(
        f"{path}: its mask has shape {mask.shape}, its k-space {shape} ({named(axes)}); a mask is of columns, "
        "of points, or of points of each slice"
    )


def check_origin(kspace: Tensor, path: Path, notices: list[str]) -> None:
    r"""Say where images seem to lie across their edges, as `fftshift(fft2(image))` makes them.

    The centre of an image's energy is $n/2\pi$ times the angle of $\sum_i \bar k_i k_{i+1}$ from its middle, over coils
    and lines: half the image away where that angle is half a turn.

    Args:
        kspace: complex (N, coils, *S), its centre in the middle.
        path, notices: for the line.
    """
    some = kspace[:: max(1, len(kspace) // 4)]
    edges = []
    for axis, name in zip(range(2, kspace.ndim), SPACE[-(kspace.ndim - 2) :], strict=True):
        n = kspace.shape[axis]
        turn = (some.narrow(axis, 0, n - 1).conj() * some.narrow(axis, 1, n - 1)).sum()
        if n > 8 and abs(float(turn.angle())) > EDGE * torch.pi:
            edges.append(named(name))
    if edges:
        notices.append(
            f"{path}: images seem to lie across their edges along {' and '.join(edges)}, as fftshift(fft2(image)) "
            "makes them; where they do, store fftshift(fft2(ifftshift(image)))"
        )
