"""MetaImage and NRRD through SimpleITK."""

import errno
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import UserError
from ..files import replacing
from ..image import Image
from ..made import Made
from . import metaimage, nrrd
from .picture_values import Reading, opaque
from .stored import as_affine, as_tensor, check_bytes, check_regular, ending, magnitude, silent
from .text_header import Header, check_held

NRRD = (".nrrd", ".nhdr")


def header_of(path: Path) -> Header:
    """What the header of a MetaImage or NRRD says that ITK passes over.

    Raises:
        UserError: it makes no sense.
    """
    return (nrrd if ending(path) in NRRD else metaimage).look(path)


def read_itk(path: Path, *, notice: Callable[[str], None] = silent) -> Image:
    """MetaImage and NRRD through SimpleITK. Index axes are ITK's (i along a row); LPS -> RAS.

    Of complex numbers the magnitude is taken, with a notice. Lengths in declared units are brought to mm; a volume
    that says nothing of its place is taken as LPS, with a notice.

    A 2-D file has no place in space that a scanner would know: its grid spacing is kept in an
    affine, and its axes become (rows, columns) as in a picture.
    """
    check_regular(path)
    header = header_of(path)
    try:
        _check_size(path, header)
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        raise UserError(
            f"{path}: cannot be read as {ending(path)} (damaged or cut short?)"
        ) from None
    axes = image.GetDimension()
    if axes not in (2, 3):
        raise UserError(f"{path}: has {axes} axes; 2 or 3 are expected")
    array = magnitude(sitk.GetArrayFromImage(image), path, notice)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    else:
        array = array[None]
    if header.alpha:
        top = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else 1
        array = np.moveaxis(array, 0, -1)
        array = opaque(Reading(path, False, notice), array[..., :3], array[..., 3:], top)
        array = np.moveaxis(array, -1, 0)
    lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(axes, axes)
    lps[:axes, :axes] = direction * np.array(image.GetSpacing())
    lps[:axes, 3] = image.GetOrigin()
    lps[:3] *= header.mm
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    if axes == 3:
        array = array.transpose(0, 3, 2, 1)
    else:
        affine = affine[:, [1, 0, 2, 3]]
    if axes == 3 and not header.placed:
        size = "x".join(f"{step:g}" for step in np.linalg.norm(affine[:3, :3], axis=0))
        notice(
            f"{path}: declares no place in space, only voxels of {size} mm; axes are taken as LPS"
        )
    limit = (0.0, 255.0) if array.dtype == np.uint8 else None
    place = as_affine(affine, path)
    data, end = as_tensor(array), ending(path)
    return Image(data, place, None, limit, end, placed=header.placed, labels=header.labels)


def _check_size(path: Path, header: Header) -> None:
    """The size that a header declares, and whether voxels fill it, before they are read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    one = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID())
    # the two parts of a complex number are one component of twice the size
    complex_ = "complex" in one.GetPixelIDTypeAsString()
    components = 1 if complex_ else reader.GetNumberOfComponents()
    declared = math.prod(reader.GetSize()) * components * one.GetSizeOfPixelComponent()
    check_bytes(declared, path)
    if header.voxels is not None:
        check_held(header.voxels, declared, path)


def write_itk(image: Image, path: Path, made: Made | None = None) -> None:
    """Write a picture or a volume with its spacing, direction and origin; RAS -> LPS.

    What made it stands in the fields Comment and Made (.mha), comment and made (.nrrd).
    """
    array = image.data.cpu().numpy()
    axes = len(image.size)
    if axes not in (2, 3):
        raise UserError(f"{path}: {axes} axes do not fit; 2 or 3 do")
    ras = np.eye(4) if image.affine is None else image.affine.numpy()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras
    if axes == 2:
        lps = lps[:, [1, 0, 2, 3]]
        array = array.transpose(1, 2, 0)
    else:
        array = array.transpose(3, 2, 1, 0)
    several = array.shape[-1] > 1
    out = sitk.GetImageFromArray(array if several else array[..., 0], isVector=several)
    spacing = np.linalg.norm(lps[:axes, :axes], axis=0)
    out.SetSpacing(spacing.tolist())
    out.SetDirection((lps[:axes, :axes] / spacing).flatten().tolist())
    out.SetOrigin(lps[:axes, 3].tolist())
    if made is not None:
        upper = ending(path) != ".nrrd"
        out.SetMetaData("Comment" if upper else "comment", made.line)
        out.SetMetaData("Made" if upper else "made", made.json)
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(out, str(temporary))
        except RuntimeError as error:
            # ITK does not tell a full disk from other failures.
            full = shutil.disk_usage(temporary.parent).free < array.nbytes
            number = errno.ENOSPC if full else errno.EIO
            raise OSError(number, os.strerror(number)) from error
