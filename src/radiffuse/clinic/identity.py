"""Whose the objects are that go out: as the source says, nobody's, or another's."""

import base64
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from ..data.files import check_regular, told
from ..data.formats.csv_cases import cells_of
from ..data.formats.dicom_values import quiet, text
from ..data.formats.pseudonyms import of_person
from ..errors import UserError
from .profile import EDITION, copied, deidentified

__all__ = ["KEY_FILE", "OLD", "Identity", "Mode", "key_of", "replacements"]

Mode = Literal["keep", "remove", "replace"]
OLD = "OldPatientID"
"""The column of a map that holds the PatientID of the source."""
KEY_FILE = ".identity-key"
"""Beside what is written: of it and of the old ones the new UIDs are made, so that a command goes on with the same."""
_PROFILE = ("113100", "DCM", "Basic Application Confidentiality Profile")
_TEXT = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UT")


@dataclass(frozen=True)
class Identity:
    """What of a source's header outputs may carry: a callable that gives a changed copy, without pixels.

    Attributes:
        mode: keep: all of it. remove: what the basic profile leaves (`profile.deidentified`); UIDs are new, and
            patients are told apart by a name made of the key. replace: the same, and of the patient what a map says.
        key: secret from which new UIDs and names are made: the same for all that belongs together.
        patients: values by keyword, by PatientID of the source.
        where: the map, for messages.
    """

    mode: Mode = "keep"
    key: bytes = field(default=b"", repr=False)
    patients: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    where: str = ""

    def __call__(self, header: Dataset) -> Dataset:
        """The copy.

        Raises:
            UserError: the map does not have the patient.
        """
        if self.mode == "keep":
            return copied(header)
        given = self._given(header)
        found = deidentified(header, self.uid)
        found.update(_marked())
        for keyword, value in given.items():
            setattr(found, keyword, value)
        return found

    def check(self, headers: Iterable[Dataset]) -> None:
        """Refuse what could not be written, before anything is computed.

        Raises:
            UserError: the map does not have a patient; does not say who that is.
        """
        if self.mode == "replace":
            for header in headers:
                self._given(header)

    def uid(self, old: str) -> str:
        """The UID in place of another: 2.25 and 128 bits of a keyed hash; those of the standard itself stay."""
        if not old or old.startswith("1.2.840.10008."):
            return old
        return f"2.25.{int.from_bytes(self._hash('uid', old)[:16], 'big')}"

    def _given(self, header: Dataset) -> Mapping[str, str]:
        """Of the patient, by keyword."""
        person = text(header, "PatientID")
        if self.mode == "replace":
            if person not in self.patients:
                shown = of_person(person) if person else "of a series without PatientID"
                raise UserError(
                    f"{self.where}: has no row for the patient {shown} ({OLD} is that of the data; radiffuse inspect "
                    "--names plain says who that is)"
                )
            return self.patients[person]
        digest = self._hash("patient", person or text(header, "StudyInstanceUID"))
        name = f"ANON-{base64.b32encode(digest).decode('ascii')[:10]}"
        return {"PatientID": name, "PatientName": name}

    def _hash(self, what: str, value: str) -> bytes:
        told = f"{what} {value}".encode("utf-8", "surrogatepass")
        return hmac.new(self.key, told, hashlib.sha256).digest()


def _marked() -> Dataset:
    """That identity was removed, and how (PS3.3 C.12.1.1.7, C.7.1.1)."""
    found, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = _PROFILE
    found.PatientIdentityRemoved = "YES"
    found.DeidentificationMethod = f"radiffuse: PS3.15 {EDITION} basic profile"
    found.DeidentificationMethodCodeSequence = [code]
    found.LongitudinalTemporalInformationModified = "REMOVED"
    return found


def key_of(folder: Path) -> bytes:
    """The key of a folder of outputs, made where it has none; only its owner may read it.

    Raises:
        UserError: it cannot be read or written, or is none.
    """
    path = folder / KEY_FILE
    if not path.exists():
        with told(path):
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".writing-", suffix=KEY_FILE, dir=folder)
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(32))
            os.replace(name, path)
    check_regular(path)
    key = path.read_bytes()
    if len(key) != 32:
        raise UserError(f"{path}: is damaged; take another --out")
    return key


def replacements(path: Path) -> dict[str, dict[str, str]]:
    """Read a map: a row a patient, by OldPatientID; other columns are DICOM keywords, PatientID among them.

    Raises:
        UserError: unreadable, a column that is no attribute of text, rows that are not one to one, a value that the
            attribute cannot hold; says in which line, and no value.
    """
    cells = cells_of(path)
    if OLD not in cells or "PatientID" not in cells:
        raise UserError(f"{path}: needs the columns {OLD} and PatientID; it has {', '.join(cells)}")
    names = [name for name in cells if name != OLD]
    kinds = {name: _kind(path, name) for name in names}
    for name in (OLD, "PatientID"):
        _one_each(path, name, cells[name])
    found = {}
    for row, old in enumerate(cells[OLD]):
        given = {name: cells[name][row] for name in names}
        for name, value in given.items():
            _check(path, row + 2, name, kinds[name], value)
        found[" ".join(old.split())] = {"PatientName": given["PatientID"], **given}
    return found


def _kind(path: Path, name: str) -> str:
    """The value representation of a column."""
    tag = tag_for_keyword(name)
    kind = "" if tag is None else dictionary_VR(tag)
    if kind not in _TEXT:
        raise UserError(
            f"{path}: column {name} is no keyword of a DICOM attribute of text, as PatientName"
        )
    return kind


def _one_each(path: Path, name: str, values: tuple[str, ...]) -> None:
    """Every row has a value of its own: two patients that become one cannot be told apart again."""
    seen: dict[str, int] = {}
    for line, value in enumerate(values, start=2):
        if not value:
            raise UserError(f"{path}: line {line} has no {name}")
        if value in seen:
            raise UserError(f"{path}: lines {seen[value]} and {line} have the same {name}")
        seen[value] = line


def _check(path: Path, line: int, name: str, kind: str, value: str) -> None:
    with quiet():
        try:
            validate_value(kind, value, RAISE)
        except ValueError:
            raise UserError(f"{path}: line {line}: {name} holds what is no {kind} value") from None
