"""References of an object to the images that it was made of."""

from collections.abc import Mapping, Sequence
from typing import Any

from .equipment import local_code
from .meanings import Meaning
from .source import Slice

__all__ = ["refer"]


def refer(header: Any, beside: Sequence[Slice], what: Meaning, same: bool) -> None:
    """The source images of an object, their series, and what was done to them.

    Args:
        header: to add to.
        beside: slices of the sources that lie where it does, the first source's first.
        what: was done.
        same: whether its pixels lie where those of the first source do.
    """
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    if beside:
        header.SourceImageSequence = [
            _reference(one, same and k == 0) for k, one in enumerate(beside)
        ]
        here, away = _by_series(header, beside)
        if here:
            header.ReferencedSeriesSequence = here
        if away:
            header.StudiesContainingOtherReferencedInstancesSequence = away
    told, said = what.code, what.said
    steps = [CodedConcept(told[1], told[0], told[2]) if told else local_code(*_local(said))]
    if "mean of draws" in said:
        steps.append(CodedConcept.from_code(codes.DCM.PixelByPixelMean))
    header.DerivationCodeSequence = steps


def _local(said: str) -> tuple[str, str]:
    base = said.partition(",")[0]
    return base.upper().replace(" ", "_"), f"{base.capitalize()} by a neural network"


def _reference(one: Slice, same: bool) -> Any:
    from highdicom.sr import CodedConcept
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    item = Dataset()
    item.ReferencedSOPClassUID = one.header.SOPClassUID
    item.ReferencedSOPInstanceUID = one.header.SOPInstanceUID
    if one.frame is not None:
        item.ReferencedFrameNumber = one.frame
    item.SpatialLocationsPreserved = "YES" if same else "NO"
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    return item


def _by_series(header: Any, beside: Sequence[Slice]) -> tuple[list[Any], list[Any]]:
    """References by series: those of the study, and by study those of others."""
    from pydicom import Dataset

    studies: dict[str, dict[str, dict[str, str]]] = {}
    for one in beside:
        of = one.header
        series = studies.setdefault(str(of.StudyInstanceUID), {})
        series.setdefault(str(of.SeriesInstanceUID), {})[str(of.SOPInstanceUID)] = str(
            of.SOPClassUID
        )

    def items(series: Mapping[str, Mapping[str, str]]) -> list[Any]:
        found = []
        for uid, instances in series.items():
            item = Dataset()
            item.SeriesInstanceUID = uid
            item.ReferencedInstanceSequence = []
            for instance, kind in instances.items():
                ref = Dataset()
                ref.ReferencedSOPClassUID, ref.ReferencedSOPInstanceUID = kind, instance
                item.ReferencedInstanceSequence.append(ref)
            found.append(item)
        return found

    here = items(studies.pop(str(header.StudyInstanceUID), {}))
    away = []
    for uid, series in studies.items():
        item = Dataset()
        item.StudyInstanceUID, item.ReferencedSeriesSequence = uid, items(series)
        away.append(item)
    return here, away
