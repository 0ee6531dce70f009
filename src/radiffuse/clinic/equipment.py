"""What made an object, in DICOM's words: contributing equipment, algorithm, and what was done."""

from typing import Any

from ..data.formats.dicom_write import MANUFACTURER, own_equipment
from ..data.made import NAME, Made
from .source import Source, values_of

__all__ = ["SCHEME", "algorithm", "contributions", "local_code"]

SCHEME = "99RADIFFUSE"
"""Coding scheme of what DICOM and SNOMED CT have no code for."""


def local_code(value: str, meaning: str) -> Any:
    """A code of our own, 16 letters at most."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value[:16], SCHEME, meaning[:64])


def contributions(made: Made, source: Source) -> list[Any]:
    """Items of ContributingEquipmentSequence (PS3.3 C.12.1): the scanner of the source, and this software."""
    return [*_scanner(source), own_equipment(made)]


def _scanner(source: Source) -> list[Any]:
    """The equipment of the source, where it says its manufacturer."""
    from highdicom import ContributingEquipment
    from pydicom.sr.codedict import codes

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
