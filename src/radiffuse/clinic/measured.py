"""Classes and scores as a structured report: DICOM TID 1500, Measurement Report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data.formats.dicom_write import save, software
from .derived import Series
from .equipment import contributions, local_code
from .frames import name_film, references
from .source import Slice, Source

__all__ = ["Finding", "write_report"]


@dataclass(frozen=True)
class Finding:
    """What is said of the whole case, or of one slice.

    Attributes:
        numbers: by name: a score (no unit), or the probability of a class (0 to 1).
        classes: what was decided, by name: ("class", "pneumonia").
        of: what it is said of, in words: "the case", "axial slice 7".
        place: where that slice lies, LPS in mm; None: it is said of every image.
    """

    numbers: Mapping[str, float]
    classes: Mapping[str, str]
    of: str = "the case"
    place: np.ndarray | None = None


def write_report(
    findings: Sequence[Finding], sources: Sequence[Source], series: Series, path: Path
) -> Path:
    """Write one Comprehensive SR document: a measurement group for each finding, and the images it is of.

    Args:
        findings: what was found.
        sources: what it was found in.
        series: see `Series`; its made object is the device that observes.
        path: of the file.
    """
    from highdicom.sr import (
        CodedConcept,
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    about = software(series.made)
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=str(generate_uid(None)),
            name=about["manufacturer_model_name"],
            manufacturer_name=about["manufacturer"],
            model_name=about["manufacturer_model_name"],
            serial_number=about["device_serial_number"],
        ),
    )
    images = references(sources[0])
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept(*_PROCEDURE),
        imaging_measurements=[_group(one, sources[0], series) for one in findings],
        title=codes.DCM.ImagingMeasurementReport,
    )
    made = ComprehensiveSR(
        evidence=images,
        content=content[0],
        series_instance_uid=series.uid,
        series_number=series.number,
        sop_instance_uid=str(generate_uid(None)),
        instance_number=1,
        series_description=series.description[:64],
        manufacturer=about["manufacturer"],
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    made.ManufacturerModelName = about["manufacturer_model_name"]
    made.DeviceSerialNumber = about["device_serial_number"]
    made.SoftwareVersions = about["software_versions"]
    made.ContributingEquipmentSequence = contributions(series.made, sources[0])
    name_film(made, sources[0])
    save(made, path)
    return path


_PROCEDURE = ("363679005", "SCT", "Imaging procedure")


def _group(finding: Finding, source: Source, series: Series) -> Any:
    """The numbers and classes of one finding, the algorithm, and the images they are of."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    made = series.made
    algorithm = AlgorithmIdentification(
        name=f"radiffuse {made.method}",
        version=made.version or "unknown",
        parameters=[
            f"model_sha256={made.model_sha256}",
            f"preset={made.preset}",
            f"run={made.run}",
        ],
    )
    numbers = [
        Measurement(
            name=local_code(f"N{k}_{_short(name)}", name),
            value=float(value),
            unit=codes.UCUM.NoUnits,
        )
        for k, (name, value) in enumerate(finding.numbers.items(), 1)
    ]
    classes = [
        QualitativeEvaluation(
            name=local_code(_short(name).upper(), name),
            value=local_code(f"C_{_short(value)}", value),
        )
        for name, value in finding.classes.items()
    ]
    near = source.nearest(finding.place) if finding.place is not None else None
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=str(generate_uid(None)), identifier=f"{made.method}, {finding.of}"
        ),
        finding_type=CodedConcept.from_code(codes.DCM.ImagingMeasurements),
        algorithm_id=algorithm,
        measurements=numbers or None,
        qualitative_evaluations=classes or None,
        source_images=_images(source.slices if near is None else [near]),
    )


def _images(slices: Sequence[Slice]) -> list[Any]:
    """References to the images of slices, and to their frames in files of several."""
    from highdicom.sr import SourceImageForMeasurementGroup

    frames: dict[tuple[str, str], list[int]] = {}
    for one in slices:
        of = (str(one.header.SOPClassUID), str(one.header.SOPInstanceUID))
        frames.setdefault(of, []).extend([] if one.frame is None else [one.frame])
    return [
        SourceImageForMeasurementGroup(kind, instance, sorted(numbers) or None)
        for (kind, instance), numbers in frames.items()
    ]


def _short(name: str) -> str:
    """A name as the value of a code has it: letters and digits."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)[:12]
