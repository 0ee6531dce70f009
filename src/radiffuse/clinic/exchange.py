"""Getting series from a node and sending objects there: all of it or, after the same command once more, all of it.

A series that was fetched lies in one folder of the user's cache, complete: it is filled under another name first. What
a node has of objects to send is asked first, and only the rest is sent; since their UIDs stay, an archive has each
once however often it is sent.
"""

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.files import told
from ..errors import UserError
from .fetched import DONE, home_of, lock_of, outdated, used
from .nodes import Access, Address, Lost, Node, NotLetIn, Refused, Row, retried, uid_of
from .objects import kept, objects_of

__all__ = ["Listing", "check_installed", "fetch", "listing", "node_at", "push"]


def node_at(address: Address, access: Access) -> Node:
    """The node behind an address.

    Raises:
        UserError: the libraries that speak its protocol are not installed.
    """
    check_installed(address)
    if (access.password or access.token) and not (address.tls or address.local):
        print(
            f"note: {address.node}: name and password go there unencrypted; {address.scheme}s:// is over TLS",
            file=sys.stderr,
        )
    if address.web:
        from .dicomweb import Web

        return Web(address, access)
    from .dimse import Dimse

    return Dimse(address, access)


def check_installed(address: Address) -> None:
    """Refuse where the library that speaks the protocol of an address is not there.

    Raises:
        UserError: says how to install it.
    """
    needed = "dicomweb_client" if address.web else "pynetdicom"
    if importlib.util.find_spec(needed) is None:
        raise UserError(
            f"{address.scheme}:// needs {needed.replace('_', '-')}: pip install 'radiffuse[node]'"
        )


# ------------------------------------------------------------------------------------------ listing
@dataclass(frozen=True)
class Listing:
    """A study and its series, as the node tells of them."""

    study: Row
    series: Sequence[Row]


def listing(address: Address, access: Access, most: int) -> list[Listing]:
    """What is there: the study that the address names, or up to so many of all.

    Raises:
        UserError: the node cannot be reached or refuses, or has no such study.
    """
    found = []
    with closing(node_at(address, access)) as node:
        for study in retried(lambda: node.studies(address.study, most), address, access):
            uid = uid_of(study["StudyInstanceUID"], address.node)
            found.append(Listing(study, retried(partial(node.series, uid), address, access)))
    if address.study and not found:
        raise UserError(f"{address}: there is no such study")
    return found


# ----------------------------------------------------------------------------------------- fetching
def fetch(address: Address, access: Access) -> Path:
    """The folder of a study or series, fetched from its node but for what lies there whole.

    The node is asked each time what it has; series that it has no more, and objects, go. Where it does not answer
    and all was fetched before, a notice says so and that is used.

    Raises:
        UserError: the node cannot be reached, refuses, breaks off or sends a part only, each time it was
            asked; or the address names no study.
    """
    if not address.study:
        raise UserError(
            f"{address}: names a whole node; append /studies/UID (radiffuse node {address.node} lists them)"
        )
    home = home_of(address)
    with told(home):
        home.parent.mkdir(parents=True, exist_ok=True)
        home.parent.chmod(0o700)
    with lock_of(home), closing(node_at(address, access)) as node:
        with told(home):
            home.mkdir(exist_ok=True)
            used(home)
        if old := outdated():
            print(f"note: fetched and long not asked for, removed: {old} studies", file=sys.stderr)
        try:
            series = _asked(node, address, access)
        except UserError as error:
            if (there := _before(home, address)) is None or not isinstance(error.__cause__, Lost):
                raise
            print(f"note: {error}; what was fetched before is used ({there})", file=sys.stderr)
            return there
        for one in series:
            _series(node, address.of(address.study, one), access, home / one)
        if address.series:
            return home / address.series
        for other in (path for path in home.iterdir() if path.is_dir()):
            if other.name not in series:
                shutil.rmtree(other)
        (home / DONE).touch()
    return home


def _before(home: Path, address: Address) -> Path | None:
    """What was fetched whole before."""
    if address.series:
        return home / address.series if (home / address.series).is_dir() else None
    return home if (home / DONE).is_file() else None


def _asked(node: Node, address: Address, access: Access) -> list[str]:
    """UIDs of the series to fetch."""
    rows = retried(lambda: node.series(address.study), address, access)
    uids = [uid_of(row["SeriesInstanceUID"], address.node) for row in rows]
    if not uids:
        raise UserError(f"{address.of(address.study)}: there is no such study")
    if address.series and address.series not in uids:
        raise UserError(f"{address}: there is no such series; the study has {', '.join(uids)}")
    return [address.series] if address.series else uids


def _series(node: Node, address: Address, access: Access, place: Path) -> None:
    """Fetch one series into `place`; until it is whole it lies beside, and goes on from there."""

    def asked() -> Mapping[str, str]:
        if found := node.instances(address.study, address.series):
            return found
        raise Lost("names no object of a series that it has")

    there = retried(asked, address, access)
    if place.is_dir() and kept(place) == set(there):
        return
    part = place.with_name(f".part-{place.name}")
    shutil.rmtree(part, ignore_errors=True)
    with told(part):
        if place.is_dir():  # some of it is there already, and more came since
            shutil.copytree(place, part)
        part.mkdir(exist_ok=True)

    def rest() -> None:
        lacking = {uid: kind for uid, kind in there.items() if uid not in kept(part)}
        if lacking:
            whole = len(lacking) == len(there)
            node.get(address.study, address.series, lacking, part, whole)
        if missing := set(there) - kept(part):
            raise Lost(f"sent {len(there) - len(missing)} of {len(there)} objects of a series")

    try:
        retried(rest, address, access)
        for uid in kept(part) - set(there):
            (part / f"{uid}.dcm").unlink()
        _replace(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _replace(part: Path, place: Path) -> None:
    old = place.with_name(f".old-{place.name}")
    shutil.rmtree(old, ignore_errors=True)
    if place.is_dir():
        place.rename(old)
    part.rename(place)
    shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------------------ sending
@dataclass(frozen=True)
class Sent:
    """What became of objects: how many were sent now, and how many were there already."""

    sent: int
    there: int


def push(
    address: Address,
    access: Access,
    files: Sequence[Path],
) -> Sent:
    """Send DICOM files, but for those that the node has; files of other kinds are left out.

    Raises:
        UserError: the node cannot be reached, or refused some (how many, and the first reason). What it took stays
            there, since neither protocol can take it back; the same call sends the rest.
    """
    if address.study:
        raise UserError(
            f"{address}: names a study; objects bring their own, so name the node alone"
        )
    objects = objects_of(files)
    with closing(node_at(address, access)) as node:
        return _push(node, address, access, objects)


Objects = Mapping[str, tuple[str, str, Path]]


def _push(node: Node, address: Address, access: Access, objects: Objects) -> Sent:
    begun = lacking = _lacking(node, objects, address, access)
    refused: list[str] = []

    def rest() -> None:
        nonlocal lacking
        refused.clear()
        if lacking:
            refused.extend(node.send([objects[uid][2] for uid in lacking]))

    def again() -> None:
        nonlocal lacking
        try:
            rest()
        except Lost:
            lacking = _lacking(node, objects, address, access)  # what it took before it broke off
            raise

    retried(again, address, access)
    if refused:
        raise UserError(
            f"{address.node}: refused {len(refused)} of {len(begun)} objects: {refused[0]}; what it took stays "
            "there, and the same command sends the rest"
        )
    return Sent(len(begun), len(objects) - len(begun))


def _lacking(node: Node, objects: Objects, address: Address, access: Access) -> list[str]:
    """UIDs of the objects that a node has not; all, where it does not let us ask."""
    there: set[str] = set()
    for study, series in sorted({(study, series) for study, series, _ in objects.values()}):
        try:
            there |= set(retried(_asking(node, study, series), address, access))
        except _NoAnswer:
            return list(objects)
    return [uid for uid in objects if uid not in there]


class _NoAnswer(Exception):
    """The node takes objects and answers no questions."""


def _asking(node: Node, study: str, series: str) -> Callable[[], Mapping[str, str]]:
    def ask() -> Mapping[str, str]:
        try:
            return node.instances(study, series)
        except NotLetIn:
            raise
        except Refused:
            raise _NoAnswer from None

    return ask
