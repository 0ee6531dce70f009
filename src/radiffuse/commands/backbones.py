"""Writing protein backbones: a PDB or mmCIF file a chain, and a sheet of their traces."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from ..data.cases import Cases
from ..data.formats.proteins import CIF, read_backbone, write_backbone
from ..report.traces import write_traces
from .pictures import SHEET

__all__ = ["CHAIN", "PDB", "ending_like", "trace_sheet", "write_chain"]

CHAIN, PDB = "coords", ".pdb"
"""The key of a prediction that is written as a chain, with "length" and "motif"; and the ending of its file."""
_SHOWN = 24


def write_chain(made: Mapping[str, Tensor], path: Path) -> str:
    """Write one chain of a prediction, cut to its length, and return the file's name."""
    length = int(made["length"])
    given = made["motif"][:length] if "motif" in made else None
    write_backbone(path, made[CHAIN][:length], given)
    return path.name


def ending_like(cases: Cases) -> str:
    """The ending of predictions: .cif where the data are one mmCIF file, else .pdb."""
    return CIF[0] if Path(cases.source).suffix.lower() in CIF else PDB


def trace_sheet(folder: Path, files: Sequence[Path]) -> None:
    """Write `sheet.png`: the first chains, each from three sides; what was given is black."""
    read = [read_backbone(file) for file in files[:_SHOWN]]
    write_traces(folder / SHEET, [chain for chain, _ in read], [given for _, given in read])
