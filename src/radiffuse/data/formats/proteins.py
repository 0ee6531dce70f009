"""Protein backbones from PDB and mmCIF files, read by biotite: N, CA, C, O of every residue of the first model.

A case is a file, with all of its chains one after another; `residues` says which is which.
"""

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ..columns import ArrayColumn
from ..files import replacing
from ..table import Table, listener, numbered

__all__ = [
    *("ATOMS", "CHAINS", "CIF", "MISSING", "coded", "decoded"),
    *("open_proteins", "read_backbone", "write_backbone"),
]

ATOMS = ("N", "CA", "C", "O")
CIF = (".cif", ".mmcif")
CHAINS = (".pdb", ".ent", *CIF)
"""Endings of files of proteins."""
MISSING = "needs a package: pip install 'radiffuse[proteins]'"
_SELENIUM = "MSE"
"""Selenomethionine is written among the ligands, and is methionine in the chain."""
_ANY = (".", "?", " ", "")
_NUMBERS = ((54, "1.00"), (60, "0.00"))
"""Columns of occupancy and temperature factor, and what stands for a blank one."""


def open_proteins(files: Sequence[Path], source: Path) -> Table:
    """PDB or mmCIF files as `coords` (L, 4, 3) in Angstrom, `length`, and `residues` (L, 3).

    `coords` is NaN beyond `length` and for missing atoms. A row of `residues` is the chain, as `coded`, the
    authors' number, and the insertion code, as `coded`; 0 beyond `length`.

    Raises:
        UserError: biotite is not installed, or a file is damaged or holds no protein.
    """
    notices: list[str] = []
    hear = listener(notices)
    read = [_backbone(file, hear) for file in files]
    longest = max(len(coords) for coords, _ in read)
    coords = torch.full((len(read), longest, len(ATOMS), 3), torch.nan)
    residues = torch.zeros((len(read), longest, 3), dtype=torch.long)
    for row, (place, who) in enumerate(read):
        coords[row, : len(place)] = torch.from_numpy(place)
        residues[row, : len(who)] = torch.tensor(who)
    lengths = torch.tensor([float(len(place)) for place, _ in read])
    return Table(
        str(source),
        numbered([file.stem for file in files]),
        {
            "coords": ArrayColumn(coords, "raw", f"{source}: coords"),
            "length": ArrayColumn(lengths, "scalar", f"{source}: length"),
            "residues": ArrayColumn(residues, "raw", f"{source}: residues"),
        },
        notices=notices,
    )


def coded(name: str) -> int:
    """A short name (of a chain, an insertion) as a number: 0 for "", 65 for "A"."""
    return int.from_bytes(name.encode("ascii", "replace")[:7], "big")


def decoded(number: int) -> str:
    """Undoes `coded`."""
    return number.to_bytes(8, "big").lstrip(b"\0").decode("ascii", "replace")


def _backbone(file: Path, hear: Any) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Places (L, 4, 3) and names of the residues of a file; what had to be decided is said."""
    atoms = _atoms(file, hear)
    kept = (~atoms.hetero | (atoms.res_name == _SELENIUM)) & np.isin(atoms.atom_name, ATOMS)
    atoms = atoms[kept]
    residues: dict[tuple[str, int, str], np.ndarray] = {}
    named = zip(
        atoms.chain_id.tolist(), atoms.res_id.tolist(), atoms.ins_code.tolist(), strict=True
    )
    for who, atom, place in zip(named, atoms.atom_name.tolist(), atoms.coord, strict=True):
        if who not in residues:
            residues[who] = np.full((len(ATOMS), 3), np.nan, np.float32)
        residues[who][ATOMS.index(atom)] = place
    if not residues:
        raise UserError(f"{file}: holds no backbone atoms (N, CA, C, O)")
    _say(file, residues, hear)
    names = [(coded(chain), number, coded(code)) for chain, number, code in residues]
    return np.stack(list(residues.values())), names


def _say(file: Path, residues: Mapping[tuple[str, int, str], np.ndarray], hear: Any) -> None:
    """Say what a user of the file should know: several chains, inserted residues, missing C-alphas."""
    chains = dict.fromkeys(chain for chain, _, _ in residues)
    if len(chains) > 1:
        hear(f"{file}: holds {len(chains)} chains ({', '.join(chains)}), which make one case")
    inserted = [f"{chain}{number}{code}" for chain, number, code in residues if code]
    if inserted:
        hear(
            f"{file}: {len(inserted)} residues have insertion codes ({inserted[0]}); each is a residue of its own, "
            "in the order of the file"
        )
    without = [
        f"{chain}{number}{code}"
        for (chain, number, code), place in residues.items()
        if np.isnan(place[ATOMS.index("CA")]).any()
    ]
    if without:
        hear(f"{file}: {len(without)} residues have no C-alpha ({', '.join(without[:3])})")


def _atoms(file: Path, hear: Any) -> Any:
    """Biotite's atoms of the first model; of alternate places the one of highest occupancy."""
    try:
        from biotite.structure.io import pdb, pdbx
    except ImportError:
        raise UserError(f"{file}: is a protein, which {MISSING}") from None
    reader: Any
    source: Any
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if file.suffix.lower() in CIF:
                reader, source = pdbx, pdbx.CIFFile.read(file)
            else:
                reader, source = pdb, pdb.PDBFile.read(_complete(file))
            models = reader.get_model_count(source)
            atoms = reader.get_structure(source, model=1, altloc="all")
            other = int((~np.isin(atoms.altloc_id, _ANY)).sum())
            if other:
                atoms = reader.get_structure(source, model=1, altloc="occupancy")
    except Exception:  # a damaged text fails in many ways, deep in the library
        raise UserError(f"{file}: is damaged or no PDB or mmCIF file of atoms") from None
    if models > 1:
        hear(f"{file}: holds {models} models; the first is taken")
    if other:
        hear(
            f"{file}: {other} atoms have alternate locations; those of highest occupancy are taken"
        )
    if not np.isfinite(atoms.coord).all():
        raise UserError(f"{file}: holds coordinates that are no finite numbers")
    return atoms


def _complete(file: Path) -> io.StringIO:
    """A PDB file whose atoms have an occupancy and a temperature factor: biotite reads no others."""
    lines = []
    for line in file.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(("ATOM", "HETATM")):
            line = line.ljust(80)
            numbers = [line[at : at + 6].strip() or standard for at, standard in _NUMBERS]
            line = line[:54] + "".join(number.rjust(6) for number in numbers) + line[66:]
        lines.append(line)
    return io.StringIO("\n".join(lines) + "\n")


def read_backbone(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """What `write_backbone` wrote: C-alpha places (N, 3) and which were given (N,).

    Raises:
        UserError: biotite is not installed.
    """
    try:
        from biotite.structure.io import pdb, pdbx
    except ImportError:
        raise UserError(f"{file}: is a protein, which {MISSING}") from None
    cif = file.suffix.lower() in CIF
    reader, source = (pdbx, pdbx.CIFFile.read(file)) if cif else (pdb, pdb.PDBFile.read(file))
    atoms = reader.get_structure(source, model=1, extra_fields=["b_factor"])
    return atoms.coord, atoms.b_factor


def write_backbone(path: Path, coords: Tensor, given: Tensor | None = None) -> None:
    """Write C-alpha atoms as chain A, residues 1 to N of glycine, as PDB or, by the ending, mmCIF.

    Args:
        path: of the file.
        coords: (N, 3) in Angstrom.
        given: (N,), 1 where a residue was given (a motif): 1.00 as its temperature factor, others have 0.00.

    Raises:
        UserError: biotite is not installed, or the chain does not fit the format's columns.
    """
    try:
        from biotite.structure import AtomArray
        from biotite.structure.io import pdb, pdbx
    except ImportError:
        raise UserError(f"{path}: writing a protein {MISSING}") from None
    count = len(coords)
    if count > 9999 or float(coords.abs().max()) >= 999:
        raise UserError(f"{path}: a chain of {count} residues or its places do not fit a PDB file")
    atoms = AtomArray(count)
    atoms.coord = coords.detach().cpu().float().numpy()
    atoms.chain_id[:], atoms.res_name[:], atoms.atom_name[:], atoms.element[:] = (
        "A",
        "GLY",
        "CA",
        "C",
    )
    atoms.res_id = np.arange(1, count + 1)
    atoms.set_annotation("b_factor", (torch.zeros(count) if given is None else given.cpu()).numpy())
    file: Any = pdbx.CIFFile() if path.suffix.lower() in CIF else pdb.PDBFile()
    if path.suffix.lower() in CIF:
        pdbx.set_structure(file, atoms, data_block=path.stem)
    else:
        file.set_structure(atoms)
    with replacing(path) as temporary, open(temporary, "w", encoding="ascii") as stream:
        file.write(stream)
