"""fastMRI files: k-space of a stack of slices, with what the header says of its voxels.

The format: Zbontar et al. 2018, https://arxiv.org/abs/1811.08839, section 4.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import ArrayColumn, Column
from ..table import Table
from .readouts import without_oversampling
from .stored import DAMAGED_HDF5, by_matlab, check_regular, hdf5_array, hdf5_member

__all__ = ["open_fastmri"]

TARGETS = ("reconstruction_rss", "reconstruction_esc")
SPACE = ("D", "H", "W")


def open_fastmri(path: Path) -> Table:
    """fastMRI .h5: one case per slice; `kspace` complex `(coils, rows, columns)`, the patient is the file.

    Rows are the readout: where the header says that it was oversampled, the image is cut to the field of
    view of reconSpace. Voxel sizes come from the header too; it does not say where slices lie and how far
    apart. A `mask` of columns or of points, for all slices or each, makes 0 what it leaves out.

    K-space is stored (slices, coils, rows, columns), or as a text `axes` says: "HWCN" for instance, N slices,
    C coils, D H W space. MATLAB stores complex numbers as two members real and imag; it has no such custom,
    so that files that it saved must say their axes.

    Raises:
        UserError: unreadable, no `kspace` in it, one that is not complex, unknown axes, or a mask of
            another size or of other values than 0 and 1.
    """
    import h5py

    check_regular(path)
    try:
        with h5py.File(path) as file:
            names = set(file)
            if "kspace" not in names:
                raise UserError(f"{path}: holds {', '.join(file) or 'nothing'}, but no kspace")
            arrays = {
                name: hdf5_array(file, name, path)
                for name in ("kspace", "mask", "axes", *TARGETS)
                if name in names
            }
            pairs = file["kspace"].dtype.names is not None
            matlab = by_matlab(file["kspace"])
            text = None
            if "ismrmrd_header" in names:
                text = hdf5_member(file, "ismrmrd_header", path)[()]
    except DAMAGED_HDF5:
        raise UserError(_no_hdf5(path)) from None
    notices: list[str] = []
    kspace = _complex(arrays["kspace"], path, notices)
    axes = _axes(kspace.shape, arrays.get("axes"), matlab, path)
    if text is None and "axes" not in arrays:
        _check_coils(kspace.shape, axes, path)
    if pairs or (axes != "NCHW" and text is None and "axes" not in arrays):
        notices.append(f"{path}: kspace {kspace.shape} is taken as {_named(axes)}")
    data = torch.from_numpy(_arranged(kspace, axes, _order(axes)).astype(np.complex64))
    along = torch.ones(1, dtype=torch.bool)
    if "mask" in arrays:
        mask = _mask(arrays["mask"], axes, kspace.shape, path)
        data, along = data * mask, mask
    affines = None
    if text is not None and data.ndim == 4:
        if voxels := _voxels(text, data):
            affines = _affines(voxels, len(data))
            data = _cut(data, voxels.rows, along, path, notices)
        else:
            notices.append(
                f"{path}: its ismrmrd_header cannot be read; voxels are taken to be 1 mm"
            )
    columns: dict[str, Column] = {
        "kspace": ArrayColumn(data, "raw", f"{path}: kspace", affines, "MR")
    }
    name = next((n for n in TARGETS if n in arrays), None)
    if name is not None:
        images = _target(arrays[name], axes, len(data))
        if images is None:
            notices.append(
                f"{path}: {name} {arrays[name].shape} does not fit kspace {kspace.shape}; left out"
            )
        else:
            columns["image"] = ArrayColumn(images, "image", f"{path}: {name}", affines, "MR")
    ids = tuple(f"{path.stem}_slice{row:03d}" for row in range(len(data)))
    texts = {"slice": tuple(str(row) for row in range(len(ids)))}
    patients = (path.stem,) * len(ids)
    return Table(str(path), ids, columns, patients, texts=texts, notices=notices)


def _no_hdf5(path: Path) -> str:
    with path.open("rb") as stream:
        old = stream.read(10) == b"MATLAB 5.0"
    if old:
        return f"{path}: is of MATLAB's older format; save(NAME, 'kspace', 'axes', '-v7.3') writes what is read here"
    return f"{path}: is damaged, cut short or no HDF5 file"


def _check_coils(shape: tuple[int, ...], axes: str, path: Path) -> None:
    """Refuse an order that nobody said and that makes more coils than rows or columns.

    Raises:
        UserError: says how to say the order.
    """
    size = dict(zip(axes, shape, strict=True))
    if size.get("C", 1) > min(size["H"], size["W"]):
        raise UserError(
            f"{path}: kspace {shape} would be {_named(axes)}, more coils than rows or columns; say its order by a text "
            f"'axes' beside it, a letter for each axis ({'NHWC' if len(shape) == 4 else 'NDHWC'} for instance): N "
            "slices, C coils, D H W space"
        )


def _complex(kspace: np.ndarray, path: Path, notices: list[str]) -> np.ndarray:
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


def _axes(shape: tuple[int, ...], said: np.ndarray | None, matlab: bool, path: Path) -> str:
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


def _order(axes: str) -> str:
    return "NCDHW" if "D" in axes else "NCHW"


def _named(axes: str) -> str:
    names = {"N": "slices", "C": "coils", "D": "partitions", "H": "rows", "W": "columns"}
    return ", ".join(names[axis] for axis in axes)


def _arranged(array: np.ndarray, axes: str, order: str) -> np.ndarray:
    """An array whose axes are `axes` with the axes `order`; those it lacks are 1 long."""
    array = array.transpose([axes.index(axis) for axis in order if axis in axes])
    sizes = iter(array.shape)
    return array.reshape([next(sizes) if axis in axes else 1 for axis in order])


def _target(target: np.ndarray, axes: str, slices: int) -> Tensor | None:
    """Images (N, 1, *S) that a file holds beside k-space; None where they are of other slices."""
    axes = axes.replace("C", "")
    if target.ndim != len(axes) or target.dtype.kind not in "biuf":
        return None
    images = _arranged(target, axes, _order(axes))
    return torch.from_numpy(images.astype(np.float32)) if len(images) == slices else None


def _mask(mask: np.ndarray, axes: str, shape: tuple[int, ...], path: Path) -> Tensor:
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
                readings[varies] = _arranged(shown, letters, _order(axes))
        if readings:
            break
    if len(readings) == 1:
        return torch.from_numpy(next(iter(readings.values())).astype(bool))
    if readings:
        told = " or of ".join(_named(varies) for varies in readings)
        raise UserError(
            f"{path}: its mask {mask.shape} may be of {told}; give it all axes of (slices, rows, columns)"
        )
    if mask.squeeze().ndim < 2:
        raise UserError(
            f"{path}: its mask has {mask.size} columns, its k-space {size['W']}; they must be equal"
        )
    raise UserError(
        f"{path}: its mask has shape {mask.shape}, its k-space {shape} ({_named(axes)}); a mask is of columns, "
        "of points, or of points of each slice"
    )


def _cut(kspace: Tensor, rows: int, measured: Tensor, path: Path, notices: list[str]) -> Tensor:
    """K-space without the oversampling of the readout, which needs every sample of a readout."""
    if rows < kspace.shape[2] and measured.ndim > 1 and measured.shape[2] > 1:
        notices.append(
            f"{path}: the mask leaves out samples of readouts, so that their oversampling stays: the image has "
            f"{kspace.shape[2]} rows, not {rows}"
        )
        return kspace
    return without_oversampling(kspace, rows, 2)


class Voxels(NamedTuple):
    """What a header says of voxels: their sides in mm, and rows of the image without oversampling."""

    sides_mm: tuple[float, float, float]
    rows: int


def _voxels(text: bytes | str, kspace: Tensor) -> Voxels | None:
    """By the first encoding of an XML header; None where it is no such header.

    Samples of k-space lie 1 / field of view apart, however many they are.
    """

    def said(of: str) -> list[float]:
        return [float(root.findtext(f".//{{*}}{of}/{{*}}{axis}", "")) for axis in "xyz"]

    try:
        root = ElementTree.fromstring(text)
        fields = said("encodedSpace/{*}fieldOfView_mm")
        wanted = said("reconSpace/{*}fieldOfView_mm")
        partitions = said("encodedSpace/{*}matrixSize")[2]
    except (ElementTree.ParseError, ValueError):
        return None
    if not all(0 < number < math.inf for number in (*fields, *wanted, partitions)):
        return None
    rows, columns = kspace.shape[2:]
    sides = (fields[0] / rows, fields[1] / columns, fields[2] / partitions)
    return Voxels(sides, min(rows, max(1, round(rows * wanted[0] / fields[0]))))


def _affines(voxels: Voxels, slices: int) -> Tensor:
    """Voxel sizes on the diagonal, slice after slice."""
    sides = torch.tensor([*voxels.sides_mm, 1.0], dtype=torch.float64)
    affines = torch.diag(sides).repeat(slices, 1, 1)
    affines[:, 2, 3] = sides[2] * torch.arange(slices)
    return affines
