"""What commands share of nodes: `--node`, `--push`, and data that lie on one."""

import sys
from dataclasses import dataclass
from pathlib import Path

from ..clinic.nodes import Address, address_of, is_address, read_access
from ..data.records import Predictions, read_record
from ..errors import UserError, printable
from ..training import processes
from .predictions import FILE

__all__ = ["NodeFlags", "PushFlags", "at_hand", "files_of", "send", "target"]


@dataclass(frozen=True, kw_only=True)
class NodeFlags:
    """How to be let in where data lie.

    Attributes:
        node: file (TOML) with user and password, token, certificates and the like of the node that is named.
    """

    node: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PushFlags(NodeFlags):
    """Where to send what was made.

    Attributes:
        push: node that the DICOM files go to, as dicomweb://HOST:PORT/PREFIX or dimse://CALLED_AET@HOST:PORT.
    """

    push: str | None = None


def at_hand(data: str | None, node: Path | None) -> str | None:
    """Data as a path: a study or series of a node is fetched, or found where it was fetched before.

    Raises:
        UserError: it is the address of a node and cannot be fetched.
    """
    if data is None or not is_address(data):
        return data
    from ..clinic.exchange import fetch

    failure, place = None, ""
    if processes.is_main():
        try:
            place = str(fetch(address_of(data), read_access(node)))
            print(f"note: {printable(data)}: lies in {place}", file=sys.stderr)
        except UserError as error:
            failure = error
    if processes.agree([float(failure is not None)])[0]:
        raise failure or UserError(f"{data}: the main process could not fetch it")
    return place or str(fetch(address_of(data), read_access(node)))


def target(push: str | None, node: Path | None) -> Address | None:
    """Where to send, checked before anything is computed.

    Raises:
        UserError: it is no address of a node, or the file of --node is none.
    """
    if push is None:
        return None
    from ..clinic.exchange import check_installed

    address = address_of(push)
    if address.study:
        raise UserError(
            f"--push {address}: names a study; objects bring their own, so name {address.node}"
        )
    check_installed(address)
    read_access(node)
    return address


def files_of(folder: Path) -> list[Path]:
    """The files that the `predictions.json` of a folder lists; of a volume of many files, each of them."""
    entries = read_record(folder / FILE, Predictions)["predictions"]
    named = dict.fromkeys(folder / name for entry in entries for name in entry["files"].values())
    return [
        file
        for path in named
        for file in (sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path])
    ]


def send(address: Address | None, node: Path | None, folder: Path) -> str:
    """Send the DICOM files of predictions to a node, and say how many went; "" where none is named.

    Raises:
        UserError: as `exchange.push`.
    """
    if address is None:
        return ""
    from ..clinic.exchange import push

    sent = push(address, read_access(node), files_of(folder))
    if not sent.sent + sent.there:
        return f"nothing to send to {address.node}: no prediction is DICOM"
    there = f", {sent.there} were there" if sent.there else ""
    return f"{sent.sent} objects sent to {address.node}{there}"
