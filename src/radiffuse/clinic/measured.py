"""Classes and scores as a structured report: DICOM TID 1500, Measurement Report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.formats.dicom_write import save
from .derived import Series
from .equipment import contributions, local_code, software
from .frames import references
from .source import Source

__all__ = ["Finding", "write_report"]


@dataclass(frozen=True)
class Finding:
    """What is said of the whole case, or of one slice.

    Attributes:
        numbers: by name: a score (no unit), or the probability of a class (0 to 1).
        classes: what was decided, by name: ("class", "pneumonia").
        slice: number of the slice it is said of; None: all.
    """

    numbers: Mapping[str, float]
    classes: Mapping[str, str]
    slice: int | None = None


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
        procedure_reported=CodedConcept.from_code(codes.SCT.ImagingProcedure)
        if hasattr(codes.SCT, "ImagingProcedure")
        else CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[_group(one, images, series, place) for place, one in enumerate(findings, 1)],
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
    save(made, path)
    return path


def _group(finding: Finding, images: Sequence[Any], series: Series, place: int) -> Any:
    """The numbers and classes of one finding, the algorithm, and the images they are of."""
    from highdicom.sr import (
        AlgorithmIdentification,
        CodedConcept,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    made = series.made
    algorithm = AlgorithmIdentification(
        name=f"radiffuse {made.method}",
        version=made.version or "unknown",
        parameters=[f"model_sha256={made.model_sha256}", f"preset={made.preset}", f"run={made.run}"],
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
    of = images if finding.slice is None else images[finding.slice : finding.slice + 1]
    where = "the case" if finding.slice is None else f"slice {finding.slice + 1}"
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            uid=str(generate_uid(None)), identifier=f"{made.method}, {where}"
        ),
        finding_type=CodedConcept.from_code(codes.DCM.ImagingMeasurements)
        if hasattr(codes.DCM, "ImagingMeasurements")
        else None,
        algorithm_id=algorithm,
        measurements=numbers or None,
        qualitative_evaluations=classes or None,
        source_images=[SourceImageForMeasurementGroup.from_source_image(one) for one in of],
    )


def _short(name: str) -> str:
    """A name as the value of a code has it: letters and digits."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)[:12]
