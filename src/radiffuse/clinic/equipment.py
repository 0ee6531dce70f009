"""What made an object, in DICOM's words: contributing equipment, algorithm, and what was done."""

from datetime import datetime
from typing import Any

from ..data.made import NAME, Made
from .source import Source

__all__ = ["MANUFACTURER", "SCHEME", "algorithm", "contributions", "local_code", "software"]

MANUFACTURER = "Radiffuse"
SCHEME = "99RADIFFUSE"
"""Coding scheme of what DICOM and SNOMED CT have no code for."""


def local_code(value: str, meaning: str) -> Any:
    """A code of our own, 16 letters at most."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], SCHEME, meaning[:64])


def software(made: Made) -> dict[str, Any]:
    """Manufacturer, model, version and serial number, by the names of highdicom's arguments.

    The model's name is the method, its serial number the sha256 of its weights.
    """
    preset = f" ({made.preset})" if made.preset else ""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": f"{NAME} {made.method}{preset}"[:64],
        "software_versions": made.version or "unknown",
        "device_serial_number": made.model_sha256 or "unknown",
    }


def contributions(made: Made, source: Source | None) -> list[Any]:
    """Items of ContributingEquipmentSequence (PS3.3 C.12.1): this software, and the scanner of the source.

    Of an object without a source it is synthesising equipment (DCM 109100), else processing (109102).
    """
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    purpose = codes.DCM.SynthesizingEquipment if source is None else codes.DCM.ProcessingEquipment
    ours = ContributingEquipment(
        purpose_of_reference=purpose,
        contribution_datetime=datetime.now(),
        contribution_description=made.line,
        **software(made),
    )
    scanner = [] if source is None else _scanner(source)
    return [*scanner, ours]


def _scanner(source: Source) -> list[Any]:
    """The equipment of the source, where it says its manufacturer."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

    from .source import values_of

    names = {
        "Manufacturer": "manufacturer",
        "ManufacturerModelName": "manufacturer_model_name",
        "SoftwareVersions": "software_versions",
        "DeviceSerialNumber": "device_serial_number",
        "InstitutionName": "institution_name",
        "InstitutionalDepartmentName": "institutional_department_name",
        "InstitutionAddress": "institution_address",
        "StationName": "station_name",
    }
    found = values_of(source.header, tuple(names))
    if "Manufacturer" not in found:
        return []
    told: dict[str, Any] = {
        names[name]: list(each.value) if each.VM > 1 else str(each.value)
        for name, each in found.items()
    }
    return [ContributingEquipment(purpose_of_reference=codes.DCM.AcquisitionEquipment, **told)]


def algorithm(made: Made) -> Any:
    """Algorithm identification: the method, its family (artificial intelligence), version and model."""
    from highdicom import AlgorithmIdentificationSequence
    from pydicom.sr.codedict import codes

    return AlgorithmIdentificationSequence(
        name=f"{NAME} {made.method}",
        family=codes.DCM.ArtificialIntelligence,
        version=made.version or "unknown",
        source=MANUFACTURER,
        parameters={"model_sha256": made.model_sha256, "preset": made.preset, "run": made.run},
    )
