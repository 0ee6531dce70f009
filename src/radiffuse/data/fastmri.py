"""fastMRI files: k-space of a stack of slices, with what the header says of its voxels.

The format: Zbontar et al. 2018, https://arxiv.org/abs/1811.08839, section 4.
"""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..operators.fourier import centred_fft, centred_ifft
from .arrays import channels_first
from .columns import ArrayColumn, Column
from .table import Table

__all__ = ["open_fastmri"]

TARGETS = ("reconstruction_rss", "reconstruction_esc")


@dataclass(frozen=True)
class Header:
    """What the ISMRMRD header of a file says: encoded and reconstructed x, y, z.

    Attributes:
        matrix: samples, (2, 3).
        field_mm: fields of view, (2, 3).
    """

    matrix: np.ndarray
    field_mm: np.ndarray


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
    header = None if text is None or data.ndim != 4 else _header(text)
    notices = []
    if text is not None and header is None and data.ndim == 4:
        notices.append(f"{path}: its ismrmrd_header cannot be read; voxels are taken to be 1 mm")
    affines = None
    if header is not None:
        affines = _affines(header, data)
        data = _cropped(data, header)
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


def _header(text: bytes | str) -> Header | None:
    """The first encoding of an XML header; None where it is no such header."""
    try:
        root = ElementTree.fromstring(text)
        read = [
            [
                [
                    float(root.findtext(f".//{{*}}{space}/{{*}}{of}/{{*}}{axis}", ""))
                    for axis in "xyz"
                ]
                for space in ("encodedSpace", "reconSpace")
            ]
            for of in ("matrixSize", "fieldOfView_mm")
        ]
    except (ElementTree.ParseError, ValueError):
        return None
    matrix, field_mm = np.array(read)
    sound = np.isfinite([matrix, field_mm]).all() and (matrix > 0).all() and (field_mm > 0).all()
    return Header(matrix.round().astype(int), field_mm) if sound else None


def _affines(header: Header, kspace: Tensor) -> Tensor:
    """Voxel sizes on the diagonal: samples of k-space lie 1 / field of view apart, however many they are."""
    slices, _, rows, columns = kspace.shape
    x, y, z = header.field_mm[0] / (rows, columns, header.matrix[0, 2])
    affines = torch.diag(torch.tensor([x, y, z, 1.0], dtype=torch.float64)).repeat(slices, 1, 1)
    affines[:, 2, 3] = z * torch.arange(slices)
    return affines


def _cropped(kspace: Tensor, header: Header) -> Tensor:
    """Without the oversampling of the readout, which lies outside of the field of view of reconSpace."""
    rows = kspace.shape[2]
    kept = round(rows * header.field_mm[1, 0] / header.field_mm[0, 0])
    if kept >= rows:
        return kspace
    left = rows // 2 - kept // 2
    return centred_fft(centred_ifft(kspace, (2,)).narrow(2, left, kept), (2,))
