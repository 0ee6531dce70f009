"""NIfTI and its kin: numbers as stored, scaling as declared, geometry in millimetres RAS+."""

import logging
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import UserError
from ..files import replacing
from ..geometry import agree, apart
from ..image import Image
from ..made import Made
from .stored import as_affine, as_tensor, check_bytes, check_regular, ending, magnitude, silent

FINE = 0.1
"""A slope up to this stores labels in steps so fine that none can be taken for another."""

MM = {"meter": 1e3, "micron": 1e-3}
_MAY_SAY_NOTHING = (".nii", ".nii.gz", ".img", ".hdr")
"""Formats whose outputs say nothing of their place where the input did not."""
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
"""Units a header may declare; places of unknown ones are mm, and times of unknown ones are dropped."""


# what overflows is not finite, which is checked
@np.errstate(over="ignore", invalid="ignore")
def read_nifti(
    path: Path, *, labels: bool = False, notice: Callable[[str], None] = silent
) -> Image:
    """Read NIfTI-1 or -2, FreeSurfer .mgh and .mgz, or a pair .hdr and .img, with nibabel.

    The stored type is kept where the file declares no scaling; with scl_slope and scl_inter the
    values are float32 slope * stored + inter. Of complex numbers the magnitude is taken, with a
    notice. The fourth axis (a series), or a fifth (vectors), is the channel axis; a third axis of
    length one is dropped (the file is a picture).
    The affine is the sform where its code is set, else the qform; where both are set and disagree
    the sform is taken, with a notice. Without either there is no geometry, only voxel sizes. Declared
    units other than mm are brought to mm, times between the frames of a series to seconds.
    Analyze 7.5 stores no orientation: nibabel's LAS is taken, with a notice.

    Args:
        labels: it is a mask: numbers that a slope stores in steps finer than 1 are rounded to whole
            ones where they miss these by half a step at most, with a notice.

    Raises:
        UserError: unreadable or cut short, an affine that maps voxels onto a plane, may be mirrored or is not
            finite, or axes that are neither space nor one series.
    """
    from nibabel.filebasedimages import ImageFileError
    from nibabel.freesurfer.mghformat import MGHError
    from nibabel.spatialimages import HeaderDataError

    damaged = (ImageFileError, HeaderDataError, MGHError, OSError, EOFError, ValueError)
    _check_pair(path)
    try:
        file = _loaded(path)
        _check_header(file, path)
        array = _stored(file, path)
        if labels and abs(file.dataobj.slope) <= FINE:
            array = _whole(array, abs(file.dataobj.slope) / 2, path, notice)
    except (*damaged, zlib.error, KeyError, OverflowError):
        raise UserError(_damaged(path)) from None
    data = _channels_first(magnitude(array, path, notice), path)
    limits = (0.0, 255.0) if data.dtype == np.uint8 else None
    seconds = _frame_seconds(file.header) if len(data) > 1 else None
    affine, placed = _place_of(file, path, notice)
    return Image(
        as_tensor(data),
        affine,
        None,
        limits,
        ending(path),
        seconds,
        placed=placed,
        two_axes=len(file.shape) == 2,
    )


def _damaged(path: Path) -> str:
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    named = path.suffix.lower() in (".gz", ".mgz")
    if packed != named:
        what = (
            "is gzipped, and its name does not say so (.gz)"
            if packed
            else "is not gzipped, as its name says"
        )
        return f"{path}: {what}; rename it"
    return f"{path}: is damaged, cut short or no {'NIfTI' if '.nii' in path.name else path.suffix} file"


def _loaded(path: Path) -> Any:
    """The image with its header read, and its voxels not yet."""
    import nibabel

    # it names no file; `_check_mended` does
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    if path.suffix.lower() == ".mgh":
        # nibabel would leave the file open
        return nibabel.MGHImage.from_bytes(path.read_bytes())
    return nibabel.load(path)


def _check_pair(path: Path) -> None:
    """Both files of a pair are there, and what is read is a file on a disk."""
    check_regular(path)
    other = {".img": ".hdr", ".hdr": ".img"}.get(path.suffix.lower())
    if other is not None:
        if path.suffix.isupper():
            other = other.upper()
        if not path.with_suffix(other).is_file():
            raise UserError(f"{path}: belongs to {path.with_suffix(other).name}, which is missing")


def _check_header(file: Any, path: Path) -> None:
    """The numbers that say how voxels are stored, before these are read.

    Raises:
        UserError: sides that are not positive, a slope that is not finite, or more voxels than there can be.
    """
    shape = tuple(int(n) for n in file.shape)
    if not shape or min(shape) < 1:
        raise UserError(
            f"{path}: axes {shape} are not understood; up to three of space and one of a series"
        )
    proxy = file.dataobj
    if not np.isfinite([proxy.slope, proxy.inter]).all():
        raise UserError(f"{path}: its scaling (slope {proxy.slope}, {proxy.inter}) is not finite")
    declared = math.prod(shape) * file.get_data_dtype().itemsize
    source = path if path.suffix.lower() != ".hdr" else Path(file.file_map["image"].filename)
    check_bytes(declared, path, source.stat().st_size, path.suffix.lower() in (".gz", ".mgz"))


def _stored(file: Any, path: Path) -> np.ndarray:
    """Unscaled numbers in their own type, or scaled ones as float32 (float64 where stored so)."""
    proxy = file.dataobj
    if (proxy.slope, proxy.inter) == (1.0, 0.0):
        array = np.asarray(proxy.get_unscaled())
    else:
        array = np.asarray(proxy)
        if array.dtype.kind != "c" and file.get_data_dtype() != np.float64:
            array = array.astype(np.float32)
    if array.dtype.names:
        names = array.dtype.names
        if len(names) > 3 and (array[names[3]] < 255).any():
            raise UserError(f"{path}: is transparent in places (RGBA); write RGB")
        if any(n > 1 for n in array.shape[3:]):
            raise UserError(f"{path}: is a series in colour {array.shape}; write one file each")
        colours = [array[name] for name in names[:3]]
        return np.stack(colours, axis=-1).reshape(*(*array.shape, 1, 1)[:3], 3)
    return array


def _whole(array: np.ndarray, most: float, path: Path, notice: Callable[[str], None]) -> np.ndarray:
    """Whole numbers that a slope stores, which miss these by up to `most`; others as they are."""
    whole = np.round(array)
    off = float(np.abs(array - whole).max())
    if not 0 < off <= most + 1e-6:
        return array
    notice(
        f"{path}: its slope stores the labels in steps of {2 * most:.3g}, off by up to {off:.1g}; rounded"
    )
    return whole


def _channels_first(array: np.ndarray, path: Path) -> np.ndarray:
    """`(I, J[, K[, T]])` or `(I, J, K, 1, C)` -> `(C, *S)`."""
    shape = array.shape
    space, rest = (*shape, 1, 1)[:3], [n for n in shape[3:] if n > 1]
    if len(rest) > 1:
        raise UserError(
            f"{path}: axes {shape} are not understood; up to three of space and one of a series"
        )
    array = np.moveaxis(array.reshape(*space, *(rest or [1])), -1, 0)
    return array[..., 0] if space[2] == 1 else array


def _place_of(file: Any, path: Path, notice: Callable[[str], None]) -> tuple[torch.Tensor, bool]:
    """The affine, index -> RAS mm, and whether the file says it; a notice where it does not."""
    header = file.header
    if hasattr(header, "get_sform"):
        _check_mended(file, path, notice)
        return _affine(header, path, notice)
    if "goodRASFlag" in header:
        placed = _good_ras(path)
        if not placed:
            notice(f"{path}: declares no place in space; FreeSurfer's default (LIA) is taken")
    elif not (placed := path.with_suffix(".mat").exists()):
        notice(
            f"{path}: Analyze 7.5 stores no orientation; axes are taken as LAS, as nibabel does: left and "
            "right may be swapped; convert it to NIfTI with what its maker knows"
        )
    return as_affine(file.affine, path), placed


def _check_mended(file: Any, path: Path, notice: Callable[[str], None]) -> None:
    """What nibabel mends in a header on the way, where it says something of the place.

    Raises:
        UserError: negative sizes (or a qfac other than -1) where nothing but the qform says how axes lie.
    """
    header = file.header
    holder = file.file_map.get("header", file.file_map["image"])
    with holder.get_prepare_fileobj("rb") as stream:
        stored = type(header)(stream.read(header.template_dtype.itemsize), check=False)
    for name in ("sform_code", "qform_code"):
        if int(stored[name]) != int(header[name]):
            notice(
                f"{path}: its {name} is {int(stored[name])}, which NIfTI does not know; it counts as 0"
            )
    if int(header["sform_code"]):
        return
    qfac, *sizes = stored["pixdim"][: 1 + min(int(header["dim"][0]), 3)].tolist()
    told = " x ".join(f"{size:g}" for size in sizes)
    if int(header["qform_code"]) and (min(sizes) < 0 or (qfac < 0 and qfac != -1)):
        raise UserError(
            f"{path}: its voxels are {told} mm with a qfac of {qfac:g}, and programs read negative ones in two ways, "
            "mirrored and not; nothing but the qform says how it lies: write positive sizes, or an sform"
        )
    if 0 in sizes:
        notice(f"{path}: its voxels are {told} mm; 1 mm is taken for 0")


def _good_ras(path: Path) -> bool:
    """Whether a FreeSurfer file says its place; nibabel sets the flag where it does not."""
    from nibabel.openers import ImageOpener

    with ImageOpener(str(path)) as stream:
        return int.from_bytes(stream.read(30)[28:], "big", signed=True) > 0


def _affine(header: Any, path: Path, notice: Callable[[str], None]) -> tuple[torch.Tensor, bool]:
    sform, s_code = header.get_sform(coded=True)
    qform, q_code = _qform(header)
    if s_code:
        chosen = sform
    elif q_code and qform is not None:
        chosen = qform
    else:
        zooms = [float(z) for z in header.get_zooms()[:3]]
        size = "x".join(f"{z:g}" for z in zooms)
        notice(
            f"{path}: declares no place in space, only voxels of {size} mm; axes are taken as RAS"
        )
        chosen = np.diag([*(*zooms, 1.0, 1.0, 1.0)[:3], 1.0])
    mm = MM.get(_units(header)[0], 1.0)
    scale = torch.diag(torch.tensor([mm, mm, mm, 1.0], dtype=torch.float64))
    affine = scale @ as_affine(chosen, path)
    if s_code and q_code:
        other = None if qform is None else scale @ torch.from_numpy(qform).double()
        size = header.get_data_shape()[:3]
        if other is None or not agree(affine, other, size):
            gap = math.inf if other is None else apart(affine, other, size)
            notice(f"{path}: sform and qform disagree by {gap:.3g} mm; the sform is taken")
    placed = bool(s_code) or (bool(q_code) and qform is not None)
    return affine, placed


def _qform(header: Any) -> tuple[np.ndarray | None, int]:
    """The qform and its code; None where its numbers are no rotation, which harms only beside a sform."""
    from nibabel.spatialimages import HeaderDataError

    code = int(header["qform_code"])
    try:
        return header.get_qform(), code
    except (HeaderDataError, ValueError):
        return None, code


def _units(header: Any) -> tuple[str, str]:
    """Units of space and time; unknown where their codes are."""
    try:
        space, time = header.get_xyzt_units()
    except KeyError:
        return "unknown", "unknown"
    return space, time


def _frame_seconds(header: Any) -> float | None:
    """Time between frames; None where the header declares none, or a fourth axis not of time."""
    zooms = header.get_zooms()
    if "goodRASFlag" in header:
        second: float | None = SECONDS["msec"]
    elif hasattr(header, "get_xyzt_units"):
        second = SECONDS.get(_units(header)[1])
    else:
        second = None
    if second is None or len(zooms) != 4 or not 0 < zooms[3] < math.inf:
        return None
    return float(zooms[3]) * second


def write_nifti(image: Image, path: Path, made: Made | None = None) -> None:
    """Write `(C, *S)` as NIfTI-1 in its own type; channels become the fourth axis. Of a picture the third axis has
    length one, unless the input had two axes.

    Places are in mm, times between frames in seconds. sform and qform both hold the affine
    where it is a rotation with spacing; a sheared affine stands in the sform alone; of an input that does not say where
    it lies the spacing alone is written. What made the image stands in the
    description (80 bytes), and whole in a comment (extension 6).
    """
    import nibabel

    array = image.data.cpu().numpy()
    if array.dtype in (np.int64, np.bool_):
        small = abs(int(array.max())) < 2**31 and abs(int(array.min())) < 2**31
        array = array.astype(np.int32 if small else np.float64)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if not (image.two_axes and image.flat and len(array) == 1):
        array = array.reshape(array.shape[0], *(*array.shape[1:], 1, 1)[:3])
    array = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    affine = np.eye(4) if image.affine is None else image.affine.numpy()
    said = image.affine is not None and (image.placed or image.format not in _MAY_SAY_NOTHING)
    file = nibabel.Nifti1Image(array, affine if said else None)
    if said:
        _place(file, affine)
    elif image.affine is not None:
        file.header.set_zooms((*np.linalg.norm(affine[:3, :3], axis=0), 1.0)[: array.ndim])
    timed = image.frame_seconds is not None and len(image.data) > 1
    if timed:
        file.header.set_zooms((*file.header.get_zooms()[:3], image.frame_seconds))
    _save(file, path, "sec" if timed else "unknown", made)


def write_displacement(
    field: torch.Tensor, affine: torch.Tensor | None, path: Path, made: Made | None = None
) -> None:
    """Write a displacement field as ITK reads it: a vector image, LPS components in mm.

    The file has five axes (I, J, K, 1, n), intent "vector" and the geometry of the fixed image:
    `SimpleITK.DisplacementFieldTransform(SimpleITK.ReadImage(path, SimpleITK.sitkVectorFloat64))`
    resamples the moving image onto it. A picture has two components where it lies in an axial plane or
    nowhere at all, and three elsewhere.

    Args:
        field: u (n, *S) in voxels; the moving image is read at x + u(x).
        affine: of the fixed image; None: voxels of 1 mm.
        path: .nii or .nii.gz.
        made: what made it.
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
    _save(file, path, made=made)


def _place(file: Any, affine: np.ndarray) -> None:
    """Declare the affine: in both forms where it is a rotation with spacing, else in the sform."""
    file.set_sform(affine, code=1)
    file.set_qform(affine, code=1, strip_shears=True)
    fine = 1e-4 * min(1.0, float(np.linalg.norm(affine[:3, :3], axis=0).min()))
    if not np.allclose(file.get_qform(), affine, atol=fine):
        file.set_qform(None, code=0)
        file.set_sform(affine, code=1)


def _save(file: Any, path: Path, time: str = "unknown", made: Made | None = None) -> None:
    import nibabel

    file.header.set_xyzt_units("mm", time)
    if made is not None:
        file.header["descrip"] = made.line.encode()
        told = nibabel.nifti1.Nifti1Extension("comment", made.json.encode())
        file.header.extensions.append(told)
    with replacing(path) as temporary:
        nibabel.save(file, temporary)
