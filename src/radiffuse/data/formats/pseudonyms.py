"""How cases of DICOM data are called: by pseudonyms, unless the names in the headers are asked for.

A pseudonym is the beginning of a hash, so that the same person and the same series have the same one in every command
and on every machine. Without a key a person's is a slow hash (scrypt): whoever can list what a PatientID may be can
try them all, and that shall cost more than a moment. With a key, which `RADIFFUSE_PSEUDONYM_KEY` names the file of,
nobody can who has not the key. See docs/identity.md.
"""

import base64
import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ...errors import UserError

__all__ = ["EVERY", "KEY", "PSEUDONYM", "Choice", "Names", "of_person", "of_series"]

Names = Literal["pseudonym", "plain"]
"""pseudonym: what DICOM headers say of persons is shown nowhere. plain: cases are named by PatientID and
SeriesDescription."""
PSEUDONYM: Names = "pseudonym"

KEY = "RADIFFUSE_PSEUDONYM_KEY"
_LEAST_KEY = 16
_COST = 2**12
"""Of scrypt: some ten milliseconds for a person, as long as the headers of a few slices take to be read."""


@dataclass(frozen=True)
class Choice:
    """Which DICOM series are read, and how they are called.

    Attributes:
        names: see `Names`.
        series: words of which one must fit a series (see `chosen.fits`); () takes all.
    """

    names: Names = PSEUDONYM
    series: tuple[str, ...] = ()


EVERY = Choice()
"""All series, by pseudonyms."""


def of_person(name: str) -> str:
    """Pseudonym of a person: "p" and 8 letters or digits (40 bits).

    Args:
        name: PatientID, or what stands for it.

    Raises:
        UserError: the key cannot be read, or is shorter than 16 bytes.
    """
    return "p" + _short(_slow(name, _key(os.environ.get(KEY, ""))), 8)


def of_series(uid: str) -> str:
    """Pseudonym of a series: "s" and 7 letters or digits (35 bits); UIDs are too many to try.

    Raises:
        UserError: as `of_person`.
    """
    key = _key(os.environ.get(KEY, ""))
    return "s" + _short(hashlib.blake2b(_bytes(uid), key=key, person=b"series").digest(), 7)


@lru_cache(maxsize=1 << 16)
def _slow(name: str, key: bytes) -> bytes:
    if key:
        return hashlib.blake2b(_bytes(name), key=key, person=b"person").digest()
    return hashlib.scrypt(_bytes(name), salt=b"radiffuse person", n=_COST, r=8, p=1)


def _short(digest: bytes, length: int) -> str:
    return base64.b32encode(digest).decode("ascii").lower()[:length]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=1)
def _key(path: str) -> bytes:
    """The key, hashed to the length that a keyed hash takes; none where no file is named."""
    if not path:
        return b""
    try:
        found = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{KEY}={path}: cannot be read ({error.strerror})") from None
    if len(found) < _LEAST_KEY:
        raise UserError(
            f"{KEY}={path}: is shorter than {_LEAST_KEY} bytes, and a key that can be guessed hides nothing; "
            "`head -c 32 /dev/urandom > FILE` makes one"
        )
    return hashlib.blake2b(found).digest()
