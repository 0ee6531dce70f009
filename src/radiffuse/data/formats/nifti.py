"""NIfTI: numbers as stored, scaling as declared, geometry in millimetres RAS+."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ..files import replacing
from ..image import Image
from .stored import as_tensor, ending, silent

AGREE_MM = 0.1
"""sform and qform that move no corner further than this against each other agree."""

MM = {"meter": 1e3, "micron": 1e-3}
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
"""Units a header may declare; places of unknown ones are mm, and times of unknown ones are dropped."""


def read_nifti(path: Path, *, notice: Callable[[str], None] = silent) -> Image:
    """Read a NIfTI-1 or -2 file.

    The stored type is kept where the file declares no scaling; with scl_slope and scl_inter the
    values are float32 slope * stored + inter. The fourth axis (a series), or a fifth (vectors), is
    the channel axis; a third axis of length one is dropped (the file is a picture).
    The affine is the sform where its code is set, else the qform; where both are set and disagree
    the sform is taken, with a notice. Without either there is no geometry, only voxel sizes. Declared
    units other than mm are brought to mm, times between the frames of a series to seconds.

    Raises:
        UserError: unreadable or cut short, an affine that maps voxels onto a plane or is not
            finite, or axes that are neither space nor one series.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        file: Any = nibabel.load(path)
        array = _stored(file)
    except (ImageFileError, OSError, EOFError, ValueError, zlib.error, KeyError):
        raise UserError(f"{path}: is damaged, cut short or no NIfTI file") from None
    data = _channels_first(array, path)
    affine = _affine(file.header, path, notice)
    limits = (0.0, 255.0) if data.dtype == np.uint8 else None
    seconds = _frame_seconds(file.header) if len(data) > 1 else None
    return Image(as_tensor(data), affine, None, limits, ending(path), seconds)


def _stored(file: Any) -> np.ndarray:
    """Unscaled numbers in their own type, or scaled ones as float32 (float64 where stored so)."""
    proxy = file.dataobj
    if (proxy.slope, proxy.inter) == (1.0, 0.0):
        array = np.asarray(proxy.get_unscaled())
    else:
        array = np.asarray(proxy)
        if file.get_data_dtype() != np.float64:
            array = array.astype(np.float32)
    if array.dtype.names:
        colours = [array[name] for name in array.dtype.names[:3]]
        return np.stack(colours, axis=-1).reshape(*(*array.shape, 1, 1)[:3], 3)
    return array


def _channels_first(array: np.ndarray, path: Path) -> np.ndarray:
    """`(I, J[, K[, T]])` or `(I, J, K, 1, C)` -> `(C, *S)`."""
    shape = array.shape
    space, rest = (*shape, 1, 1)[:3], [n for n in shape[3:] if n > 1]
    if len(rest) > 1 or 0 in shape or len(shape) == 0:
        raise UserError(
            f"{path}: axes {shape} are not understood; up to three of space and one of a series"
        )
    array = np.moveaxis(array.reshape(*space, *(rest or [1])), -1, 0)
    return array[..., 0] if space[2] == 1 else array


def _affine(header: Any, path: Path, notice: Callable[[str], None]) -> torch.Tensor | None:
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = header.get_qform(coded=True)
    if not s_code and not q_code:
        zooms = [float(z) for z in header.get_zooms()[:3]]
        size = "x".join(f"{z:g}" for z in zooms)
        notice(
            f"{path}: declares no place in space, only voxels of {size} mm; axes are taken as RAS"
        )
        chosen = np.diag([*(*zooms, 1.0, 1.0, 1.0)[:3], 1.0])
    else:
        chosen = sform if s_code else qform
    if not np.isfinite(chosen).all() or abs(np.linalg.det(chosen[:3, :3])) < 1e-12:
        raise UserError(f"{path}: its affine maps the voxels onto a plane or is not finite")
    if s_code and q_code:
        apart = _distance(sform, qform, header.get_data_shape())
        if not apart <= AGREE_MM:
            notice(f"{path}: sform and qform disagree by {apart:.3g} mm; the sform is taken")
    mm = MM.get(header.get_xyzt_units()[0], 1.0)
    return torch.from_numpy(np.diag([mm, mm, mm, 1.0]) @ np.array(chosen, dtype=np.float64))


def _frame_seconds(header: Any) -> float | None:
    """Time between frames; None where the header declares none, or a fourth axis not of time."""
    second = SECONDS.get(header.get_xyzt_units()[1])
    zooms = header.get_zooms()
    if second is None or len(zooms) != 4 or not zooms[3] > 0:
        return None
    return float(zooms[3]) * second


def _distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the places that two affines give to a corner."""
    last = [n - 1 for n in (*shape, 1, 1, 1)[:3]]
    corners = np.array(np.meshgrid(*[[0, n] for n in last], [1], indexing="ij")).reshape(4, -1)
    return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())


def write_nifti(image: Image, path: Path) -> None:
    """Write `(C, *S)` as NIfTI-1 in its own type; channels become the fourth axis.

    Places are in mm, times between frames in seconds. sform and qform both hold the affine
    where it is a rotation with spacing; a sheared affine stands in the sform alone.
    """
    import nibabel

    array = image.data.cpu().numpy()
    if array.dtype in (np.int64, np.bool_):
        small = abs(int(array.max())) < 2**31 and abs(int(array.min())) < 2**31
        array = array.astype(np.int32 if small else np.float64)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    spatial = (*array.shape[1:], 1, 1)[:3]
    array = array.reshape(array.shape[0], *spatial)
    array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    affine = np.eye(4) if image.affine is None else image.affine.numpy()
    file = nibabel.Nifti1Image(array, affine)
    if image.affine is not None:
        _place(file, affine)
    timed = image.frame_seconds is not None and len(image.data) > 1
    if timed:
        file.header.set_zooms((*file.header.get_zooms()[:3], image.frame_seconds))
    _save(file, path, "sec" if timed else "unknown")


def write_displacement(field: torch.Tensor, affine: torch.Tensor | None, path: Path) -> None:
    """Write a displacement field as ITK reads it: a vector image, LPS components in mm.

    The file has five axes (I, J, K, 1, n), intent "vector" and the geometry of the fixed image:
    `SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(path, SimpleITK.sitkVectorFloat64))`
    resamples the moving image onto it. A picture has two components where it lies in an axial plane or
    nowhere at all, and three elsewhere.

    Args:
        field: u (n, *S) in voxels; the moving image is read at x + u(x).
        affine: of the fixed image; None: voxels of 1 mm.
        path: .nii or .nii.gz.
    """
    import nibabel

    axes = len(field)
    ras = torch.eye(4, dtype=torch.float64) if affine is None else affine.double()
    lps = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)) @ ras[:3, :axes]
    vectors = torch.einsum("ia,a...->...i", lps, field.detach().cpu().double())
    if axes == 2 and float(lps[2].abs().max()) < 1e-6:
        vectors = vectors[..., :2]
    space = (*field.shape[1:], 1)[:3]
    array = vectors.float().numpy().reshape(*space, 1, vectors.shape[-1])
    file = nibabel.Nifti1Image(array, ras.numpy())
    file.header.set_intent("vector", name="displacement, mm")
    _place(file, ras.numpy())
    _save(file, path)


def _place(file: Any, affine: np.ndarray) -> None:
    """Declare the affine: in both forms where it is a rotation with spacing, else in the sform."""
    file.set_sform(affine, code=1)
    file.set_qform(affine, code=1, strip_shears=True)
    if not np.allclose(file.get_qform(), affine, atol=1e-4):
        file.set_qform(None, code=0)
        file.set_sform(affine, code=1)


def _save(file: Any, path: Path, time: str = "unknown") -> None:
    import nibabel

    file.header.set_xyzt_units("mm", time)
    with replacing(path) as temporary:
        nibabel.save(file, temporary)
