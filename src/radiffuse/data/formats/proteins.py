"""Protein backbones from PDB files: N, CA, C, O of the first chain of the first model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ...errors import UserError
from ..columns import ArrayColumn
from ..table import Table, numbered

ATOMS = ("N", "CA", "C", "O")


def open_pdb(files: Sequence[Path], folder: Path) -> Table:
    """PDB files as `coords` `(L, 4, 3)` in Angstrom, NaN beyond `length` and for missing atoms."""
    chains = [_backbone(file) for file in files]
    longest = max(len(chain) for chain in chains)
    coords = torch.full((len(files), longest, len(ATOMS), 3), torch.nan)
    for row, chain in enumerate(chains):
        coords[row, : len(chain)] = torch.from_numpy(chain)
    lengths = torch.tensor([float(len(chain)) for chain in chains])
    return Table(
        str(folder),
        numbered([file.stem for file in files]),
        {
            "coords": ArrayColumn(coords, "raw", f"{folder}: coords"),
            "length": ArrayColumn(lengths, "scalar", f"{folder}: length"),
        },
    )


def _backbone(file: Path) -> np.ndarray:
    residues: dict[str, np.ndarray] = {}
    chain: str | None = None
    try:
        for line in file.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("ENDMDL"):
                break
            if not line.startswith("ATOM") or line[12:16].strip() not in ATOMS:
                continue
            chain = chain or line[21]
            if line[21] != chain or line[16] not in " A":
                continue
            place = [float(line[30 + 8 * axis : 38 + 8 * axis]) for axis in (0, 1, 2)]
            residue = residues.setdefault(line[22:27], np.full((len(ATOMS), 3), np.nan, np.float32))
            residue[ATOMS.index(line[12:16].strip())] = place
    except (OSError, ValueError, IndexError):
        raise UserError(f"{file}: is damaged or no PDB file") from None
    if not residues:
        raise UserError(f"{file}: holds no backbone atoms (N, CA, C, O)")
    return np.stack(list(residues.values()))
