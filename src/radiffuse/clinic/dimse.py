"""A node without DICOMweb: C-FIND to list, C-GET or C-MOVE to get, C-STORE to send (PS3.4, PS3.7).

C-GET is the default: objects come over the association that asked for them, so that nothing has to listen here and
the node need not know where we are. Archives that offer C-MOVE alone send to a title they know: `retrieve = "move"` in
the file of --node, with `aet` and `listen`.
"""

import contextlib
import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import JPEG2000 as JPEG2000Lossy
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    OphthalmicTomographyImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pynetdicom import AE, StoragePresentationContexts, build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import UserIdentityNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from .nodes import SERIES, STUDY, Access, Address, Lost, NotLetIn, Refused, Row, uid_of
from .objects import text_of
from .received import storing

__all__ = ["Dimse"]

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
PACKED = (
    *(JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, JPEG2000Lossy),
    RLELossless,
)
"""Transfer syntaxes that are asked for beside the plain ones: what is stored so comes as it is."""
IMAGES = (
    *(CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage),
    *(EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedPETImageStorage),
    *(SecondaryCaptureImageStorage, UltrasoundImageStorage, UltrasoundMultiFrameImageStorage),
    *(ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation),
    OphthalmicTomographyImageStorage,
)
"""Classes that are asked for first where a node does not tell the class of its objects."""
MOST = 128
"""Presentation contexts that an association may have."""
IMAGE = ("SOPInstanceUID", "SOPClassUID")


class Dimse:
    """A node that speaks DIMSE; `nodes.Node` says what each method does."""

    def __init__(self, address: Address, access: Access) -> None:
        self.address, self.access = address, access

    def studies(self, study: str, most: int) -> Sequence[Row]:
        return self._find("STUDY", STUDY, {"StudyInstanceUID": study}, most)

    def series(self, study: str) -> Sequence[Row]:
        return self._find("SERIES", SERIES, {"StudyInstanceUID": study})

    def instances(self, study: str, series: str) -> Mapping[str, str]:
        asked = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        rows = self._find("IMAGE", IMAGE, asked)
        return {uid_of(row[IMAGE[0]], "the node"): row[IMAGE[1]] for row in rows}

    def get(
        self, study: str, series: str, wanted: Mapping[str, str], folder: Path, whole: bool
    ) -> None:
        asked = Dataset()
        asked.QueryRetrieveLevel = "SERIES" if whole else "IMAGE"
        asked.StudyInstanceUID, asked.SeriesInstanceUID = study, series
        if not whole:
            asked.SOPInstanceUID = list(wanted)
        if self.access.retrieve == "move":
            self._move(asked, folder)
        else:
            self._get(asked, sorted(set(wanted.values())), folder)

    def send(self, files: Sequence[Path]) -> Collection[str]:
        refused: list[str] = []
        by_kind: dict[tuple[UID, UID], list[Path]] = {}
        for file in files:
            meta = read_file_meta_info(file)
            kind = (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
            by_kind.setdefault(kind, []).append(file)
        kinds = sorted(by_kind)
        for first in range(0, len(kinds), MOST):
            part = kinds[first : first + MOST]
            contexts = [build_context(kind, syntax) for kind, syntax in part]
            with self._association(contexts) as link:
                for kind in part:
                    refused += _stored(link, kind[0], by_kind[kind])
        return refused

    def close(self) -> None:
        """Nothing stays open: each question is an association."""

    # --- one association each ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _association(
        self,
        contexts: list[PresentationContext],
        roles: Sequence[Any] = (),
        handlers: Sequence[Any] = (),
    ) -> Iterator[Association]:
        caller = AE(self.access.aet)
        caller.acse_timeout = caller.dimse_timeout = self.access.timeout
        caller.network_timeout = caller.connection_timeout = self.access.timeout
        link = caller.associate(
            self.address.host,
            self.address.port,
            contexts=contexts,
            ae_title=self.address.aet,
            ext_neg=[*roles, *self._identity()],
            tls_args=self._tls(),
            evt_handlers=list(handlers),
        )
        if not link.is_established:
            raise self._why_not(link)
        try:
            yield link
        except BaseException:
            link.abort()
            raise
        if link.is_established:
            link.release()

    def _identity(self) -> list[UserIdentityNegotiation]:
        """Name and password, or token, in the way of PS3.7 D.3.3.7."""
        item = UserIdentityNegotiation()
        item.positive_response_requested = False
        if self.access.user:
            item.user_identity_type = 2
            item.primary_field = self.access.user.encode()
            item.secondary_field = self.access.password.encode()
        elif self.access.token:
            item.user_identity_type = 5  # a JSON web token
            item.primary_field = self.access.token.encode()
        else:
            return []
        return [item]

    def _tls(self) -> tuple[ssl.SSLContext, str] | None:
        if not self.address.tls:
            return None
        context = ssl.create_default_context(cafile=self.access.ca or None)
        if self.access.certificate:
            context.load_cert_chain(self.access.certificate, self.access.key or None)
        return context, self.address.host

    def _why_not(self, link: Association) -> Exception:
        answer = link.acceptor.primitive
        if link.is_rejected and answer is not None:
            why = f"rejects the association ({answer.reason_str.lower()}; you call as {self.access.aet})"
            return Lost(why) if answer.result == 0x02 else NotLetIn(why)
        if link.rejected_contexts and not link.accepted_contexts:
            return Refused("does not offer what is asked of it")
        return Lost("cannot be reached, or broke off")

    def _find(
        self, level: str, keywords: Sequence[str], asked: Mapping[str, str], most: int = 0
    ) -> list[Row]:
        query = Dataset()
        query.QueryRetrieveLevel = level
        for keyword in keywords:
            setattr(query, keyword, "" if not keyword.startswith("Number") else None)
        for keyword, value in asked.items():
            setattr(query, keyword, value)
        model = StudyRootQueryRetrieveInformationModelFind
        found: list[Row] = []
        with self._association([build_context(model)]) as link:
            for status, answer in link.send_c_find(query, model):
                if not _pending(status, "C-FIND"):
                    break
                if answer is not None:
                    found.append({word: text_of(answer, word) for word in keywords})
                if most and len(found) == most:
                    link.abort()  # the rest is not asked for
                    break
        return found

    def _get(self, asked: Dataset, classes: Sequence[str], folder: Path) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        contexts = [build_context(model), *_offered(classes)]
        kinds = dict.fromkeys(str(each.abstract_syntax) for each in contexts[1:])
        roles = [build_role(kind, scp_role=True) for kind in kinds]
        hear = [(evt.EVT_C_STORE, storing(folder, asked.SeriesInstanceUID))]
        with self._association(contexts, roles, hear) as link:
            if not any(each.abstract_syntax == model for each in link.accepted_contexts):
                raise Refused(
                    'does not offer C-GET; write retrieve = "move" into --node FILE, with an aet that it knows'
                )
            for status, _ in link.send_c_get(asked, model):
                if not _pending(status, "C-GET"):
                    break

    def _move(self, asked: Dataset, folder: Path) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        receiver = AE(self.access.aet)
        receiver.require_called_aet = True
        receiver.supported_contexts = StoragePresentationContexts
        for context in receiver.supported_contexts:
            context.transfer_syntax = [*PLAIN, *PACKED]
        hear: list[Any] = [(evt.EVT_C_STORE, storing(folder, asked.SeriesInstanceUID))]
        try:
            server = receiver.start_server(("", self.access.listen), block=False, evt_handlers=hear)
        except OSError as error:
            raise Refused(
                f"would send to port {self.access.listen} here, which cannot be taken ({error.strerror})"
            ) from None
        try:
            with self._association([build_context(model)]) as link:
                for status, _ in link.send_c_move(asked, self.access.aet, model):
                    if not _pending(status, "C-MOVE", self.access.aet):
                        break
        finally:
            if server is not None:
                server.shutdown()


def _offered(classes: Sequence[str]) -> list[PresentationContext]:
    """In what ways objects of these classes may come; "" is a class that the node does not tell."""
    kinds = [kind for kind in classes if kind]
    others: list[str] = []
    if len(kinds) < len(classes):
        usual = [str(each.abstract_syntax) for each in StoragePresentationContexts]
        kinds += [kind for kind in IMAGES if kind not in kinds]
        others = [kind for kind in usual if kind not in kinds]
    packed = [(kind, syntax) for syntax in PACKED for kind in kinds]
    plain = [(kind, list(PLAIN)) for kind in (*kinds, *others)]
    room = MOST - 1
    few: list[tuple[Any, Any]] = [*plain[: len(kinds)], *packed, *plain[len(kinds) :]]
    return [build_context(kind, syntax) for kind, syntax in few[:room]]


def _pending(status: Dataset, what: str, aet: str = "") -> bool:
    """Whether more answers come.

    Raises:
        Lost: the node fell silent, broke off, or cannot just now.
        Refused: it says that it will not.
    """
    code = status.get("Status")
    if code is None:
        raise Lost(f"broke off, or fell silent, in the middle of a {what}")
    if code in (0xFF00, 0xFF01):
        return True
    if code in (
        0x0000,
        0xB000,
    ):  # B000: some sub-operations failed, and their objects are asked for again
        return False
    if code == 0xA801:
        raise Refused(f"does not know where {aet} is; have it entered there, or use C-GET")
    if code >> 8 == 0xA7:
        raise Lost(f"cannot do a {what} just now (status {code:04X})")
    if code >> 12 == 0xC:
        raise Lost(f"failed at a {what} (status {code:04X})")
    raise Refused(f"refuses the {what} (status {code:04X})")


def _stored(link: Association, kind: UID, files: Sequence[Path]) -> list[str]:
    """Send files of one kind; what was refused, a line each.

    Raises:
        Lost: the node broke off, or has no room.
    """
    if not any(each.abstract_syntax == kind for each in link.accepted_contexts):
        return [f"{file.name} ({kind.name}: not taken)" for file in files]
    refused = []
    for file in files:
        try:
            code = link.send_c_store(file).get("Status")
        except ValueError:
            refused.append(f"{file.name} ({kind.name}: not taken in this transfer syntax)")
            continue
        if code is None:
            raise Lost("broke off, or fell silent, in the middle of a C-STORE")
        if code >> 8 == 0xA7:
            raise Lost(f"has no room just now (status {code:04X})")
        if code and code >> 12 != 0xB:  # Bxxx: stored, with a warning
            refused.append(f"{file.name} (status {code:04X})")
    return refused
