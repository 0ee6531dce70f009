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
from .sampling import (
    arranged,
    axes_said,
    check_coils,
    check_origin,
    complex_numbers,
    named,
    order_of,
    sampling_mask,
)
from .stored import DAMAGED_HDF5, by_matlab, check_regular, hdf5_array, hdf5_member

__all__ = ["open_fastmri"]

TARGETS = ("reconstruction_rss", "reconstruction_esc")


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
    kspace = complex_numbers(arrays["kspace"], path, notices)
    axes = axes_said(kspace.shape, arrays.get("axes"), matlab, path)
    if text is None and "axes" not in arrays:
        check_coils(kspace.shape, axes, path)
    if pairs or (axes != "NCHW" and text is None and "axes" not in arrays):
        notices.append(f"{path}: kspace {kspace.shape} is taken as {named(axes)}")
    data = torch.from_numpy(arranged(kspace, axes, order_of(axes)).astype(np.complex64))
    along = torch.ones(1, dtype=torch.bool)
    if "mask" in arrays:
        mask = sampling_mask(arrays["mask"], axes, kspace.shape, path)
        data, along = data * mask, mask
    affines = None
    if text is not None and data.ndim == 4:
        shown = next((arrays[n].shape[-2:] for n in TARGETS if n in arrays), (0, 0))
        if voxels := _voxels(text, data, shown, path, notices):
            affines = _affines(voxels, len(data))
            data = _cut(data, voxels.rows, along, path, notices)
        else:
            notices.append(
                f"{path}: its ismrmrd_header cannot be read; voxels are taken to be 1 mm"
            )
    check_origin(data, path, notices)
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


def _target(target: np.ndarray, axes: str, slices: int) -> Tensor | None:
    """Images (N, 1, *S) that a file holds beside k-space; None where they are of other slices."""
    axes = axes.replace("C", "")
    if target.ndim != len(axes) or target.dtype.kind not in "biuf":
        return None
    images = arranged(target, axes, order_of(axes))
    return torch.from_numpy(images.astype(np.float32)) if len(images) == slices else None


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


class Axis(NamedTuple):
    """What a header says of an axis: samples, and field of view in mm, with oversampling and without; 0: no number."""

    sampled: int
    kept: int
    full_mm: float
    kept_mm: float


def _voxels(
    text: bytes | str, kspace: Tensor, shown: tuple[int, ...], path: Path, notices: list[str]
) -> Voxels | None:
    """By the first encoding of an XML header; None where it is no such header.

    Samples of k-space lie 1 / field of view apart, however many they are (`_field`). `shown` are rows and columns of
    the image in the file, 0: there is none.
    """
    try:
        root = ElementTree.fromstring(text)
        readout, phase, depth = (_axis(root, axis) for axis in "xyz")
    except (ElementTree.ParseError, ValueError):
        return None
    fields = [one for axis in (readout, phase, depth) for one in axis[2:]]
    if not all(0 < number < math.inf for number in (*fields, depth.sampled)):
        return None
    rows, columns = kspace.shape[2:]
    wide = _field(rows, shown[0], readout, f"{path}: k-space has {rows} rows", notices)
    high = _field(columns, shown[1], phase, f"{path}: k-space has {columns} columns", notices)
    sides = (wide / rows, high / columns, depth.full_mm / depth.sampled)
    return Voxels(sides, min(rows, max(1, round(rows * readout.kept_mm / wide))))


def _axis(root: ElementTree.Element, axis: str) -> Axis:
    """Of x, y or z.

    Raises:
        ValueError: a field of view is no number.
    """

    def said(space: str, what: str) -> str:
        return root.findtext(f".//{{*}}{space}/{{*}}{what}/{{*}}{axis}", "")

    spaces = ("encodedSpace", "reconSpace")
    sampled, kept = (
        int(n) if n.isdecimal() else 0 for n in (said(s, "matrixSize") for s in spaces)
    )
    return Axis(sampled, kept, *(float(said(space, "fieldOfView_mm")) for space in spaces))


def _field(samples: int, shown: int, axis: Axis, found: str, notices: list[str]) -> float:
    """The field of view in mm whose inverse parts samples of k-space: that with oversampling.

    Where there are as many samples as without it (it was removed, the header left as it was), or as the image in the
    file has, it is that without; other numbers are told.
    """
    if samples == axis.sampled or axis.kept_mm >= axis.full_mm:
        return axis.full_mm
    said = f"{found}, and its header says {axis.sampled} of {axis.full_mm:g} mm with oversampling"
    if samples in (axis.kept, shown):
        notices.append(f"{said}: it is taken as removed, {samples} of {axis.kept_mm:g} mm")
        return axis.kept_mm
    notices.append(f"{said}, {axis.kept} of {axis.kept_mm:g} mm without: they are taken with it")
    return axis.full_mm


def _affines(voxels: Voxels, slices: int) -> Tensor:
    """Voxel sizes on the diagonal, slice after slice."""
    sides = torch.tensor([*voxels.sides_mm, 1.0], dtype=torch.float64)
    affines = torch.diag(sides).repeat(slices, 1, 1)
    affines[:, 2, 3] = sides[2] * torch.arange(slices)
    return affines
