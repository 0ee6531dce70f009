"""MetaImage and NRRD through SimpleITK."""

import errno
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ...errors import UserError
from ..files import replacing
from ..image import Image
from .stored import as_affine, as_tensor, check_bytes, check_regular, ending, magnitude, silent

HEADER_BYTES = 1 << 16
"""A header of text ends long before."""
FIELD = re.compile(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)\s*$", re.MULTILINE)
VOXELS = re.compile(
    r"^(?:ElementDataFile[ \t]*=|data ?file:)[ \t]*(.*?)\s*$", re.MULTILINE | re.IGNORECASE
)
"""Where a header of MetaImage or NRRD says that the voxels lie."""
NUMBERS = {
    "DimSize": 1, "ElementSpacing": 1, "ElementSize": 1, "Offset": 1, "Position": 1, "Origin": 1,
    "TransformMatrix": 2, "Rotation": 2, "Orientation": 2,
}  # fmt: skip
"""Fields of MetaImage: one number for each axis, or a matrix."""
POSITIVE = ("DimSize", "ElementSpacing", "ElementSize")


def read_itk(path: Path, *, notice: Callable[[str], None] = silent) -> Image:
    """MetaImage and NRRD through SimpleITK. Index axes are ITK's (i along a row); LPS -> RAS.

    Of complex numbers the magnitude is taken, with a notice.

    A 2-D file has no place in space that a scanner would know: its grid spacing is kept in an
    affine, and its axes become (rows, columns) as in a picture.
    """
    check_regular(path)
    _check_header(path)
    try:
        _check_size(path)
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
    lps = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(axes, axes)
    lps[:axes, :axes] = direction * np.array(image.GetSpacing())
    lps[:axes, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
    if axes == 3:
        array = array.transpose(0, 3, 2, 1)
    else:
        affine = affine[:, [1, 0, 2, 3]]
    limit = (0.0, 255.0) if array.dtype == np.uint8 else None
    return Image(as_tensor(array), as_affine(affine, path), None, limit, ending(path))


def _check_header(path: Path) -> None:
    """The numbers of a MetaImage header, and where the voxels lie.

    ITK reads a list of numbers up to the first that is none, and takes 0 for the rest.

    Raises:
        UserError: a number that is not finite, too few or too many, a side that is not positive; voxels
            in what is no regular file.
    """
    with path.open("rb") as stream:
        text = stream.read(HEADER_BYTES).decode("latin-1")
    fields = dict(FIELD.findall(text.partition("ElementDataFile")[0]))
    axes = fields.get("NDims", "")
    for name, power in NUMBERS.items():
        if name not in fields or not axes.isdigit():
            continue
        values = _numbers(fields[name])
        positive = name in POSITIVE
        good = len(values) == int(axes) ** power and np.isfinite(values).all()
        if not good or (positive and min(values) <= 0):
            raise UserError(
                f"{path}: its {name} is {fields[name][:60]!r}; {int(axes) ** power} finite "
                f"{'positive ' if positive else ''}numbers are expected"
            )
    for name in VOXELS.findall(text):
        inside = name.startswith(("LOCAL", "LIST")) or "%" in name
        if not inside and not (path.parent / name).is_file():
            raise UserError(
                f"{path}: its voxels lie in {name!r}, which is no regular file (missing, a device or a pipe)"
            )


def _numbers(text: str) -> list[float]:
    """Numbers between blanks; NaN for what is none."""
    values = []
    for word in text.split():
        try:
            values.append(float(word))
        except ValueError:
            values.append(math.nan)
    return values


def _check_size(path: Path) -> None:
    """The size that a header declares, before voxels are read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    components = reader.GetNumberOfComponents()
    one = sitk.Image([1] * reader.GetDimension(), reader.GetPixelID())
    check_bytes(math.prod(reader.GetSize()) * components * one.GetSizeOfPixelComponent(), path)


def write_itk(image: Image, path: Path) -> None:
    """Write a picture or a volume with its spacing, direction and origin; RAS -> LPS."""
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
    with replacing(path) as temporary:
        try:
            sitk.WriteImage(out, str(temporary))
        except RuntimeError as error:
            # ITK does not tell a full disk from other failures.
            if shutil.disk_usage(temporary.parent).free < array.nbytes:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
