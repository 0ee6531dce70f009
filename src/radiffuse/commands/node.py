"""`radiffuse node ADDRESS`: the studies and series of a node; `--forget` removes what was fetched from there."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ..clinic.fetched import forget
from ..clinic.nodes import address_of, read_access
from ..errors import printable
from . import parsing
from .columns import aligned
from .nodes import NodeFlags

PLAIN = ("StudyDate", "PatientID", "PatientName", "StudyDescription", "SeriesDescription")
"""What says who a study is of, or when it was made."""


@dataclass(frozen=True)
class Flags(NodeFlags):
    """Which node, and what of it.

    Attributes:
        address: dicomweb://HOST:PORT/PREFIX or dimse://CALLED_AET@HOST:PORT, with /studies/UID for one study.
        names: plain also shows dates, descriptions and who the studies are of.
        most: studies that are listed.
        json: a list of objects.
        forget: remove what was fetched of this study, or of this node, from the folder of fetched series; the node
            is not asked.
    """

    address: Annotated[str, tyro.conf.Positional]
    names: Literal["hidden", "plain"] = "hidden"
    most: int = 100
    json: bool = False
    forget: bool = False


def run(arguments: Sequence[str]) -> None:
    """Ask, and print a line a study and one for each of its series."""
    flags = parsing.parse(Flags, arguments, "radiffuse node")
    parsing.positive({"--most": flags.most})
    address, access = address_of(flags.address), read_access(flags.node)
    if flags.forget:
        number = forget(address)
        print(f"{number} fetched stud{'y' if number == 1 else 'ies'} removed")
        return
    from ..clinic.exchange import listing

    plain = flags.names == "plain"
    hidden = () if plain else PLAIN
    found = [
        (_shown(one.study, hidden), [_shown(row, hidden) for row in one.series])
        for one in listing(address, access, flags.most)
    ]
    if flags.json:
        print(json.dumps([{**study, "Series": series} for study, series in found], indent=2))
        return
    rows = [["", "modality", "series", "objects", *(_HEADS if plain else ())]]
    for study, series in found:
        rows.append([study["StudyInstanceUID"], *(_of(study, word) for word in _STUDY)])
        rows[-1] += [_of(study, word) for word in PLAIN[:4]] if plain else []
        for one in series:
            counts = (_of(one, "Modality"), "", _of(one, "NumberOfSeriesRelatedInstances"))
            rows.append([f"  {one['SeriesInstanceUID']}", *counts])
            rows[-1] += ["", "", "", _of(one, "SeriesDescription")] if plain else []
    print("\n".join(aligned(rows)))
    more = " (there may be more: --most N)" if len(found) == flags.most else ""
    print(f"{len(found)} stud{'y' if len(found) == 1 else 'ies'} at {address}{more}")


_STUDY = ("ModalitiesInStudy", "NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances")
_HEADS = ("date", "patient", "name", "description")


def _shown(row: Mapping[str, str], hidden: Sequence[str]) -> dict[str, str]:
    return {word: value for word, value in row.items() if word not in hidden}


def _of(row: Mapping[str, str], word: str) -> str:
    return printable(row[word]) or "-"
