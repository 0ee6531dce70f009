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
from .arrays import channels_first
from .readouts import without_oversampling

__all__ = ["open_fastmri"]

TARGETS = ("reconstruction_rss", "reconstruction_esc")


def open_fastmri(path: Path) -> Table:
    """fastMRI .h5: one case per slice; `kspace` complex `(coils, rows, columns)`, the patient is the file.

    Rows are the readout: where the header says that it was oversampled, the image is cut to the field of
    view of reconSpace. Voxel sizes come from the header too; it does not say where slices lie and how far
    apart. A `mask` of columns makes 0 what it leaves out.

    Raises:
        UserError: unreadable, no `kspace` in it, one that is not complex (slices, coils, *S), or a mask
            of another length.
    """
    import h5py

    try:
        with h5py.File(path) as file:
            if "kspace" not in file:
                raise UserError(f"{path}: holds {', '.join(file) or 'nothing'}, but no kspace")
            kspace = np.asarray(file["kspace"])
            name = next((n for n in TARGETS if n in file), None)
            target = None if name is None else np.asarray(file[name])
            mask = np.asarray(file["mask"]) if "mask" in file else None
            text = file["ismrmrd_header"][()] if "ismrmrd_header" in file else None
    except OSError:
        raise UserError(f"{path}: is damaged, cut short or no HDF5 file") from None
    if kspace.dtype.kind != "c" or kspace.ndim < 3:
        raise UserError(
            f"{path}: kspace is {kspace.dtype} of shape {kspace.shape}; expected complex numbers, "
            "(slices, coils, rows, columns)"
        )
    data = torch.from_numpy((kspace if kspace.ndim > 3 else kspace[:, None]).astype(np.complex64))
    data = _masked(data, mask, path)
    affines, notices = None, []
    if text is not None and data.ndim == 4:
        if voxels := _voxels(text, data):
            affines = _affines(voxels, len(data))
            data = without_oversampling(data, voxels.rows, 2)
        else:
            notices.append(
                f"{path}: its ismrmrd_header cannot be read; voxels are taken to be 1 mm"
            )
    columns: dict[str, Column] = {
        "kspace": ArrayColumn(data, "raw", f"{path}: kspace", affines, "MR")
    }
    if target is not None and len(target) == len(data):
        images = channels_first(torch.from_numpy(target.astype(np.float32)))
        columns["image"] = ArrayColumn(images, "image", f"{path}: {name}", affines, "MR")
    ids = tuple(f"{path.stem}_slice{row:03d}" for row in range(len(data)))
    texts = {"slice": tuple(str(row) for row in range(len(ids)))}
    patients = (path.stem,) * len(ids)
    return Table(str(path), ids, columns, patients, texts=texts, notices=notices)


def _masked(kspace: Tensor, mask: np.ndarray | None, path: Path) -> Tensor:
    if mask is None:
        return kspace
    if mask.size != kspace.shape[-1]:
        raise UserError(
            f"{path}: its mask has {mask.size} columns, its k-space {kspace.shape[-1]}; they must be equal"
        )
    return kspace * torch.from_numpy(mask.reshape(-1).astype(bool))


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
