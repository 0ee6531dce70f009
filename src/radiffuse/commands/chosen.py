"""Flags that say which DICOM series are read, and what is shown of the names in their headers."""

from dataclasses import dataclass

from ..data.formats.pseudonyms import Choice, Names

__all__ = ["Chosen"]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What is read of DICOM data, and what is shown of it.

    Attributes:
        series: of a folder of DICOM series only those with one of these UIDs, numbers, pseudonyms (radiffuse inspect
            lists them) or patterns of description or modality, as 't2*' or 'MR/t2*'.
        names: what cases of DICOM data are called in files, records and on the terminal: pseudonyms, or plain, by
            PatientID and SeriesDescription.
    """

    series: tuple[str, ...] = ()
    names: Names = "pseudonym"

    @property
    def choice(self) -> Choice:
        """As the data layer takes it."""
        return Choice(self.names, self.series)
