"""Listening for studies: a C-STORE provider that puts them into a folder."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from ..errors import UserError
from .nodes import AET, Access
from .received import storing

__all__ = ["listening", "title_and_port"]


def title_and_port(text: str) -> tuple[str, int]:
    """The two of AET:PORT.

    Raises:
        UserError: it is written otherwise.
    """
    title, _, port = text.rpartition(":")
    if not AET.fullmatch(title) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--listen {text}: write AET:PORT, as RADIFFUSE:11112")
    return title, int(port)


@contextmanager
def listening(title: str, port: int, folder: Path, access: Access) -> Iterator[None]:
    """Take objects that are sent to `title`, and answer C-ECHO, until the end of the context.

    An object is confirmed once it lies in the folder whole; one that breaks off leaves nothing there. Who may send, and
    whether over TLS, says `access`.

    Raises:
        UserError: the port cannot be taken.
    """
    server = AE(title)
    server.require_called_aet = True
    server.require_calling_aet = [*access.callers]
    server.acse_timeout = server.dimse_timeout = server.network_timeout = access.timeout
    server.supported_contexts = AllStoragePresentationContexts
    for context in server.supported_contexts:
        context.transfer_syntax = [*ALL_TRANSFER_SYNTAXES]
    server.add_supported_context(Verification)
    hear: list[Any] = [(evt.EVT_C_STORE, storing(folder))]
    try:
        running = server.start_server(
            ("", port), block=False, evt_handlers=hear, ssl_context=_tls(access)
        )
    except OSError as error:
        raise UserError(
            f"--listen {title}:{port}: the port cannot be taken ({error.strerror}); name another"
        ) from None
    try:
        yield
    finally:
        if running is not None:
            running.shutdown()


def _tls(access: Access) -> ssl.SSLContext | None:
    if not access.encrypted:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(access.certificate, access.key or None)
    if access.ca:
        context.load_verify_locations(access.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
