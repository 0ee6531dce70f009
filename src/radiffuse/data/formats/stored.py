"""What every reader shares: names of formats, arrays as tensors, the silent listener."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..files import check_regular as check_regular
from .packed import MOST_PACKED, check_expansion

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
NIBABEL = (".nii.gz", ".nii", ".mgz", ".mgh", ".img")
"""Of a pair .hdr and .img the one that holds the voxels is the image."""
VOLUMES = (*NIBABEL, ".mha", ".mhd", ".nrrd", ".nhdr")
DICOM = (".dcm", ".dicom", ".ima")
ENDINGS = PICTURES + VOLUMES + DICOM


def ending(path: Path | str) -> str:
    """Ending of an image file in lower case, ".nii.gz" as one; "" where it is not one we know."""
    name = Path(path).name.lower()
    return next((known for known in ENDINGS if name.endswith(known)), "")


def silent(line: str) -> None:
    """A listener for notices that hears nothing."""


MOST_BYTES = (
    os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 36
)
"""Images are read whole: none can be larger than the memory of the machine."""


def check_bytes(
    declared: int, path: Path | str, stored: int | None = None, packed: bool = False
) -> None:
    """Look at the size of an array as its header declares it, before any of it is read.

    Args:
        declared: bytes of voxels.
        path: for messages.
        stored: bytes that the file has for them; None: not known.
        packed: these are compressed by deflate.

    Raises:
        UserError: more than the memory, or than the file can hold, or should.
    """
    if declared > MOST_BYTES:
        raise UserError(
            f"{path}: declares {declared / 2**30:.3g} GiB of voxels, and this machine has "
            f"{MOST_BYTES / 2**30:.3g} GiB of memory; cut it into parts, or mend its header"
        )
    if stored is not None:
        check_stored(declared, path, stored, packed)


def check_stored(declared: int, path: Path | str, stored: int, packed: bool = False) -> None:
    """The part of `check_bytes` that looks at the file alone."""
    if declared > stored * (MOST_PACKED if packed else 1):
        raise UserError(
            f"{path}: declares {declared} bytes of voxels, and holds {stored}{' packed' if packed else ''}: "
            "is damaged or cut short"
        )
    if packed:
        check_expansion(declared, stored, path)


def magnitude(array: np.ndarray, path: Path, notice: Callable[[str], None]) -> np.ndarray:
    """Complex numbers as their magnitude, with a notice; all others as they are."""
    if array.dtype.kind != "c":
        return array
    notice(f"{path}: holds complex numbers, and an image is real; their magnitude is taken")
    # hypot of 1e30 and 1e30 is no overflow
    return np.hypot(array.real, array.imag)


def as_affine(matrix: np.ndarray, where: Path | str) -> Tensor:
    """The affine (4, 4) of a file or a value.

    Raises:
        UserError: numbers that are not finite, or voxels mapped onto a plane.
    """
    matrix = np.array(matrix, dtype=np.float64)
    # sides from a nanometre to a kilometre: their product is 1e-18 at least
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-18:
        raise UserError(f"{where}: its affine maps the voxels onto a plane or is not finite")
    return torch.from_numpy(matrix)


PARTS = {("real", "imag"), ("re", "im"), ("r", "i")}
"""Names of the two members by which HDF5 files hold complex numbers."""


DAMAGED_HDF5 = (OSError, KeyError, RuntimeError, ValueError, TypeError)
"""What h5py raises where a file is damaged."""


def hdf5_array(file: Any, name: str, path: Path) -> np.ndarray:
    """An array of an HDF5 file; complex where it has two members real and imag.

    MATLAB stores arrays with their axes in reverse: they come in MATLAB's order, its text as text.

    Args:
        file: an open `h5py.File`.
        path: of the file, for messages.

    Raises:
        UserError: see `hdf5_member`; neither numbers nor text, or declared and never written.
        DAMAGED_HDF5: damaged.
    """
    import h5py

    found = hdf5_member(file, name, path)
    if not isinstance(found, h5py.Dataset):
        raise UserError(f"{path}: {name} is a group of HDF5, not an array")
    _check_array(found, name, path)
    array = np.asarray(found)
    if array.dtype.names is not None:
        parts = tuple(part.lower() for part in array.dtype.names)
        if parts not in PARTS:
            raise UserError(f"{path}: {name} has the members {', '.join(parts)}, not real and imag")
        real, imag = (array[part] for part in array.dtype.names)
        array = real + 1j * imag
    if array.dtype.kind not in "biufcOSU":
        raise UserError(f"{path}: {name} holds {array.dtype}, neither numbers nor text")
    if by_matlab(found):
        array = array.T
        if found.attrs["MATLAB_class"] == b"char":
            return np.asarray("".join(map(chr, array.flatten())))
    return array


def _check_array(found: Any, name: str, path: Path) -> None:
    """What an array of HDF5 declares, before any of it is read.

    Raises:
        UserError: no number in it, more than the memory or than its packed bytes hold, or parts never written.
    """
    if found.shape is None or found.size == 0:
        raise UserError(f"{path}: {name} is empty (shape {found.shape})")
    stored = found.id.get_storage_size()
    check_bytes(found.nbytes, path)
    check_expansion(found.nbytes, stored, path)
    if not stored:
        raise UserError(f"{path}: {name} {found.shape} was declared and never written")
    if found.chunks is None:
        return
    chunks = math.prod(-(-n // c) for n, c in zip(found.shape, found.chunks, strict=True))
    if (written := found.id.get_num_chunks()) < chunks:
        raise UserError(
            f"{path}: {name} {found.shape}: {written} of its {chunks} parts were written, the rest would be "
            "read as zeros; the file is incomplete"
        )


def hdf5_member(group: Any, name: str, path: Path) -> Any:
    """A member that lies in an HDF5 file itself.

    Raises:
        UserError: it lies elsewhere, as links, virtual arrays and external storage say.
    """
    import h5py

    elsewhere = not isinstance(group.get(name, getlink=True), h5py.HardLink)
    found = None if elsewhere else group[name]
    if isinstance(found, h5py.Dataset):
        elsewhere = found.is_virtual or bool(found.external)
    if elsewhere:
        raise UserError(
            f"{path}: {name} is a link to another place, which is not followed; copy the data into the file"
        )
    return found


def by_matlab(dataset: Any) -> bool:
    """Whether MATLAB saved an HDF5 array (-v7.3)."""
    return "MATLAB_class" in dataset.attrs


def as_tensor(array: np.ndarray) -> Tensor:
    """NumPy to torch without losing a value: byte order, uint16 -> int32, uint32 -> int64."""
    wider = {"b1": np.uint8, "u2": np.int32, "u4": np.int64, "u8": np.int64, "f16": np.float64}
    code = array.dtype.kind + str(array.dtype.itemsize)
    if code == "u8" and array.size and array.max() > np.iinfo(np.int64).max:
        code, wider = "", {"": np.float64}  # the largest of 64 bit are rounded, not negative
    array = array.astype(wider.get(code, array.dtype.newbyteorder("=")), copy=False)
    return torch.from_numpy(np.array(array, order="C"))
