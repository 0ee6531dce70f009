"""Series derived from others: of the same patient, study and frame of reference, slice by slice beside their source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.formats.dicom_values import text, whole
from ..data.formats.dicom_write import (
    Stored,
    describe,
    new_object,
    place,
    put_pixels,
    save,
    target_of,
)
from ..data.image import Image
from ..data.made import Made
from ..errors import UserError
from .attributes import (
    CARRIED,
    CLASSES,
    COLOUR_STACK,
    EMPTY,
    FILLED,
    GREY_STACK,
    SECONDARY,
    UNPAIRED,
)
from .equipment import contributions
from .meanings import Meaning
from .referring import refer
from .source import Slice, Source, values_of
from .values import eight_bit, held_as, put_values

__all__ = ["Series", "class_of", "write_derived"]

GENERATED = "SYNTHETIC content: shows what was not measured"
"""ImageComments of images of another contrast and of healthy counterparts."""
LIKE_MM = 0.01
"""Grids that agree to this are one."""


@dataclass(frozen=True)
class Series:
    """A series to be written.

    Attributes:
        uid: its SeriesInstanceUID.
        number: its SeriesNumber.
        meaning: what it is.
        made: what made it.
        modality: of its values.
        description: SeriesDescription.
    """

    uid: str
    number: int
    meaning: Meaning
    made: Made
    modality: str
    description: str


def class_of(image: Image, modality: str) -> tuple[str, str]:
    """The storage class (UID, name) of an image derived from a source of a modality.

    Grey CT, MR and PET that lie in space, and ultrasound pictures of 8 bits, keep their own class. All else is a
    secondary capture, a volume one of several frames.
    """
    grey, flat = len(image.data) == 1, image.flat
    if modality in ("CT", "MR", "PT") and grey and image.affine is not None:
        return CLASSES[modality]
    if modality == "US" and flat and (not grey or eight_bits(image)):
        return CLASSES["US"]
    if flat:
        return SECONDARY
    return GREY_STACK if grey else COLOUR_STACK


def eight_bits(image: Image) -> bool:
    """Whether values are those of 8 bits."""
    data, (low, high) = image.data, image.range or (0.0, 0.0)
    return (low, high) == (0, 255) or data.dtype == torch.uint8


def write_derived(image: Image, sources: Sequence[Source], series: Series, path: Path) -> Path:
    """Write an image as a series beside its sources.

    Args:
        image: `(C, rows, columns[, slices])` in real values (HU, ...), its axes as its source's file has them.
        sources: what it was made of; the first one's attributes are carried.
        series: see `Series`.
        path: NAME.dcm; a volume of one image an object makes the folder NAME.

    Returns:
        The file or folder written.

    Raises:
        UserError: rows and columns are not at right angles, or colours of more than 8 bits.
    """
    array = image.data.cpu().numpy()
    if len(array) == 3 and (image.range or (0.0, float(array.max())))[1] > 255:
        raise UserError(f"{path}: DICOM holds colours of 8 bits")
    array = array[..., None] if image.flat else array
    kind = class_of(image, series.modality)
    if kind == CLASSES["US"]:
        held = eight_bit(array)
    else:
        held = held_as(array, sources[0], series.meaning.same_units, zero=kind == CLASSES["PT"])
    stacked = kind in (GREY_STACK, COLOUR_STACK)
    target = target_of(path, 2 if stacked else len(image.size))
    places = [_place(image, k, path) for k in range(array.shape[-1])]
    if stacked:
        path = path.with_name(path.name.removesuffix(".dcm") + ".dcm")
        return _write_stack(image, sources, series, held, places, kind, path)
    for k, where in enumerate(places):
        beside = _beside(sources, where, image)
        header = _header(series, kind, sources[0], beside[0] if beside else None, image)
        put_pixels(header, held, k, "RGB" if len(array) == 3 else "MONOCHROME2")
        put_values(header, held, series.modality, kind)
        _put_place(header, where, kind, sources[0], k, len(places))
        refer(header, beside, series.meaning, _same_grid(image, sources[0]))
        save(header, target if image.flat else target / f"{k + 1:04d}.dcm")
    return target


def _place(image: Image, k: int, path: Path) -> dict[str, Any]:
    return {} if image.affine is None else place(image.affine.numpy(), k, path)


def _beside(sources: Sequence[Source], where: Mapping[str, Any], image: Image) -> list[Slice]:
    """The slice of each source that lies where this one does; of a source that has none there, none."""
    at = np.array(where["ImagePositionPatient"], float) if where else None
    found = []
    for one in sources:
        within = None if not where else max(float(where["SliceThickness"]), _gap(one)) / 2 + LIKE_MM
        if (slice_ := one.nearest(at, within)) is not None:
            found.append(slice_)
    return found


def _gap(source: Source) -> float:
    """Distance of the slices of a source in mm; 0 of a lone one."""
    if len(source.slices) < 2 or source.slices[0].place is None or source.slices[1].place is None:
        return 0.0
    return float(np.linalg.norm(source.slices[1].place - source.slices[0].place))


def _same_grid(image: Image, source: Source) -> bool:
    """Whether pixels lie where those of the source do."""
    header = source.header
    size = (whole(header, "Rows", 1, 65535), whole(header, "Columns", 1, 65535))
    if tuple(image.size[:2]) != size:
        return False
    return image.flat or image.size[2] == len(source.slices)


# ------------------------------------------------------------------------------------------ headers
def _header(
    series: Series, kind: tuple[str, str], source: Source, beside: Slice | None, image: Image
) -> Any:
    """A new object with what the source's slice carries over."""
    from pydicom.uid import generate_uid

    header = new_object(kind[0], str(generate_uid(None)))
    whose = beside.header if beside is not None else source.header
    own = kind in CLASSES.values()
    modules = ["patient", "study", "series", "image", *([series.modality] if own else [])]
    same = series.meaning.same_units and text(whose, "PhotometricInterpretation") != "MONOCHROME1"
    modules += ["window"] if same else []
    for module in modules:
        for element in values_of(whose, CARRIED.get(module, ())).values():
            header[element.tag] = element
        for name in EMPTY.get(module, ()):
            if name not in header:
                setattr(header, name, [] if name.endswith("Sequence") else None)
        for name, value in FILLED.get(module, {}).items() if own else ():
            if name not in header:
                setattr(header, name, value)
    describe(header, series.made, series.description)
    header.Modality = series.modality or "OT"
    header.SeriesInstanceUID, header.SeriesNumber = series.uid, series.number
    header.ImageType = image_type(whose, series.modality, kind)
    header.ContributingEquipmentSequence = contributions(series.made, source)
    if series.meaning.generated:
        header.ImageComments = GENERATED
    _put_rest(header, kind, series, whose, image)
    return header


def image_type(whose: Any, modality: str, kind: tuple[str, str]) -> list[str]:
    """Derived, secondary, and what the modality says third: CT what its source is, MR "OTHER".

    PET knows no SECONDARY (PS3.3 C.8.9.4.1.1).
    """
    if kind == CLASSES["PT"]:
        return ["DERIVED", "PRIMARY"]
    told = [str(part) for part in (whose.get("ImageType") or [])] if "ImageType" in whose else []
    third = told[2] if len(told) > 2 else ""
    if kind == CLASSES["CT"]:
        return ["DERIVED", "SECONDARY", third if third in ("AXIAL", "LOCALIZER") else "AXIAL"]
    return ["DERIVED", "SECONDARY", "OTHER"] if kind == CLASSES["MR"] else ["DERIVED", "SECONDARY"]


def _put_rest(header: Any, kind: tuple[str, str], series: Series, whose: Any, image: Image) -> None:
    """What the class asks for and no source says."""
    if kind == CLASSES["PT"]:
        if "SeriesDate" not in header:
            header.SeriesDate, header.SeriesTime = header.ContentDate, header.ContentTime
        if "NumberOfTimeSlices" not in header and "DYNAMIC" in header.SeriesType:
            header.NumberOfTimeSlices = 1
        if header.DecayCorrection == "NONE":
            header.pop("DecayFactor", None)
        for isotope in header.RadiopharmaceuticalInformationSequence:
            isotope.setdefault("RadionuclideCodeSequence", [])
        del header.PatientPosition  # PatientOrientationCodeSequence stands for it
    if kind not in CLASSES.values():
        header.ConversionType = "WSD"
        del header.PatientPosition
    if image.affine is None or kind in (GREY_STACK, COLOUR_STACK):
        header.setdefault("PatientOrientation", "")
    if image.affine is None and "FrameOfReferenceUID" not in header:
        del header.PositionReferenceIndicator
    if kind == CLASSES["US"]:
        if "PatientPosition" in header and not header.PatientPosition:
            del header.PatientPosition
        regions = values_of(whose, ("SequenceOfUltrasoundRegions",))
        if regions and tuple(image.size) == (whose.get("Rows"), whose.get("Columns")):
            header.SequenceOfUltrasoundRegions = regions["SequenceOfUltrasoundRegions"].value
    put_side(header)
    header.setdefault("BurnedInAnnotation", "NO")


def put_side(header: Any) -> None:
    """Laterality where the part of the body has a side or is not known, empty where that is not known (type 2C)."""
    unpaired = text(header, "BodyPartExamined").upper() in UNPAIRED
    if unpaired or "ImageLaterality" in header:
        header.pop("Laterality", None)
    else:
        header.setdefault("Laterality", "")


def _put_place(
    header: Any, where: Mapping[str, Any], kind: tuple[str, str], source: Source, k: int, count: int
) -> None:
    """Where a slice lies, and which it is."""
    header.InstanceNumber = k + 1
    for name, value in where.items():
        setattr(header, name, value)
    if kind == CLASSES["MR"] and where:
        header.SpacingBetweenSlices = where["SliceThickness"]
    own = text(source.header, "SliceThickness")
    if where and own and len(source.slices) == count:
        header.SliceThickness = own
    if kind == CLASSES["PT"]:
        header.ImageIndex, header.NumberOfSlices = k + 1, count


# ------------------------------------------------------------------------------------------- frames
def _write_stack(
    image: Image,
    sources: Sequence[Source],
    series: Series,
    held: Stored,
    places: Sequence[Mapping[str, Any]],
    kind: tuple[str, str],
    path: Path,
) -> Path:
    """A volume of a class without objects of its own that lie in space: one object, a frame a slice."""
    from pydicom import Dataset

    beside = [_beside(sources, where, image) for where in places]
    first = next((found[0] for found in beside if found), None)
    header = _header(series, kind, sources[0], first, image)
    grey = len(image.data) == 1
    put_pixels(header, held, None, "MONOCHROME2" if grey else "RGB")
    put_values(header, held, series.modality, kind)
    header.InstanceNumber, header.NumberOfFrames = 1, len(places)
    if grey:
        header.PresentationLUTShape = "IDENTITY"
    header.FrameIncrementPointer = [0x52009230]
    every = list({id(one): one for found in beside for one in found}.values())
    refer(header, every, series.meaning, _same_grid(image, sources[0]))
    shared, frames = Dataset(), []
    for k, where in enumerate(places):
        frame, content = Dataset(), Dataset()
        content.StackID, content.InStackPositionNumber = "1", k + 1
        content.DimensionIndexValues = [1, k + 1]
        frame.FrameContentSequence = [content]
        for sequence, names in _PER_FRAME.items() if where else ():
            group = Dataset()
            for name in names:
                setattr(group, name, where[name])
            owner = frame if sequence == "PlanePositionSequence" else shared
            setattr(owner, sequence, [group])
        frames.append(frame)
    header.SharedFunctionalGroupsSequence = [shared]
    header.PerFrameFunctionalGroupsSequence = frames
    _put_dimensions(header)
    save(header, path)
    return path


_PER_FRAME = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
}


def _put_dimensions(header: Any) -> None:
    """Frames are numbered by stack and position."""
    from pydicom import Dataset
    from pydicom.datadict import tag_for_keyword
    from pydicom.uid import generate_uid

    uid, organization = str(generate_uid(None)), Dataset()
    organization.DimensionOrganizationUID = uid
    header.DimensionOrganizationSequence = [organization]
    header.DimensionIndexSequence = []
    for name in ("StackID", "InStackPositionNumber"):
        item = Dataset()
        item.DimensionOrganizationUID = uid
        item.DimensionIndexPointer = tag_for_keyword(name)
        item.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
        header.DimensionIndexSequence.append(item)
