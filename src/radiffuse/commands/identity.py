"""Flags that say whose the DICOM objects are that a command writes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..clinic.identity import Identity, Mode, key_of, replacements
from ..data.cases import Cases
from ..data.formats.dicom_file import is_dicom, parsed
from ..errors import UsageError
from ..runs.config import DataSource
from ..training import processes
from .chosen import Chosen

__all__ = ["Whose"]


@dataclass(frozen=True, kw_only=True)
class Whose(Chosen):
    """What is read of DICOM data, what is shown of it, and whose the objects are that are written.

    Attributes:
        identity: of written DICOM objects: keep has the patient and study of the source; remove leaves what the basic
            confidentiality profile leaves, with new UIDs; replace does the same, and takes the patient from a map.
        identity_map: table (.csv) of --identity replace: OldPatientID, PatientID, and further DICOM keywords.
    """

    identity: Mode = "keep"
    identity_map: Path | None = None

    def __post_init__(self) -> None:
        """Refuse a map without --identity replace, and the other way round."""
        if (self.identity_map is not None) != (self.identity == "replace"):
            raise UsageError("--identity replace and --identity-map FILE.csv go together")

    def check(self, cases: Cases) -> None:
        """Refuse, before anything is computed, cases whose patient a map does not have.

        Raises:
            UserError: the map is none, or lacks a patient.
        """
        if self.identity == "replace":
            self._identity(b"").check(_headers(cases.whole()))

    def identity_for(self, out: Path) -> Identity:
        """What is made of the headers of sources; the key of what is new lies in the folder that is written."""
        if self.identity == "keep":
            return Identity()
        if processes.is_main():
            key_of(out)
        processes.barrier()
        return self._identity(key_of(out))

    def told(self, source: DataSource) -> dict[str, Any]:
        """What `predictions.json` says of it; a folder never holds two kinds."""
        how: str | None = None if self.identity == "keep" else self.identity
        if self.identity_map is not None:
            digest = hashlib.sha256(self.identity_map.read_bytes()).hexdigest()
            how = f"{how} by the map {digest[:12]}"
        names = None if self.names == "pseudonym" else self.names
        return {"series": list(source.series) or None, "names": names, "identity": how}

    def _identity(self, key: bytes) -> Identity:
        if self.identity_map is None:
            return Identity(self.identity, key)
        return Identity(self.identity, key, replacements(self.identity_map), str(self.identity_map))


def _headers(cases: Cases) -> Iterator[Any]:
    """A header of each case that came from DICOM files."""
    for index in range(len(cases)):
        for key in cases.image_keys:
            path = Path(cases.where(index, key))
            inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            file = next((one for one in inside if one.is_file() and is_dicom(one)), None)
            header = None if file is None else parsed(file, peeking=True)
            if header is not None:
                yield header
