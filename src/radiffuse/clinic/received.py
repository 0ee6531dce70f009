"""What arrives by C-STORE: into a folder, whole or not at all, and only then confirmed."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pynetdicom.events import Event

from ..data.files import replacing
from ..errors import UserError
from .nodes import uid_of
from .objects import ENDING, whole

__all__ = ["storing"]

OK, NO_ROOM, NOT_UNDERSTOOD, NOT_ASKED = 0x0000, 0xA700, 0xC000, 0xA900


def storing(folder: Path, series: str = "") -> Callable[[Event], int]:
    """A handler of C-STORE that writes UID.dcm into a folder, and answers with a status (PS3.4 B.2.3).

    Args:
        folder: where to.
        series: the only one that is taken; "" takes all, each study into a folder of its own.
    """

    def store(event: Event) -> int:
        data = event.encoded_dataset()
        try:
            header = pydicom.dcmread(BytesIO(data))
            uid = uid_of(header.get("SOPInstanceUID", ""), "an object")
            study = uid_of(header.get("StudyInstanceUID", ""), "an object")
            good = whole(header)
        except (UserError, InvalidDicomError, ValueError, AttributeError, EOFError):
            return NOT_UNDERSTOOD
        if series and header.get("SeriesInstanceUID", "") != series:
            return NOT_ASKED
        if not good:
            return NOT_UNDERSTOOD
        place = folder if series else folder / study
        try:
            with replacing(place / f"{uid}{ENDING}") as temporary:
                temporary.write_bytes(data)
        except (UserError, OSError):
            return NO_ROOM
        return OK

    return store
