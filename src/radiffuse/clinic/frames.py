"""What highdicom's writers ask for: source headers that are whole, and the place of each plane."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.formats.dicom_values import text
from ..data.formats.dicom_write import place
from ..data.image import Image
from .attributes import CARRIED, EMPTY, SECONDARY
from .derived import put_side
from .source import Slice, Source, values_of

__all__ = ["finish", "flat_array", "name_film", "others", "references", "where"]

_GEOMETRY = (
    *("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "ImageType", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"),
    *("InstanceNumber", "Modality", "Manufacturer", "ManufacturerModelName", "SoftwareVersions"),
    *("DeviceSerialNumber", "InstitutionName", "StationName"),
)


def references(source: Source) -> list[Any]:
    """The headers of a source as objects can refer to them: one a file, attributes sound, empty where the
    standard lets them be."""
    enhanced = "PerFrameFunctionalGroupsSequence" in source.files[0]
    found = []
    for header in source.files if enhanced else [one.header for one in source.slices]:
        made = _whole(header)
        if enhanced:
            for name in ("Shared", "PerFrame"):
                keyword = f"{name}FunctionalGroupsSequence"
                setattr(made, keyword, header.get(keyword, []))
            made.NumberOfFrames = header.NumberOfFrames
        elif source.slices[0].frame is not None:
            made.SOPClassUID = SECONDARY[
                0
            ]  # a frame of a film passes for a picture; `name_film` says what it is
        found.append(made)
    return found


def others(sources: Sequence[Source]) -> list[Any] | None:
    """The headers of all but the first source, those of its study (highdicom refers to no other); None of none."""
    study = sources[0].header.StudyInstanceUID
    found = [more for more in sources[1:] if more.header.StudyInstanceUID == study]
    return [header for more in found for header in references(more)] or None


def _whole(header: Any) -> Any:
    from pydicom import Dataset

    made = Dataset()
    names = [*CARRIED["patient"], *CARRIED["study"], *_GEOMETRY]
    names += ["FrameOfReferenceUID", "PositionReferenceIndicator"]
    for element in values_of(header, names).values():
        made[element.tag] = element
    for module in ("patient", "study"):
        for name in EMPTY[module]:
            if name not in made:
                setattr(made, name, None)
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def where(image: Image, path: Path) -> Mapping[str, Any]:
    """Measures, orientation and positions of the planes of an image, by the names of highdicom's arguments; {}
    of an image without a place in space.

    Raises:
        UserError: rows and columns are not at right angles.
    """
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence

    if image.affine is None:
        return {}
    count = 1 if image.flat else image.size[2]
    each = [place(image.affine.numpy(), k, path) for k in range(count)]
    thickness = float(each[0]["SliceThickness"])
    return {
        "pixel_measures": PixelMeasuresSequence(
            pixel_spacing=[float(mm) for mm in each[0]["PixelSpacing"]],
            slice_thickness=thickness,
            spacing_between_slices=thickness if count > 1 else None,
        ),
        "plane_orientation": PlaneOrientationSequence(
            "PATIENT", [float(part) for part in each[0]["ImageOrientationPatient"]]
        ),
        "plane_positions": [
            PlanePositionSequence("PATIENT", [float(mm) for mm in one["ImagePositionPatient"]])
            for one in each
        ],
    }


def finish(made: Any, source: Source) -> None:
    """What general modules ask for and highdicom leaves out: the part of the body, its side, its orientation."""
    for element in values_of(source.header, ("BodyPartExamined",)).values():
        made[element.tag] = element
    if text(made, "Modality") != "SEG":  # whose segments say their sides
        put_side(made)
    if "FrameOfReferenceUID" not in made:
        made.PatientOrientation = ""
    name_film(made, source)
    if "PerFrameFunctionalGroupsSequence" in source.files[0]:
        _only_read(made, {str(one.SOPInstanceUID) for one in source.files}, source)


def _only_read(made: Any, files: set[str], source: Source) -> None:
    """Leave of references to frames of enhanced objects those that were read: highdicom finds frames by place, and
    other echoes or times lie there too."""
    read = {one.frame for one in source.slices}
    for sequence in (element for element in made if element.VR == "SQ"):
        for item in sequence.value:
            _only_read(item, files, source)
        sequence.value = [
            item
            for item in sequence.value
            if text(item, "ReferencedSOPInstanceUID") not in files
            or "ReferencedFrameNumber" not in item
            or item.ReferencedFrameNumber in read
        ]


def name_film(made: Any, source: Source) -> None:
    """Let references to a film say its class, and of which frame of it an object is made."""
    of = source.slices[0]
    if of.frame is not None and "PerFrameFunctionalGroupsSequence" not in source.files[0]:
        _name_frame(made, of)


def _name_frame(made: Any, of: Slice) -> None:
    for sequence in (element for element in made if element.VR == "SQ"):
        for item in sequence.value:
            _name_frame(item, of)
            if text(item, "ReferencedSOPInstanceUID") == str(of.header.SOPInstanceUID):
                item.ReferencedSOPClassUID = of.header.SOPClassUID
                if sequence.keyword == "SourceImageSequence":
                    item.ReferencedFrameNumber = of.frame


def flat_array(image: Image) -> np.ndarray:
    """`(slices, rows, columns, C)`."""
    array = image.data.cpu().numpy()
    array = array[..., None] if image.flat else array
    return np.ascontiguousarray(np.moveaxis(array, (3, 0), (0, 3)))
