"""A node that speaks DICOMweb: QIDO-RS to list, WADO-RS to get, STOW-RS to store (PS3.18)."""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from .nodes import SERIES, STUDY, Access, Address, Lost, NotLetIn, Refused, Row, uid_of
from .objects import keep, text_of

__all__ = ["Web"]

AS_STORED = (("application/dicom", "*"),)
"""Objects in whatever transfer syntax they are stored, so that nothing is transcoded on the way."""
BATCH = 1 << 26
"""Bytes of objects in one request to store."""


class NotAcceptable(Refused):
    """The node does not send objects in the way that was asked for."""


class Web:
    """A DICOMweb node; `nodes.Node` says what each method does.

    Neither proxies nor passwords that the environment names are used, and no redirection is followed: what is
    sent goes to the address that was named and nowhere else.
    """

    def __init__(self, address: Address, access: Access) -> None:
        logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)  # quotes what it was told
        session = self.session = requests.Session()
        session.trust_env, session.max_redirects = False, 0
        session.verify = access.ca or True
        if access.certificate:
            session.cert = (access.certificate, access.key or access.certificate)
        if access.user:
            session.auth = (access.user, access.password)
        if access.token:
            session.headers["Authorization"] = f"Bearer {access.token}"
        self.timeout = access.timeout
        self.client = DICOMwebClient(address.http, session, timeout=access.timeout)
        self.client.set_http_retry_params(retry=False)  # `nodes.retried` asks again

    def studies(self, study: str, most: int) -> Sequence[Row]:
        asked = {"StudyInstanceUID": study} if study else {}

        def search(offset: int) -> list[dict[str, dict]]:
            return self.client.search_for_studies(
                fields=STUDY, search_filters=asked, limit=most, offset=offset
            )

        return [_row(each, STUDY) for each in self._all(search, STUDY[0], most)][:most]

    def series(self, study: str) -> Sequence[Row]:
        def search(offset: int) -> list[dict[str, dict]]:
            return self.client.search_for_series(study, fields=SERIES, offset=offset)

        return [_row(each, SERIES) for each in self._all(search, SERIES[0])]

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        keys = ("SOPInstanceUID", "SOPClassUID")

        def search(offset: int) -> list[dict[str, dict]]:
            return self.client.search_for_instances(study, series, offset=offset)

        rows = [_row(each, keys) for each in self._all(search, keys[0])]
        return {uid_of(row[keys[0]], "the node"): row[keys[1]] for row in rows}

    def get(
        self, study: str, series: str, wanted: Mapping[str, str], folder: Path, whole: bool
    ) -> None:
        try:
            self._got(study, series, wanted, folder, whole, AS_STORED)
        except NotAcceptable:  # in the transfer syntax that the node usually sends
            self._got(study, series, wanted, folder, whole, None)

    def _got(
        self,
        study: str,
        series: str,
        wanted: Mapping[str, str],
        folder: Path,
        whole: bool,
        syntax: Any,
    ) -> None:
        with self._told():
            if whole:
                for header in self.client.iter_series(study, series, media_types=syntax):
                    keep(header, folder)
                return
            for uid in wanted:
                keep(self.client.retrieve_instance(study, series, uid, syntax), folder)

    def send(self, files: Sequence[Path]) -> Collection[str]:
        refused: list[str] = []
        for batch in _batches(files):
            headers = [pydicom.dcmread(file) for file in batch]
            with self._told(storing=True) as told:
                told.append(self.client.store_instances(headers))
            for answer in told:
                refused += _refusals(answer)
        return refused

    def close(self) -> None:
        self.session.close()

    def _all(
        self,
        search: Callable[[int], list[dict[str, dict]]],
        key: str,
        most: int | None = None,
    ) -> list[Dataset]:
        """All pages of a search: a node may give fewer at once than there are, and may not know offsets."""
        found: dict[str, Dataset] = {}
        while most is None or len(found) < most:
            with self._told():
                page = [Dataset.from_json(each) for each in search(len(found))]
            new = {str(each.get(key, "")): each for each in page}
            new = {uid: each for uid, each in new.items() if uid not in found}
            if not new:
                break
            found |= new
        return list(found.values())

    @contextlib.contextmanager
    def _told(self, storing: bool = False) -> Iterator[list[Dataset]]:
        """What becomes of a request, as `Lost` or `Refused`; the answer to a request to store where none was stored."""
        answers: list[Dataset] = []
        try:
            yield answers
        except requests.exceptions.SSLError:
            raise Refused(
                "its certificate is not trusted, or yours is not; name them in --node FILE (ca, certificate, key)"
            ) from None
        except requests.exceptions.TooManyRedirects:
            raise Refused("answers that it lies elsewhere; name that address") from None
        except requests.exceptions.Timeout:
            raise Lost(f"did not answer within {self.timeout:g} s") from None
        except requests.exceptions.HTTPError as error:
            response = requests.Response() if error.response is None else error.response
            response.close()
            if storing and (answer := _body(response)) is not None:
                answers.append(answer)
                return
            raise _status(response.status_code) from None
        except requests.exceptions.JSONDecodeError:
            raise Refused("does not answer in DICOM JSON; is it a DICOMweb address?") from None
        except requests.exceptions.ChunkedEncodingError:
            raise Lost("broke off in the middle of an answer") from None
        except requests.exceptions.RequestException:
            raise Lost("cannot be reached, or broke off") from None
        except (ValueError, KeyError, EOFError, pydicom.errors.InvalidDicomError):
            raise Lost("sent what is no whole DICOM object") from None


def _status(code: int) -> Exception:
    """What a status of HTTP means."""
    if code in (408, 425, 429) or code >= 500:
        return Lost(f"answers that it cannot just now (HTTP {code})")
    if code == 401:
        return NotLetIn(
            "asks who you are (HTTP 401); name user and password, or token, in --node FILE"
        )
    if code == 403:
        return NotLetIn("does not let you (HTTP 403)")
    if code == 406:
        return NotAcceptable("sends no DICOM objects (HTTP 406)")
    meanings = {
        404: "does not know it (HTTP 404); is the path before /studies right?",
        413: "takes no objects so large (HTTP 413)",
    }
    return Refused(meanings.get(code, f"refuses (HTTP {code})"))


def _body(response: requests.Response) -> Dataset | None:
    """What a node says of objects that it did not store; None where it says nothing in JSON."""
    try:
        answer = Dataset.from_json(response.json())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return answer if "FailedSOPSequence" in answer else None


def _refusals(answer: Dataset) -> list[str]:
    """Each object that was not stored, with the reason as PS3.18 numbers it."""
    return [
        f"{item.get('ReferencedSOPInstanceUID', '?')} (reason {item.get('FailureReason', 0):04X})"
        for item in answer.get("FailedSOPSequence", [])
    ]


def _row(header: Dataset, keywords: Sequence[str]) -> Row:
    return {word: text_of(header, word) for word in keywords}


def _batches(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Files together up to `BATCH` bytes, and a larger one alone."""
    batch: list[Path] = []
    size = 0
    for file in files:
        own = file.stat().st_size
        if batch and size + own > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += own
    if batch:
        yield batch
