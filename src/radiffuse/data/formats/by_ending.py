"""One door to every image format: read by ending, write in the format of a template."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UserError
from ..image import Image, oriented
from ..made import Made
from ..transforms import from_unit, resized_affine
from .dicom_file import is_dicom
from .stored import DICOM, ENDINGS, NIBABEL, PICTURES, VOLUMES, check_regular, ending, silent


def read_image(
    path: Path | str, *, labels: bool = False, notice: Callable[[str], None] = silent
) -> Image:
    """Read one image file, or one DICOM series folder, in stored units with its geometry.

    Args:
        path: .png .jpg .tif .bmp .gif, .nii .nii.gz .mgz .mgh .img (with .hdr), .mha .mhd .nrrd, .dcm, or a
            DICOM folder.
        labels: it is a mask, so that the index of a picture's palette is the label, not its colour.
        notice: is told in one line what a reader had to decide (alpha dropped, sform taken).

    Raises:
        UserError: missing, unreadable, truncated, or of a format that is not known.
    """
    path = Path(path)
    if path.is_dir():
        from .dicom import read_series

        return read_series(path, notice=notice)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    check_regular(path)
    kind = ending(path)
    if kind in PICTURES:
        from .pictures import read_picture

        return read_picture(path, labels=labels, notice=notice)
    if kind in NIBABEL or path.suffix.lower() == ".hdr":
        from .nifti import read_nifti

        return read_nifti(path, labels=labels, notice=notice)
    if kind in VOLUMES:
        from .itk import read_itk

        return read_itk(path, notice=notice)
    if kind in DICOM or is_dicom(path):
        from .dicom import read_series
        from .dicom_seg import is_segmentation, read_segmentation

        if is_segmentation(path):
            return read_segmentation(path)

        return read_series(path, notice=notice)
    raise UserError(f"{path}: not an image format known here ({' '.join(ENDINGS)})")


def save_image(image: Image, path: Path | str, made: Made | None = None) -> Path:
    """Write an image in stored units; the ending of `path` says the format.

    .png holds 8 or 16 bit grey or RGB, .tif also float grey, .jpg 8 bit; .nii, .nii.gz,
    .mha and .nrrd hold the affine; .dcm makes a file, or for a volume a folder, of a new patient who is called
    synthetic. A volume that was turned since it was read (`Image.own`) is turned back.

    Args:
        image: to write.
        path: where.
        made: what made it, which the file then says (.bmp cannot): NIfTI in its description and a comment, PNG in a
            text chunk, TIFF and JPEG in theirs, MetaImage and NRRD in a field, DICOM in its descriptions.

    Returns:
        The path written.

    Raises:
        UserError: a format that cannot hold the image, a full disk.
    """
    path = Path(path)
    kind = ending(path)
    if image.own:
        image = oriented(replace(image, own=None), image.own)
    if kind in PICTURES and kind != ".gif":
        from .pictures import write_picture

        write_picture(image, path, made)
    elif kind in (".nii", ".nii.gz"):
        from .nifti import write_nifti

        write_nifti(image, path, made)
    elif kind in (".mha", ".nrrd"):
        from .itk import write_itk

        write_itk(image, path, made)
    elif kind == ".dcm":
        from .dicom_write import write_series

        return write_series(image, path, made)
    else:
        raise UserError(
            f"{path}: cannot be written; known are .nii.gz .nii .mha .nrrd .dcm .png .tif .jpg"
        )
    return path


def natural_ending(image: Image) -> str:
    """Ending under which a prediction that looks like `image` is stored, without loss.

    The format of the input, but .png for JPEG (lossy), and .nii.gz for arrays with an affine. Fractions,
    as resized pictures have them, fit no .png: they go to .tif, in colour to .nii.gz.
    """
    if image.data.is_floating_point() and image.format in (None, ".png", ".bmp", ".jpg", ".jpeg"):
        flat = image.affine is None and len(image.size) == 2 and len(image.data) == 1
        return ".tif" if flat else ".nii.gz"
    colour = len(image.data) == 3 and image.range == (0, 255)
    if image.format == ".dcm" and (len(image.data) == 1 or colour):
        return ".dcm"
    if image.format in (".png", ".tif", ".tiff", ".bmp", ".nii", ".nii.gz", ".mha", ".nrrd"):
        return image.format
    volume = image.affine is not None or len(image.size) != 2 or len(image.data) not in (1, 3)
    return ".nii.gz" if volume and image.format not in (".jpg", ".jpeg") else ".png"


def like(
    template: Image, x: Tensor, limits: tuple[float, float] | None = None, labels: bool = False
) -> Image:
    """A prediction as an image in the stored units of `template`.

    Args:
        template: the input; gives type, geometry, modality and range.
        x: `(C, *S)` in [-1, 1]; or labels. S may differ from the template's (after a resize): the
            affine moves along.
        limits: stored values of -1 and 1; the template's range without it. Values of an integer
            template are rounded, and none is clipped in a float one.
        labels: `x` holds labels, which are stored as they are (uint8 or int32).

    Raises:
        ValueError: there is no range.
    """
    x = x.detach().cpu()
    affine = affine_of(template, x)
    template = template if len(x) == len(template.data) else replace(template, frame_seconds=None)
    if labels:
        top = int(x.max()) if x.numel() else 0
        data = x.to(torch.uint8 if int(x.min()) >= 0 and top <= 255 else torch.int32)
        return replace(template, data=data, affine=affine, range=None)
    limits = limits or template.range
    if limits is None:
        raise ValueError("the template declares no range: give limits")
    stored = template.data.dtype
    stored = stored if stored != torch.float16 and not stored.is_complex else torch.float32
    return replace(template, data=from_unit(x, limits, stored), affine=affine, range=limits)


def affine_of(template: Image, x: Tensor) -> Tensor | None:
    """The affine of `x` (C, *S) that shows what `template` shows, with as many voxels or others."""
    if template.affine is None or tuple(x.shape[1:]) == template.size:
        return template.affine
    return resized_affine(template.affine, template.size, x.shape[1:])


def save_like(
    template: Image,
    x: Tensor,
    path: Path | str,
    limits: tuple[float, float] | None = None,
    labels: bool = False,
    made: Made | None = None,
) -> Path:
    """Write a prediction in the format, type, geometry and value range of its input.

    Args:
        template, x, limits, labels: see `like`.
        path: with a known ending, that format; else the ending of the input is added.
        made: see `save_image`.

    Returns:
        The path written.
    """
    image = like(template, x, limits, labels)
    path = Path(path)
    if not ending(path):
        path = path.with_name(path.name + natural_ending(image))
    return save_image(image, path, made)
