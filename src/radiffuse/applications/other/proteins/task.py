"""Protein backbones: chains from seeds alone, and chains that hold a given motif."""

from ...task import Task

__all__ = ["BACKBONES"]

BACKBONES = Task(
    "backbones",
    reads=("coords",),
    optional=("length", "residues"),
    writes=("coords", "length", "motif"),
    evaluation="radiffuse.applications.other.proteins.evaluate:evaluate_backbones",
    title="Protein backbones",
    shown=(
        *("bond_error", "bend_distance", "clashes", "gyration", "helix", "strand", "left_handed"),
        *("tm_pairs", "tm_to_training", "motif_rmsd", "joint_error", "motif_clashes"),
    ),
)
"""Reads "coords" (B, L, 4, 3), N CA C O in Angstrom, or (B, L, 3), C-alpha alone, NaN beyond "length" (B,), and
"residues" (B, L, 3), chain, number and insertion code (`data.formats.proteins`); without these, chain A from 1.
Writes "coords" (B, N, 3), C-alpha in Angstrom, 0 beyond "length" (B,), and "motif" (B, N), 1 where a residue was
given."""
