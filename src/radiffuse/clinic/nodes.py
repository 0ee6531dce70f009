"""What the address of a node means, how one is let in there, and how often one asks again.

`dicomweb://HOST:PORT/PREFIX/studies/UID/series/UID` is DICOMweb (PS3.18) over HTTP, `dicomwebs://` over TLS;
`dimse://CALLED_AET@HOST:PORT/studies/UID` is the older protocol (PS3.7, PS3.8), `dimses://` the same over TLS.
Passwords and tokens stand in a file, never in an address: addresses end up in histories and lists of processes.
"""

import os
import re
import stat
import time
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from ..errors import UserError, did_you_mean

__all__ = [
    "AET",
    "SCHEMES",
    "SERIES",
    "STUDY",
    "Access",
    "Address",
    "Lost",
    "Node",
    "NotLetIn",
    "Refused",
    "address_of",
    "is_address",
    "read_access",
    "retried",
    "uid_of",
]

SCHEMES = ("dicomweb", "dicomwebs", "dimse", "dimses")
_PORTS = {"dicomweb": 80, "dicomwebs": 443, "dimse": 104, "dimses": 2762}
_UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")
AET = re.compile(r"(?=.*[^ ])[\x20-\x5b\x5d-\x7e]{1,16}")
_WAYS = "dicomweb://HOST:PORT/PREFIX or dimse://CALLED_AET@HOST:PORT, then /studies/UID or /studies/UID/series/UID"
T = TypeVar("T")


class Lost(Exception):
    """The node did not answer, or broke off: it may be asked again. The text says what happened."""


class Refused(Exception):
    """The node answered, and will not: asking again is of no use. The text says what it refused."""


class NotLetIn(Refused):
    """The node wants to know who asks, or lets others in only."""


@dataclass(frozen=True)
class Address:
    """A node, and what of it is meant.

    Attributes:
        scheme: one of `SCHEMES`.
        host, port: where it listens.
        prefix: of DICOMweb, the path before /studies, as "dicom-web"; "" where there is none.
        aet: of DIMSE, the title by which the node is called.
        study, series: UIDs; "" means all.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    aet: str = ""
    study: str = ""
    series: str = ""

    @property
    def web(self) -> bool:
        return self.scheme.startswith("dicomweb")

    @property
    def tls(self) -> bool:
        return self.scheme.endswith("s")

    @property
    def local(self) -> bool:
        """Whether it is on this machine."""
        return self.host in ("127.0.0.1", "localhost")

    @property
    def node(self) -> str:
        """The node's address alone."""
        called = f"{self.aet}@" if self.aet else ""
        path = f"/{self.prefix}" if self.prefix else ""
        return f"{self.scheme}://{called}{self.host}:{self.port}{path}"

    @property
    def http(self) -> str:
        """Where DICOMweb is asked."""
        path = f"/{self.prefix}" if self.prefix else ""
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}{path}"

    def __str__(self) -> str:
        parts = [("studies", self.study), ("series", self.series)]
        return self.node + "".join(f"/{name}/{uid}" for name, uid in parts if uid)

    def of(self, study: str = "", series: str = "") -> "Address":
        """The same node, and of it this study or series."""
        return replace(self, study=study, series=series)


def is_address(path: str) -> bool:
    """Whether this names a node, and no file."""
    return path.partition("://")[0] in SCHEMES


def address_of(text: str) -> Address:
    """Read an address.

    Raises:
        UserError: it is none, holds a password, or names what a node does not have. A password is not repeated.
    """
    head = text.partition("://")[0]
    if head not in SCHEMES:
        raise UserError(f"{_safe(text)}: is no address of a node; they are written {_WAYS}")
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS[head]
        secret = parts.password is not None
    except ValueError:
        raise UserError(f"{_safe(text)}: has no port; write {_WAYS}") from None
    web = head.startswith("dicomweb")
    if secret or (web and parts.username is not None):
        raise UserError(
            f"{_safe(text)}: holds a name or password; write them into a file that only you can read, "
            "and name it with --node FILE"
        )
    if parts.query or parts.fragment or not parts.hostname:
        raise UserError(f"{_safe(text)}: is no address of a node; they are written {_WAYS}")
    prefix, study, series = _path(parts.path, text)
    aet = parts.username or ""
    if not web and (prefix or not AET.fullmatch(aet)):
        raise UserError(
            f"{_safe(text)}: names no title by which the node is called (at most 16 letters); write "
            "dimse://CALLED_AET@HOST:PORT/studies/UID"
        )
    # urlsplit lowers the letters of a host, which do not count
    return Address(head, parts.hostname, port, prefix, aet, study, series)


def _path(path: str, text: str) -> tuple[str, str, str]:
    """Prefix, study and series of the path of an address."""
    words = [word for word in path.split("/") if word]
    if not all(re.fullmatch(r"[\w.~-]+", word) for word in words) or ".." in words:
        raise UserError(f"{_safe(text)}: its path holds more than names and UIDs; write {_WAYS}")
    first = words.index("studies") if "studies" in words else len(words)
    prefix, named = "/".join(words[:first]), words[first:]
    names, uids = named[0::2], named[1::2]
    if names != ["studies", "series"][: len(names)] or len(names) - len(uids) not in (0, 1):
        raise UserError(f"{_safe(text)}: ends in none of /studies/UID, /studies/UID/series/UID")
    if len(names) > len(uids) and names != ["studies"]:
        raise UserError(f"{_safe(text)}: lacks the UID of a series")
    for uid in uids:
        uid_of(uid, _safe(text))
    study, series = (*uids, "", "")[:2]
    return prefix, study, series


def uid_of(uid: object, where: str) -> str:
    """A UID as it may become the name of a file.

    Raises:
        UserError: it is none (PS3.5 9.1); what stands there instead may be anything, and is not repeated.
    """
    text = str(uid).strip("\0 ")
    if not _UID.fullmatch(text):
        raise UserError(f"{where}: holds no UID where one belongs")
    return text


def _safe(text: str) -> str:
    """An address without what may be a password."""
    return re.sub(r"//[^/]*@", "//...@", text)[:200]


class Access(Struct, forbid_unknown_fields=True, frozen=True):
    """The file that `--node` names.

    Attributes:
        user, password: basic authentication; of DIMSE, the identity that is told the node.
        token: bearer authentication.
        ca: file of the certificates that are trusted; the usual ones where left out.
        certificate, key: files of one's own certificate, for nodes that ask for one.
        aet: the title under which one calls (DIMSE).
        retrieve: C-GET, or C-MOVE to `aet` at `listen`, which the node has to know.
        listen: port where a C-MOVE arrives.
        callers: titles that `serve --listen` takes objects from; () takes them from whoever reaches the port.
        encrypted: `serve --listen` is over TLS, with `certificate` and `key`; where `ca` is named, callers need one
            that it vouches for.
        timeout: seconds that the node may be silent.
        attempts: how often it is asked before one gives up.
        wait: seconds before the second attempt; twice as long before each further one.
    """

    user: str = ""
    password: str = ""
    token: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    aet: Annotated[str, Meta(pattern=f"^{AET.pattern}$")] = "RADIFFUSE"
    retrieve: Literal["get", "move"] = "get"
    listen: Annotated[int, Meta(ge=1, le=65535)] = 11113
    callers: tuple[str, ...] = ()
    encrypted: bool = False
    timeout: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    attempts: Annotated[int, Meta(ge=1, le=100)] = 4
    wait: Annotated[float, Meta(ge=0, le=600)] = 1.0


def read_access(path: Path | None) -> Access:
    """Read the file that `--node` names; relative names in it are of files beside it.

    Raises:
        UserError: it is no such file, or others than its owner can read a secret in it.
    """
    if path is None:
        return Access()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:  # what does not parse may be a password, and is not repeated
        raise UserError(f'{path}: is no TOML, as in: user = "NAME"') from None
    _check_names(path, table)
    try:
        found = msgspec.convert(table, Access)
    except msgspec.ValidationError as error:
        said, _, field = str(error).partition(" - at `$.")
        raise UserError(
            f"{path}: {field.rstrip('`')}: {said[0].lower()}{said[1:].replace('`', '')}"
        ) from None
    if (found.password or found.token) and os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise UserError(f"{path}: others can read the secret in it; chmod 600 {path}")
    if (found.token and found.user) or bool(found.user) != bool(found.password):
        raise UserError(f"{path}: name user and password, or token")
    if found.encrypted and not found.certificate:
        raise UserError(f"{path}: encrypted: name a certificate and its key")
    return _beside(path, found)


def _check_names(path: Path, table: Mapping[str, Any]) -> None:
    known = Access.__struct_fields__
    for name in table:
        if name not in known:
            hint = did_you_mean(name, known, f"there are {', '.join(known)}")
            raise UserError(f"{path}: has a field {name[:40]!r}; {hint}")


def _beside(path: Path, found: Access) -> Access:
    files = {}
    for name in ("ca", "certificate", "key"):
        if value := getattr(found, name):
            files[name] = str(path.parent / Path(value).expanduser())
            if not Path(files[name]).is_file():
                raise UserError(f"{path}: {name}: {files[name]}: no such file")
    return msgspec.structs.replace(found, **files)


Row = Mapping[str, str]
"""What a node says of a study or series, by the keyword of the attribute; "" where it does not say."""

STUDY = (
    *("StudyInstanceUID", "ModalitiesInStudy", "NumberOfStudyRelatedSeries"),
    *("NumberOfStudyRelatedInstances", "StudyDate", "StudyDescription", "PatientID", "PatientName"),
)
SERIES = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances", "SeriesDescription")
"""What is asked of studies and of series."""


class Node(Protocol):
    """A node, whichever protocol it speaks. Every method raises `Lost` or `Refused`."""

    def studies(self, study: str, most: int) -> Sequence[Row]:
        """The study, or all up to so many."""

    def series(self, study: str) -> Sequence[Row]:
        """The series of a study."""

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        """The SOP classes of the objects of a series, by their SOP instance UIDs."""

    def get(
        self, study: str, series: str, wanted: Mapping[str, str], folder: Path, whole: bool
    ) -> None:
        """Write the objects of a series that are wanted (UIDs with classes; `whole`: all) into a folder, as UID.dcm."""

    def send(self, files: Sequence[Path]) -> Collection[str]:
        """Send files, and say what the node refused of them, a line each."""

    def close(self) -> None:
        """Let go of connections."""


def retried(work: Callable[[], T], where: Address, access: Access) -> T:
    """`work`, again while the node is lost, after pauses that double.

    Raises:
        UserError: it was lost as often as it may be, or it refused. Nothing that the node said in words is
            repeated, for it may name a patient.
    """
    for attempt in range(access.attempts):
        if attempt:
            time.sleep(access.wait * 2.0 ** (attempt - 1))
        try:
            return work()
        except Lost as error:
            lost = error
        except Refused as error:
            raise UserError(f"{where.node}: {error}") from None
    often = "" if access.attempts == 1 else f" ({access.attempts} attempts)"
    raise UserError(
        f"{where.node}: {lost}{often}; the same command goes on once it answers"
    ) from lost
